//! Where rollcall and Consul part ways: the table of `docs/consul.md`, a row a test. Two servers hold the same registry and ask
//! the same upstream; one of them was started with `compat = "consul"`.

use std::fs;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use serde_json::{Value, json};

use crate::support::health::HealthServer;
use crate::support::rollcall::{Launch, Rollcall, directory};
use crate::support::tools::dig;
use crate::support::upstream::{Server, Witness};
use crate::support::{dns, project, slack, within};

/// The first cells of that table's rows, in its order, and what shows each.
const ROWS: &[(&str, Show)] = &[
    ("no upstreams configured", no_upstreams),
    ("clients of other networks that ask for other names", far_clients),
    ("forwarded answers", forwarded_answers),
    ("a cut answer of an upstream, asked for over TCP", cut_upstream),
    ("hosts files, `[[record]]` and `zones.folder`", local_data),
    ("special-use names (`localhost`, `.onion`, `.invalid`, `.test`, …)", special_use),
    ("more than fits, or than `udp_answer_limit`", more_than_fits),
    ("`udp_answer_limit` unset, no EDNS", answer_limit),
    ("UDP size in the answer's OPT", opt_size),
    ("OPT of an answer that was cut", opt_of_a_cut_answer),
    ("EDNS version above 0", edns_version),
    ("the DO bit", dnssec_ok),
    ("a class other than IN", class),
    ("opcode NOTIFY", notify),
    ("IXFR, TKEY, TSIG, OPT as types", meta_types),
    ("TTL of a negative answer, `soa.min_ttl` unset", negative_ttl),
    ("all instances unhealthy", unhealthy),
    ("TXT of a service", txt_of_a_service),
    ("a type that a node, `addr` or `virtual` name has not", no_such_type),
    ("SRV, MX, … of an unknown node", unknown_node),
    ("`virtual` of a service without one", no_virtual),
    ("SOA or NS below the apex", soa_below_apex),
    ("other types at the apex", types_at_apex),
    ("`service`, `node`, `dc1`, `_tcp.service` alone", empty_non_terminals),
    ("`ns`, which the SOA record names", name_server),
    ("a bare `alt_domain`", bare_alt_domain),
    ("order of A and AAAA records", order),
    ("an address that is a name inside the domain", alias_inside),
    ("an address that is a name, beside addresses of the other family", alias_beside_addresses),
    ("the same record twice", twins),
    ("a service that is its own alias, in other letters", own_alias),
    ("a reverse name, asked for another type than PTR", reverse_type),
    ("an unknown reverse name, no upstreams", unknown_reverse),
    ("DS of the domain", ds_of_the_domain),
    ("`connect` with a peer", peer),
    ("an empty service name", empty_name),
    ("letters of `addr` and `virtual` owners", letters),
    ("a port above 65535 over HTTP", port),
    ("`Interval` of a check", interval),
    ("`DeregisterCriticalServiceAfter`", deregister_after),
];

/// Shows a difference, or panics.
type Show = fn(&Sides);

struct Sides {
    consul: Rollcall,
    ours: Rollcall,
    /// The same two again, with nobody to ask.
    alone: [Rollcall; 2],
}

