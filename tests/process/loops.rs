//! Upstreams that lead back to us, by way of a dnsmasq that asks us.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::rollcall::{Launch, directory};
use crate::support::upstream::{Server, Witness, is_of_the_sentry};
use crate::support::{free_port, slack, within};

/// Stands before a server, counts what clients' questions become, and holds up what is not to pass yet.
struct Between {
    address: SocketAddr,
    count: Arc<AtomicUsize>,
    to: Arc<Mutex<SocketAddr>>,
    is_open: Arc<AtomicBool>,
}

impl Between {
    fn start(to: SocketAddr) -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").expect("a free port"));
        let address = socket.local_addr().expect("it is bound");
        let between = Self { address, count: Arc::default(), to: Arc::new(Mutex::new(to)), is_open: Arc::default() };
        let (count, to, is_open) = (between.count.clone(), between.to.clone(), between.is_open.clone());
        thread::spawn(move || {
            let mut room = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut room) {
                match is_of_the_sentry(&room[..length]) {
                    true if !is_open.load(Ordering::SeqCst) => continue,
                    true => {}
                    false => drop(count.fetch_add(1, Ordering::SeqCst)),
                }
                let (octets, to, back) = (room[..length].to_vec(), *to.lock().expect("no thread panics"), socket.clone());
                thread::spawn(move || {
                    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
                    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
                    drop(socket.send_to(&octets, to));
                    let mut room = [0; 4096];
                    if let Ok(length) = socket.recv(&mut room) {
                        drop(back.send_to(&room[..length], from));
                    }
                });
            }
        });
        between
    }
}

/// A dnsmasq that asks `to` everything.
fn leading_to(to: SocketAddr, directory: &Path) -> Server {
    let config = directory.join("back.conf");
    fs::write(&config, format!("no-resolv\nno-hosts\ncache-size=0\nserver={}#{}\n", to.ip(), to.port())).expect("written");
    Server::dnsmasq(directory, &config)
}

#[test]
fn an_upstream_that_leads_back_is_set_aside_and_asked_again_when_it_does_not() {
    let (directory, witness) = (directory(), Witness::start());
    let own: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let dnsmasq = leading_to(own, directory.path());
    let between = Between::start(dnsmasq.address);
    let launch = Launch::serve_on(directory.path(), &own.to_string(), "127.0.0.1:0");
    let rollcall = launch.option("--upstream", between.address.to_string()).start();

    // What goes in circles before it is noticed does not multiply: each round is a question that is under way already.
    let names: Vec<String> = (0..10).map(|n| format!("n{n}.example.net")).collect();
    thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| rollcall.ask(name, "A"));
        }
    });
    let asked = between.count.load(Ordering::SeqCst);
    assert!(asked <= 4 * names.len(), "{asked} packets for {} names", names.len());
    let explained = || rollcall.cli(["explain", "www.example.net", "--json"]).ok();
    assert!(explained().contains("\"leads_back\": false"), "{}", explained());

    between.is_open.store(true, Ordering::SeqCst);
    rollcall.signal("HUP");
    within(slack(Duration::from_secs(2)), "the upstream set aside", || {
        let text = explained();
        if text.contains("\"leads_back\": true") { Ok(()) } else { Err(text) }
    });
    let metrics = rollcall.http.get("/metrics").body;
    assert!(metrics.lines().any(|line| line.starts_with("rollcall_upstream_leads_back{") && line.ends_with(" 1")), "{metrics}");
    assert!(rollcall.cli(["explain", "www.example.net"]).ok().contains("leads back here: set aside"));
    assert_eq!(rollcall.stderr().matches("got our own question back").count(), 1, "{}", rollcall.stderr());
    let before = between.count.load(Ordering::SeqCst);
    assert_eq!(rollcall.ask("www.example.net", "A").rcode(), hickory_proto::op::ResponseCode::ServFail);
    assert_eq!(between.count.load(Ordering::SeqCst), before, "it is asked no more");

    // It asks others from now on. A reload looks at once, who waits is served within a minute.
    *between.to.lock().expect("no thread panics") = witness.address;
    rollcall.signal("HUP");
    within(slack(Duration::from_secs(4)), "an answer", || {
        let answers = rollcall.ask("again.example.net", "A").answers();
        if answers == [Witness::ANSWER] { Ok(()) } else { Err(format!("{answers:?}")) }
    });
    assert!(rollcall.stderr().contains("leads back here no more"), "{}", rollcall.stderr());
}

#[test]
fn an_upstream_that_only_a_view_has_is_watched_too() {
    let (directory, witness) = (directory(), Witness::start());
    let own: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let dnsmasq = leading_to(own, directory.path());
    // dnsmasq asks from 127.0.0.1, which is in no view.
    let config = format!(
        "[forward]\nupstreams = [\"{}\"]\n[[view]]\nname = \"guests\"\nclients = [\"127.0.0.9\"]\nforward.upstreams = [\"{}\"]\n",
        witness.address, dnsmasq.address
    );
    fs::write(directory.path().join("rollcall.toml"), config).expect("written");
    let launch = Launch::serve_on(directory.path(), &own.to_string(), "127.0.0.1:0");
    let rollcall = launch.option("--config", "rollcall.toml").start();
    within(slack(Duration::from_secs(2)), "the view's upstream set aside", || {
        let text = rollcall.cli(["explain", "www.example.net", "--client", "127.0.0.9", "--json"]).ok();
        if text.contains("\"leads_back\": true") { Ok(()) } else { Err(text) }
    });
    assert_eq!(rollcall.ask("www.example.net", "A").answers(), [Witness::ANSWER]);
}
