//! What was acknowledged is there after SIGKILL, with its last known health, and DNS answers at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use crate::support::http::Http;
use crate::support::rollcall::{Launch, directory};
use crate::support::{dns, free_port, within};

const ROUNDS: u32 = 15;
const WRITERS: usize = 3;
/// Ten times what is promised, for a debug build on a shared machine.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

/// What an instance may be, by what was acknowledged. `None` is deregistered.
type Status = Option<&'static str>;

#[derive(Default, Clone)]
struct Expected {
    acknowledged: Status,
    /// Asked for when the process died: done or not, both are right.
    in_flight: Option<Status>,
}

impl Expected {
    fn allows(&self, found: Option<&str>) -> bool {
        self.acknowledged == found || self.in_flight.is_some_and(|status| status == found)
    }
}

type Ledger = Arc<Mutex<BTreeMap<String, Expected>>>;

#[test]
fn every_acknowledged_registration_survives_kill_9() {
    let directory = directory();
    let port = free_port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let ledger = Ledger::default();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let mut chance = fastrand::Rng::with_seed(now);
    for round in 0..ROUNDS {
        let started = Instant::now();
        let first = (round > 0).then(|| thread::spawn(move || first_answer(address, started)));
        let mut rollcall = Launch::serve_on(directory.path(), &address.to_string(), "127.0.0.1:0").start();
        if let Some(first) = first {
            let took = first.join().expect("DNS answers");
            assert!(took <= FIRST_ANSWER, "round {round}: the first answer came {took:?} after the start");
        } else {
            let anchor = json!({"ID": "anchor", "Name": "anchor", "Address": "192.0.2.1", "Port": 1});
            rollcall.http.accepts("/v1/agent/service/register", &anchor);
        }
        compare(&rollcall.http, &ledger, round);

        let stop = Arc::new(AtomicBool::new(false));
        let before = acknowledged(&ledger);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (http, ledger, stop) = (rollcall.http.clone(), Arc::clone(&ledger), Arc::clone(&stop));
                let chance = chance.fork();
                thread::spawn(move || write(&http, &ledger, &stop, round, writer, chance))
            })
            .collect();
        within(Duration::from_secs(30), "a few acknowledged writes", || {
            let done = acknowledged(&ledger) - before;
            if done >= 5 { Ok(()) } else { Err(format!("{done}")) }
        });
        // The moment is random on purpose: it falls into any phase of a write.
        thread::sleep(Duration::from_micros(chance.u64(..200_000)));
        rollcall.kill();
        stop.store(true, Ordering::SeqCst);
        for writer in writers {
            writer.join().expect("a writer ends when its server has died");
        }
    }
    let rollcall = Launch::serve_on(directory.path(), &address.to_string(), "127.0.0.1:0").start();
    compare(&rollcall.http, &ledger, ROUNDS);
    assert!(acknowledged(&ledger) > ROUNDS as usize * 5);
}

/// Asks from before the start until the anchor is answered.
fn first_answer(address: SocketAddr, started: Instant) -> Duration {
    within(Duration::from_secs(30), "the first answer", || {
        let reply = dns::udp_within(address, "anchor.service.consul", "A", Duration::from_millis(20));
        let answers = reply.map_err(|error| error.to_string())?.answers();
        if answers == ["192.0.2.1"] { Ok(()) } else { Err(format!("{answers:?}")) }
    });
    started.elapsed()
}

fn acknowledged(ledger: &Ledger) -> usize {
    ledger.lock().expect("no writer panics with it").values().filter(|expected| expected.acknowledged.is_some()).count()
}

/// Registers, changes health and deregisters until the server dies.
fn write(http: &Http, ledger: &Ledger, stop: &AtomicBool, round: u32, writer: usize, mut chance: fastrand::Rng) {
    for number in 0.. {
        let id = format!("r{round}-w{writer}-{number}");
        let first = ["passing", "critical"][chance.usize(..2)];
        let definition = json!({
            "ID": id, "Name": format!("written-{writer}"), "Address": "192.0.2.2", "Port": 1000 + number % 1000,
            "Check": {"TTL": "10h", "Status": first}
        });
        let mut steps = vec![("/v1/agent/service/register".to_owned(), definition.to_string(), Some(first))];
        for (verb, status) in [("pass", "passing"), ("warn", "warning"), ("fail", "critical")] {
            if chance.u8(..3) == 0 {
                steps.push((format!("/v1/agent/check/{verb}/service:{id}"), String::new(), Some(status)));
            }
        }
        if chance.u8(..5) == 0 {
            steps.push((format!("/v1/agent/service/deregister/{id}"), String::new(), None));
        }
        for (path, body, status) in steps {
            let change = |what: &dyn Fn(&mut Expected)| {
                what(ledger.lock().expect("no writer panics with it").entry(id.clone()).or_default())
            };
            change(&|expected| expected.in_flight = Some(status));
            match http.request("PUT", &path, &body) {
                Ok(response) => {
                    assert_eq!(response.status, 200, "{path} {body}: {response:?}");
                    change(&|expected| *expected = Expected { acknowledged: status, in_flight: None });
                }
                Err(_) => return, // The server has died; the comparison after its next start says whether it may have.
            }
        }
        if stop.load(Ordering::SeqCst) {
            return;
        }
    }
}

fn compare(http: &Http, ledger: &Ledger, round: u32) {
    let services = http.json("/v1/agent/services");
    let checks = http.json("/v1/agent/checks");
    let mut ledger = ledger.lock().expect("no writer panics with it");
    for (id, expected) in ledger.iter_mut() {
        let status = services.get(id).map(|_| {
            let check = &checks[format!("service:{id}")];
            check["Status"].as_str().unwrap_or_else(|| panic!("round {round}: {id} lost its check: {check}"))
        });
        let Expected { acknowledged, in_flight } = &expected;
        assert!(
            expected.allows(status),
            "round {round}: {id} is {status:?}; acknowledged {acknowledged:?}, in flight {in_flight:?}"
        );
        // What it is now is what it must stay.
        let known = ["passing", "warning", "critical"].into_iter().find(|known| Some(*known) == status);
        *expected = Expected { acknowledged: known, in_flight: None };
    }
    let services = services.as_object().expect("a map");
    for id in services.keys() {
        assert!(id == "anchor" || id == "consul" || ledger.contains_key(id), "round {round}: nobody registered {id}");
    }
}
