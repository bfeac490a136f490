//! DNS over TLS, HTTPS (HTTP/1.1, 2 and 3) and QUIC: real clients, certificates that change, and clients that mean no good.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Buf, Bytes};
use hickory_proto::op::{Message, ResponseCode};
use hyper::{Method, Request, StatusCode};
use tokio::time::timeout;

use crate::support::encrypted::{Certificate, NAME, Stubby, configure, curl, framed, kdig, query, receive, send};
use crate::support::health::HealthServer;
use crate::support::rollcall::{Launch, Rollcall, directory};
use crate::support::tools::dig;
use crate::support::upstream::{Silent, Witness};
use crate::support::{dns, within};

const TCP_KEEPALIVE: u16 = 11;
const PADDING: u16 = 12;

fn start(directory: &std::path::Path, more: &str) -> (Rollcall, Certificate) {
    let certificate = Certificate::write(directory);
    let file = configure(directory, more);
    (Launch::serve(directory).option("--config", file).start(), certificate)
}

fn https(rollcall: &Rollcall) -> String {
    format!("https://{}/dns-query", rollcall.encrypted("https"))
}

#[test]
fn rfc8484_4_1_and_rfc7858_3_clients_of_every_kind_get_the_answer() {
    let directory = directory();
    let (rollcall, certificate) = start(directory.path(), "");
    let trusting = format!("+tls-ca={} +tls-hostname={NAME}", certificate.authority.display());
    for (way, words, session) in [
        ("tls", "+tls", "(TLS1.3)"),
        ("https", "+https", "HTTP/2-POST"),
        ("https", "+https +https-get", "HTTP/2-GET"),
        ("quic", "+quic", "QUICv1"),
    ] {
        let said = kdig(rollcall.encrypted(way), &format!("{trusting} {words} +padding www.example.net A"));
        for part in ["IN\tA\t127.0.0.1", session, "Received 468 B"] {
            assert!(said.contains(part), "{words}: {part:?} is missing in\n{said}");
        }
    }
    for (way, words) in [("tls", "+tls"), ("https", "+https"), ("https", "+https-get")] {
        let said = dig(rollcall.encrypted(way), &format!("{words} +short www.example.net A"));
        assert_eq!(said.trim(), "127.0.0.1", "{words}");
    }
    let stubby = Stubby::start(directory.path(), rollcall.encrypted("tls"), &certificate);
    assert_eq!(dig(stubby.address, "+short www.example.net A").trim(), "127.0.0.1");
    // A program that has its names from DNS over HTTPS alone.
    let web = HealthServer::start([127, 0, 0, 1]);
    let said =
        curl(&format!("--doh-insecure --doh-url {} http://www.example.net:{}/health", https(&rollcall), web.address.port()));
    assert!(!said.is_empty() && web.asked.load(std::sync::atomic::Ordering::SeqCst) == 1, "{said}");
    let metrics = rollcall.http.get("/metrics").body;
    for way in ["tls", "https", "quic"] {
        let begin = format!(
            "rollcall_queries_total{{listener=\"{}\",transport=\"{way}\",rcode=\"NOERROR\"}} ",
            rollcall.encrypted(way)
        );
        let count = metrics.lines().find_map(|line| line.strip_prefix(&begin)?.parse::<u64>().ok());
        assert!(count >= Some(1), "{begin:?} is missing in\n{metrics}");
    }
}

#[test]
fn rfc7828_3_2_and_rfc7830_3_options_of_the_connection_are_granted_where_they_may_be() {
    let directory = directory();
    let (rollcall, _certificate) = start(directory.path(), "");
    let keepalive = "+keepalive www.example.net A";
    assert!(dig(rollcall.dns, &format!("+tcp {keepalive}")).contains("TCP KEEPALIVE: 10.0 secs"));
    assert!(dig(rollcall.encrypted("tls"), &format!("+tls {keepalive}")).contains("TCP KEEPALIVE: 30.0 secs"));
    assert!(!dig(rollcall.encrypted("https"), &format!("+https {keepalive}")).contains("KEEPALIVE"));
    assert!(!dig(rollcall.dns, keepalive).contains("KEEPALIVE"), "over UDP there is nothing to keep");
    // What anybody can read is not padded, and what was not padded neither.
    assert!(!kdig(rollcall.dns, "+tcp +padding=64 www.example.net A").contains("PADDING"));
    assert!(!kdig(rollcall.encrypted("tls"), "+tls +nopadding +edns www.example.net A").contains("PADDING"));
}

