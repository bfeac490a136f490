//! Who may ask, and for what: real clients on several addresses of 127.0.0.0/8, behind a proxy, and in networks of their own.

use std::env;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use serde_json::json;

use crate::support::rollcall::{Launch, Rollcall, directory};
use crate::support::tools::{dig, run};
use crate::support::upstream::Witness;
use crate::support::{dns, within};

/// Started with this configuration, which the test may write anew.
fn start(directory: &Path, witness: &Witness, config: &str) -> Rollcall {
    configure(directory, config);
    let launch = Launch::serve(directory).option("--config", "rollcall.toml").option("--workers", "1");
    launch.option("--upstream", witness.address.to_string()).start()
}

fn configure(directory: &Path, config: &str) {
    let record = "[[record]]\nname = \"printer.corp.example\"\ntype = \"A\"\nvalue = \"192.0.2.9\"\n";
    fs::write(directory.join("rollcall.toml"), format!("{config}\n{record}")).expect("written");
}

fn register(rollcall: &Rollcall) {
    rollcall.http.accepts("/v1/agent/service/register", &json!({"ID": "w", "Name": "web", "Address": "192.0.2.3", "Port": 80}));
}

#[test]
fn rfc5358_4_names_of_others_are_only_looked_up_for_who_may_ask() {
    let (directory, witness) = (directory(), Witness::start());
    let rollcall = start(directory.path(), &witness, "[clients]\nforwarding_allowed = [\"127.0.0.1\"]");
    register(&rollcall);
    for how in ["", "+tcp"] {
        let ask = |client: &str, name: &str| dig(rollcall.dns, &format!("-b {client} {how} {name}"));
        // The second time from the cache, the third from what the worker has near.
        for _ in 0..3 {
            assert!(ask("127.0.0.1", "www.example.net").contains(Witness::ANSWER), "{how}");
            let far = ask("127.0.0.9", "www.example.net");
            assert!(far.contains("status: REFUSED") && far.contains("ANSWER: 0"), "{far}");
            assert!(far.contains("EDE: 18 (Prohibited): (not in clients.forwarding_allowed)"), "{far}");
            assert!(ask("127.0.0.9", "new.example.net").contains("status: REFUSED"), "{how}");
            for (own, address) in [("web.service.consul", "192.0.2.3"), ("printer.corp.example", "192.0.2.9")] {
                assert!(ask("127.0.0.9", own).contains(address), "{how} {own}");
            }
        }
    }
    assert_eq!(witness.asked(), ["www.example.net. a"]);
    assert_eq!(rollcall.stderr().matches("the client 127.0.0.9 is refused").count(), 1, "{}", rollcall.stderr());
}

#[test]
fn refused_clients_are_told_so_and_a_reload_changes_it() {
    let (directory, witness) = (directory(), Witness::start());
    let config = "[clients]\nallowed = [\"127.0.0.0/28\", \"local\"]\nrefused = [\"127.0.0.9\"]";
    let mut rollcall = start(directory.path(), &witness, config);
    register(&rollcall);
    let status = |client: &str, name: &str| dig(rollcall.dns, &format!("-b {client} {name}"));
    for name in ["web.service.consul", "printer.corp.example", "www.example.net", "localhost"] {
        assert!(status("127.0.0.8", name).contains("status: NOERROR"), "{name}");
        let refused = status("127.0.0.9", name);
        assert!(refused.contains("status: REFUSED") && refused.contains("EDE: 18 (Prohibited)"), "{name}: {refused}");
    }
    configure(directory.path(), "[clients]\nrefused = [\"127.0.0.8\"]");
    rollcall.signal("HUP");
    within(Duration::from_secs(10), "the other one to be refused", || {
        let (eight, nine) = (status("127.0.0.8", "localhost"), status("127.0.0.9", "localhost"));
        if eight.contains("REFUSED") && nine.contains("NOERROR") { Ok(()) } else { Err(format!("{eight}{nine}")) }
    });
    // A mistake changes nothing.
    configure(directory.path(), "[clients]\nrefused = [\"127.0.0.0/33\"]");
    rollcall.signal("HUP");
    within(Duration::from_secs(10), "the mistake to be told", || {
        let said = rollcall.stderr();
        if said.contains("expected an address or a network such as 192.0.2.0/24, got \"127.0.0.0/33\"") {
            Ok(())
        } else {
            Err(said)
        }
    });
    assert!(status("127.0.0.8", "localhost").contains("REFUSED"));
    assert!(rollcall.running());
}

