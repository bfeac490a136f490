//! A signed tree of its own: a root, two top-level domains, and below them zones that are signed well, badly or not at
//! all. `dnssec-keygen` and `dnssec-signzone` sign it, NSD has its zones, and Unbound asks NSD for those who want recursion.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::upstream::Server;
use super::{dns, free_port, tools};

/// How a zone denies what it has not.
enum Denial {
    Nsec,
    Nsec3 { iterations: u16, opt_out: bool },
}

/// What is done to a zone after it has been signed.
enum Fault {
    None,
    /// It is served as it was before.
    Stripped,
    /// The zone above has the DS record of a key that it has not.
    WrongKey,
    /// The zone above has a DS record of an algorithm that nobody knows.
    OddAlgorithm,
    /// The signature of `www` is another's.
    Mangled,
    /// Nobody has ever signed it, and the zone above says so.
    Unsigned,
}

struct Zone {
    name: &'static str,
    algorithm: &'static str,
    denial: Denial,
    /// From when and until when its signatures are good, in seconds from now.
    valid: (i64, i64),
    fault: Fault,
    records: &'static str,
}

const USUAL: Zone = Zone {
    name: "",
    algorithm: "ECDSAP256SHA256",
    denial: Denial::Nsec,
    valid: (-3_600, 86_400),
    fault: Fault::None,
    records: "www A 192.0.2.80\n",
};

/// Those below before those above, which have their DS records.
const ZONES: [Zone; 17] = [
    Zone {
        name: "good.example",
        records: "www A 192.0.2.80\nwww A 192.0.2.81\nwww AAAA 2001:db8::80\nalias CNAME second\nsecond CNAME www\n\
                  far CNAME www.insecure.example.\nacross CNAME www.three.example.\ngone CNAME nothing.three.example.\n\
                  empty CNAME www.three.example.\nbad CNAME www.expired.example.\nwildalias CNAME x.wild.three.example.\n\
                  *.wild A 192.0.2.99\n*.alias CNAME www\na.deep A 192.0.2.5\nodd TYPE65280 \\# 4 0A000001\n\
                  tree DNAME three.example.\n",
        ..USUAL
    },
    Zone {
        name: "three.example",
        algorithm: "ED25519",
        denial: Denial::Nsec3 { iterations: 0, opt_out: false },
        records: "www A 192.0.2.83\n*.wild A 192.0.2.98\na.deep A 192.0.2.5\n",
        ..USUAL
    },
    Zone { name: "iterated.example", denial: Denial::Nsec3 { iterations: 150, opt_out: false }, ..USUAL },
    Zone { name: "rsa.example", algorithm: "RSASHA512", ..USUAL },
    Zone { name: "p384.example", algorithm: "ECDSAP384SHA384", ..USUAL },
    Zone { name: "expired.example", valid: (-864_000, -432_000), ..USUAL },
    Zone { name: "future.example", valid: (432_000, 864_000), ..USUAL },
    Zone { name: "late.example", valid: (-864_000, -600), ..USUAL },
    Zone { name: "stripped.example", fault: Fault::Stripped, ..USUAL },
    Zone { name: "wrongkey.example", fault: Fault::WrongKey, ..USUAL },
    Zone { name: "oddalg.example", fault: Fault::OddAlgorithm, ..USUAL },
    Zone { name: "mangled.example", fault: Fault::Mangled, records: "www A 192.0.2.80\nother A 192.0.2.81\n", ..USUAL },
    Zone { name: "insecure.example", fault: Fault::Unsigned, ..USUAL },
    Zone { name: "plain.optout", fault: Fault::Unsigned, ..USUAL },
    Zone { name: "signed.optout", ..USUAL },
    Zone { name: "optout", denial: Denial::Nsec3 { iterations: 0, opt_out: true }, records: "", ..USUAL },
    Zone { name: "example", algorithm: "RSASHA256", records: "", ..USUAL },
];

/// The tree, and who serves it.
pub(crate) struct Tree {
    /// Has the zones; ends with the tree.
    _authority: Server,
    /// Answers for all of it, and judges nothing.
    pub(crate) resolver: Server,
    /// The root's key that signs its keys, in presentation form.
    pub(crate) anchor: String,
    folder: PathBuf,
}

