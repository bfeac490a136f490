//! A running rollcall.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::http::Http;
use super::tools::{self, Output};
use super::{dns, within};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_rollcall");

/// How rollcall is to be started. By default `serve` on free ports, with its data in the test's own directory.
pub(crate) struct Launch {
    directory: PathBuf,
    arguments: Vec<OsString>,
    /// Stands in the place of the machine's own resolv.conf.
    resolv_conf: Option<PathBuf>,
}

/// A process of it, killed at the end of the test. When the test fails, the end also shows what it was started as and
/// what it said.
pub(crate) struct Rollcall {
    child: Child,
    launch: Launch,
    pub(crate) dns: SocketAddr,
    pub(crate) http: Http,
    ready: serde_json::Value,
}

/// A fresh directory.
pub(crate) fn directory() -> TempDir {
    tempfile::Builder::new().prefix("rollcall-test-").tempdir().expect("a temporary directory")
}

impl Launch {
    /// `serve` on free ports; nothing is looked up from the machine's own resolv.conf unless the test says so.
    pub(crate) fn serve(directory: &Path) -> Self {
        Self::serve_on(directory, "127.0.0.1:0", "127.0.0.1:0")
    }

    pub(crate) fn serve_on(directory: &Path, dns: &str, http: &str) -> Self {
        let data = directory.join("data");
        Self::bare(directory)
            .with("serve")
            .with("--ready-json")
            .option("--dns", dns)
            .option("--http", http)
            .option("--data", data)
    }

    pub(crate) fn bare(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), arguments: Vec::new(), resolv_conf: None }
    }

    pub(crate) fn with(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    pub(crate) fn option(self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.with(name).with(value)
    }

    /// On a machine that asks this server, which has port 53. Making that machine needs root.
    pub(crate) fn on_a_machine_that_asks(mut self, server: IpAddr) -> Self {
        let file = self.directory.join("resolv.conf");
        fs::write(&file, format!("nameserver {server}\n")).expect("written");
        self.resolv_conf = Some(file);
        self
    }

    /// Starts it without waiting for anything.
    pub(crate) fn spawn(self) -> (Child, Launch) {
        let out = File::create(self.stdout()).expect("a file for its stdout");
        let err = File::create(self.stderr()).expect("a file for its stderr");
        let mut command = self.command();
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().expect("the binary starts");
        (child, self)
    }

    /// Starts it and waits for the line that says it is ready.
    pub(crate) fn start(self) -> Rollcall {
        let (child, launch) = self.spawn();
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut rollcall = Rollcall { child, launch, dns: unknown, http: Http::new(unknown), ready: serde_json::Value::Null };
        let (ready, _) = within(Duration::from_secs(30), "a ready line on stdout", || {
            if let Some(status) = rollcall.child.try_wait().expect("its status can be asked") {
                panic!("it ended before it was ready: {status}");
            }
            let said = fs::read_to_string(rollcall.launch.stdout()).unwrap_or_default();
            let whole = said.rfind('\n').map_or("", |end| &said[..end]);
            let ready = whole.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            ready.into_iter().find(|line| line["ready"] == true).ok_or(said)
        });
        let address = |value: &serde_json::Value| -> SocketAddr {
            let text = value.as_str().unwrap_or_else(|| panic!("an address in the ready line {ready}"));
            text.parse().unwrap_or_else(|error| panic!("{error} in the ready line {ready}"))
        };
        assert_eq!(ready["pid"], rollcall.child.id(), "the ready line {ready} tells the process id");
        rollcall.dns = address(&ready["dns"][0]);
        rollcall.http = Http::new(address(&ready["http"]));
        rollcall.ready = ready;
        rollcall
    }

    /// Runs it to its end, which must come.
    pub(crate) fn run(self) -> Output {
        let mut command = self.command();
        tools::run(&mut command)
    }

    fn command(&self) -> Command {
        let mut command = match &self.resolv_conf {
            None => Command::new(BINARY),
            Some(file) => {
                let script = "mount --bind \"$1\" \"$(readlink -f /etc/resolv.conf)\" && shift && exec \"$@\"";
                let mut command = Command::new("unshare");
                command.args(["--mount", "--", "sh", "-c", script, "sh"]).arg(file).arg(BINARY);
                command
            }
        };
        command.args(&self.arguments).current_dir(&self.directory);
        for variable in ["ROLLCALL_HTTP_ADDR", "CONSUL_HTTP_ADDR", "RUST_LOG", "NOTIFY_SOCKET"] {
            command.env_remove(variable);
        }
        command
    }

    fn stdout(&self) -> PathBuf {
        self.directory.join("rollcall.stdout")
    }

    fn stderr(&self) -> PathBuf {
        self.directory.join("rollcall.stderr")
    }
}

impl Rollcall {
    pub(crate) fn ask(&self, name: &str, qtype: &str) -> dns::Reply {
        dns::udp(self.dns, name, qtype).unwrap_or_else(|error| panic!("{name} {qtype}: {error}"))
    }

    /// The command line beside it, pointed at its HTTP API.
    pub(crate) fn cli<const N: usize>(&self, arguments: [&str; N]) -> Output {
        let mut launch = Launch::bare(&self.launch.directory);
        for argument in arguments {
            launch = launch.with(argument);
        }
        launch.option("--http-addr", self.http.address.to_string()).run()
    }

    /// Where it is asked over an encrypted connection: `tls`, `https`, `quic`.
    pub(crate) fn encrypted(&self, way: &str) -> SocketAddr {
        let text = self.ready[way][0].as_str().unwrap_or_else(|| panic!("no {way} in the ready line {}", self.ready));
        text.parse().unwrap_or_else(|error| panic!("{error} in the ready line {}", self.ready))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.launch.stderr()).unwrap_or_default()
    }

    pub(crate) fn signal(&self, name: &str) {
        tools::signal(self.pid(), name);
    }

    /// SIGKILL: no handler runs, nothing is flushed.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a killed child ends");
    }

    pub(crate) fn running(&mut self) -> bool {
        self.child.try_wait().expect("its status can be asked").is_none()
    }

    /// The status it ends with.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        within(Duration::from_secs(20), "the end of the process", || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        })
        .0
    }
}

impl Drop for Rollcall {
    #[expect(clippy::print_stderr, reason = "the test harness shows it beside the assertion that failed")]
    fn drop(&mut self) {
        let ended = self.child.try_wait();
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            let launch = &self.launch;
            let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_else(|error| error.to_string());
            let (out, err) = (read(launch.stdout()), read(launch.stderr()));
            let mut words = vec![BINARY.to_owned()];
            words.extend(launch.arguments.iter().map(|word| word.to_string_lossy().into_owned()));
            let (command, directory) = (words.join(" "), launch.directory.display());
            eprintln!(
                "  command    {command}\n  directory  {directory}\n  status     {ended:?}\n  stdout:\n{out}\n  stderr:\n{err}"
            );
        }
    }
}
