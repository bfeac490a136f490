//! Upstreams: NSD with a zone of our own, Unbound, one that only counts, one that is told what to say by the name, and one
//! that is silent; and dnsmasq, which rollcall is to take the place of.

use std::any::Any;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::encrypted::Certificate;
use super::rollcall::Launch;
use super::{dns, free_port, tools, wire, within};

/// `example.net` as the upstreams know it: addresses, a chain of aliases, a wildcard, and a text too large for UDP.
const ZONE: &str = "\
$ORIGIN example.net.
$TTL 300
@        SOA ns hostmaster 1 3600 600 86400 60
@        NS  ns
ns       A   192.0.2.53
www      A   192.0.2.80
www      A   192.0.2.81
www      AAAA 2001:db8::80
alias    CNAME second
second   CNAME www
*.wild   A   192.0.2.99
text     TXT \"one\" \"two\"
odd      TYPE65280 \\# 4 0A000001
";

/// A DNS server from a package, killed at the end.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Server {
    /// NSD, authoritative for the zone.
    pub(crate) fn nsd(directory: &Path) -> Self {
        let home = directory.join("nsd");
        fs::create_dir_all(&home).expect("a directory for NSD");
        let mut zone = ZONE.to_owned();
        for number in 1..=100 {
            zone.push_str(&format!("big A 198.51.100.{number}\n"));
            if number <= 50 {
                zone.push_str(&format!("medium A 198.51.100.{number}\n"));
            }
        }
        let file = home.join("zone");
        fs::write(&file, zone).expect("the zone can be written");
        let port = free_port();
        let home = home.display();
        let config = format!(
            "server:\n  ip-address: 127.0.0.1@{port}\n  server-count: 1\n  username: \"\"\n  zonesdir: \"{home}\"\n  database: \"\"\n  pidfile: \"{home}/pid\"\n  \
             xfrdfile: \"{home}/xfrd\"\n  zonelistfile: \"{home}/list\"\n  xfrdir: \"{home}\"\n  rrl-ratelimit: 0\n  minimal-responses: yes\n  ipv4-edns-size: 512\n\
             remote-control:\n  control-enable: no\nzone:\n  name: example.net\n  zonefile: {}\n",
            file.display()
        );
        Self::start("nsd", &["-d", "-c"], &directory.join("nsd.conf"), &config, port)
    }

    /// BIND, authoritative for the zone. Who speaks of cookies has to show its own (RFC 7873, 5.2.3).
    pub(crate) fn named(directory: &Path) -> Self {
        let home = directory.join("bind");
        fs::create_dir_all(&home).expect("a directory for BIND");
        fs::write(home.join("zone"), ZONE).expect("the zone can be written");
        let (port, home) = (free_port(), home.display());
        let config = format!(
            "options {{ directory \"{home}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no; \
             require-server-cookie yes; pid-file none; session-keyfile \"{home}/session.key\"; }};\n\
             controls {{ }};\nlogging {{ category default {{ null; }}; }};\n\
             zone \"example.net\" {{ type primary; file \"zone\"; }};\n"
        );
        Self::start("named", &["-f", "-n", "1", "-c"], &directory.join("named.conf"), &config, port)
    }

    /// Unbound, which has the same names as data of its own and sets RA.
    pub(crate) fn unbound(directory: &Path) -> Self {
        let port = free_port();
        let config = format!(
            "server:\n  interface: 127.0.0.1\n  port: {port}\n  num-threads: 1\n  do-daemonize: no\n  username: \"\"\n  chroot: \"\"\n  pidfile: \"\"\n  \
             use-syslog: no\n  module-config: \"iterator\"\n  do-not-query-localhost: no\n  local-zone: \"example.net.\" static\n  \
             local-data: \"example.net. 300 SOA ns.example.net. hostmaster.example.net. 1 3600 600 86400 60\"\n  \
             local-data: \"www.example.net. 300 A 192.0.2.80\"\n  local-data: \"www.example.net. 300 A 192.0.2.81\"\n\
             remote-control:\n  control-enable: no\n"
        );
        Self::start("unbound", &["-d", "-c"], &directory.join("unbound.conf"), &config, port)
    }

    /// Unbound with these response policy zones, the first one first, before an upstream.
    pub(crate) fn unbound_with_policies(directory: &Path, zones: &[PathBuf], upstream: SocketAddr) -> Self {
        let port = free_port();
        let mut config = format!(
            "server:\n  interface: 127.0.0.1\n  port: {port}\n  num-threads: 1\n  do-daemonize: no\n  username: \"\"\n  chroot: \"\"\n  pidfile: \"\"\n  \
             use-syslog: no\n  module-config: \"respip iterator\"\n  do-not-query-localhost: no\n\
             remote-control:\n  control-enable: no\nforward-zone:\n  name: \".\"\n  forward-addr: {}@{}\n",
            upstream.ip(),
            upstream.port()
        );
        for (number, zone) in zones.iter().enumerate() {
            config.push_str(&format!("rpz:\n  name: \"policy{number}.test\"\n  zonefile: \"{}\"\n", zone.display()));
        }
        Self::start("unbound", &["-d", "-c"], &directory.join("unbound-policies.conf"), &config, port)
    }

    /// dnsmasq with this configuration, which says nothing of its port.
    pub(crate) fn dnsmasq(directory: &Path, config: &Path) -> Self {
        let port = free_port();
        let file = directory.join("dnsmasq.conf");
        // The address is said again where the configuration says it, which does no harm.
        let own = format!(
            "port={port}\nlisten-address=127.0.0.1\nbind-interfaces\ntxt-record=ready.invalid\nconf-file={}\n",
            config.display()
        );
        fs::write(&file, own).expect("the configuration can be written");
        // It lets go of root otherwise, and the files of a test are nobody else's.
        let user = format!("--user={}", tools::run(Command::new("id").arg("-un")).ok().trim());
        let (program, arguments) = ("dnsmasq", ["--keep-in-foreground", "--log-facility=-", "--pid-file=", &user, "-C"]);
        Self::start_until(program, &arguments, &file, port, |address| {
            let answer = dns::udp_within(address, "ready.invalid", "TXT", Duration::from_millis(200));
            answer.map(|_| ()).map_err(|error| error.to_string())
        })
    }

    /// Unbound with addresses for `example.net` and all below it, over TLS and HTTPS.
    pub(crate) fn unbound_secure(directory: &Path, certificate: &Certificate) -> Secure {
        let (port, tls, https) = (free_port(), free_port(), free_port());
        let config = format!(
            "server:\n  interface: 127.0.0.1@{port}\n  interface: 127.0.0.1@{tls}\n  interface: 127.0.0.1@{https}\n  \
             tls-port: {tls}\n  https-port: {https}\n  tls-service-key: \"{key}\"\n  tls-service-pem: \"{pem}\"\n  \
             num-threads: 1\n  do-daemonize: no\n  username: \"\"\n  chroot: \"\"\n  pidfile: \"\"\n  use-syslog: no\n  \
             module-config: \"iterator\"\n  do-not-query-localhost: no\n  pad-responses: yes\n  local-zone: \"example.net.\" redirect\n  \
             local-data: \"example.net. 300 A 192.0.2.80\"\n  local-data: \"example.net. 300 A 192.0.2.81\"\n\
             remote-control:\n  control-enable: no\n",
            key = certificate.key.display(),
            pem = certificate.chain.display(),
        );
        let file = directory.join("unbound-secure.conf");
        let start = move || Box::new(Self::start("unbound", &["-d", "-c"], &file, &config, port)) as Box<dyn Any>;
        Secure::new(start, [("tls", tls), ("https", https)])
    }

    fn start(program: &str, arguments: &[&str], file: &Path, config: &str, port: u16) -> Self {
        fs::write(file, config).expect("the configuration can be written");
        Self::start_until(program, arguments, file, port, |address| {
            let answer = dns::udp_within(address, "www.example.net", "A", Duration::from_millis(200));
            answer
                .map_err(|error| error.to_string())
                .and_then(|reply| if reply.answers().len() == 2 { Ok(()) } else { Err(format!("{reply:?}")) })
        })
    }

    pub(super) fn start_until(
        program: &str,
        arguments: &[&str],
        file: &Path,
        port: u16,
        ready: impl Fn(SocketAddr) -> Result<(), String>,
    ) -> Self {
        let log = fs::File::create(file.with_extension("log")).expect("a log");
        let copy = log.try_clone().expect("a second handle of the log");
        // The tests run as root in CI, where /usr/sbin is in the path, and as anyone elsewhere, where it may not be.
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("env");
        command.arg(format!("PATH={path}")).arg(program).args(arguments).arg(file);
        let child = command.stdin(Stdio::null()).stdout(log).stderr(copy).spawn().expect("env starts");
        let mut server = Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)) };
        within(Duration::from_secs(20), &format!("{program} answers"), || {
            if let Ok(Some(status)) = server.child.try_wait() {
                let said = fs::read_to_string(file.with_extension("log")).unwrap_or_default();
                panic!("{program} ended with {status}; scripts/test installs it\n{said}");
            }
            ready(server.address)
        });
        server
    }
}