#[test]
fn the_table_of_the_differences() {
    let page = fs::read_to_string(project("docs/consul.md")).expect("the page");
    let rows = page.lines().skip_while(|line| !line.starts_with("| ---")).skip(1).take_while(|line| line.starts_with('|'));
    let told: Vec<&str> = rows.filter_map(|row| row.split(" | ").next()?.strip_prefix("| ")).collect();
    let shown: Vec<&str> = ROWS.iter().map(|(row, _)| *row).collect();
    assert_eq!(told, shown, "the page's rows, and those that are shown here");

    let directory = directory();
    let nsd = Server::nsd(directory.path());
    let start = |name: &str, flags: &[&str]| {
        let home = directory.path().join(name);
        fs::create_dir_all(&home).expect("a directory");
        let mut config = "[dns]\nalt_domain = \"alt.example\"\n\
             [[record]]\nname = \"mine.example.net\"\ntype = \"A\"\nvalue = \"192.0.2.7\"\n"
            .to_owned();
        if name.contains("alone") {
            config.push_str("[forward]\nupstreams = []\n");
        }
        fs::write(home.join("rollcall.toml"), config).expect("written");
        let mut launch = Launch::serve(&home).option("--config", home.join("rollcall.toml")).option("--node", "self");
        for flag in flags {
            launch = launch.with(flag);
        }
        let side = launch.start();
        fill(&side);
        side
    };
    let upstream = nsd.address.to_string();
    let sides = Sides {
        consul: start("consul", &["--compat", "consul", "--upstream", &upstream]),
        ours: start("ours", &["--upstream", &upstream]),
        alone: [start("consul-alone", &["--compat", "consul"]), start("ours-alone", &[])],
    };
    let failed: Vec<&str> =
        ROWS.iter().filter(|(_, show)| catch_unwind(AssertUnwindSafe(|| show(&sides))).is_err()).map(|(row, _)| *row).collect();
    assert!(failed.is_empty(), "these rows are not so (see above): {failed:#?}");
}

/// One of everything that is treated differently.
fn fill(side: &Rollcall) {
    let node = |name: &str, address: &str| {
        side.http.accepts("/v1/catalog/register", &json!({"Node": name, "Address": address, "NodeMeta": {"env": "prod"}}));
    };
    let service = |node: &str, service: Value, status: &str| {
        let check =
            json!({"CheckID": format!("check:{}", service["ID"]), "ServiceID": service["ID"], "Name": "c", "Status": status});
        let body = json!({"Node": node, "SkipNodeUpdate": true, "Service": service, "Check": check});
        side.http.accepts("/v1/catalog/register", &body);
    };
    node("a", "127.0.1.1");
    node("b", "2001:db8::2");
    node("c", "203.0.113.8");
    service(
        "a",
        json!({"ID": "web-1", "Service": "web", "Address": "127.1.0.1", "Port": 80, "Weights": {"Passing": 99, "Warning": 1}}),
        "passing",
    );
    service("a", json!({"ID": "web-2", "Service": "web", "Address": "127.1.0.2", "Port": 80}), "passing");
    service("a", json!({"ID": "gone", "Service": "gone", "Address": "127.1.0.9", "Port": 80}), "critical");
    service("a", json!({"ID": "to-a", "Service": "to-a", "Address": "a.node.consul", "Port": 80}), "passing");
    service("b", json!({"ID": "to-b", "Service": "to-b", "Address": "b.node.consul", "Port": 80}), "passing");
    service("a", json!({"ID": "mixed-4", "Service": "mixed", "Address": "127.1.0.3", "Port": 80}), "passing");
    service("b", json!({"ID": "mixed-out", "Service": "mixed", "Address": "www.example.net", "Port": 80}), "passing");
    service("a", json!({"ID": "twin-1", "Service": "twin", "Address": "127.1.0.4", "Port": 80}), "passing");
    service("b", json!({"ID": "twin-2", "Service": "twin", "Address": "127.1.0.4", "Port": 80}), "passing");
    service("a", json!({"ID": "circle", "Service": "circle", "Address": "circle.service.consul", "Port": 80}), "passing");
    let proxy = json!({"ID": "proxy", "Service": "web-proxy", "Kind": "connect-proxy", "Address": "127.1.0.5", "Port": 81,
        "Proxy": {"DestinationServiceName": "web"}});
    service("a", proxy, "passing");
    for number in 1..=60 {
        let id = format!("many-{number}");
        service("a", json!({"ID": id, "Service": "many", "Address": format!("127.2.0.{number}"), "Port": 80}), "passing");
    }
}

impl Sides {
    /// What `dig` shows of both, Consul's side first.
    fn dig(&self, words: &str) -> [Seen; 2] {
        [&self.consul, &self.ours].map(|side| Seen::of(side.dns, words))
    }