#[test]
fn rfc8484_4_2_1_http_says_what_is_wrong_with_a_request() {
    let directory = directory();
    let (rollcall, _certificate) = start(directory.path(), "");
    let url = https(&rollcall);
    let good = URL_SAFE_NO_PAD.encode(query(0, "www.example.net", &[]));
    let body = directory.path().join("query");
    fs::write(&body, query(0, "www.example.net", &[])).expect("written");
    let large = directory.path().join("large");
    fs::write(&large, vec![0; 5000]).expect("written");
    let (body, large) = (format!("--data-binary @{}", body.display()), format!("--data-binary @{}", large.display()));
    let dns = "-H content-type:application/dns-message";
    for version in ["--http1.1", "--http2"] {
        for (words, expected) in [
            (format!("{url}?dns={good}"), "200"),
            (format!("{url}?ct=&dns={good}="), "200"),
            (format!("{url}?dns={}", "A".repeat(6000)), "414"),
            (format!("{url}?dns=a+b"), "400"),
            (format!("{url}?dns=AAAA"), "400"),
            (url.clone(), "400"),
            (format!("{url}/other?dns={good}"), "404"),
            (format!("-X PUT {dns} {body} {url}"), "405"),
            (format!("{dns} {body} {url}"), "200"),
            (format!("-H content-type:text/plain {body} {url}"), "415"),
            (format!("{dns} {large} {url}"), "413"),
            (format!("-I {url}?dns={good}"), "200"),
            (format!("-H accept:application/dns-json {url}?dns={good}"), "200"),
            (format!("-H x-large:{} {url}?dns={good}", "a".repeat(20_000)), "431"),
        ] {
            let status = curl(&format!("{version} -o /dev/null -w %{{http_code}} {words}"));
            assert_eq!(status, expected, "{version} {words}");
        }
        let head = curl(&format!("{version} -D - -o /dev/null {url}?dns={good}")).to_ascii_lowercase();
        for line in ["content-type: application/dns-message", "cache-control: max-age=77", "alt-svc: h3="] {
            assert!(head.contains(line), "{line} is missing in\n{head}");
        }
        // HEAD has what GET has, but for the answer.
        let length = curl(&format!("{version} -o /dev/null -w %{{size_download}} {url}?dns={good}"));
        let head = curl(&format!("{version} -I {url}?dns={good}")).to_ascii_lowercase();
        assert!(head.contains(&format!("content-length: {length}\r")) && head.contains("max-age=77"), "{length}: {head}");
        // As long as its SOA record says that there is none.
        let absent = URL_SAFE_NO_PAD.encode(query(0, "absent.service.consul", &[]));
        let head = curl(&format!("{version} -D - -o /dev/null {url}?dns={absent}")).to_ascii_lowercase();
        assert!(head.contains("cache-control: max-age=1\r"), "{head}");
        let refused = URL_SAFE_NO_PAD.encode(query(0, "elsewhere.example", &[]));
        let head = curl(&format!("{version} -D - -o /dev/null {url}?dns={refused}")).to_ascii_lowercase();
        assert!(head.contains("cache-control: max-age=0\r"), "{head}");
    }
}

