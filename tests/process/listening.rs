//! Listeners that change while queries run: interfaces that come and go, and SIGHUP.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hickory_proto::op::Message;

use crate::support::encrypted::{Certificate, NAME, curl, framed, kdig, query, receive, send};
use crate::support::namespace::enter;
use crate::support::rollcall::{Launch, Rollcall, directory};
use crate::support::tools::{dig, run};
use crate::support::upstream::{Heard, Scripted};
use crate::support::{dns, within};

/// What may take a moment.
const SOON: Duration = Duration::from_secs(20);

const RECORD: &str =
    "[forward]\nupstreams = []\n[[record]]\nname = \"www.example.net\"\ntype = \"A\"\nvalue = \"192.0.2.80\"\nttl = 77\n";

fn ip(words: &str) {
    run(Command::new("ip").args(words.split_whitespace())).ok();
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Is it answered there, over UDP and TCP?
fn answers(text: &str) -> Result<(), String> {
    let server = address(text);
    let udp = dns::udp_within(server, "www.example.net", "A", Duration::from_secs(1)).map_err(|error| error.to_string())?;
    let tcp = dns::tcp(server, "www.example.net", "A").map_err(|error| error.to_string())?;
    assert_eq!((udp.answers(), tcp.answers()), (vec!["192.0.2.80".to_owned()], vec!["192.0.2.80".to_owned()]), "{text}");
    Ok(())
}

fn is_answered(text: &str) {
    within(SOON, &format!("{text} answers"), || answers(text));
}

/// The addresses that are listened on, as the kernel knows them.
fn bound() -> String {
    run(Command::new("ss").args(["-Hltun"])).ok()
}

fn is_closed(text: &str) {
    within(SOON, &format!("{text} is closed"), || {
        let bound = bound();
        if bound.contains(&format!("{text} ")) { Err(bound) } else { Ok(()) }
    });
}

/// Asks again and again, and misses no answer.
struct Asker {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU32>,
    thread: JoinHandle<()>,
}

impl Asker {
    fn start(server: &str) -> Self {
        let server = address(server);
        Self::asking(move |_| {
            let reply = dns::udp(server, "www.example.net", "A").expect("an answer");
            assert_eq!(reply.answers(), ["192.0.2.80"]);
        })
    }

    /// `ask` is told how often it was called.
    fn asking(ask: impl Fn(u32) + Send + 'static) -> Self {
        let (stop, answers) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let (stopped, count) = (stop.clone(), answers.clone());
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                ask(count.load(Ordering::Relaxed));
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, answers, thread }
    }

    fn end(self) {
        let answers = || self.answers.load(Ordering::Relaxed);
        within(SOON, "more than ten answers", || match answers() {
            11.. => Ok(()),
            _ if self.thread.is_finished() => Ok(()),
            few => Err(few.to_string()),
        });
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("every question had its answer");
    }
}

fn configure(directory: &std::path::Path, dns: &str, encrypted: &str) -> std::path::PathBuf {
    let file = directory.join("rollcall.toml");
    let section = format!("[dns.encrypted]\n{encrypted}\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\nname = \"{NAME}\"\n");
    let section = if encrypted.is_empty() { "" } else { &section };
    fs::write(&file, format!("[dns]\nworkers = 2\n{dns}\n{section}{RECORD}")).expect("written");
    file
}

fn start(directory: &std::path::Path, dns: &str, encrypted: &str) -> (Rollcall, Certificate) {
    let certificate = Certificate::write(directory);
    let file = configure(directory, dns, encrypted);
    let launch = Launch::bare(directory).with("serve").with("--ready-json").option("--config", file);
    let launch = launch.option("--http", "127.0.0.1:8500").option("--data", directory.join("data"));
    (launch.start(), certificate)
}