    /// Asserts status and counts of the answer, authority and additional sections.
    fn differ(&self, words: &str, consul: (&str, [usize; 3]), ours: (&str, [usize; 3])) {
        let seen = self.dig(words);
        let shapes = [0, 1].map(|side: usize| (seen[side].status.as_str(), seen[side].counts));
        assert_eq!(shapes, [consul, ours], "{words}: Consul's side, and ours\n{}\n{}", seen[0].text, seen[1].text);
    }
}

const NODATA: (&str, [usize; 3]) = ("NOERROR", [0, 1, 0]);
const NO_NAME: (&str, [usize; 3]) = ("NXDOMAIN", [0, 1, 0]);
const EMPTY: (&str, [usize; 3]) = ("NOERROR", [0, 0, 0]);

/// An answer as `dig` prints it; no EDNS unless asked for.
struct Seen {
    status: String,
    flags: String,
    counts: [usize; 3],
    text: String,
}

impl Seen {
    fn of(server: SocketAddr, words: &str) -> Self {
        let text = dig(server, &format!("+noedns +nocookie +ignore {words}"));
        let after = |start: &str, end: &[char]| {
            let rest = text.split(start).nth(1).unwrap_or_else(|| panic!("no {start:?} in {text}"));
            rest.split(end).next().unwrap_or_default().trim().to_owned()
        };
        let count = |section: &str| after(section, &[',', '\n']).parse().expect("a number");
        Self {
            status: after("status:", &[',']),
            flags: after(";; flags:", &[';']),
            counts: [count("ANSWER:"), count("AUTHORITY:"), count("ADDITIONAL:")],
            text: text.clone(),
        }
    }

    fn has(&self, part: &str) -> bool {
        self.text.contains(part)
    }

    fn flag(&self, flag: &str) -> bool {
        self.flags.split(' ').any(|set| set == flag)
    }
}

fn no_upstreams(sides: &Sides) {
    let [consul, _] = &sides.alone;
    assert_eq!(Seen::of(consul.dns, "www.example.org").status, "REFUSED");
    let directory = directory();
    let theirs = Witness::start_on_port_53();
    let ours = Launch::serve(directory.path()).on_a_machine_that_asks(theirs.address.ip()).start();
    assert!(Seen::of(ours.dns, "www.example.org").has(Witness::ANSWER));
    assert_eq!(theirs.count("www.example.org."), 1);
}

fn far_clients(_: &Sides) {
    for (flags, expected) in [(&["--compat", "consul"][..], ResponseCode::NoError), (&[], ResponseCode::Refused)] {
        let directory = directory();
        let nsd = Server::nsd(directory.path());
        fs::write(directory.path().join("rollcall.toml"), "dns.proxy_protocol_from = [\"127.0.0.1/32\"]").expect("written");
        let mut launch = Launch::serve(directory.path()).option("--config", "rollcall.toml");
        for flag in flags {
            launch = launch.with(flag);
        }
        let side = launch.option("--upstream", nsd.address.to_string()).start();
        let far = dns::tcp_for([198, 51, 100, 7].into(), side.dns, "www.example.net", "A").expect("an answer");
        assert_eq!(far.rcode(), expected, "{flags:?}");
    }
}

fn forwarded_answers(_: &Sides) {
    for (flags, asked) in [(&["--compat", "consul"][..], 3), (&[], 1)] {
        let (directory, witness) = (directory(), Witness::start());
        let mut launch = Launch::serve(directory.path()).option("--upstream", witness.address.to_string());
        for flag in flags {
            launch = launch.with(flag);
        }
        let side = launch.start();
        for _ in 0..3 {
            let seen = Seen::of(side.dns, "www.example.org");
            assert!(seen.has(Witness::ANSWER), "{flags:?}: {}", seen.text);
        }
        assert_eq!(witness.count("www.example.org."), asked, "{flags:?}");
    }
}

fn cut_upstream(sides: &Sides) {
    // The client could take it whole, but NSD sends at most 512 octets over UDP.
    let [theirs, ours] = sides.dig("medium.example.net +edns +bufsize=1232");
    assert!(theirs.flag("tc"), "{}", theirs.text);
    assert_eq!((ours.flag("tc"), ours.counts[0]), (false, 50), "{}", ours.text);
}