#[tokio::test]
async fn http3_is_asked_as_the_others_are() {
    let directory = directory();
    let (rollcall, certificate) = start(directory.path(), "");
    let (_endpoint, connection) = certificate.quic(rollcall.encrypted("https"), "h3").await.expect("a connection");
    let (mut driver, mut client) = h3::client::new(h3_quinn::Connection::new(connection)).await.expect("HTTP/3");
    let driven = tokio::spawn(async move { std::future::poll_fn(|context| driver.poll_close(context)).await });
    let octets = query(0, "www.example.net", &[PADDING]);
    let in_url = format!("https://{NAME}/dns-query?dns={}", URL_SAFE_NO_PAD.encode(&octets));
    let at = format!("https://{NAME}/dns-query");
    let media_type = "application/dns-message";
    for (method, url, media_type, body, expected) in [
        (Method::GET, &in_url, "", Vec::new(), StatusCode::OK),
        (Method::POST, &at, media_type, octets.clone(), StatusCode::OK),
        (Method::POST, &at, "text/plain", octets, StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (Method::POST, &at, media_type, vec![0; 5000], StatusCode::PAYLOAD_TOO_LARGE),
        (Method::DELETE, &at, media_type, Vec::new(), StatusCode::METHOD_NOT_ALLOWED),
        (Method::GET, &at, "", Vec::new(), StatusCode::BAD_REQUEST),
    ] {
        let request = Request::builder().method(method.clone()).uri(url).header("content-type", media_type);
        let mut stream = client.send_request(request.body(()).expect("a request")).await.expect("sent");
        if !body.is_empty() {
            stream.send_data(Bytes::from(body)).await.expect("sent");
        }
        // Who is refused may be refused before it has said all.
        let _ = stream.finish().await;
        let response = stream.recv_response().await.expect("a response");
        assert_eq!(response.status(), expected, "{method} {url}");
        if expected == StatusCode::OK {
            assert_eq!(response.headers()["cache-control"], "max-age=77");
            let mut answer = Vec::new();
            while let Some(mut part) = stream.recv_data().await.expect("a body") {
                answer.extend_from_slice(&part.copy_to_bytes(part.remaining()));
            }
            assert_eq!(answer.len(), 468);
            assert_eq!(Message::from_vec(&answer).expect("a DNS message").answers.len(), 1);
        }
    }
    driven.abort();
}

#[tokio::test]
async fn answers_come_as_they_are_ready() {
    let directory = directory();
    let (silent, certificate) = (Silent::start(), Certificate::write(directory.path()));
    let file = configure(directory.path(), "");
    let upstream = silent.address.to_string();
    let rollcall = Launch::serve(directory.path()).option("--config", file).option("--upstream", upstream).start();
    let mut stream = certificate.tls(rollcall.encrypted("tls")).await.expect("a connection");
    send(&mut stream, &query(1, "slow.example", &[])).await;
    for id in 2..50 {
        send(&mut stream, &query(id, "www.example.net", &[])).await;
    }
    for id in 2..50 {
        assert_eq!(receive(&mut stream).await.metadata.id, id);
    }
    let last = receive(&mut stream).await;
    assert_eq!((last.metadata.id, last.metadata.response_code), (1, ResponseCode::ServFail));

    let (_endpoint, connection) = certificate.quic(rollcall.encrypted("quic"), "doq").await.expect("a connection");
    let slow = asked(&connection, &framed(&query(0, "slower.example", &[]))).await;
    let quick = asked(&connection, &framed(&query(0, "www.example.net", &[]))).await;
    assert_eq!(answer(quick).await.answers.len(), 1);
    assert_eq!(answer(slow).await.metadata.response_code, ResponseCode::ServFail);
}

async fn asked(connection: &quinn::Connection, octets: &[u8]) -> quinn::RecvStream {
    let (mut to, from) = connection.open_bi().await.expect("a stream");
    to.write_all(octets).await.expect("sent");
    to.finish().expect("sent");
    from
}

async fn answer(mut from: quinn::RecvStream) -> Message {
    let octets = from.read_to_end(70_000).await.expect("an answer");
    Message::from_vec(&octets[2..]).expect("a DNS message")
}

#[tokio::test]
async fn rfc9250_4_2_dns_over_quic_keeps_to_its_rules() {
    let directory = directory();
    let (rollcall, certificate) = start(directory.path(), "");
    let server = rollcall.encrypted("quic");
    let good = framed(&query(0, "www.example.net", &[]));
    let two = [good.clone(), good.clone()].concat();
    for (what, octets) in [
        ("an id", framed(&query(7, "www.example.net", &[]))),
        ("edns-tcp-keepalive", framed(&query(0, "www.example.net", &[TCP_KEEPALIVE]))),
        ("two queries", two),
        ("half a query", good[..20].to_vec()),
        ("nothing", Vec::new()),
        ("no query", framed(&[0; 5])),
    ] {
        let (_endpoint, connection) = certificate.quic(server, "doq").await.expect("a connection");
        drop(asked(&connection, &octets).await);
        match connection.closed().await {
            quinn::ConnectionError::ApplicationClosed(close) => {
                assert_eq!(close.error_code.into_inner(), 2, "{what} is DOQ_PROTOCOL_ERROR");
            }
            other => panic!("{what}: {other}"),
        }
    }
    let (endpoint, connection) = certificate.quic(server, "doq").await.expect("a connection");
    let (mut to, mut from) = connection.open_bi().await.expect("a stream");
    let _ = to.write_all(&vec![0; 5000]).await;
    match from.read_to_end(10).await {
        Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => assert_eq!(code.into_inner(), 4),
        other => panic!("what is too long is DOQ_EXCESSIVE_LOAD: {other:?}"),
    }
    assert_eq!(answer(asked(&connection, &good).await).await.answers.len(), 1, "the connection goes on");
    assert!(timeout(Duration::from_millis(200), connection.open_uni()).await.is_err(), "no stream in one direction");
    connection.close(0u32.into(), b"");
    let again = endpoint.connect(server, NAME).expect("a good configuration").into_0rtt();
    assert!(again.is_err(), "the ticket is good for no early data");
    assert!(certificate.quic(server, "h3").await.is_err(), "HTTP/3 is spoken elsewhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_replaced_while_connections_are_open() {
    let directory = directory();
    let (rollcall, first) = start(directory.path(), "");
    let (tls, doq) = (rollcall.encrypted("tls"), rollcall.encrypted("quic"));
    let mut before = first.tls(tls).await.expect("a connection");
    send(&mut before, &query(1, "www.example.net", &[])).await;
    assert_eq!(receive(&mut before).await.answers.len(), 1);
    let trusting_the_first = first.client("dot");
    let shown = |config: rustls::ClientConfig| async move {
        let stream = tokio::net::TcpStream::connect(tls).await.expect("a connection");
        let name = rustls::pki_types::ServerName::try_from(NAME).expect("a name");
        tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await.is_ok()
    };

    // A key that does not fit changes nothing, and is told.
    fs::write(&first.key, rcgen::KeyPair::generate().expect("a key").serialize_pem()).expect("written");
    let told = |words: &'static str| {
        within(Duration::from_secs(20), words, || {
            let said = rollcall.stderr();
            if said.contains(words) { Ok(()) } else { Err(said) }
        });
    };
    tokio::task::block_in_place(|| told("expected the key of the first certificate"));
    assert!(shown(trusting_the_first.clone()).await);

    let second = Certificate::write(directory.path());
    tokio::task::block_in_place(|| told("new connections get this certificate from now on"));
    assert!(shown(second.client("dot")).await && !shown(trusting_the_first.clone()).await);
    let (_endpoint, connection) = second.quic(doq, "doq").await.expect("QUIC shows it too");
    assert_eq!(answer(asked(&connection, &framed(&query(0, "www.example.net", &[]))).await).await.answers.len(), 1);
    send(&mut before, &query(2, "www.example.net", &[])).await;
    assert_eq!(receive(&mut before).await.metadata.id, 2, "who was connected is still");

    // SIGHUP takes it from other files.
    let third = directory.path().join("third");
    fs::create_dir(&third).expect("a folder");
    let third = Certificate::write(&third);
    let file = directory.path().join("rollcall.toml");
    let text = fs::read_to_string(&file).expect("the configuration");
    let text = text.replace("\"cert.pem\"", "\"third/cert.pem\"").replace("\"key.pem\"", "\"third/key.pem\"");
    fs::write(&file, text).expect("written");
    rollcall.signal("HUP");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !shown(third.client("dot")).await {
        assert!(Instant::now() < deadline, "SIGHUP takes the third certificate: {}", rollcall.stderr());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_mistake_in_the_section_is_found_before_anything_is_bound() {
    let directory = directory();
    let certificate = Certificate::write(directory.path());
    let file = configure(directory.path(), "");
    let check = || Launch::bare(directory.path()).with("check").with(&file).run();
    assert!(check().ok().contains("ok: "));
    let good = fs::read_to_string(&file).expect("the configuration");
    for (from, to, words) in [
        ("key = \"key.pem\"", "key = \"cert.pem\"", "expected a private key in PEM form"),
        ("certificate = \"cert.pem\"\n", "", "expected `certificate`, got none"),
        ("certificate = \"cert.pem\"", "certificate = \"absent.pem\"", "expected a readable file with a certificate, got"),
        (
            "https = [\"127.0.0.1:0\"]\nquic = [\"127.0.0.1:0\"]",
            "https = [\"0.0.0.0:4\"]\nquic = [\"127.0.0.1:4\"]",
            "expected an address of its own for quic, got 127.0.0.1:4 beside 0.0.0.0:4 (https)",
        ),
        ("tls = [\"127.0.0.1:0\"]", "tls = [\"nowhere\"]", "expected ADDRESS:PORT"),
        ("name = \"dns.example\"", "name = \"dns.example\"\npath = \"dns\"", "expected a path such as"),
    ] {
        fs::write(&file, good.replace(from, to)).expect("written");
        let said = check().failed();
        assert!(said.contains(words) && said.contains("hint"), "{words} is missing in\n{said}");
        let said = Launch::serve(directory.path()).option("--config", &file).run();
        assert_eq!(said.status, 2, "{said:?}");
    }
    fs::write(&file, &good).expect("written");
    let mut old = rcgen::CertificateParams::new(vec![NAME.into()]).expect("a name");
    old.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = rcgen::KeyPair::generate().expect("a key");
    fs::write(&certificate.chain, old.self_signed(&key).expect("a certificate").pem()).expect("written");
    fs::write(&certificate.key, key.serialize_pem()).expect("written");
    let said = check();
    assert!(said.status == 0 && said.stderr.contains("expired on 2020-01-01"), "an expired one is a warning: {said:?}");
}

#[test]
fn rfc9462_4_clients_of_plain_dns_are_told_of_the_listeners() {
    let directory = directory();
    let (rollcall, _certificate) = start(directory.path(), "");
    let port = |way: &str| rollcall.encrypted(way).port();
    let said = kdig(rollcall.dns, "+short _dns.resolver.arpa SVCB");
    for line in [
        format!("1 {NAME}. alpn=dot port={} ipv4hint=127.0.0.1", port("tls")),
        format!("2 {NAME}. alpn=h2,h3 port={} ipv4hint=127.0.0.1 key7=\"/dns-query{{?dns}}\"", port("https")),
        format!("3 {NAME}. alpn=doq port={} ipv4hint=127.0.0.1", port("quic")),
    ] {
        assert!(said.lines().any(|said| said == line), "{line} is missing in\n{said}");
    }

    // Without such listeners there is nothing to tell, and nobody else is asked, whatever the routes.
    let other = crate::support::rollcall::directory();
    let witness = Witness::start();
    let file = other.path().join("rollcall.toml");
    let route = format!("[[forward.route]]\ndomains = [\"arpa\"]\nupstreams = [\"{}\"]\n", witness.address);
    for text in ["", &route] {
        fs::write(&file, text).expect("written");
        let launch = Launch::serve(other.path()).option("--config", &file);
        let rollcall = launch.option("--upstream", witness.address.to_string()).start();
        let reply = rollcall.ask("_dns.resolver.arpa", "SVCB");
        assert_eq!((reply.rcode(), reply.answers().len(), reply.authority_types().len()), (ResponseCode::NoError, 0, 1));
    }
    assert!(witness.asked().is_empty(), "{:?}", witness.asked());
}

/// The first octets of a TLS handshake that goes no further.
const BEGUN: &[u8] = &[22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3];

#[test]
fn rfc7766_6_2_2_clients_that_hold_on_to_connections_keep_nobody_out() {
    let directory = directory();
    let (rollcall, certificate) = start(directory.path(), "");
    let tls = rollcall.encrypted("tls");
    let held: Vec<TcpStream> = (0..1000)
        .map(|number| {
            // Some never begin, some never end.
            let mut stream =
                TcpStream::connect(if number % 3 == 0 { rollcall.encrypted("https") } else { tls }).expect("taken");
            if number % 2 == 0 {
                let _ = stream.write_all(BEGUN);
            }
            stream
        })
        .collect();
    // All of them are in use as long as they are new.
    std::thread::sleep(Duration::from_millis(300));
    let trusting = format!("+tls +tls-ca={} +tls-hostname={NAME} +short www.example.net A", certificate.authority.display());
    assert_eq!(kdig(tls, &trusting).trim(), "127.0.0.1");
    assert_eq!(dns::tcp(rollcall.dns, "www.example.net", "A").expect("an answer by TCP").answers(), ["127.0.0.1"]);
    let began = Instant::now();
    for mut stream in held {
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        // An end or an error, and no timeout.
        while let Ok(1..) = stream.read(&mut [0; 512]) {}
    }
    assert!(began.elapsed() < Duration::from_secs(25), "a handshake has a deadline: {:?}", began.elapsed());
    assert_eq!(kdig(tls, &trusting).trim(), "127.0.0.1");
}

#[tokio::test]
async fn places_are_shared_by_tcp_and_quic() {
    let directory = directory();
    let (mut rollcall, certificate) = start(directory.path(), "");
    let server = rollcall.encrypted("quic");
    let mut held = Vec::new();
    for _ in 0..128 {
        held.push(certificate.quic(server, "doq").await.expect("a connection"));
    }
    // They are silent for long enough that the first has to give up its place for one more.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (_endpoint, latest) = certificate.quic(server, "doq").await.expect("a connection");
    assert_eq!(answer(asked(&latest, &framed(&query(0, "www.example.net", &[]))).await).await.answers.len(), 1);
    let first = timeout(Duration::from_secs(10), held[0].1.closed()).await.expect("the longest silent one is closed");
    assert!(
        matches!(&first, quinn::ConnectionError::ApplicationClosed(close) if close.error_code.into_inner() == 0),
        "{first}"
    );
    drop(held);

    // With half of all places taken, a client has to show first that answers reach it; it still gets its own.
    let mut strangers = Vec::new();
    for number in 0..600 {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 2 + number as u8 / 100], 0))).expect("an address of this host");
        strangers.push(socket.connect(rollcall.dns).await.expect("a connection"));
    }
    let (_endpoint, connection) = certificate.quic(server, "doq").await.expect("a connection");
    assert_eq!(answer(asked(&connection, &framed(&query(0, "www.example.net", &[]))).await).await.answers.len(), 1);

    rollcall.signal("TERM");
    let told = timeout(Duration::from_secs(10), connection.closed()).await.expect("the end is told");
    assert!(matches!(told, quinn::ConnectionError::ApplicationClosed(_)), "{told}");
    assert_eq!(rollcall.ended().code(), Some(0));
}