#[test]
fn interfaces_come_and_go() {
    if !enter("listening::interfaces_come_and_go", "") {
        return;
    }
    let directory = directory();
    let dns = "listen = [\"127.0.0.1:53\", \"lan7:53\", \"192.0.2.53:53\"]";
    let (rollcall, _certificate) = start(directory.path(), dns, "tls = [\"lan7:853\"]\nquic = [\"lan7:853\"]");
    let said = rollcall.stderr();
    for words in ["got none for \"lan7:53\"", "got none for \"lan7:853\"", "got 192.0.2.53:53"] {
        assert!(said.contains(words), "{words} is missing in\n{said}");
    }
    let asker = Asker::start("127.0.0.1:53");

    // An address that comes later, and goes, and comes again.
    for _ in 0..2 {
        ip("address add 192.0.2.53/32 dev lo");
        is_answered("192.0.2.53:53");
        ip("address del 192.0.2.53/32 dev lo");
    }

    ip("link add lan7 type veth peer name wan7");
    ip("address add 198.51.100.1/32 dev lan7");
    ip("link set lan7 up");
    is_answered("198.51.100.1:53");
    ip("address add 198.51.100.2/32 dev lan7");
    ip("address add 2001:db8::7/128 dev lan7 nodad");
    is_answered("198.51.100.2:53");
    let words = "+short www.example.net A";
    within(SOON, "IPv6 and TLS", || {
        let said = run(Command::new("dig").args(["@2001:db8::7", "+time=1", "+tries=1"]).args(words.split(' '))).stdout;
        if said.trim() == "192.0.2.80" { Ok(()) } else { Err(said) }
    });
    assert_eq!(kdig(address("198.51.100.2:853"), &format!("+tls {words}")).trim(), "192.0.2.80");
    assert_eq!(kdig(address("198.51.100.2:853"), &format!("+quic {words}")).trim(), "192.0.2.80");
    // Plain clients are told of the listeners that there are.
    let told = dig(address("127.0.0.1:53"), "+short _dns.resolver.arpa SVCB");
    assert!(told.contains("ipv4hint=198.51.100.2") && told.contains("ipv6hint=2001:db8::7"), "{told}");

    ip("address del 198.51.100.1/32 dev lan7");
    is_closed("198.51.100.1:53");
    is_closed("198.51.100.1:853");
    answers("198.51.100.2:53").expect("its neighbour is not touched");

    // The interface goes as a whole, and another one comes by its name.
    ip("link del lan7");
    is_closed("198.51.100.2:53");
    is_closed("[2001:db8::7]:853");
    let told = dig(address("127.0.0.1:53"), "+short _dns.resolver.arpa SVCB");
    assert_eq!(told.trim(), "");
    for round in 0..3 {
        ip("link add lan7 type veth peer name wan7");
        ip("link set lan7 up");
        ip("address add 198.51.100.2/32 dev lan7");
        is_answered("198.51.100.2:53");
        ip("link del lan7");
        if round == 2 {
            is_closed("198.51.100.2:53");
        }
    }
    asker.end();
    let metrics = rollcall.http.get("/metrics").body;
    let mut series: Vec<&str> = metrics.lines().filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name).collect();
    let all = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), all, "a series twice in\n{metrics}");
    assert!(!rollcall.stderr().contains("panicked"), "{}", rollcall.stderr());
}

/// Has the configuration read again, and waits for that.
fn hangup(rollcall: &Rollcall) {
    let read = || rollcall.stderr().matches("the configuration was read again").count();
    let before = read();
    rollcall.signal("HUP");
    within(SOON, "the configuration is read again", || if read() > before { Ok(()) } else { Err(rollcall.stderr()) });
}

