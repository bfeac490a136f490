//! Runs health checks and the clocks of TTLs, and tells what comes of them.
//!
//! It does not write to the catalog, and it does not know what a check's status means for others: it sends [`Report`]s.
//! Alias checks do not run; the registry computes them from what the others say. Start at [`Runner`]; what is due when,
//! and what follows from a result, is decided without waiting in `schedule`.

mod http;
mod output;
mod schedule;
mod script;
mod tcp;
mod threshold;
mod tls;
mod udp;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smol_str::SmolStr;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::catalog::Health;
use crate::limits;
use crate::metrics::Count;
use crate::registry::definition::{CheckDefinition, CheckKind};
use schedule::{Run, Schedule};

pub use output::bounded;

/// How checks are run here.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// Whether programs may be started.
    pub allow_scripts: bool,
    /// Intervals are at least a second and the removal of services is decided every 30 s and after at least a minute,
    /// as Consul does; else both are as short as they are written.
    pub compat_consul: bool,
}

/// What the runner tells. A report may be under way while its check is removed; whoever reads it looks whether the
/// check is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The check's status changed, or its output did.
    Result { id: Arc<str>, status: Health, output: Arc<str> },
    /// The check has been critical for as long as its service may be; told again from time to time until the check is
    /// removed or recovers.
    Reap { service_id: SmolStr, check_id: Arc<str>, after: Duration },
}

/// All checks of an agent. Telling it of checks needs no runtime and never waits; [`Runner::run`] does the work.
#[derive(Debug)]
pub struct Runner {
    schedule: Mutex<Schedule>,
    /// Something was set that may be due before what is waited for.
    changed: Notify,
    clients: Arc<http::Clients>,
    reports: mpsc::Sender<Report>,
    pub runs: Count,
}

/// What a run found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    health: Health,
    output: String,
}

impl Outcome {
    fn critical(output: impl Into<String>) -> Self {
        Self { health: Health::Critical, output: output.into() }
    }
}

impl Runner {
    pub fn new(settings: Settings, reports: mpsc::Sender<Report>) -> Self {
        Self {
            schedule: Mutex::new(Schedule::new(settings, Instant::now())),
            changed: Notify::new(),
            clients: Arc::default(),
            reports,
            runs: Count::default(),
        }
    }

    /// Starts a check that says `current` until it has run, or replaces it; the same definition again changes nothing.
    pub fn set(&self, id: Arc<str>, definition: CheckDefinition, current: Health) {
        self.schedule().set(id, definition, current, fastrand::f64(), Instant::now());
        self.changed.notify_one();
    }

    /// Forgets a check; a run that is under way comes to nothing.
    pub fn remove(&self, id: &str) {
        self.schedule().remove(id);
    }

    /// Takes what a check's owner says; its TTL starts anew. This is not reported back. For a check of another kind, it
    /// tells a status that was decided elsewhere, so that its service can be removed in time.
    pub fn heartbeat(&self, id: &str, status: Health, output: String) {
        self.schedule().heartbeat(id, status, output, Instant::now());
        self.changed.notify_one();
    }

    /// Since when a check has been critical without a break.
    pub fn critical_since(&self, id: &str) -> Option<Instant> {
        self.schedule().critical_since(id)
    }

