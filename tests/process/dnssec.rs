//! DNSSEC, with zones that are really signed: what passes, and what validation makes of it.

use std::net::UdpSocket;
use std::process::Command;
use std::{env, fs, thread};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::support::dns::{self, Signatures};
use crate::support::rollcall::{Launch, Rollcall, directory};
use crate::support::signed::Tree;

/// Starts rollcall with this configuration.
fn serve(directory: &std::path::Path, config: &str) -> Rollcall {
    let file = directory.join("rollcall.toml");
    fs::write(&file, config).expect("written");
    Launch::serve(directory).option("--config", file).start()
}

const DNSSEC_TYPES: [RecordType; 3] = [RecordType::RRSIG, RecordType::NSEC, RecordType::NSEC3];

#[test]
fn rfc5625_4_and_rfc4035_3_2_signed_answers_pass_as_they_are() {
    let directory = directory();
    let tree = Tree::plant(directory.path());
    let config = format!(
        "[forward]\nupstreams = [\"{}\"]\ncache.rotate = false\n[[record]]\nname = \"own.example.net\"\ntype = \"A\"\nvalue = \"192.0.2.1\"\n",
        tree.resolver.address
    );
    let rollcall = serve(directory.path(), &config);
    let bits = [false, true];
    for (name, qtype) in [
        ("www.good.example", "A"),
        ("across.good.example", "A"),
        ("x.wild.good.example", "A"),
        ("www.tree.good.example", "A"),
        ("odd.good.example", "TYPE65280"),
        ("no.good.example", "A"),
        ("www.three.example", "MX"),
        ("no.three.example", "A"),
        ("www.good.example", "RRSIG"),
        ("good.example", "DNSKEY"),
        ("good.example", "DS"),
        ("www.expired.example", "A"),
    ] {
        for (dnssec_ok, checking_disabled) in bits.into_iter().flat_map(|one| bits.map(|other| (one, other))) {
            let asking = Signatures { dnssec_ok, checking_disabled, authentic_data: false, size: 4096 };
            let own = asking.ask(tree.resolver.address, name, qtype);
            // The second time it comes from the cache, without a denial's records left behind.
            for time in 0..2 {
                let passed = asking.ask(rollcall.dns, name, qtype);
                let shown = format!("{name} {qtype} {asking:?}, time {time}");
                assert_eq!(passed.octets_of_records(), own.octets_of_records(), "{shown}");
                assert_eq!((passed.rcode(), passed.is_authentic()), (own.rcode(), false), "{shown}");
                assert_eq!(passed.has_dnssec_ok(), dnssec_ok, "RFC 3225, 3: {shown}");
                let is_signed = passed.types().iter().any(|found| DNSSEC_TYPES.contains(found));
                assert_eq!(is_signed, dnssec_ok || qtype == "RRSIG", "RFC 4035, 3.2.1: {shown}");
            }
        }
    }
    // RFC 4035, 3.1: what does not fit is cut, and whole over TCP.
    let small = Signatures { size: 512, ..Signatures::WANTED };
    for _ in 0..2 {
        let cut = small.ask(rollcall.dns, "example", "DNSKEY");
        assert!(cut.truncated() && cut.has_dnssec_ok() && cut.answers().len() < 2, "{cut:?}");
        assert_eq!(dns::tcp(rollcall.dns, "example", "DNSKEY").expect("an answer").answers().len(), 2);
    }
    // RFC 4035, 3.1.6: nobody has signed this.
    let asking = Signatures { authentic_data: true, ..Signatures::WANTED };
    let own = asking.ask(rollcall.dns, "own.example.net", "A");
    assert_eq!((own.answers().len(), own.is_authentic()), (1, false));
}

#[test]
fn rfc4035_3_1_4_1_a_private_routes_upstreams_are_not_asked_for_its_ds_records() {
    let directory = directory();
    let tree = Tree::plant(directory.path());
    // The authority knows no DS record of a name that it has not.
    let config = format!(
        "[forward]\nupstreams = [\"{}\"]\n[[forward.route]]\ndomains = [\"good.example\"]\nupstreams = [\"127.0.0.1:9\"]\n",
        tree.resolver.address
    );
    let rollcall = serve(directory.path(), &config);
    let asking = Signatures::WANTED;
    let found = asking.ask(rollcall.dns, "good.example", "DS");
    assert_eq!(found.octets_of_records(), asking.ask(tree.resolver.address, "good.example", "DS").octets_of_records());
    assert_eq!(asking.ask(rollcall.dns, "www.good.example", "DS").rcode(), ResponseCode::ServFail, "that is the route's own");
}