#[tokio::test]
async fn sighup_changes_listeners() {
    if !enter("listening::sighup_changes_listeners", "") {
        return;
    }
    let directory = directory();
    let encrypted = |own: &str| format!("tls = [\"{own}:853\"]\nhttps = [\"127.0.0.1:443\"]\nquic = [\"{own}:853\"]");
    let (rollcall, certificate) = start(directory.path(), "listen = [\"127.0.0.1:53\"]", &encrypted("127.0.0.1"));
    let mut plain = TcpStream::connect("127.0.0.1:53").expect("a connection");
    let mut tls = certificate.tls(address("127.0.0.1:853")).await.expect("a connection");
    let (_endpoint, quic) = certificate.quic(address("127.0.0.1:853"), "doq").await.expect("a connection");
    let asker = Asker::start("127.0.0.1:53");
    let hangup = || hangup(&rollcall);
    let is_kept = |plain: &mut TcpStream| {
        plain.write_all(&framed(&query(8, "www.example.net", &[]))).expect("sent");
        let mut length = [0; 2];
        plain.read_exact(&mut length).expect("an answer on the same connection");
        let mut octets = vec![0; usize::from(u16::from_be_bytes(length))];
        plain.read_exact(&mut octets).expect("all of it");
        assert_eq!(Message::from_vec(&octets).expect("a message").answers.len(), 1);
    };

    // More addresses, others, another path, and a proxy: all at once.
    let dns = "listen = [\"127.0.0.1:53\", \"127.0.0.2:53\"]\nproxy_protocol_from = [\"127.0.0.77/32\"]";
    configure(directory.path(), dns, &format!("{}\npath = \"/other\"", encrypted("127.0.0.2")));
    hangup();
    is_answered("127.0.0.2:53");
    within(SOON, "a former listener is closed", || match TcpStream::connect("127.0.0.1:853") {
        Ok(_) => Err("connected".into()),
        Err(_) => Ok(()),
    });
    let words = "+short www.example.net A";
    assert_eq!(kdig(address("127.0.0.2:853"), &format!("+tls {words}")).trim(), "192.0.2.80");
    assert_eq!(kdig(address("127.0.0.2:853"), &format!("+quic {words}")).trim(), "192.0.2.80");
    let status = |path: &str| curl(&format!("-o /dev/null -w %{{http_code}} https://127.0.0.1{path}"));
    assert_eq!((status("/other"), status("/dns-query")), ("400".into(), "404".into()));
    let told = dig(address("127.0.0.1:53"), "+short _dns.resolver.arpa SVCB");
    assert!(told.contains("ipv4hint=127.0.0.2") && told.contains("/other{?dns}"), "{told}");
    let from_proxy = |header: &[u8]| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&address("127.0.0.77:0").into()).expect("an address of this host");
        socket.connect(&address("127.0.0.2:53").into()).expect("a connection");
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        stream.write_all(&[header, &framed(&query(7, "www.example.net", &[]))].concat()).expect("sent");
        stream.read(&mut [0; 2])
    };
    assert_eq!(from_proxy(b"PROXY TCP4 198.51.100.1 127.0.0.2 5000 53\r\n").ok(), Some(2));
    assert!(!matches!(from_proxy(b""), Ok(2)), "it has to say whose connection it is");
    // Who was connected still is.
    is_kept(&mut plain);
    send(&mut tls, &query(2, "www.example.net", &[])).await;
    assert_eq!(receive(&mut tls).await.metadata.id, 2);
    let (mut to, mut from) = quic.open_bi().await.expect("a stream");
    send(&mut to, &query(0, "www.example.net", &[])).await;
    to.finish().expect("it is open");
    assert_eq!(receive(&mut from).await.answers.len(), 1);
    asker.end();

    // What is in the way of a new listener is replaced by it; its connections go on.
    configure(directory.path(), "listen = [\"0.0.0.0:53\"]", "");
    hangup();
    is_answered("127.0.0.3:53");
    is_answered("127.0.0.1:53");
    is_closed("127.0.0.2:853");
    is_closed("127.0.0.1:443");
    is_kept(&mut plain);
    let told = dig(address("127.0.0.1:53"), "+short _dns.resolver.arpa SVCB");
    assert_eq!(told.trim(), "");

    // What cannot be bound is told, and the former listeners answer on.
    let holder = UdpSocket::bind("127.0.0.1:5300").expect("a free port");
    let asker = Asker::start("127.0.0.1:53");
    configure(directory.path(), "listen = [\"127.0.0.1:5300\", \"127.0.0.1:5301\"]", "");
    hangup();
    is_answered("127.0.0.1:5301");
    let said = rollcall.stderr();
    for words in ["cannot listen on 127.0.0.1:5300 (udp)", "held by", "former listeners stay"] {
        assert!(said.contains(words), "{words} is missing in\n{said}");
    }
    answers("127.0.0.1:53").expect("the former listener is in force");
    asker.end();
    drop(holder);
    hangup();
    is_answered("127.0.0.1:5300");
    is_closed("0.0.0.0:53");
    // And back, encrypted ones too.
    configure(directory.path(), "listen = [\"127.0.0.1:53\"]", &encrypted("127.0.0.1"));
    hangup();
    is_answered("127.0.0.1:53");
    // This address has been QUIC's all the time, for the sake of its connection, which makes room now.
    let is_encrypted = || {
        for way in ["+tls", "+quic", "+quic", "+quic"] {
            assert_eq!(kdig(address("127.0.0.1:853"), &format!("{way} {words}")).trim(), "192.0.2.80", "{way}");
        }
    };
    is_encrypted();
    assert!(matches!(quic.closed().await, quinn::ConnectionError::ApplicationClosed(_)));
    assert_eq!(status("/dns-query"), "400");
    for own in ["0.0.0.0", "127.0.0.1"] {
        configure(directory.path(), "listen = [\"127.0.0.1:53\"]", &encrypted(own));
        hangup();
        is_encrypted();
    }
    is_kept(&mut plain);
    let said = rollcall.stderr();
    assert!(!said.contains("panicked") && !said.contains("cannot receive"), "{said}");
}

