//! One client with halves of handshakes, questions that drip and answers that it does not read, and floods over HTTP/2: all the
//! while others are answered, in every way.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::support::encrypted::{Certificate, NAME, configure, framed, kdig, query};
use crate::support::rollcall::{Launch, Rollcall, directory};
use crate::support::within;

/// The limits of the README and of `limits.rs`.
const CONNECTIONS_PER_CLIENT_MAX: u64 = 128;

/// With a service whose answers have 16 KB.
fn start(directory: &Path) -> (Rollcall, Certificate) {
    let certificate = Certificate::write(directory);
    let instance = |number: u32| {
        let address = format!("10.1.{}.{}", number / 250, number % 250);
        json!({"ID": number.to_string(), "Name": "big", "Address": address, "Port": 80})
    };
    let services = json!({ "services": (0..1000).map(instance).collect::<Vec<_>>() });
    let file = directory.join("services.json");
    fs::write(&file, services.to_string()).expect("written");
    let launch = Launch::serve(directory).option("--config", configure(directory, "")).option("--services", file);
    (launch.start(), certificate)
}

fn metric(rollcall: &Rollcall, begin: &str) -> u64 {
    let metrics = rollcall.http.get("/metrics").body;
    let values = metrics.lines().filter(|line| line.starts_with(begin)).filter_map(|line| line.rsplit_once(' '));
    values.filter_map(|(_, value)| value.parse::<f64>().ok()).sum::<f64>() as u64
}

/// Another client of this host asks in every way.
fn others_are_answered(rollcall: &Rollcall) {
    for (server, way) in [
        (rollcall.dns, "+notcp"),
        (rollcall.dns, "+tcp"),
        (rollcall.encrypted("tls"), "+tls"),
        (rollcall.encrypted("https"), "+https"),
        (rollcall.encrypted("quic"), "+quic"),
    ] {
        let said = kdig(server, &format!("-b 127.0.0.9 {way} +short www.example.net A"));
        assert_eq!(said.trim(), "127.0.0.1", "{way}");
    }
}

/// The first octets of a TLS handshake that goes no further.
const BEGUN: &[u8] = &[22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3];

#[test]
fn one_client_with_every_trick_keeps_nobody_out() {
    let directory = directory();
    let (rollcall, _certificate) = start(directory.path());
    let memory = metric(&rollcall, "process_resident_memory_bytes");
    let ways = [rollcall.dns, rollcall.encrypted("tls"), rollcall.encrypted("https")];
    let connect = |server: SocketAddr| TcpStream::connect(server).expect("a connection, whatever becomes of it");
    let (mut dripping, mut held) = (Vec::new(), Vec::new());
    let question = framed(&query(7, "big.service.consul", &[]));
    for number in 0..600 {
        let mut stream = connect(ways[number % ways.len()]);
        match number % 4 {
            // Half a handshake, or half a length.
            0 => drop(stream.write_all(BEGUN)),
            1 => drop(stream.write_all(&[0])),
            // Many questions whose answers are not read.
            2 if number % ways.len() == 0 => drop(stream.write_all(&question.repeat(200))),
            _ => {}
        }
        let _ = stream.set_nonblocking(true);
        if number % 4 == 3 { dripping.push(stream) } else { held.push(stream) }
    }
    let begun = Instant::now();
    let mut rounds = 0;
    // An octet now and then, as if a question were on its way.
    while !dripping.is_empty() {
        dripping
            .retain_mut(|stream| !matches!(stream.write(&[1]), Err(error) if error.kind() != std::io::ErrorKind::WouldBlock));
        if rounds < 8 {
            others_are_answered(&rollcall);
            rounds += 1;
        }
        let open = metric(&rollcall, "rollcall_connections{");
        assert!(open <= CONNECTIONS_PER_CLIENT_MAX + 8, "{open} connections are open");
        // Who never finishes a question has 30 s, and ten times that on a busy machine.
        assert!(begun.elapsed() < Duration::from_secs(300), "{} drip on", dripping.len());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(rounds > 0);
    others_are_answered(&rollcall);
    within(Duration::from_secs(300), "all of them are gone", || match metric(&rollcall, "rollcall_connections{") {
        0 => Ok(()),
        open => Err(format!("{open} are open")),
    });
    let grown = metric(&rollcall, "process_resident_memory_bytes").saturating_sub(memory);
    assert!(grown < 200 << 20, "{grown} octets more");
    assert!(!rollcall.stderr().contains("panicked"), "{}", rollcall.stderr());
}

#[test]
fn who_asks_and_never_reads_is_given_up() {
    let directory = directory();
    let (rollcall, _certificate) = start(directory.path());
    let memory = metric(&rollcall, "process_resident_memory_bytes");
    let question = framed(&query(7, "big.service.consul", &[]));
    // 8,000 answers of 16 KB to each, of which the kernel takes some megabytes.
    let held: Vec<TcpStream> = (0..16)
        .map(|_| {
            let mut stream = TcpStream::connect(rollcall.dns).expect("a connection");
            stream.set_nonblocking(true).expect("it can be");
            let _ = stream.write(&question.repeat(8_000));
            stream
        })
        .collect();
    others_are_answered(&rollcall);
    within(Duration::from_secs(100), "connections whose answers nobody takes are closed", || {
        match metric(&rollcall, &format!("rollcall_connections{{listener=\"{}\"", rollcall.dns)) {
            0 => Ok(()),
            open => Err(format!("{open} are open")),
        }
    });
    let grown = metric(&rollcall, "process_resident_memory_bytes").saturating_sub(memory);
    assert!(grown < 100 << 20, "{grown} octets more");
    drop(held);
}

/// A frame of HTTP/2 (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ENHANCE_YOUR_CALM: u32 = 11;

/// The headers of a GET request, without any compression (RFC 7541, 6.1 and 6.2.2).
fn get(name: &str) -> Vec<u8> {
    let path = format!("/dns-query?dns={}", URL_SAFE_NO_PAD.encode(query(0, name, &[])));
    let text = |index: u8, value: &str| [&[index, value.len() as u8], value.as_bytes()].concat();
    [vec![0x82, 0x87], text(4, &path), text(1, NAME)].concat()
}

/// A connection of HTTP/2 that has begun with these settings.
async fn http2(rollcall: &Rollcall, certificate: &Certificate, settings: &[u8]) -> TlsStream<tokio::net::TcpStream> {
    let stream = tokio::net::TcpStream::connect(rollcall.encrypted("https")).await.expect("a connection");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(certificate.client("h2")));
    let mut stream = connector.connect(ServerName::try_from(NAME).expect("a name"), stream).await.expect("a handshake");
    let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, settings)[..]].concat();
    stream.write_all(&begin).await.expect("sent");
    stream
}