fn local_data(sides: &Sides) {
    let [theirs, ours] = sides.dig("mine.example.net");
    assert_eq!((theirs.status.as_str(), theirs.has("192.0.2.7")), ("NXDOMAIN", false), "{}", theirs.text);
    assert!(ours.has("192.0.2.7"), "{}", ours.text);
}

fn special_use(sides: &Sides) {
    for (name, here) in [("localhost", "NOERROR"), ("x.onion", "NXDOMAIN"), ("x.invalid", "NXDOMAIN"), ("x.test", "NXDOMAIN")] {
        let [theirs, ours] = sides.dig(name);
        // NSD, which has another zone, refuses them, and nobody else is left to ask: they were forwarded.
        assert_eq!((theirs.status.as_str(), ours.status.as_str()), ("SERVFAIL", here), "{name}");
    }
}

fn more_than_fits(sides: &Sides) {
    let [theirs, ours] = sides.dig("many.service.consul +edns +bufsize=512");
    assert!(!theirs.flag("tc") && theirs.counts[0] < 60, "{}", theirs.text);
    assert!(ours.flag("tc") && ours.counts[0] < 60, "{}", ours.text);
    assert_eq!(sides.dig("many.service.consul +tcp")[1].counts[0], 60, "TCP gives all of it");
}

fn answer_limit(sides: &Sides) {
    let [theirs, ours] = sides.dig("many.service.consul");
    assert_eq!(theirs.counts[0], 3);
    assert!(ours.counts[0] > 20, "{}", ours.text);
}

fn opt_size(sides: &Sides) {
    let [theirs, ours] = sides.dig("web.service.consul +edns +bufsize=3000");
    assert!(theirs.has("udp: 3000") && ours.has("udp: 1232"), "{}\n{}", theirs.text, ours.text);
}

fn opt_of_a_cut_answer(sides: &Sides) {
    let [theirs, ours] = sides.dig("many.service.consul +edns +bufsize=512");
    assert!(!theirs.has("OPT PSEUDOSECTION") && ours.has("OPT PSEUDOSECTION"), "{}\n{}", theirs.text, ours.text);
}

fn edns_version(sides: &Sides) {
    let [theirs, ours] = sides.dig("web.service.consul +edns=1 +noednsnegotiation");
    assert_eq!((theirs.status.as_str(), theirs.counts[0]), ("NOERROR", 2));
    assert_eq!((ours.status.as_str(), ours.counts[0]), ("BADVERS", 0));
}

fn dnssec_ok(sides: &Sides) {
    let [theirs, ours] = sides.dig("web.service.consul +dnssec");
    assert!(!theirs.has("flags: do;") && ours.has("flags: do;"), "{}\n{}", theirs.text, ours.text);
}

fn class(sides: &Sides) {
    sides.differ("web.service.consul -c CH", ("NOERROR", [2, 0, 0]), ("REFUSED", [0, 0, 0]));
}

fn notify(sides: &Sides) {
    let [theirs, ours] = sides.dig("web.service.consul +opcode=notify");
    assert_eq!((theirs.status.as_str(), ours.status.as_str()), ("NOERROR", "NOTIMP"));
}

fn meta_types(sides: &Sides) {
    // Of transfers dig shows the records alone.
    let [theirs, ours] = [&sides.consul, &sides.ours].map(|side| dig(side.dns, "web.service.consul IXFR=1 +notcp"));
    assert!(theirs.contains("SOA") && !ours.contains("SOA"), "{theirs}\n{ours}");
    for qtype in ["TKEY", "TSIG", "OPT"] {
        let [theirs, ours] = sides.dig(&format!("web.service.consul {qtype}"));
        assert_eq!((theirs.status.as_str(), theirs.counts[0]), ("NOERROR", 0), "{}", theirs.text);
        assert_eq!(ours.status, "NOTIMP", "{}", ours.text);
    }
}

