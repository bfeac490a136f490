//! SIGTERM, SIGHUP, and the ready line.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::encrypted::{Certificate, NAME, curl, query, receive, send};
use crate::support::http::Http;
use crate::support::rollcall::{Launch, directory};
use crate::support::upstream::{Scripted, Witness, is_of_the_sentry};
use crate::support::{free_port, slack, within};

#[test]
fn sigterm_ends_it_cleanly() {
    let directory = directory();
    for name in ["TERM", "INT"] {
        let mut rollcall = Launch::serve(directory.path()).start();
        rollcall
            .http
            .accepts("/v1/agent/service/register", &json!({"ID": name, "Name": "kept", "Address": "192.0.2.8", "Port": 1}));
        // A blocking query is open: it must not hold the end.
        let http = rollcall.http.clone();
        let waiting = thread::spawn(move || http.request("GET", "/v1/catalog/services?index=1000000&wait=5m", ""));
        rollcall.signal(name);
        assert_eq!(rollcall.ended().code(), Some(0), "SIG{name}");
        drop(waiting.join());
    }
    let rollcall = Launch::serve(directory.path()).start();
    let services = rollcall.http.json("/v1/agent/services");
    assert!(services.get("TERM").is_some() && services.get("INT").is_some(), "{services}");
}

#[test]
fn sighup_takes_a_good_configuration_and_refuses_a_bad_one() {
    let directory = directory();
    let (first, second) = (Witness::start(), Witness::start());
    let file = directory.path().join("rollcall.toml");
    let configure = |upstream: &str| fs::write(&file, format!("[forward]\nupstreams = [\"{upstream}\"]\n")).expect("written");
    configure(&first.address.to_string());
    let mut rollcall = Launch::serve(directory.path()).option("--config", &file).start();
    rollcall
        .http
        .accepts("/v1/agent/service/register", &json!({"ID": "kept", "Name": "kept", "Address": "192.0.2.8", "Port": 1}));
    rollcall.ask("a.example.net", "A");
    assert_eq!(first.count("a.example.net."), 1);

    fs::write(&file, "[forward]\nupstreams = [\n").expect("written");
    rollcall.signal("HUP");
    within(Duration::from_secs(10), "the refusal of the new configuration", || {
        let said = rollcall.stderr();
        if ["rollcall.toml", "expected", "hint"].iter().all(|part| said.contains(part)) { Ok(()) } else { Err(said) }
    });
    assert!(rollcall.running());
    rollcall.ask("b.example.net", "A");
    assert_eq!(first.count("b.example.net."), 1, "the old configuration goes on");

    configure(&second.address.to_string());
    rollcall.signal("HUP");
    let mut number = 0;
    within(Duration::from_secs(10), "the new upstream is asked", || {
        number += 1;
        let name = format!("c{number}.example.net");
        rollcall.ask(&name, "A");
        if second.count(&format!("{name}.")) > 0 { Ok(()) } else { Err(format!("{:?}", first.asked())) }
    });
    assert_eq!(rollcall.ask("kept.service.consul", "A").answers(), ["192.0.2.8"], "what is registered stays");
}

#[test]
fn the_ready_line_is_true() {
    let directory = directory();
    // `start` waits for the line and compares the process id; what it names must answer at the first try.
    let rollcall = Launch::serve(directory.path()).start();
    assert_eq!(rollcall.http.get("/v1/status/leader").status, 200);
    assert!(rollcall.ask("absent.service.consul", "A").answers().is_empty());
    assert_ne!(rollcall.dns.port(), 0);
}

/// An upstream that answers nobody before it is told to.
struct Patient {
    socket: UdpSocket,
    address: SocketAddr,
    asked: HashMap<String, Vec<(Vec<u8>, SocketAddr)>>,
}