/// A server that is asked over encrypted connections, as [`Secure::NAME`].
pub(crate) struct Secure {
    server: Option<Box<dyn Any>>,
    start: Box<dyn Fn() -> Box<dyn Any>>,
    /// By the scheme of its URLs.
    ports: Vec<(&'static str, u16)>,
}

impl Secure {
    pub(crate) const NAME: &str = "dns.test";

    fn new<const N: usize>(start: impl Fn() -> Box<dyn Any> + 'static, ports: [(&'static str, u16); N]) -> Self {
        Self { server: Some(start()), start: Box::new(start), ports: ports.into() }
    }

    /// A rollcall with the same names, over all that it speaks.
    pub(crate) fn rollcall(directory: &Path, certificate: &Certificate) -> Self {
        let home = directory.join("upstream");
        fs::create_dir_all(&home).expect("a directory for it");
        let (tls, https, quic) = (free_port(), free_port(), free_port());
        let config = format!(
            "hosts = []\n[dns.encrypted]\ntls = [\"127.0.0.1:{tls}\"]\nhttps = [\"127.0.0.1:{https}\"]\nquic = [\"127.0.0.1:{quic}\"]\n\
             certificate = {:?}\nkey = {:?}\n[forward]\nupstreams = []\n\
             [[forward.route]]\ndomains = [\"example.net\"]\naddresses = [\"192.0.2.80\", \"192.0.2.81\"]\n",
            certificate.chain, certificate.key,
        );
        fs::write(home.join("rollcall.toml"), config).expect("written");
        let start = move || Box::new(Launch::serve(&home).option("--config", "rollcall.toml").start()) as Box<dyn Any>;
        Self::new(start, [("tls", tls), ("https", https), ("h3", https), ("quic", quic)])
    }

    /// Where it is asked by each protocol that it speaks: its scheme, and its URL at this host.
    pub(crate) fn urls(&self, host: &str) -> Vec<(&'static str, String)> {
        self.ports.iter().map(|(scheme, port)| (*scheme, format!("{scheme}://{host}:{port}"))).collect()
    }

    /// Kills it, and with it all connections, and starts it again.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.server = Some((self.start)());
    }

    pub(crate) fn stop(&mut self) {
        drop(self.server.take());
    }
}