fn negative_ttl(sides: &Sides) {
    let [theirs, ours] = sides.dig("no.service.consul").map(|seen| {
        let soa = seen.text.lines().find(|line| line.contains("SOA") && line.starts_with("consul.")).map(str::to_owned);
        soa.and_then(|soa| soa.split_whitespace().nth(1).map(str::to_owned))
    });
    assert_eq!((theirs.as_deref(), ours.as_deref()), (Some("0"), Some("1")));
}

fn unhealthy(sides: &Sides) {
    let [theirs, ours] = sides.dig("gone.service.consul +edns");
    assert_eq!((theirs.status.as_str(), ours.status.as_str()), ("NXDOMAIN", "NXDOMAIN"));
    let reason = "no healthy instance among 1 registered";
    assert!(!theirs.has("EDE") && ours.has(reason), "{}\n{}", theirs.text, ours.text);
}

fn txt_of_a_service(sides: &Sides) {
    sides.differ("web.service.consul TXT", ("NOERROR", [2, 0, 0]), NODATA);
}

fn no_such_type(sides: &Sides) {
    sides.differ("a.node.consul SRV", EMPTY, NODATA);
    sides.differ("7f000001.addr.consul AAAA", ("NOERROR", [0, 0, 1]), NODATA);
    sides.differ("web.virtual.consul AAAA", ("NOERROR", [0, 0, 1]), NODATA);
}

fn unknown_node(sides: &Sides) {
    sides.differ("nobody.node.consul SRV", EMPTY, NO_NAME);
}

fn no_virtual(sides: &Sides) {
    sides.differ("many.virtual.consul", EMPTY, NO_NAME);
}

fn soa_below_apex(sides: &Sides) {
    sides.differ("web.service.consul SOA", ("NOERROR", [1, 1, 1]), NODATA);
    sides.differ("no.service.consul NS", ("NOERROR", [1, 0, 1]), NO_NAME);
}

fn types_at_apex(sides: &Sides) {
    sides.differ("consul A", NO_NAME, NODATA);
}

fn empty_non_terminals(sides: &Sides) {
    for name in ["service.consul", "node.consul", "dc1.consul", "_tcp.service.consul"] {
        sides.differ(name, NO_NAME, NODATA);
    }
}

fn name_server(sides: &Sides) {
    let [theirs, ours] = sides.dig("ns.consul");
    assert_eq!((theirs.status.as_str(), ours.status.as_str(), ours.counts[0] > 0), ("NXDOMAIN", "NOERROR", true));
}

fn bare_alt_domain(sides: &Sides) {
    let [theirs, ours] = sides.dig("alt.example");
    assert!(theirs.has("\nconsul.") && ours.has("\nalt.example."), "{}\n{}", theirs.text, ours.text);
}

fn order(sides: &Sides) {
    // Of 200 answers, in an even order half begin with the heavier one (deviation 7); by weight 99 of 100 do (1.4).
    let first = |side: &Rollcall| (0..200).filter(|_| side.ask("web.service.consul", "A").answers()[0] == "127.1.0.1").count();
    let (theirs, ours) = (first(&sides.consul), first(&sides.ours));
    assert!((60..140).contains(&theirs) && ours > 185, "{theirs} and {ours} of 200");
}

fn alias_inside(sides: &Sides) {
    // Consul follows with ANY, and finds the address of the other family too.
    sides.differ("to-b.service.consul A", ("NOERROR", [2, 0, 0]), ("NOERROR", [1, 1, 0]));
    let [theirs, ours] = sides.dig("to-a.service.consul A");
    assert!([theirs, ours].iter().all(|seen| seen.has("127.0.1.1")));
}

fn alias_beside_addresses(sides: &Sides) {
    let [theirs, ours] = sides.dig("mixed.service.consul AAAA");
    assert!(theirs.has("CNAME") && theirs.counts[0] > 0, "{}", theirs.text);
    assert_eq!((ours.status.as_str(), ours.counts), NODATA, "{}", ours.text);
}

fn twins(sides: &Sides) {
    let [theirs, ours] = sides.dig("twin.service.consul SRV");
    assert_eq!((theirs.counts[0], ours.counts[0]), (2, 1), "{}\n{}", theirs.text, ours.text);
}