#[tokio::test]
async fn rfc7766_6_2_3_requests_that_drip_and_frames_without_end_are_given_up() {
    let directory = directory();
    let (rollcall, certificate) = start(directory.path(), "");
    // A frame of HTTP/3 that says it has a gigabyte of headers.
    let (_endpoint, connection) = certificate.quic(rollcall.encrypted("https"), "h3").await.expect("a connection");
    let (mut to, _from) = connection.open_bi().await.expect("a stream");
    to.write_all(&[1, 0xc0, 0, 0, 0, 0x40, 0, 0, 0]).await.expect("sent");
    let mut taken = 0;
    while taken < 10 << 20 && to.write_all(&[0; 1024]).await.is_ok() {
        taken += 1024;
    }
    assert!(taken < 256 << 10, "it was taken {taken} octets long");
    // Headers of HTTP/1.1 that never end.
    let config = certificate.client("http/1.1");
    let stream = tokio::net::TcpStream::connect(rollcall.encrypted("https")).await.expect("a connection");
    let name = rustls::pki_types::ServerName::try_from(NAME).expect("a name");
    let mut stream =
        tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await.expect("a handshake");
    use tokio::io::AsyncWriteExt as _;
    stream.write_all(b"GET / HTTP/1.1\r\n").await.expect("sent");
    let mut taken = 0;
    while taken < 10 << 20 && stream.write_all(&[b'a'; 1024]).await.is_ok() {
        taken += 1024;
    }
    assert!(taken < 8 << 20, "it was taken {taken} octets long");
    assert_eq!(kdig(rollcall.encrypted("https"), "+https +short www.example.net A").trim(), "127.0.0.1");
}

