//! Programs that other people wrote, as their users run them: each asks a rollcall that is its machine's resolver for
//! services, forwarded names, names that do not exist, and answers that are too large for UDP.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::support::encrypted::{Certificate, NAME};
use crate::support::health::HealthServer;
use crate::support::namespace::enter;
use crate::support::rollcall::{Launch, Rollcall, directory};
use crate::support::tools::{Output, run};
use crate::support::upstream::Server;
use crate::support::{dns, project, within};

/// Addresses beside those of the loopback, because some programs ask nobody on a machine that has no network; all
/// instances are on this machine. Nothing of it changes later: browsers give up what they load then.
const NETWORK: &str = "ip link add eth0 type veth peer name eth1\nip address add 192.0.2.80/24 dev eth0\n\
    ip address add 192.0.2.81/24 dev eth0\nfor link in eth0 eth1; do\n\
    if [ -e /proc/sys/net/ipv6 ]; then ip link set $link addrgenmode none; fi; ip link set $link up; done\n\
    until ip link show eth0 | grep -q 'state UP'; do sleep 0.05; done\nip route add default via 192.0.2.1\n\
    ip route add local 198.51.100.0/24 dev lo\n";

const ADDRESSES: [&str; 6] = [
    "web.service.consul",
    "big.service.consul",
    "absent.service.consul",
    "www.example.net",
    "big.example.net",
    "absent.example.net",
];
const SERVICES: [&str; 2] = ["_web._tcp.service.consul", "_absent._tcp.service.consul"];

/// The machine's resolver, on every well-known port, with NSD behind it.
struct Machine {
    directory: TempDir,
    rollcall: Rollcall,
    _upstream: Server,
}

impl Machine {
    fn start() -> Self {
        let directory = directory();
        let upstream = Server::nsd(directory.path());
        let certificate = Certificate::write(directory.path());
        let instance = |name: &str, address: String, port: u16| json!({"ID": format!("{name}-{address}"), "Name": name, "Address": address, "Port": port});
        let web = [80, 81].map(|last| instance("web", format!("192.0.2.{last}"), 8080));
        let big = (1..=100).map(|last| instance("big", format!("198.51.100.{last}"), 80));
        let services = json!({ "services": web.into_iter().chain(big).collect::<Vec<_>>() });
        fs::write(directory.path().join("services.json"), services.to_string()).expect("written");
        let config = format!(
            "[dns.encrypted]\ntls = [\"127.0.0.1:853\"]\nhttps = [\"127.0.0.1:443\"]\nquic = [\"127.0.0.1:853\"]\n\
             certificate = {:?}\nkey = {:?}\nname = \"{NAME}\"\n[forward]\nupstreams = [\"{}\"]\n",
            certificate.chain, certificate.key, upstream.address
        );
        let file = directory.path().join("rollcall.toml");
        fs::write(&file, config).expect("written");
        let launch = Launch::serve_on(directory.path(), "127.0.0.1:53", "127.0.0.1:8500").option("--config", file);
        let rollcall = launch.option("--services", directory.path().join("services.json")).start();
        Self { directory, rollcall, _upstream: upstream }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// How many questions came this way.
    fn asked(&self, transport: &str) -> u64 {
        let metrics = self.rollcall.http.get("/metrics").body;
        let of = format!("transport=\"{transport}\"");
        let lines = metrics.lines().filter(|line| line.starts_with("rollcall_queries_total{") && line.contains(&of));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    }
}

/// What there is of a name.
fn truth(name: &str) -> Vec<String> {
    let mut found: Vec<String> = match name {
        "web.service.consul" | "www.example.net" => vec!["192.0.2.80".into(), "192.0.2.81".into()],
        "big.service.consul" | "big.example.net" => (1..=100).map(|last| format!("198.51.100.{last}")).collect(),
        "_web._tcp.service.consul" => [80, 81].map(|last| format!("c00002{last:02x}.addr.dc1.consul.8080")).into(),
        _ => vec!["not found".into()],
    };
    found.sort();
    found
}

/// The lines `NAME: FOUND FOUND...` that a program printed.
fn told(said: &Output) -> BTreeMap<String, Vec<String>> {
    let lines = said.stdout.lines().filter_map(|line| line.split_once(':'));
    let found = |text: &str| -> Vec<String> {
        let mut found: Vec<String> = match text.trim() {
            "not found" => vec!["not found".into()],
            text => text.split_whitespace().map(str::to_owned).collect(),
        };
        found.sort();
        found
    };
    lines.map(|(name, text)| (name.to_owned(), found(text))).collect()
}

/// Has a program ask for these names, which it is to tell as they are.
fn ask(machine: &Machine, command: &mut Command, names: &[&str]) {
    let said = run(command.args(names).current_dir(machine.directory.path()));
    assert_eq!(said.status, 0, "{said:?}");
    let told = told(&said);
    for name in names {
        assert_eq!(told.get(*name), Some(&truth(name)), "{name} in{said:?}");
    }
}

fn every_name() -> Vec<&'static str> {
    [&ADDRESSES[..], &SERVICES].concat()
}