fn own_alias(sides: &Sides) {
    let [theirs, ours] = sides.dig("Circle.service.consul");
    assert_eq!((theirs.counts[0], ours.counts[0]), (2, 1), "{}\n{}", theirs.text, ours.text);
}

fn reverse_type(sides: &Sides) {
    let [theirs, ours] = sides.dig("8.113.0.203.in-addr.arpa A");
    assert!(theirs.has("PTR\tc.node.dc1.consul."), "{}", theirs.text);
    assert_eq!(ours.status, "REFUSED", "NSD, which knows nothing of it, was asked\n{}", ours.text);
}

fn unknown_reverse(sides: &Sides) {
    let [theirs, ours] = [0, 1].map(|side: usize| Seen::of(sides.alone[side].dns, "-x 203.0.113.200"));
    assert_eq!((theirs.status.as_str(), theirs.counts), NO_NAME, "{}", theirs.text);
    assert_eq!(ours.status, "REFUSED", "{}", ours.text);
}

fn ds_of_the_domain(sides: &Sides) {
    let [theirs, ours] = sides.dig("consul DS");
    assert_eq!(theirs.status, "SERVFAIL", "NSD has no such zone: it was forwarded\n{}", theirs.text);
    assert_eq!((ours.status.as_str(), ours.counts), NODATA, "{}", ours.text);
}

fn peer(sides: &Sides) {
    sides.differ("web.connect.other.peer.consul", ("NOERROR", [1, 0, 0]), NO_NAME);
}

fn empty_name(sides: &Sides) {
    sides.differ("_._.service.consul SRV", ("SERVFAIL", [0, 0, 0]), NO_NAME);
}

fn letters(sides: &Sides) {
    let [theirs, ours] = sides.dig("7F000001.ADDR.consul");
    assert!(theirs.has("\n7f000001.addr.consul.") && ours.has("\n7F000001.ADDR.consul."), "{}\n{}", theirs.text, ours.text);
}

fn port(sides: &Sides) {
    let body = json!({"Name": "far-out", "Port": 65_536}).to_string();
    let put = |side: &Rollcall| side.http.put("/v1/agent/service/register", &body).status;
    assert_eq!((put(&sides.consul), put(&sides.ours)), (200, 400));
    let body = json!({"Node": "a", "Address": "127.0.1.1", "Service": {"Service": "far-out", "Port": -1}}).to_string();
    let put = |side: &Rollcall| side.http.put("/v1/catalog/register", &body).status;
    assert_eq!((put(&sides.consul), put(&sides.ours)), (200, 400));
}

fn interval(sides: &Sides) {
    let [theirs, ours] = [&sides.consul, &sides.ours].map(|side| {
        let server = HealthServer::start([127, 0, 0, 1]);
        let check = json!({"HTTP": format!("http://{}/health", server.address), "Interval": "100ms"});
        side.http.accepts("/v1/agent/service/register", &json!({"Name": "often", "Port": 1, "Check": check}));
        std::thread::sleep(Duration::from_millis(2500));
        side.http.accepts("/v1/agent/service/deregister/often", &Value::Null);
        server.asked.load(std::sync::atomic::Ordering::SeqCst)
    });
    assert!((1..=4).contains(&theirs), "{theirs} checks in 2.5 s");
    assert!(ours > 4, "{ours} checks in 2.5 s");
}

fn deregister_after(sides: &Sides) {
    let check = json!({"TTL": "1h", "Status": "critical", "DeregisterCriticalServiceAfter": "1s"});
    let body = json!({"Name": "brief", "Port": 1, "Check": check});
    for side in [&sides.consul, &sides.ours] {
        side.http.accepts("/v1/agent/service/register", &body);
    }
    let there = |side: &Rollcall| side.http.json("/v1/agent/services").get("brief").is_some();
    within(slack(Duration::from_secs(2)), "ours is gone", || if there(&sides.ours) { Err("there".into()) } else { Ok(()) });
    assert!(there(&sides.consul), "Consul waits for a minute at least");
}