#[test]
fn garbage_ends_nothing_but_its_own_connection() {
    let directory = directory();
    let (mut rollcall, _certificate) = start(directory.path(), "");
    let mut random = 1u32;
    let mut garbage = |length: usize| -> Vec<u8> {
        let next = |random: &mut u32| {
            *random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (*random >> 24) as u8
        };
        (0..length).map(|_| next(&mut random)).collect()
    };
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for round in 0..200 {
        for way in ["tls", "https", "quic"] {
            let server = rollcall.encrypted(way);
            // Whatever becomes of it.
            let mut octets = garbage(1200 + round);
            if round % 2 == 0 {
                octets[..5].copy_from_slice(&[0xc3, 0, 0, 0, 1]);
            }
            let _ = socket.send_to(&octets, server);
            if way != "quic"
                && let Ok(mut stream) = TcpStream::connect(server)
            {
                let _ = stream.write_all(if round % 2 == 0 { BEGUN } else { &[] });
                let _ = stream.write_all(&octets);
            }
        }
    }
    assert!(rollcall.running(), "{}", rollcall.stderr());
    for (way, words) in [("tls", "+tls"), ("https", "+https"), ("quic", "+quic")] {
        assert_eq!(kdig(rollcall.encrypted(way), &format!("{words} +short www.example.net A")).trim(), "127.0.0.1", "{words}");
    }
    assert!(!rollcall.stderr().contains("panicked"), "{}", rollcall.stderr());
}