fn client(file: &str) -> PathBuf {
    project("tests/data/clients").join(file)
}

/// A program that asks the C library of this compiler.
fn compiled(machine: &Machine, compiler: &str) -> PathBuf {
    let program = machine.path(&format!("resolve-{compiler}"));
    run(Command::new(compiler).arg("-o").arg(&program).arg(client("resolve.c"))).ok();
    program
}

#[test]
fn c_libraries() {
    if !enter("real_clients::c_libraries", NETWORK) {
        return;
    }
    let machine = Machine::start();
    let program = compiled(&machine, "cc");
    ask(&machine, &mut Command::new(&program), &ADDRESSES);
    for (name, found) in [("web.service.consul", 2), ("big.example.net", 100)] {
        let said = run(Command::new("getent").args(["ahostsv4", name])).ok();
        assert_eq!(said.lines().filter(|line| line.contains("STREAM")).count(), found, "{said}");
    }
    assert!(run(Command::new("getent").args(["ahostsv4", "absent.service.consul"])).status == 2);

    let program = compiled(&machine, "musl-gcc");
    let small = ADDRESSES.map(|name| if name.starts_with("big") { "www.example.net" } else { name });
    ask(&machine, &mut Command::new(&program), &small);
    // Before its version 1.2.4 musl asks nobody over TCP and shows what came; since then it shows 48 addresses at most.
    for name in ["big.service.consul", "big.example.net"] {
        let said = run(Command::new(&program).arg(name));
        let (found, all) = (told(&said).remove(name).unwrap_or_default(), truth(name));
        assert!(found.len() >= 20 && found.iter().all(|address| all.contains(address)), "{said:?}");
    }
}

#[test]
fn go() {
    if !enter("real_clients::go", NETWORK) {
        return;
    }
    let machine = Machine::start();
    let program = machine.path("resolve");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).arg(client("resolve.go"));
    run(build.env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "local").env("GO111MODULE", "off").env("GOFLAGS", "")).ok();
    for server in ["system", "127.0.0.1:53"] {
        ask(&machine, Command::new(&program).env("GODEBUG", "netdns=go").arg(server), &every_name());
    }
    assert!(machine.asked("tcp") > 0, "large answers came over TCP");
}

#[test]
fn java() {
    if !enter("real_clients::java", NETWORK) {
        return;
    }
    let machine = Machine::start();
    run(Command::new("javac").arg("-d").arg(machine.directory.path()).arg(client("Resolve.java"))).ok();
    for (server, names) in [("system", &ADDRESSES[..]), ("127.0.0.1:53", &every_name())] {
        ask(&machine, Command::new("java").args(["-XX:TieredStopAtLevel=1", "-cp", ".", "Resolve", server]), names);
    }
}

#[test]
fn node() {
    if !enter("real_clients::node", NETWORK) {
        return;
    }
    let machine = Machine::start();
    let node = |server: &str| {
        let mut command = Command::new("node");
        command.arg(client("resolve.js")).arg(server);
        command
    };
    ask(&machine, &mut node("system"), &ADDRESSES);
    ask(&machine, &mut node("127.0.0.1:53"), &every_name());
}

#[test]
fn python() {
    if !enter("real_clients::python", NETWORK) {
        return;
    }
    let machine = Machine::start();
    ask(&machine, Command::new("python3").arg(client("resolve.py")).arg("system"), &ADDRESSES);
    let python = project("target/tools/python/bin/python");
    assert!(python.exists(), "{} has dnspython with all protocols; scripts/test install makes it", python.display());
    let library = |way: &str, port: &str| {
        let mut command = Command::new(&python);
        command.arg(client("resolve.py")).args([way, "127.0.0.1", port]);
        ask(&machine, &mut command, &every_name());
    };
    library("udp", "53");
    for (way, port, transport) in
        [("tls", "853", "tls"), ("https", "443", "https"), ("h3", "443", "h3"), ("quic", "853", "quic")]
    {
        library(way, port);
        assert!(machine.asked(transport) >= 8, "{way}: {}", machine.rollcall.http.get("/metrics").body);
    }
}

/// systemd-resolved, which asks over TLS; ended when dropped.
struct Resolved(Child);

impl Resolved {
    const ADDRESS: &str = "127.0.0.53:53";