    /// Runs the checks until nobody reads the reports. When it is dropped, so are the runs that are under way.
    pub async fn run(&self) {
        let mut running = JoinSet::new();
        loop {
            let now = Instant::now();
            let (due, reports) = {
                let mut schedule = self.schedule();
                let room = limits::CHECKS_RUNNING_MAX.saturating_sub(running.len());
                (schedule.due(now, room), schedule.reports(now))
            };
            for run in due {
                self.runs.raise_alone(1);
                running.spawn(perform(run, self.clients.clone()));
            }
            for report in reports {
                if self.reports.send(report).await.is_err() {
                    return;
                }
            }
            let next = {
                let schedule = self.schedule();
                if schedule.has_reports() {
                    continue;
                }
                schedule.next(running.len() < limits::CHECKS_RUNNING_MAX)
            };
            tokio::select! {
                Some(ended) = running.join_next() => {
                    // A run neither panics nor is cancelled; were it lost, its check would show by staying as it is.
                    if let Ok((id, generation, outcome)) = ended {
                        self.schedule().finished(&id, generation, outcome, Instant::now());
                    }
                }
                () = until(next) => {}
                () = self.changed.notified() => {}
                () = self.reports.closed() => return,
            }
        }
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

const TIMEOUT: Duration = Duration::from_secs(10);
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(30);

async fn perform(run: Run, clients: Arc<http::Clients>) -> (Arc<str>, u64, Outcome) {
    let check = &*run.definition;
    let timeout = match &check.kind {
        _ if !check.timeout.is_zero() => check.timeout,
        CheckKind::Script { .. } => SCRIPT_TIMEOUT,
        // A check that hangs is told within an interval or so.
        _ => TIMEOUT.min(check.interval.max(limits::CHECK_INTERVAL_MIN)),
    };
    let outcome = match &check.kind {
        CheckKind::Http { url, method, header, body, disable_redirects, tls_server_name, tls_skip_verify } => {
            let request = http::Request {
                url,
                method,
                header,
                body,
                disable_redirects: *disable_redirects,
                tls_server_name,
                tls_skip_verify: *tls_skip_verify,
            };
            clients.run(request, timeout, check.output_max_size).await
        }
        CheckKind::Tcp { address, tls, tls_server_name, tls_skip_verify } => {
            let tls = tls.then_some(tcp::Tls { server_name: tls_server_name, skip_verify: *tls_skip_verify });
            tcp::run(address, tls, timeout).await
        }
        CheckKind::Udp { address } => udp::run(address, timeout).await,
        CheckKind::Script { args } => script::run(args, timeout, check.output_max_size).await,
        CheckKind::Ttl { .. } | CheckKind::Alias { .. } | CheckKind::Other { .. } => {
            Outcome::critical(format!("a check of kind {} does not run", check.kind.name()))
        }
    };
    (run.id, run.generation, outcome)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::net::TcpListener;

    use super::*;
    use crate::registry::definition;

    async fn next(reports: &mut mpsc::Receiver<Report>) -> Report {
        tokio::time::timeout(Duration::from_secs(10), reports.recv()).await.expect("a report").expect("a runner")
    }

    fn start(settings: Settings) -> (Arc<Runner>, mpsc::Receiver<Report>) {
        let (tell, reports) = mpsc::channel(4);
        let runner = Arc::new(Runner::new(settings, tell));
        let running = runner.clone();
        tokio::spawn(async move { running.run().await });
        (runner, reports)
    }

    #[tokio::test]
    async fn a_target_that_goes_and_comes_back_is_told_and_its_service_reaped() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (runner, mut reports) = start(Settings::default());
        let tcp = definition::check(&json!({"name": "c", "tcp": address.to_string(), "interval": "100ms",
            "service_id": "s", "deregister_critical_service_after": "400ms"}));
        runner.set("c".into(), tcp.unwrap(), Health::Critical);
        let success: Arc<str> = format!("TCP connect {address}: Success").into();
        let passing = Report::Result { id: "c".into(), status: Health::Passing, output: success };
        assert_eq!(next(&mut reports).await, passing);
        drop(listener);
        let gone = std::time::Instant::now();
        assert!(matches!(next(&mut reports).await, Report::Result { status: Health::Critical, .. }));
        assert!(runner.critical_since("c").is_some());
        assert!(matches!(next(&mut reports).await, Report::Reap { service_id, .. } if &*service_id == "s"));
        assert!(gone.elapsed() >= Duration::from_millis(400));
        let _listener = TcpListener::bind(address).await.unwrap();
        assert_eq!(next(&mut reports).await, passing);
        assert_eq!(runner.critical_since("c"), None);
        runner.remove("c");
        assert!(tokio::time::timeout(Duration::from_millis(300), reports.recv()).await.is_err());
    }

    #[tokio::test]
    async fn scripts_run_when_they_may() {
        let (runner, mut reports) = start(Settings { allow_scripts: true, compat_consul: false });
        let script = definition::check(&json!({"name": "c", "args": ["/bin/sh", "-c", "echo fine"], "interval": "100ms"}));
        runner.set("c".into(), script.unwrap(), Health::Critical);
        assert_eq!(
            next(&mut reports).await,
            Report::Result { id: "c".into(), status: Health::Passing, output: "fine\n".into() }
        );
    }

    #[tokio::test]
    async fn a_ttl_that_is_set_before_the_runner_runs_runs_out() {
        let (tell, mut reports) = mpsc::channel(1);
        let runner = Runner::new(Settings::default(), tell);
        runner.set("c".into(), definition::check(&json!({"name": "c", "ttl": "200ms"})).unwrap(), Health::Passing);
        runner.heartbeat("c", Health::Passing, "here".into());
        let (_, report) = tokio::join!(tokio::time::timeout(Duration::from_secs(1), runner.run()), next(&mut reports));
        let output = "TTL expired (last output before timeout follows): here";
        assert_eq!(report, Report::Result { id: "c".into(), status: Health::Critical, output: output.into() });
    }

    #[tokio::test]
    async fn the_runner_ends_when_nobody_reads() {
        let (runner, reports) = start(Settings::default());
        drop(reports);
        tokio::time::timeout(Duration::from_secs(5), runner.run()).await.unwrap();
    }
}