#[test]
fn a_listener_that_moves_loses_no_question() {
    if !enter("listening::a_listener_that_moves_loses_no_question", "") {
        return;
    }
    let directory = directory();
    let upstream = Scripted::start(|heard: &Heard| {
        let mut reply = heard.octets.clone();
        reply[2] |= 0x80;
        vec![reply]
    });
    let rest = RECORD.replace("[]", &format!("[\"{}\"]", upstream.address));
    let file = directory.path().join("rollcall.toml");
    let write = |own: &str| fs::write(&file, format!("[dns]\nworkers = 2\nlisten = [\"{own}:53\"]\n{rest}")).expect("written");
    write("127.0.0.1");
    let launch = Launch::bare(directory.path()).with("serve").with("--ready-json").option("--config", &file);
    let rollcall = launch.option("--http", "127.0.0.1:8500").option("--data", directory.path().join("data")).start();
    let server = address("127.0.0.1:53");
    let known = || Asker::start("127.0.0.1:53");
    let forwarded = |client: &'static str| {
        Asker::asking(move |n| {
            dns::udp(server, &format!("{client}{n}.example.com"), "A").expect("an answer");
        })
    };
    let by_stream = || {
        Asker::asking(move |_| {
            dns::tcp(server, "www.example.net", "A").expect("an answer");
        })
    };
    let askers = [known(), known(), forwarded("a"), forwarded("b"), by_stream(), by_stream()];
    for _ in 0..10 {
        for own in ["0.0.0.0", "127.0.0.1"] {
            write(own);
            hangup(&rollcall);
        }
    }
    askers.into_iter().for_each(Asker::end);
    let said = rollcall.stderr();
    assert_eq!(said.matches("0.0.0.0:53 (dns): not listened on any more").count(), 10, "{said}");
}

#[test]
fn a_listener_that_closes_answers_what_it_was_asked() {
    if !enter("listening::a_listener_that_closes_answers_what_it_was_asked", "") {
        return;
    }
    let directory = directory();
    let go = Arc::<AtomicBool>::default();
    let wait = go.clone();
    let upstream = Scripted::start(move |heard: &Heard| {
        while !wait.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(5));
        }
        let mut reply = heard.octets.clone();
        reply[2] |= 0x80;
        vec![reply]
    });
    let file = directory.path().join("rollcall.toml");
    let write = |port: u16| {
        let text = format!("[dns]\nlisten = [\"127.0.0.1:{port}\"]\n[forward]\nupstreams = [\"{}\"]\n", upstream.address);
        fs::write(&file, text).expect("written");
    };
    write(53);
    let launch = Launch::bare(directory.path()).with("serve").with("--ready-json").option("--config", &file);
    let rollcall = launch.option("--http", "127.0.0.1:8500").option("--data", directory.path().join("data")).start();
    let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
    client.connect("127.0.0.1:53").expect("it stays with one server");
    client.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    client.send(&query(9, "slow.example.net", &[])).expect("sent");
    within(SOON, "the upstream is asked", || if upstream.heard().is_empty() { Err("nothing".into()) } else { Ok(()) });
    write(5353);
    rollcall.signal("HUP");
    within(SOON, "the listener is closed", || {
        let said = rollcall.stderr();
        if said.contains("127.0.0.1:53 (dns): not listened on any more") { Ok(()) } else { Err(said) }
    });
    go.store(true, Ordering::Relaxed);
    let mut room = [0; 512];
    let length = client.recv(&mut room).expect("the answer, from where it was asked");
    assert_eq!(Message::from_vec(&room[..length]).expect("a message").metadata.id, 9);
    is_closed("127.0.0.1:53");
}