    /// As it is in its package, whose installation would take over this machine's own resolv.conf.
    fn start(machine: &Machine) -> Self {
        let unpacked = project("target/tools/systemd-resolved/systemd-resolved");
        let installed = PathBuf::from("/usr/lib/systemd/systemd-resolved");
        let program = [unpacked, installed].into_iter().find(|program| program.exists());
        let program = program.expect("systemd-resolved; scripts/test install unpacks it");
        let write = |file: &str, text: String| fs::write(machine.path(file), text).expect("written");
        write(
            "resolved.conf",
            format!(
                "[Resolve]\nDNS=127.0.0.1:853#{NAME}\nFallbackDNS=\nDomains=~.\nDNSOverTLS=yes\nLLMNR=no\nMulticastDNS=no\nDNSSEC=no\n"
            ),
        );
        let users = fs::read_to_string("/etc/passwd").expect("users");
        write("passwd", format!("{users}systemd-resolve:x:64999:64999::/:/usr/sbin/nologin\n"));
        // It lets go of root, and has its configuration and its state below /run.
        let script = "set -e; mount -t tmpfs none /run; mkdir -p /run/systemd/resolve /run/systemd/resolved.conf.d; chown 64999:64999 /run/systemd/resolve\n\
            cp resolved.conf /run/systemd/resolved.conf.d/; mount --bind passwd /etc/passwd; exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--", "sh", "-c", script, "sh"]).arg(program).current_dir(machine.directory.path());
        command
            .env("SSL_CERT_FILE", machine.path("ca.pem"))
            .env("SYSTEMD_LOG_LEVEL", "debug")
            .env("SYSTEMD_LOG_TARGET", "console");
        let log = fs::File::create(machine.path("resolved.log")).expect("a log");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("unshare starts");
        let resolved = Self(child);
        let address: SocketAddr = Self::ADDRESS.parse().expect("an address");
        within(Duration::from_secs(20), "systemd-resolved answers", || {
            let said = || fs::read_to_string(machine.path("resolved.log")).unwrap_or_default();
            match dns::udp_within(address, "www.example.net", "A", Duration::from_secs(2)) {
                Ok(reply) if reply.answers().len() == 2 => Ok(()),
                other => Err(format!("{other:?}\n{}", said())),
            }
        });
        resolved
    }
}

impl Drop for Resolved {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn systemd_resolved() {
    if !enter("real_clients::systemd_resolved", NETWORK) {
        return;
    }
    let machine = Machine::start();
    let _resolved = Resolved::start(&machine);
    let before = machine.asked("tls");
    assert!(before > 0 && machine.asked("udp") == 0, "it asks over TLS and not otherwise");
    // The machine's programs ask it, and it asks rollcall.
    let program = compiled(&machine, "cc");
    fs::write(machine.path("stub.conf"), "nameserver 127.0.0.53\noptions edns0 trust-ad\n").expect("written");
    let script = "mount --bind stub.conf \"$(readlink -f /etc/resolv.conf)\" && exec \"$@\"";
    ask(&machine, Command::new("unshare").args(["--mount", "--", "sh", "-c", script, "sh"]).arg(&program), &ADDRESSES);
    assert!(machine.asked("tls") >= before + 5 && machine.asked("udp") == 0 && machine.asked("tcp") == 0);
}

#[test]
fn chromium() {
    if !enter("real_clients::chromium", NETWORK) {
        return;
    }
    let machine = Machine::start();
    // On each of the instances' addresses.
    let pages = HealthServer::start_on(SocketAddr::from(([0, 0, 0, 0], 8080)));
    // What the user of a browser on Linux trusts beside the authorities that come with it.
    let trusted = machine.path(".pki/nssdb");
    fs::create_dir_all(&trusted).expect("a folder");
    let certutil = |words: &str| {
        let database = format!("sql:{}", trusted.display());
        let mut command = Command::new("certutil");
        command.args(["-d", &database]).args(words.split(' ')).current_dir(machine.directory.path());
        run(&mut command).ok();
    };
    certutil("-N --empty-password");
    certutil("-A -n authority -t C,, -i ca.pem");
    let policy = json!({ "DnsOverHttpsMode": "secure", "DnsOverHttpsTemplates": "https://127.0.0.1/dns-query{?dns}" });
    fs::write(machine.path("policy.json"), policy.to_string()).expect("written");
    let browse = |url: &str| {
        // Its policies are in one place, where this machine may have others.
        let script = "set -e; mount -t tmpfs none /etc/chromium; mkdir -p /etc/chromium/policies/managed\n\
            cp policy.json /etc/chromium/policies/managed/; exec \"$@\"";
        let profile = directory();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--", "sh", "-c", script, "sh", "chromium", "--headless", "--no-sandbox", "--disable-gpu"]);
        command.args(["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]);
        command.args(["--disable-dev-shm-usage", "--dump-dom"]).arg(format!("--user-data-dir={}", profile.path().display()));
        run(command.arg(url).env("HOME", machine.directory.path()).current_dir(machine.directory.path()))
    };
    let by_https = || machine.asked("https") + machine.asked("h3");
    for (number, host) in ["web.service.consul", "www.example.net", "big.service.consul", "big.example.net"].iter().enumerate()
    {
        let before = by_https();
        let said = browse(&format!("http://{host}:8080/health"));
        assert!(said.stdout.contains(">ok<"), "{said:?}");
        assert!(by_https() > before && pages.asked.load(Ordering::SeqCst) == number as u32 + 1, "{said:?}");
    }
    for host in ["absent.service.consul", "absent.example.net"] {
        let before = by_https();
        let said = browse(&format!("http://{host}:8080/health"));
        assert!(said.stderr.contains("ERR_NAME_NOT_RESOLVED") && by_https() > before, "{said:?}");
    }
    assert_eq!(machine.asked("udp") + machine.asked("tcp"), 0, "nobody was asked otherwise");
}