/// Is this what rollcall asks an upstream by itself, to see whether it leads back? Tests count what clients ask.
pub(crate) fn is_of_the_sentry(octets: &[u8]) -> bool {
    octets.get(12) == Some(&16) && octets.get(29) == Some(&16) && octets.get(46..49) == Some(&[0, 0, 13])
}

/// A client's question.
fn message(octets: &[u8]) -> Option<Message> {
    Message::from_vec(octets).ok().filter(|_| !is_of_the_sentry(octets))
}

/// Answers clients' questions, with what `reply` makes of an answer that is empty, for as long as the test runs.
fn answer(socket: UdpSocket, mut reply: impl FnMut(&Query, &mut Message) + Send + 'static) {
    thread::spawn(move || {
        let mut room = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut room) {
            let Some(mut message) = message(&room[..length]) else { continue };
            let Some(query) = message.queries.first().cloned() else { continue };
            message.metadata.message_type = MessageType::Response;
            message.metadata.recursion_available = true;
            reply(&query, &mut message);
            if let Ok(octets) = message.to_vec() {
                drop(socket.send_to(&octets, from));
            }
        }
    });
}

/// A UDP upstream that answers every question with the same address and remembers what it was asked.
pub(crate) struct Witness {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Witness {
    pub(crate) const ANSWER: &str = "203.0.113.1";