impl Patient {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.set_read_timeout(Some(Duration::from_millis(10))).expect("a timeout");
        let address = socket.local_addr().expect("it is bound");
        Self { socket, address, asked: HashMap::new() }
    }

    /// Waits until so many names have been asked for.
    fn hears(&mut self, names: usize) {
        within(Duration::from_secs(20), "all questions at the upstream", || {
            let mut room = [0; 4096];
            while let Ok((length, from)) = self.socket.recv_from(&mut room) {
                let octets = &room[..length];
                if !is_of_the_sentry(octets) {
                    let name = Message::from_vec(octets).expect("a query").queries[0].name().to_string().to_ascii_lowercase();
                    self.asked.entry(name).or_default().push((octets.to_vec(), from));
                }
            }
            if self.asked.len() == names { Ok(()) } else { Err(format!("{:?}", self.asked.keys())) }
        });
    }

    /// Answers all of it: these names do not exist.
    fn answer(&self) {
        for (octets, from) in self.asked.values().flatten() {
            let mut reply = octets.clone();
            (reply[2], reply[3]) = (reply[2] | 0x80, 3);
            self.socket.send_to(&reply, from).expect("sent");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_waits_for_answers_that_are_looked_up() {
    const EACH: u16 = 8;
    let directory = directory();
    let certificate = Certificate::write(directory.path());
    let mut upstream = Patient::start();
    let file = directory.path().join("rollcall.toml");
    let text = format!(
        "[dns.encrypted]\ntls = [\"127.0.0.1:0\"]\nhttps = [\"127.0.0.1:0\"]\nquic = [\"127.0.0.1:0\"]\n\
         certificate = \"cert.pem\"\nkey = \"key.pem\"\nname = \"{NAME}\"\n[forward]\nupstreams = [\"{}\"]\n",
        upstream.address
    );
    fs::write(&file, text).expect("written");
    let mut rollcall = Launch::serve(directory.path()).option("--config", &file).start();
    let (dns, https) = (rollcall.dns, rollcall.encrypted("https"));

    let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    udp.connect(dns).await.expect("connected");
    let mut tcp = tokio::net::TcpStream::connect(dns).await.expect("a connection");
    let mut tls = certificate.tls(rollcall.encrypted("tls")).await.expect("a connection");
    let (_endpoint, quic) = certificate.quic(rollcall.encrypted("quic"), "doq").await.expect("a connection");
    let mut streams = JoinSet::new();
    let mut requests = Vec::new();
    for id in 0..EACH {
        udp.send(&query(id, &format!("udp{id}.example.net"), &[])).await.expect("sent");
        send(&mut tcp, &query(id, &format!("tcp{id}.example.net"), &[])).await;
        send(&mut tls, &query(id, &format!("tls{id}.example.net"), &[])).await;
        let (mut to, mut from) = quic.open_bi().await.expect("a stream");
        send(&mut to, &query(0, &format!("quic{id}.example.net"), &[])).await;
        to.finish().expect("it is open");
        streams.spawn(async move { receive(&mut from).await });
        let (body, version) = (directory.path().join(format!("query{id}")), if id % 2 == 0 { "--http2" } else { "--http1.1" });
        fs::write(&body, query(id, &format!("https{id}.example.net"), &[])).expect("written");
        let words = format!(
            "{version} -o /dev/null -w %{{http_code}} -H content-type:application/dns-message --data-binary @{} https://{https}/dns-query",
            body.display()
        );
        requests.push(thread::spawn(move || curl(&words)));
    }
    tokio::task::block_in_place(|| upstream.hears(5 * usize::from(EACH)));

    rollcall.signal("TERM");
    tokio::task::block_in_place(|| {
        within(Duration::from_secs(20), "new connections are refused", || match TcpStream::connect(dns) {
            Ok(_) => Err("connected".into()),
            Err(_) => Ok(()),
        })
    });
    upstream.answer();
    let mut ids = HashSet::new();
    let mut room = [0; 512];
    for _ in 0..EACH {
        let received = tokio::time::timeout(Duration::from_secs(10), udp.recv(&mut room)).await;
        let length = received.expect("an answer over UDP in time").expect("an answer over UDP");
        ids.insert(("udp", Message::from_vec(&room[..length]).expect("a message").metadata.id));
        ids.insert(("tcp", receive(&mut tcp).await.metadata.id));
        ids.insert(("tls", receive(&mut tls).await.metadata.id));
    }
    assert_eq!(ids.len(), 3 * usize::from(EACH));
    while let Some(answer) = streams.join_next().await {
        assert_eq!(answer.expect("an answer over QUIC").queries.len(), 1);
    }
    for request in requests {
        assert_eq!(tokio::task::block_in_place(|| request.join()).expect("an answer over HTTPS"), "200");
    }
    assert_eq!(tokio::task::block_in_place(|| rollcall.ended()).code(), Some(0));
}

#[test]
fn sigterm_waits_for_a_silent_upstream_no_longer_than_a_second() {
    let directory = directory();
    let silent = Scripted::start(|_| Vec::new());
    let file = directory.path().join("rollcall.toml");
    fs::write(&file, format!("[forward]\nupstreams = [\"{}\"]\ntimeout = \"60s\"\n", silent.address)).expect("written");
    let mut rollcall = Launch::serve(directory.path()).option("--config", &file).start();
    let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
    client.send_to(&query(1, "www.example.net", &[]), rollcall.dns).expect("sent");
    within(Duration::from_secs(20), "the upstream is asked", || match silent.heard().len() {
        0 => Err("nothing".into()),
        _ => Ok(()),
    });
    let begun = Instant::now();
    rollcall.signal("TERM");
    assert_eq!(rollcall.ended().code(), Some(0));
    assert!(begun.elapsed() < slack(Duration::from_secs(1)), "{:?}", begun.elapsed());
}

#[test]
fn signals_are_heard_while_a_configuration_is_taken_up() {
    let directory = directory();
    let silent = Scripted::start(|_| Vec::new());
    let file = directory.path().join("rollcall.toml");
    let configure = |upstreams: &[&str], address: &str| {
        let quoted: Vec<String> = upstreams.iter().map(|upstream| format!("\"{upstream}\"")).collect();
        let record = format!("[[record]]\nname = \"www.example.net\"\ntype = \"A\"\nvalue = \"{address}\"\n");
        fs::write(&file, format!("[forward]\nupstreams = [{}]\n{record}", quoted.join(", "))).expect("written");
    };
    configure(&[], "192.0.2.1");
    let mut rollcall = Launch::serve(directory.path()).option("--config", &file).start();
    let answers = |address: &str| {
        within(Duration::from_secs(60), &format!("www.example.net is {address}"), || {
            let answers = rollcall.ask("www.example.net", "A").answers();
            if answers == [address] { Ok(()) } else { Err(format!("{answers:?}")) }
        });
    };
    answers("192.0.2.1");
    let looks_up = || {
        rollcall.signal("HUP");
        within(Duration::from_secs(20), "a name is looked up", || match silent.heard().len() {
            0 => Err(rollcall.stderr()),
            _ => Ok(()),
        });
    };
    // Whoever knows where this upstream is says nothing.
    let by_address = silent.address.to_string();
    configure(&[&by_address, "one.example"], "192.0.2.2");
    looks_up();
    configure(&[&by_address], "192.0.2.3");
    rollcall.signal("HUP");
    answers("192.0.2.3");

    let names: Vec<String> = (0..20).map(|n| format!("name{n}.example")).collect();
    let named: Vec<&str> = [&*by_address].into_iter().chain(names.iter().map(|name| &**name)).collect();
    configure(&named, "192.0.2.4");
    silent.heard();
    looks_up();
    let begun = Instant::now();
    rollcall.signal("TERM");
    assert_eq!(rollcall.ended().code(), Some(0));
    assert!(begun.elapsed() < slack(Duration::from_secs(1)), "{:?}", begun.elapsed());
}

#[test]
fn sighup_moves_the_http_api_and_tells_what_a_restart_changes() {
    let directory = directory();
    let file = directory.path().join("rollcall.toml");
    let (port, other) = (free_port(), free_port());
    let configure = |http: &str, data: &str, workers: u8| {
        let text = format!(
            "[dns]\nlisten = [\"127.0.0.1:0\"]\nworkers = {workers}\n[registry]\nhttp = \"{http}\"\ndata = \"{data}\"\n"
        );
        fs::write(&file, text).expect("written");
    };
    configure(&format!("127.0.0.1:{port}"), "data", 1);
    let launch = Launch::bare(directory.path()).with("serve").with("--ready-json").option("--config", &file);
    let rollcall = launch.start();
    rollcall
        .http
        .accepts("/v1/agent/service/register", &json!({"ID": "kept", "Name": "kept", "Address": "192.0.2.8", "Port": 1}));
    let hangup = || {
        let read = || rollcall.stderr().matches("the configuration was read again").count();
        let before = read();
        rollcall.signal("HUP");
        within(Duration::from_secs(20), "the configuration is read again", || match read() > before {
            true => Ok(()),
            false => Err(rollcall.stderr()),
        });
    };
    let is_answered = |address: &str| {
        let services = Http::new(address.parse().expect("an address")).json("/v1/agent/services");
        assert!(services.get("kept").is_some(), "{address}: {services}");
    };

    // Its own former listener is in the way.
    configure(&format!("0.0.0.0:{port}"), "elsewhere", 3);
    hangup();
    is_answered(&format!("127.0.0.2:{port}"));
    let told = ["dns.workers is 1 until then, not 3", "registry.data is", "elsewhere", "hint: restart it"];
    let said = rollcall.stderr();
    assert!(told.iter().all(|words| said.contains(words)) && !said.contains("node.name is"), "{said}");

    let text = fs::read_to_string(&file).expect("readable");
    fs::write(&file, format!("compat = \"consul\"\n{text}")).expect("written");
    hangup();
    let said = rollcall.stderr();
    assert!(said.contains("compat (of the registry and the HTTP API) is none until then, not \"consul\""), "{said}");

    // What cannot be had leaves it where it was.
    let held = TcpListener::bind(("127.0.0.1", other)).expect("a free port");
    for wrong in [format!("127.0.0.1:{other}"), format!("0.0.0.0:{other}")] {
        configure(&wrong, "data", 1);
        hangup();
        is_answered(&format!("127.0.0.2:{port}"));
        let said = rollcall.stderr();
        assert!(said.contains(&format!("cannot listen on {wrong}")), "{said}");
    }
    drop(held);
    hangup();
    is_answered(&format!("127.0.0.2:{other}"));
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "it has moved");
    assert_eq!(rollcall.stderr().matches("changes with a restart").count(), 2, "{}", rollcall.stderr());
}