#[test]
fn rfc6840_5_7_what_a_trusted_upstream_calls_authentic_is_called_so() {
    let directory = directory();
    let tree = Tree::plant(directory.path());
    // It is on this host, where nobody else puts in a word.
    let validator = tree.validator(directory.path());
    let rollcall = Launch::serve(directory.path()).option("--upstream", validator.address.to_string()).start();
    let asks = |dnssec_ok, authentic_data| Signatures { dnssec_ok, authentic_data, ..Signatures::WANTED };
    for time in 0..2 {
        for (asking, name, is_authentic) in [
            (asks(true, false), "www.good.example", true),
            (asks(false, true), "www.good.example", true),
            (asks(false, false), "www.good.example", false),
            (asks(true, true), "www.insecure.example", false),
        ] {
            let answer = asking.ask(rollcall.dns, name, "A");
            assert_eq!(answer.is_authentic(), is_authentic, "{name}, {asking:?}, time {time}");
        }
        let unchecked = Signatures { checking_disabled: true, ..Signatures::WANTED };
        let answers =
            [Signatures::WANTED, unchecked].map(|asking| asking.ask(rollcall.dns, "www.expired.example", "A").rcode());
        assert_eq!(answers, [ResponseCode::ServFail, ResponseCode::NoError], "what passes with CD is nobody else's");
    }
}

/// Set in the process that runs inside.
const INSIDE: &str = "ROLLCALL_TEST_INSIDE_DNSSEC_NAMESPACE";

/// Runs itself again where there is an address that is not this host's loopback, and nobody else.
#[test]
fn rfc4035_4_9_3_what_comes_over_a_way_that_is_open_to_others_is_not_called_authentic() {
    if env::var_os(INSIDE).is_some() {
        return inside();
    }
    let mut command = Command::new("unshare");
    command.args([
        "--net",
        "--",
        "sh",
        "-c",
        "ip link set lo up && ip address add 192.168.77.1/32 dev lo && exec \"$@\"",
        "inside",
    ]);
    command.arg(env::current_exe().expect("a test knows its own path"));
    let name = "dnssec::rfc4035_4_9_3_what_comes_over_a_way_that_is_open_to_others_is_not_called_authentic";
    let status = command.args(["--exact", name, "--nocapture"]).env(INSIDE, "1").status();
    let status = status.expect("unshare starts; scripts/test installs what the tests run");
    assert!(status.success(), "inside the namespace: {status}; making one needs root, iproute2 and util-linux");
}

fn inside() {
    let socket = UdpSocket::bind("192.168.77.1:5300").expect("an address of the namespace");
    thread::spawn(move || {
        let mut room = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut room) {
            let end = 17 + room[12..length].iter().position(|octet| *octet == 0).expect("a question");
            // Authentic, it says of one A record.
            let fixed = [&room[..2], &[0x81, 0xa0, 0, 1, 0, 1, 0, 0, 0, 0], &room[12..end]].concat();
            let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
            drop(socket.send_to(&[&fixed[..], &record].concat(), from));
        }
    });
    let asking = Signatures { authentic_data: true, ..Signatures::WANTED };
    for (upstream, is_believed) in
        [("\"192.168.77.1:5300\"", false), ("{ url = \"192.168.77.1:5300\", trust_ad = true }", true)]
    {
        let directory = directory();
        let rollcall = serve(directory.path(), &format!("[forward]\nupstreams = [{upstream}]\n"));
        // By a look-up first, then by the worker itself, and from the cache.
        for n in [1, 2, 3, 4, 1, 4] {
            let answer = asking.ask(rollcall.dns, &format!("n{n}.example.net"), "A");
            assert_eq!((answer.answers().len(), answer.is_authentic()), (1, is_believed), "{upstream}, {n}");
        }
    }
}