    pub(crate) fn start() -> Self {
        Self::on(UdpSocket::bind("127.0.0.1:0").expect("a free port"))
    }

    /// On an address of loopback where nobody has this port, so that several runs at one time do not meet.
    pub(crate) fn start_on_port_53() -> Self {
        for _ in 0..100 {
            let address = SocketAddr::from(([127, fastrand::u8(1..), fastrand::u8(..), fastrand::u8(1..255)], 53));
            if let Ok(socket) = UdpSocket::bind(address) {
                return Self::on(socket);
            }
        }
        panic!("port 53 can be bound on no address of 127.0.0.0/8; that needs root");
    }

    fn on(socket: UdpSocket) -> Self {
        let address = socket.local_addr().expect("a bound socket has an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        answer(socket, move |query, message| {
            let line = format!("{} {}", query.name(), query.query_type()).to_ascii_lowercase();
            noted.lock().expect("no thread panics with it").push(line);
            let address = RData::A(A(Self::ANSWER.parse().expect("an address")));
            message.add_answer(Record::from_rdata(query.name().clone(), 300, address));
        });
        Self { address, asked }
    }

    /// What it was asked, in lower case: `www.example.net. a`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no thread panics with it").clone()
    }

    /// How many of the questions were for this name.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.asked().iter().filter(|line| line.starts_with(&format!("{name} "))).count()
    }
}

/// A UDP upstream with a simple answer to every question, told by the first label: `nx` does not exist, `private` and
/// `loopback` have such an address, `public` one of nobody's, `text` has a TXT record, all others have addresses of its own.
/// TTLs are 60.
pub(crate) struct Oracle {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Oracle {
    /// `number` is the last octet of its answers' addresses.
    pub(crate) fn start(number: u8) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("a bound socket has an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        answer(socket, move |query, message| {
            noted.lock().expect("no thread panics with it").push(query.name().to_string().to_ascii_lowercase());
            let first = query.name().iter().next().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase());
            let data = match (first.as_deref(), query.query_type()) {
                (Some("private"), RecordType::A) => Some(RData::A(A::new(10, 1, 2, 3))),
                (Some("loopback"), RecordType::A) => Some(RData::A(A::new(127, 0, 0, 9))),
                // Of the range for benchmarks, which nobody takes for private (RFC 2544).
                (Some("public"), RecordType::A) => Some(RData::A(A::new(198, 18, 0, number))),
                (Some("text"), RecordType::TXT) => Some(RData::TXT(TXT::new(vec!["some text".to_owned()]))),
                (Some("nx"), _) => None,
                (_, RecordType::A) => Some(RData::A(A::new(203, 0, 113, number))),
                (_, RecordType::AAAA) => Some(RData::AAAA(AAAA::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, number.into()))),
                (_, RecordType::PTR) => {
                    let name = Name::from_ascii(format!("host.up{number}.example.")).expect("a name");
                    Some(RData::PTR(PTR(name)))
                }
                _ => None,
            };
            match data {
                Some(data) => drop(message.add_answer(Record::from_rdata(query.name().clone(), 60, data))),
                None => {
                    let name = |text| Name::from_ascii(text).expect("a name");
                    let soa = SOA::new(name("ns.example."), name("root.example."), 1, 1, 1, 1, 60);
                    message.add_authority(Record::from_rdata(name("example."), 60, RData::SOA(soa)));
                }
            }
            if first.as_deref() == Some("nx") {
                message.metadata.response_code = ResponseCode::NXDomain;
            }
        });
        Self { address, asked }
    }

    /// The names that it was asked since the last time, in lower case.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().expect("no thread panics with it"))
    }
}