#[test]
fn behind_a_proxy_the_clients_own_address_counts() {
    let (directory, witness) = (directory(), Witness::start());
    let rollcall = start(directory.path(), &witness, "dns.proxy_protocol_from = [\"127.0.0.1/32\"]");
    register(&rollcall);
    let ask = |client: &str, name: &str| {
        dns::tcp_for(client.parse().expect("an address"), rollcall.dns, name, "A").expect("an answer")
    };
    assert_eq!(ask("198.51.100.7", "www.example.net").rcode(), ResponseCode::Refused);
    assert_eq!(ask("198.51.100.7", "web.service.consul").answers(), ["192.0.2.3"]);
    assert_eq!(ask("10.0.0.7", "www.example.net").answers(), [Witness::ANSWER]);
    assert_eq!(ask("198.51.100.7", "www.example.net").rcode(), ResponseCode::Refused, "though it is kept now");
    assert_eq!(witness.count("www.example.net."), 1);
}

#[test]
fn explain_tells_it_of_a_client() {
    let (directory, witness) = (directory(), Witness::start());
    let rollcall = start(directory.path(), &witness, "[clients]\nrefused = [\"192.0.2.66\"]");
    register(&rollcall);
    let tell = |name: &str, client: &str| rollcall.cli(["explain", name, "--client", client]).ok();
    assert!(tell("www.example.net", "198.51.100.7").contains("the client is not in clients.forwarding_allowed"));
    assert!(tell("www.example.net", "192.168.1.1").contains("answered by  an upstream"));
    assert!(tell("web.service.consul", "198.51.100.7").contains("answered by  discovery"));
    assert!(tell("web.service.consul", "192.0.2.66").contains("the client is in clients.refused"));
    let said = rollcall.cli(["explain", "web.service.consul", "--client", "me"]).failed();
    assert!(said.contains("invalid IP address"), "{said}");
}

