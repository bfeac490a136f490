//! Upstreams over TLS, HTTPS, HTTP/3 and QUIC: Unbound, and a rollcall in front, whom an authority of the test's own certifies.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;

use crate::support::encrypted::Certificate;
use crate::support::rollcall::{BINARY, Launch, Rollcall, directory};
use crate::support::tools::{dig, run, says};
use crate::support::upstream::{Secure, Server, Silent};
use crate::support::{slack, within};

const ADDRESSES: [&str; 2] = ["192.0.2.80", "192.0.2.81"];

/// `serve` with these upstreams, as TOML.
fn forwarding_to(directory: &Path, upstreams: &str) -> Launch {
    let file = directory.join("rollcall.toml");
    fs::write(&file, format!("hosts = []\n[forward]\nupstreams = [{upstreams}]\n")).expect("written");
    Launch::serve(directory).option("--config", file)
}

/// The servers, and the pin of the key that both have; the authority's certificate is in `ca.pem`.
fn servers(directory: &Path) -> ([Secure; 2], String) {
    let certificate = Certificate::of(directory, [Secure::NAME]);
    ([Server::unbound_secure(directory, &certificate), Secure::rollcall(directory, &certificate)], certificate.pin)
}

/// For each protocol of a server its scheme, and the server in a table, `ca` in it relative to the configuration.
fn tables(server: &Secure) -> impl Iterator<Item = (&'static str, String)> {
    let table = |url: String| format!("{{ url = \"{url}\", addresses = [\"127.0.0.1\"], ca = \"ca.pem\" }}");
    server.urls(Secure::NAME).into_iter().map(move |(scheme, url)| (scheme, table(url)))
}

fn answers(rollcall: &Rollcall, name: &str) {
    assert_eq!(rollcall.ask(name, "A").sorted(), ADDRESSES, "{name}");
}

#[test]
fn each_protocol_is_asked() {
    let directory = directory();
    for (scheme, upstream) in servers(directory.path()).0.iter().flat_map(tables) {
        let rollcall = forwarding_to(directory.path(), &upstream).start();
        for number in 0..20 {
            answers(&rollcall, &format!("{scheme}{number}.example.net"));
        }
        // What is padded towards us does not reach the client, whose way is not encrypted: the question of 17 octets, two
        // addresses, and an OPT record.
        let said = dig(rollcall.dns, "+nocookie +noall +stats +answer +comments padded.example.net A");
        let size = said.lines().find_map(|line| line.strip_prefix(";; MSG SIZE  rcvd: ")).unwrap_or_default();
        assert!(size.parse::<usize>().is_ok_and(|size| size < 100) && !said.contains("PAD"), "{scheme}: {said}");
        assert!(!rollcall.stderr().contains("WARN"), "{scheme}: {}", rollcall.stderr());
    }
}

#[test]
fn a_server_that_is_started_again_is_asked_at_once() {
    let directory = directory();
    for mut server in servers(directory.path()).0 {
        for (scheme, upstream) in tables(&server).collect::<Vec<_>>() {
            let rollcall = forwarding_to(directory.path(), &upstream).start();
            answers(&rollcall, &format!("{scheme}0.example.net"));
            server.restart();
            let start = Instant::now();
            answers(&rollcall, &format!("{scheme}1.example.net"));
            assert!(start.elapsed() < slack(Duration::from_millis(100)), "{scheme}: {:?}", start.elapsed());
            // And when it was away for longer, it is back within a second or so: failures are remembered for one.
            server.stop();
            assert_eq!(rollcall.ask(&format!("{scheme}2.example.net"), "A").rcode(), ResponseCode::ServFail);
            server.restart();
            within(slack(Duration::from_secs(1)), "it is asked again", || {
                let reply = rollcall.ask(&format!("{scheme}2.example.net"), "A");
                if reply.sorted() == ADDRESSES { Ok(()) } else { Err(format!("{reply:?}")) }
            });
        }
    }
}