impl Tree {
    pub(crate) fn plant(directory: &Path) -> Self {
        let folder = directory.join("tree");
        fs::create_dir_all(&folder).expect("a directory");
        let root = Zone { name: "", records: "", ..USUAL };
        for zone in ZONES.iter().chain([&root]) {
            zone.make(&folder);
        }
        let key = fs::read_to_string(folder.join("key-of-")).expect("the root has a key");
        let anchor = key.lines().find(|line| line.contains("DNSKEY")).expect("a key").to_owned();
        let zones: Vec<&str> = ZONES.iter().map(|zone| zone.name).chain([""]).collect();
        let authority = authority(directory, &folder, &zones);
        let port = authority.address.port();
        let stubs = zones.iter().map(|zone| format!("stub-zone:\n  name: \"{zone}.\"\n  stub-addr: 127.0.0.1@{port}\n"));
        let resolver = unbound(directory, "resolver", "  module-config: \"iterator\"\n", &stubs.collect::<String>());
        Self { _authority: authority, resolver, anchor, folder }
    }

    /// Unbound that asks the resolver and validates: a second opinion.
    pub(crate) fn validator(&self, directory: &Path) -> Server {
        let own = format!(
            "  module-config: \"validator iterator\"\n  trust-anchor: \"{}\"\n  ede: yes\n  val-sig-skew-min: 0\n  \
             val-sig-skew-max: 0\n  val-nsec3-keysize-iterations: \"1024 100\"\n",
            self.anchor
        );
        let port = self.resolver.address.port();
        unbound(directory, "validator", &own, &format!("forward-zone:\n  name: \".\"\n  forward-addr: 127.0.0.1@{port}\n"))
    }

    /// The key that signs a zone's keys, in presentation form.
    pub(crate) fn key_of(&self, zone: &str) -> String {
        let text = fs::read_to_string(self.folder.join(format!("key-of-{zone}"))).expect("that zone has a key");
        text.lines().find(|line| line.contains("DNSKEY")).expect("a key").to_owned()
    }

    /// The DS records of a zone, in presentation form.
    pub(crate) fn ds_of(&self, zone: &str) -> String {
        fs::read_to_string(self.folder.join(format!("dsset-{zone}."))).expect("that zone has a key")
    }
}

impl Zone {
    fn make(&self, folder: &Path) {
        let Self { name, algorithm, denial, valid: (from, until), fault, records } = self;
        let run = |program: &str, arguments: &[&str]| {
            // Debian has them where root looks for programs in some releases.
            let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
            let mut command = Command::new("env");
            command.arg(format!("PATH={path}")).arg(program).args(arguments).current_dir(folder);
            tools::run(&mut command).ok().trim().to_owned()
        };
        let origin = format!("{name}.");
        let apex = if name.is_empty() { ".".to_owned() } else { origin.clone() };
        let mut text = format!(
            "$ORIGIN {apex}\n$TTL 300\n@ SOA ns.{origin} hostmaster.{origin} 1 3600 600 86400 60\n@ NS ns.{origin}\n\
             ns.{origin} A 127.0.0.1\n{records}"
        )
        .replace("..", ".");
        let is_child = |child: &&Zone| match child.name.split_once('.') {
            Some((_, parent)) => parent == *name,
            None => name.is_empty(),
        };
        for child in ZONES.iter().filter(is_child) {
            text.push_str(&format!("{0}. NS ns.{0}.\nns.{0}. A 127.0.0.1\n", child.name));
            let own = fs::read_to_string(folder.join(format!("dsset-{}.", child.name))).unwrap_or_default();
            match child.fault {
                Fault::Unsigned => {}
                Fault::WrongKey => text.push_str(&format!("{}. DS 4711 13 2 {}\n", child.name, "ab".repeat(32))),
                Fault::OddAlgorithm => text.push_str(&format!("{}. DS 4711 200 2 {}\n", child.name, "ab".repeat(32))),
                _ => text.push_str(&own),
            }
        }
        let (plain, signed) = (folder.join(format!("{name}.plain")), folder.join(format!("{name}.zone")));
        fs::write(&plain, text).expect("written");
        if matches!(fault, Fault::Unsigned) {
            fs::copy(&plain, &signed).expect("copied");
            return;
        }
        // The one that signs the keys, and the one that signs the rest.
        let key = run("dnssec-keygen", &["-q", "-a", algorithm, "-f", "KSK", &apex]);
        run("dnssec-keygen", &["-q", "-a", algorithm, &apex]);
        fs::copy(folder.join(format!("{key}.key")), folder.join(format!("key-of-{name}"))).expect("copied");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs() as i64;
        let time = |offset: i64| run("date", &["-u", "-d", &format!("@{}", now + offset), "+%Y%m%d%H%M%S"]);
        let (from, until) = (time(*from), time(*until));
        let (plain, signed) = (plain.display().to_string(), signed.display().to_string());
        let mut arguments = vec!["-q", "-P", "-S", "-x", "-o", &apex, "-s", &from, "-e", &until, "-f", &signed];
        let iterations;
        if let Denial::Nsec3 { iterations: count, opt_out } = denial {
            iterations = count.to_string();
            arguments.extend(["-3", if *count > 0 { "aabbcc" } else { "-" }, "-H", &iterations]);
            arguments.extend(opt_out.then_some("-A"));
        }
        arguments.push(&plain);
        run("dnssec-signzone", &arguments);
        match fault {
            Fault::Stripped => drop(fs::copy(&plain, &signed).expect("copied")),
            Fault::Mangled => mangle(&signed, &format!("www.{origin}"), &format!("other.{origin}")),
            _ => {}
        }
    }
}

