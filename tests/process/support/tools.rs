//! Commands that end by themselves, and what they said.

use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::within;

/// What a command said; its `Debug` is what a failed assertion shows.
pub(crate) struct Output {
    command: String,
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Its stdout, when it ended well.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.status, 0, "{self:?}");
        self.stdout
    }

    /// All that it said, when it did not.
    pub(crate) fn failed(self) -> String {
        assert!(self.status > 0, "it was to fail, with a status of its own: {self:?}");
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, status, stdout, stderr } = self;
        write!(f, "\n  command  {command}\n  status   {status}\n  stdout:\n{stdout}\n  stderr:\n{stderr}")
    }
}

/// Runs a command to its end; one that has not ended after a minute is killed, and the test fails.
pub(crate) fn run(command: &mut Command) -> Output {
    let shown = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().unwrap_or_else(|error| panic!("{shown}: {error}; scripts/test installs what the tests run"));
    let (mut out, mut err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let out = thread::spawn(move || {
        let mut octets = Vec::new();
        drop(out.read_to_end(&mut octets));
        String::from_utf8_lossy(&octets).into_owned()
    });
    let err = thread::spawn(move || {
        let mut octets = Vec::new();
        drop(err.read_to_end(&mut octets));
        String::from_utf8_lossy(&octets).into_owned()
    });
    let start = std::time::Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("the status of a child can be asked") {
            break status;
        }
        if start.elapsed() > Duration::from_secs(60) {
            drop(child.kill());
            break child.wait().expect("a killed child ends");
        }
        thread::sleep(Duration::from_millis(5));
    };
    let output = Output {
        command: shown,
        status: status.code().unwrap_or(-1),
        stdout: out.join().expect("reading its stdout"),
        stderr: err.join().expect("reading its stderr"),
    };
    assert!(output.status >= 0, "it did not end by itself: {output:?}");
    output
}

pub(crate) fn signal(pid: u32, name: &str) {
    run(Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}"))).ok();
}

/// `dig @server` with these words.
pub(crate) fn dig(server: SocketAddr, words: &str) -> String {
    let mut command = Command::new("dig");
    command.arg(format!("@{}", server.ip())).args(["-p", &server.port().to_string(), "+time=2", "+tries=2"]);
    run(command.args(words.split_whitespace())).ok()
}

pub(crate) fn nslookup(server: SocketAddr, words: &str) -> String {
    let mut command = Command::new("nslookup");
    command.arg(format!("-port={}", server.port())).args(words.split_whitespace()).arg(server.ip().to_string());
    run(&mut command).ok()
}

/// The lines of a text, sorted: for answers whose order is random.
pub(crate) fn sorted_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
    lines.sort();
    lines
}

/// Waits until `text` has all of `parts`.
pub(crate) fn says(limit: Duration, parts: &[&str], mut text: impl FnMut() -> String) -> String {
    let wanted = format!("a text with {parts:?}");
    within(limit, &wanted, || {
        let text = text();
        if parts.iter().all(|part| text.contains(part)) { Ok(text) } else { Err(text) }
    })
    .0
}