#[test]
fn a_proxy_says_whose_connections_it_hands_on() {
    let directory = directory();
    let (rollcall, _certificate) = start(directory.path(), "proxy_protocol_from = [\"127.0.0.1/32\"]");
    let ask = |server: SocketAddr, header: &[u8]| -> std::io::Result<(TcpStream, Message)> {
        let mut stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(header)?;
        stream.write_all(&framed(&query(7, "www.example.net", &[])))?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut octets = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut octets)?;
        Ok((stream, Message::from_vec(&octets).expect("a DNS message")))
    };
    let v2 = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &[192, 0, 2, 1, 127, 0, 0, 1, 1, 1, 0, 53]].concat();
    assert_eq!(ask(rollcall.dns, &v2).expect("an answer").1.answers.len(), 1);
    assert!(ask(rollcall.dns, b"").is_err(), "who may be a proxy says so");
    // More connections than one client may have, of many clients, and all stay open.
    let clients: Vec<_> = (0..=255u8)
        .map(|number| ask(rollcall.dns, format!("PROXY TCP4 198.51.100.{number} 127.0.0.1 5000 53\r\n").as_bytes()))
        .collect::<Result<_, _>>()
        .expect("answers");
    for (mut stream, _) in clients {
        stream.write_all(&framed(&query(8, "www.example.net", &[]))).expect("sent");
        stream.read_exact(&mut [0; 20]).expect("an answer on the same connection");
    }
    // Before a handshake too.
    let words = format!("--haproxy-protocol -o /dev/null -w %{{http_code}} {}", https(&rollcall));
    assert_eq!(curl(&words), "400");
    assert_eq!(
        kdig(rollcall.encrypted("quic"), "+quic +short www.example.net A").trim(),
        "127.0.0.1",
        "QUIC has no such header"
    );
}