/// Gives the signature of one name's A record to another's.
fn mangle(zone: &str, to: &str, from: &str) {
    let text = tools::run(Command::new("env").args([
        &format!("PATH={}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()),
        "named-compilezone",
        "-q",
        "-i",
        "none",
        "-o",
        "/dev/stdout",
        to.split_once('.').expect("a name in a zone").1,
        zone,
    ]))
    .ok();
    let is_signature = |line: &&str, name: &str| line.starts_with(name) && line.contains("RRSIG\tA ");
    let other = text.lines().find(|line| is_signature(line, from)).expect("it is signed").to_owned();
    let lines = text.lines().map(|line| if is_signature(&line, to) { other.replacen(from, to, 1) } else { line.to_owned() });
    fs::write(zone, lines.collect::<Vec<_>>().join("\n") + "\n").expect("written");
}

/// NSD with these zones.
fn authority(directory: &Path, folder: &Path, zones: &[&str]) -> Server {
    let (port, home) = (free_port(), folder.display());
    let mut config = format!(
        "server:\n  ip-address: 127.0.0.1@{port}\n  server-count: 1\n  username: \"\"\n  zonesdir: \"{home}\"\n  database: \"\"\n  \
         pidfile: \"{home}/pid\"\n  xfrdfile: \"{home}/xfrd\"\n  zonelistfile: \"{home}/list\"\n  xfrdir: \"{home}\"\n  \
         rrl-ratelimit: 0\nremote-control:\n  control-enable: no\n"
    );
    for zone in zones {
        config.push_str(&format!("zone:\n  name: \"{zone}.\"\n  zonefile: \"{home}/{zone}.zone\"\n"));
    }
    start("nsd", directory, "authority", &config, port)
}

fn unbound(directory: &Path, name: &str, own: &str, rest: &str) -> Server {
    let port = free_port();
    let config = format!(
        "server:\n  interface: 127.0.0.1\n  port: {port}\n  num-threads: 1\n  do-daemonize: no\n  username: \"\"\n  chroot: \"\"\n  \
         pidfile: \"\"\n  use-syslog: no\n  do-not-query-localhost: no\n  qname-minimisation: no\n  rrset-roundrobin: no\n{own}\
         remote-control:\n  control-enable: no\n{rest}"
    );
    start("unbound", directory, name, &config, port)
}

fn start(program: &str, directory: &Path, name: &str, config: &str, port: u16) -> Server {
    let file = directory.join(format!("{name}.conf"));
    fs::write(&file, config).expect("the configuration can be written");
    Server::start_until(program, &["-d", "-c"], &file, port, |address| {
        let answer = dns::udp_within(address, "www.good.example", "A", Duration::from_millis(500));
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.answers().len() == 2 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
}