#[test]
fn who_is_not_who_was_written_is_not_asked_and_the_log_says_why() {
    let directory = directory();
    let (servers, pin) = servers(directory.path());
    let wrong_pin = format!("sha256/{}=", "A".repeat(43));
    for (scheme, url) in servers.iter().flat_map(|server| server.urls("127.0.0.1")) {
        let mut wrong = vec![
            ("an unknown authority", format!("\"{url}#dns.test\""), "UnknownIssuer"),
            ("another's name", format!("{{ url = \"{url}#other.test\", ca = \"ca.pem\" }}"), "other.test"),
        ];
        // The key alone counts where no name is asked for.
        if !["https", "h3"].contains(&scheme) {
            wrong.push(("another key", format!("{{ url = \"{url}\", pin = [\"{wrong_pin}\"] }}"), &*pin));
        }
        for (what, upstream, why) in wrong {
            let rollcall = forwarding_to(directory.path(), &upstream).start();
            for number in 0..2 {
                let reply = rollcall.ask(&format!("n{number}.example.net"), "A");
                assert_eq!(reply.rcode(), ResponseCode::ServFail, "{scheme}, {what}");
            }
            let said =
                says(Duration::from_secs(5), &["expected a connection, got", "certificate", why, "hint"], || rollcall.stderr());
            assert_eq!(said.matches("expected a connection").count(), 1, "{scheme}, {what}, is told once a minute: {said}");
        }
        let pinned = format!("{{ url = \"{url}#dns.test\", ca = \"ca.pem\", pin = [\"{wrong_pin}\", \"{pin}\"] }}");
        answers(&forwarding_to(directory.path(), &pinned).start(), "pinned.example.net");
    }
}

#[test]
fn a_stuck_handshake_costs_milliseconds() {
    let directory = directory();
    let silent = Silent::start().address;
    for (scheme, upstream) in servers(directory.path()).0.iter().flat_map(tables) {
        let rollcall = forwarding_to(directory.path(), &format!("\"{scheme}://{silent}\", {upstream}")).start();
        let mut times = Vec::new();
        for number in 0..40 {
            let start = Instant::now();
            answers(&rollcall, &format!("{scheme}-{number}.example.net"));
            times.push(start.elapsed());
        }
        times.sort();
        assert!(times[39] < Duration::from_millis(600), "{scheme}: the slowest of 40 took {:?}", times[39]);
        assert!(times[20] < Duration::from_millis(100), "{scheme}: half of 40 took more than {:?}", times[20]);
    }
}

#[test]
fn query_asks_over_them_too() {
    let directory = directory();
    let query = |server: &str, authorities: Option<&str>| {
        let mut command = Command::new(BINARY);
        command.current_dir(directory.path()).args(["query", "www.example.net", server]).env_remove("ROLLCALL_DNS_ADDR");
        command.envs(authorities.map(|file| ("SSL_CERT_FILE", file)));
        run(&mut command)
    };
    let servers = servers(directory.path()).0;
    for (scheme, url) in servers.iter().flat_map(|server| server.urls("127.0.0.1")) {
        let (server, over) = (format!("@{url}#dns.test"), if scheme == "h3" { "HTTP/3".into() } else { scheme.to_uppercase() });
        let said = query(&server, Some("ca.pem")).ok();
        assert!(said.contains(ADDRESSES[0]) && said.contains(&format!("over {over}")), "{said}");
        let said = query(&server, None).failed();
        assert!(said.contains("UnknownIssuer") && said.contains("SSL_CERT_FILE"), "{said}");
    }
}

#[test]
fn a_file_of_authorities_is_checked_before_the_start() {
    let directory = directory();
    for (text, said) in [(None, "No such file"), (Some("nothing of the kind"), "got none")] {
        let file = directory.path().join("authority.pem");
        text.into_iter().for_each(|text| fs::write(&file, text).expect("written"));
        forwarding_to(directory.path(), "{ url = \"tls://dns.example\", ca = \"authority.pem\" }");
        let output = Launch::bare(directory.path()).with("check").option("--config", "rollcall.toml").run().failed();
        assert!(output.contains("authority.pem") && output.contains(said) && output.contains("hint"), "{output}");
    }
}