/// An upstream whose port is open and that never answers, as a host behind a firewall.
pub(crate) struct Silent {
    pub(crate) address: SocketAddr,
    _sockets: (UdpSocket, TcpListener),
}

impl Silent {
    pub(crate) fn start() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let sockets = (UdpSocket::bind(address).expect("a free port"), TcpListener::bind(address).expect("a free port"));
        Self { address, _sockets: sockets }
    }
}

/// An upstream over UDP and TCP that does with each query as the test says, and remembers the octets that it heard.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
}

/// A query as it came.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) octets: Vec<u8>,
    pub(crate) from: SocketAddr,
    pub(crate) by_stream: bool,
}

impl Scripted {
    /// `replies` makes of a query what is sent back, one after the other.
    pub(crate) fn start(replies: impl Fn(&Heard) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self::hearing(false, replies)
    }

    /// The same in front of a server on this port of loopback, which may change. `changed` makes of a datagram and its reply
    /// what is sent back.
    pub(crate) fn before(
        port: Arc<AtomicU16>,
        changed: impl Fn(&Heard, Vec<u8>) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        Self::hearing(true, move |heard| {
            let reply = wire::ask(([127, 0, 0, 1], port.load(Ordering::SeqCst)).into(), &heard.octets);
            if heard.by_stream { vec![reply] } else { changed(heard, reply) }
        })
    }

    fn hearing(the_sentry_too: bool, replies: impl Fn(&Heard) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (datagrams, streams) =
            (UdpSocket::bind(address).expect("a free port"), TcpListener::bind(address).expect("a free port"));
        let heard = Arc::<Mutex<Vec<Heard>>>::default();
        let (note, replies) = (Arc::clone(&heard), Arc::new(replies));
        let hear = move |octets: &[u8], from, by_stream| {
            let one = Heard { octets: octets.to_vec(), from, by_stream };
            note.lock().expect("no thread panics with it").push(one.clone());
            replies(&one)
        };
        let hear_stream = hear.clone();
        thread::spawn(move || {
            let mut room = [0; 4096];
            while let Ok((length, from)) = datagrams.recv_from(&mut room) {
                if !the_sentry_too && is_of_the_sentry(&room[..length]) {
                    continue;
                }
                for reply in hear(&room[..length], from, false) {
                    drop(datagrams.send_to(&reply, from));
                }
            }
        });
        thread::spawn(move || {
            for mut stream in streams.incoming().flatten() {
                let (hear, from) = (hear_stream.clone(), stream.peer_addr().expect("it is connected"));
                thread::spawn(move || {
                    let mut length = [0; 2];
                    while stream.read_exact(&mut length).is_ok() {
                        let mut octets = vec![0; usize::from(u16::from_be_bytes(length))];
                        if stream.read_exact(&mut octets).is_err() {
                            return;
                        }
                        for reply in hear(&octets, from, true) {
                            let framed = [&(reply.len() as u16).to_be_bytes(), &reply[..]].concat();
                            drop(stream.write_all(&framed));
                        }
                    }
                });
            }
        });
        Self { address, heard }
    }

    /// What it has heard since it was asked the last time.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        std::mem::take(&mut self.heard.lock().expect("no thread panics with it"))
    }
}