/// Who asks too often is told to come by TCP, where it is answered; nobody is met with silence, nor with more octets than sent.
#[test]
fn rfc8906_3_1_a_client_that_asks_too_often_is_still_answered() {
    let (directory, witness) = (directory(), Witness::start());
    let config = "[clients]\nrate = 1\nburst = 20\nrate_exempt = [\"127.0.0.10\"]";
    let rollcall = start(directory.path(), &witness, config);
    register(&rollcall);
    let names = ["web.service.consul", "www.example.net", "printer.corp.example", "absent.service.consul"];
    let flood = |client: [u8; 4], edns: bool| {
        let (mut whole, mut cut) = (0, 0);
        for at in 0..60 {
            let (sent, octets, reply) = dns::udp_from(client.into(), rollcall.dns, names[at % names.len()], edns);
            if reply.truncated() {
                cut += 1;
                assert_eq!((reply.rcode(), reply.answers().len()), (ResponseCode::NoError, 0), "{reply:?}");
                assert!(octets <= sent, "{octets} octets for {sent}");
            } else {
                whole += 1;
            }
        }
        (whole, cut)
    };
    for (client, edns) in [([127, 0, 0, 7], false), ([127, 0, 0, 8], true)] {
        let (whole, cut) = flood(client, edns);
        assert!((20..30).contains(&whole) && cut > 30, "{whole} {cut}");
    }
    assert_eq!(flood([127, 0, 0, 10], true), (60, 0), "exempt");
    // Where what is answered is no question at all, there is nothing to come by TCP for.
    let odd = UdpSocket::bind("127.0.0.11:0").expect("an address of loopback");
    odd.connect(rollcall.dns).expect("a way");
    odd.set_read_timeout(Some(Duration::from_millis(500))).expect("a time");
    let update = [0, 7, 0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    (0..60).for_each(|_| assert_eq!(odd.send(&update).expect("sent"), 12));
    let answers = std::iter::from_fn(|| odd.recv(&mut [0; 512]).ok()).count();
    assert!((1..30).contains(&answers), "{answers}");
    // The one whose address was used goes on by TCP, as dig does by itself.
    let genuine = dig(rollcall.dns, "-b 127.0.0.7 web.service.consul");
    assert!(genuine.contains("192.0.2.3") && genuine.contains("(TCP)"), "{genuine}");
    // But not without end: further queries are refused, and then connections.
    let mut stream = dns::Stream::connect_from([127, 0, 0, 9].into(), rollcall.dns);
    let replies: Vec<_> = (0..30).map(|_| stream.ask("www.example.net", "A")).collect();
    let refused = replies.iter().filter(|reply| reply.rcode() == ResponseCode::Refused).count();
    assert!((5..=11).contains(&refused), "{refused}: the connection counted too");
    let port = rollcall.dns.port().to_string();
    let told = run(Command::new("dig").args(["@127.0.0.1", "-p", &port, "-b", "127.0.0.9", "+tcp", "+tries=1", "localhost"]));
    assert!(told.failed().contains("communications error"));
    let metrics = rollcall.http.get("/metrics").body;
    let limited = metrics.lines().find(|line| line.starts_with("rollcall_answers_total{source=\"limited\"}"));
    let limited: u32 = limited.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("a number");
    assert!(limited as usize > 60 + refused - 1, "{limited}");
    assert!(metrics.lines().any(|line| line.starts_with("rollcall_connections_limited_total") && !line.ends_with(" 0")));
    assert_eq!(rollcall.stderr().matches("asks more often than clients.rate allows").count(), 1, "{}", rollcall.stderr());
}

#[test]
fn a_rate_that_cannot_be_is_told() {
    let directory = directory();
    for (config, expected) in [
        ("rate = 0", "expected a number of at least 1; got 0"),
        ("rate = 2_000_000", "expected `rate` of 1 to 1000000 queries, got 2000000"),
        ("burst = 7", "`burst` and `rate_exempt` say nothing without `rate`"),
        ("rate_exemt = []", "did you mean `rate_exempt`?"),
    ] {
        configure(directory.path(), &format!("[clients]\n{config}"));
        let output = Launch::bare(directory.path()).with("check").option("--config", "rollcall.toml").run();
        assert!(output.stderr.contains(expected), "{config}: {output:?}");
    }
}

/// Set in the process that runs inside.
const INSIDE: &str = "ROLLCALL_TEST_INSIDE_NAMESPACE";

/// Runs itself again in a fresh network namespace, where it has public addresses.
#[test]
fn a_host_may_ask_itself_from_its_public_address() {
    if env::var_os(INSIDE).is_some() {
        return inside();
    }
    let script = "set -e\nip link set lo up\nip address add 198.51.100.9/24 dev lo\nexec \"$@\"\n";
    let mut command = Command::new("unshare");
    command.args(["--net", "--", "sh", "-c", script, "inside"]).arg(env::current_exe().expect("a test knows its own path"));
    command.args(["--exact", "clients::a_host_may_ask_itself_from_its_public_address", "--nocapture"]).env(INSIDE, "1");
    let status = command.status().expect("unshare starts; scripts/test installs what the tests run");
    assert!(status.success(), "inside the namespace: {status}; making one needs root, iproute2 and util-linux");
}

fn inside() {
    let (directory, witness) = (directory(), Witness::start());
    configure(directory.path(), "");
    let launch = Launch::serve_on(directory.path(), "0.0.0.0:53", "127.0.0.1:0").option("--config", "rollcall.toml");
    let _rollcall = launch.option("--upstream", witness.address.to_string()).start();
    let ask = |client: &str| dig(SocketAddr::from(([198, 51, 100, 9], 53)), &format!("-b {client} www.example.net"));
    assert!(ask("198.51.100.9").contains(Witness::ANSWER));
    run(Command::new("ip").args(["address", "add", "203.0.113.5/32", "dev", "lo"])).ok();
    within(Duration::from_secs(20), "an address that came later", || {
        let said = ask("203.0.113.5");
        if said.contains(Witness::ANSWER) { Ok(()) } else { Err(said) }
    });
    run(Command::new("ip").args(["address", "add", "198.51.100.77/32", "dev", "lo"])).ok();
    assert!(ask("198.51.100.77").contains(Witness::ANSWER), "its network is ours");
    run(Command::new("ip").args(["route", "add", "local", "192.0.2.1/32", "dev", "lo"])).ok();
    assert!(ask("192.0.2.1").contains("status: REFUSED"), "a route is no address of ours");
}