/// Sends the same again and again, and reads what comes, until the connection ends; what the server gave as its reason, and
/// how many octets it took.
async fn flood(stream: TlsStream<tokio::net::TcpStream>, mut part: impl FnMut() -> Vec<u8>) -> (Option<u32>, usize) {
    let (mut from, mut to) = tokio::io::split(stream);
    let reason = tokio::spawn(async move {
        let mut head = [0; 9];
        let mut reason = None;
        while from.read_exact(&mut head).await.is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            if from.read_exact(&mut payload).await.is_err() {
                break;
            }
            if head[3] == GO_AWAY {
                reason = payload.get(4..8).and_then(|code| code.try_into().ok()).map(u32::from_be_bytes).or(reason);
            }
        }
        reason
    });
    let mut taken = 0;
    while taken < 64 << 20 {
        let part = part();
        match timeout(Duration::from_secs(60), to.write_all(&part)).await {
            Ok(Ok(())) => taken += part.len(),
            _ => break,
        }
    }
    (timeout(Duration::from_secs(60), reason).await.expect("the connection ends").expect("it was read"), taken)
}

#[tokio::test]
async fn floods_over_http2_end_with_their_connection() {
    let directory = directory();
    let (rollcall, certificate) = start(directory.path());
    // Requests that are given up as soon as they are made (CVE-2023-44487).
    let headers = get("www.example.net");
    let mut next = 1;
    let (reason, taken) = flood(http2(&rollcall, &certificate, &[]).await, || {
        let pair = |stream| {
            [frame(HEADERS, END_STREAM | END_HEADERS, stream, &headers), frame(RESET, 0, stream, &[0, 0, 0, 8])].concat()
        };
        let part = (0..200).flat_map(|number| pair(next + 2 * number)).collect();
        next += 400;
        part
    })
    .await;
    assert_eq!(reason, Some(ENHANCE_YOUR_CALM), "after {taken} octets");
    others_are_answered(&rollcall);

    // Headers that never end (CVE-2024-27316).
    let field = [&[0, 1, b'a', 100][..], &[b'b'; 100]].concat();
    let mut begun = false;
    let (_, taken) = flood(http2(&rollcall, &certificate, &[]).await, || {
        let kind = if std::mem::replace(&mut begun, true) { CONTINUATION } else { HEADERS };
        frame(kind, 0, 1, &field.repeat(10))
    })
    .await;
    assert!(taken < 16 << 20, "{taken} octets of headers were taken");
    others_are_answered(&rollcall);

    // Bodies that never end, each of a request of its own.
    let post = {
        let text = |index: u8, value: &str| [&[index, value.len() as u8], value.as_bytes()].concat();
        let media_type = [&[0x0f, 0x10, 23][..], b"application/dns-message"].concat();
        [vec![0x83, 0x87], text(4, "/dns-query"), text(1, NAME), media_type].concat()
    };
    let memory = metric(&rollcall, "process_resident_memory_bytes");
    let mut stream = http2(&rollcall, &certificate, &[]).await;
    for number in 0..64 {
        let id = 1 + 2 * number;
        let part = [frame(HEADERS, END_HEADERS, id, &post), frame(DATA, 0, id, &[0; 1000])].concat();
        stream.write_all(&part).await.expect("sent");
    }
    // What goes on beyond the windows is a mistake, and within them it is bounded.
    let (_, taken) = flood(stream, || (0..64).flat_map(|number| frame(DATA, 0, 1 + 2 * number, &[0; 1000])).collect()).await;
    assert!(taken < 16 << 20, "{taken} octets of bodies were taken");
    others_are_answered(&rollcall);

    // Pings whose answers are not read: the server reads no more of them than it can answer.
    let mut stream = http2(&rollcall, &certificate, &[]).await;
    let pings = frame(PING, 0, 0, &[0; 8]).repeat(1_000);
    let mut taken = 0;
    while taken < 64 << 20 && matches!(timeout(Duration::from_secs(2), stream.write_all(&pings)).await, Ok(Ok(()))) {
        taken += pings.len();
    }
    assert!(taken < 64 << 20, "{taken} octets of pings were taken");
    others_are_answered(&rollcall);
    let grown = metric(&rollcall, "process_resident_memory_bytes").saturating_sub(memory);
    assert!(grown < 64 << 20, "{grown} octets more");
}
