//! Who is due when, and what follows from a result. Nothing here waits, runs or reads a clock: time is passed in.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::threshold::Threshold;
use super::{Outcome, Report, Settings};
use crate::catalog::Health;
use crate::limits;
use crate::registry::definition::{CheckDefinition, CheckKind};

/// All checks, each with its deadlines.
#[derive(Debug)]
pub(super) struct Schedule {
    settings: Settings,
    begun: Instant,
    checks: HashMap<Arc<str>, Watched>,
    /// When which check is to run.
    runs: BTreeSet<(Instant, Arc<str>)>,
    /// When a TTL may have run out, or a service may have been critical for too long.
    timers: BTreeSet<(Instant, Purpose, Arc<str>)>,
    /// Tells a run of the present definition from one of a definition that was replaced meanwhile.
    generation: u64,
    /// What is to be told besides the results of runs: at most one word for each registration of a check.
    untold: Vec<Report>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    Expire,
    Reap,
}

/// One check as it goes on.
#[derive(Debug)]
struct Watched {
    definition: Arc<CheckDefinition>,
    generation: u64,
    threshold: Threshold,
    status: Health,
    output: Arc<str>,
    critical_since: Option<Instant>,
    /// Its place in `runs`; `None` while it runs, and for kinds that do not run.
    run_at: Option<Instant>,
    /// Its place in `timers`, and when it really runs out: a heartbeat only moves the latter.
    expiry_at: Option<Instant>,
    expires: Option<Instant>,
    reap_at: Option<Instant>,
}

/// A check to run now.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: Arc<str>,
    pub(super) generation: u64,
    pub(super) definition: Arc<CheckDefinition>,
}

/// Consul's shortest time to deregistration, and how often it looks.
const REAP_MIN: Duration = Duration::from_secs(60);
const REAP_TICK: Duration = Duration::from_secs(30);

/// When a service that ought to have been removed is told of again.
const REAP_AGAIN: Duration = Duration::from_secs(30);

impl Schedule {
    pub(super) fn new(settings: Settings, now: Instant) -> Self {
        Self {
            settings,
            begun: now,
            checks: HashMap::new(),
            runs: BTreeSet::new(),
            timers: BTreeSet::new(),
            generation: 0,
            untold: Vec::new(),
        }
    }

    /// Starts a check, or replaces it. `chance`, from 0 to 1, spreads the first runs.
    pub(super) fn set(&mut self, id: Arc<str>, definition: CheckDefinition, current: Health, chance: f64, now: Instant) {
        let before = self.checks.get(&id);
        if before.is_some_and(|before| *before.definition == definition) {
            return;
        }
        // Another definition of an ill check does not make it well.
        let critical_since =
            (current == Health::Critical).then(|| before.and_then(|check| check.critical_since).unwrap_or(now));
        self.remove(&id);
        self.generation += 1;
        let mut check = Watched {
            generation: self.generation,
            threshold: Threshold::new(
                definition.success_before_passing,
                definition.failures_before_warning,
                definition.failures_before_critical,
            ),
            status: current,
            output: Arc::default(),
            critical_since,
            run_at: None,
            expiry_at: None,
            expires: None,
            reap_at: None,
            definition: Arc::new(definition),
        };
        match &check.definition.kind {
            CheckKind::Ttl { ttl } => {
                check.expires = later(now, *ttl);
                check.expiry_at = check.expires;
            }
            // The registry computes it from other checks.
            CheckKind::Alias { .. } => {}
            CheckKind::Other { .. } => {
                let output = check.definition.initial_output();
                self.untold.push(check.told(&id, Outcome::critical(output), now));
            }
            CheckKind::Script { .. } if !self.settings.allow_scripts => {
                let output = "script checks are off: start with them enabled to have this one run";
                self.untold.push(check.told(&id, Outcome::critical(output), now));
            }
            _ => check.run_at = later(now, self.interval(&check.definition).min(Duration::from_secs(1)).mul_f64(chance)),
        }
        if let Some(at) = check.run_at {
            self.runs.insert((at, id.clone()));
        }
        if let Some(at) = check.expiry_at {
            self.timers.insert((at, Purpose::Expire, id.clone()));
        }
        self.checks.insert(id.clone(), check);
        self.plan_reaping(&id);
    }

    pub(super) fn remove(&mut self, id: &str) {
        let Some((id, check)) = self.checks.remove_entry(id) else { return };
        if let Some(at) = check.run_at {
            self.runs.remove(&(at, id.clone()));
        }
        if let Some(at) = check.expiry_at {
            self.timers.remove(&(at, Purpose::Expire, id.clone()));
        }
        if let Some(at) = check.reap_at {
            self.timers.remove(&(at, Purpose::Reap, id));
        }
    }

    /// What the check's owner says. It is not reported back: who passes it on knows it.
    pub(super) fn heartbeat(&mut self, id: &str, status: Health, output: String, now: Instant) {
        let Some((id, check)) = self.checks.get_key_value(id) else { return };
        let id = id.clone();
        let ttl = match check.definition.kind {
            CheckKind::Ttl { ttl } => Some(ttl),
            _ => None,
        };
        let Some(check) = self.checks.get_mut(&id) else { return };
        check.say(status, output.into(), now);
        if let Some(ttl) = ttl {
            check.expires = later(now, ttl);
            if check.expiry_at.is_none()
                && let Some(at) = check.expires
            {
                check.expiry_at = Some(at);
                self.timers.insert((at, Purpose::Expire, id.clone()));
            }
        }
        self.plan_reaping(&id);
    }

    /// Up to `max` checks whose time has come. Each is out of the schedule until [`Schedule::finished`].
    pub(super) fn due(&mut self, now: Instant, max: usize) -> Vec<Run> {
        let mut due = Vec::new();
        while due.len() < max
            && self.runs.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, id)) = self.runs.pop_first()
        {
            let Some(check) = self.checks.get_mut(&id) else { continue };
            check.run_at = None;
            due.push(Run { generation: check.generation, definition: check.definition.clone(), id });
        }
        due
    }

    /// Takes the outcome of a run.
    pub(super) fn finished(&mut self, id: &Arc<str>, generation: u64, outcome: Outcome, now: Instant) {
        let Some(check) = self.checks.get_mut(id).filter(|check| check.generation == generation) else { return };
        if let Some(health) = check.threshold.count(outcome.health) {
            let changed = check.status != health || *check.output != *outcome.output;
            if changed {
                self.untold.push(check.told(id, Outcome { health, output: outcome.output }, now));
            }
        }
        let definition = check.definition.clone();
        let at = later(now, self.interval(&definition));
        if let (Some(check), Some(at)) = (self.checks.get_mut(id), at) {
            check.run_at = Some(at);
            self.runs.insert((at, id.clone()));
        }
        self.plan_reaping(id);
    }

    /// All that is to be told: results, expired TTLs, services to remove.
    pub(super) fn reports(&mut self, now: Instant) -> Vec<Report> {
        while self.timers.first().is_some_and(|(at, ..)| *at <= now)
            && let Some((_, purpose, id)) = self.timers.pop_first()
        {
            match purpose {
                Purpose::Expire => self.expire(&id, now),
                Purpose::Reap => self.reap(&id, now),
            }
        }
        std::mem::take(&mut self.untold)
    }

    /// When to look again; runs count only where there is room for one more.
    pub(super) fn next(&self, room: bool) -> Option<Instant> {
        let run = self.runs.first().filter(|_| room).map(|(at, _)| *at);
        let timer = self.timers.first().map(|(at, ..)| *at);
        run.into_iter().chain(timer).min()
    }

    pub(super) fn has_reports(&self) -> bool {
        !self.untold.is_empty()
    }

    /// Since when a check has been critical without a break.
    pub(super) fn critical_since(&self, id: &str) -> Option<Instant> {
        self.checks.get(id)?.critical_since
    }

    fn expire(&mut self, id: &Arc<str>, now: Instant) {
        let Some(check) = self.checks.get_mut(id) else { return };
        check.expiry_at = check.expires.filter(|expires| *expires > now);
        if let Some(at) = check.expiry_at {
            self.timers.insert((at, Purpose::Expire, id.clone()));
            return;
        }
        check.expires = None;
        // What is critical already keeps its owner's words.
        if check.status != Health::Critical {
            let output = match &*check.output {
                "" => "TTL expired".to_owned(),
                last => format!("TTL expired (last output before timeout follows): {last}"),
            };
            self.untold.push(check.told(id, Outcome::critical(output), now));
            self.plan_reaping(id);
        }
    }

    fn reap(&mut self, id: &Arc<str>, now: Instant) {
        let Some(check) = self.checks.get_mut(id) else { return };
        check.reap_at = later(now, REAP_AGAIN);
        if let Some(at) = check.reap_at {
            self.timers.insert((at, Purpose::Reap, id.clone()));
        }
        if let Some(after) = check.definition.deregister_critical_service_after {
            let service_id = check.definition.service_id.clone();
            self.untold.push(Report::Reap { service_id, check_id: id.clone(), after });
        }
    }

    /// Plans, or calls off, the removal of the service whose check this is.
    fn plan_reaping(&mut self, id: &Arc<str>) {
        let Some(check) = self.checks.get_mut(id) else { return };
        let after = check.definition.deregister_critical_service_after.filter(|_| !check.definition.service_id.is_empty());
        let wanted = check.critical_since.zip(after);
        match (wanted, check.reap_at) {
            (None, Some(at)) => {
                check.reap_at = None;
                self.timers.remove(&(at, Purpose::Reap, id.clone()));
            }
            (Some((since, after)), None) => {
                let at = if self.settings.compat_consul {
                    let ticks = (since + after.clamp(REAP_MIN, limits::CHECK_SPAN_MAX) - self.begun)
                        .as_nanos()
                        .div_ceil(REAP_TICK.as_nanos());
                    later(self.begun, REAP_TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX)))
                } else {
                    later(since, after)
                };
                check.reap_at = at;
                if let Some(at) = at {
                    self.timers.insert((at, Purpose::Reap, id.clone()));
                }
            }
            _ => {}
        }
    }

    fn interval(&self, definition: &CheckDefinition) -> Duration {
        let least = if self.settings.compat_consul { Duration::from_secs(1) } else { limits::CHECK_INTERVAL_MIN };
        definition.interval.max(least)
    }
}

impl Watched {
    fn say(&mut self, status: Health, output: Arc<str>, now: Instant) {
        self.status = status;
        self.output = output;
        self.critical_since = (status == Health::Critical).then(|| self.critical_since.unwrap_or(now));
    }

    fn told(&mut self, id: &Arc<str>, outcome: Outcome, now: Instant) -> Report {
        self.say(outcome.health, outcome.output.into(), now);
        Report::Result { id: id.clone(), status: self.status, output: self.output.clone() }
    }
}

/// A span so long that it does not end in this process's time is no deadline at all.
fn later(now: Instant, span: Duration) -> Option<Instant> {
    (span <= limits::CHECK_SPAN_MAX).then(|| now.checked_add(span)).flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::definition;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn definition(json: serde_json::Value) -> CheckDefinition {
        definition::check(&json).unwrap()
    }

    fn schedule(compat_consul: bool) -> (Schedule, Instant, Arc<str>) {
        let now = Instant::now();
        (Schedule::new(Settings { allow_scripts: false, compat_consul }, now), now, "c".into())
    }

    fn result(status: Health, output: &str) -> Report {
        Report::Result { id: "c".into(), status, output: output.into() }
    }

    fn outcome(health: Health, output: &str) -> Outcome {
        Outcome { health, output: output.into() }
    }

    #[test]
    fn a_run_follows_an_interval_after_the_last_one_ended() {
        let (mut schedule, now, id) = schedule(false);
        let tcp = definition(json!({"name": "c", "tcp": "127.0.0.1:1", "interval": "10s"}));
        schedule.set(id.clone(), tcp.clone(), Health::Critical, 0.5, now);
        assert_eq!(schedule.next(true), Some(now + secs(1) / 2));
        assert_eq!(schedule.next(false), None, "without room only timers are waited for");
        assert!(schedule.due(now, 9).is_empty());
        let now = now + secs(1) / 2;
        let run = schedule.due(now, 9).remove(0);
        assert_eq!(schedule.next(true), None, "a check does not run twice at one time");
        let ended = now + secs(4);
        schedule.finished(&id, run.generation, outcome(Health::Passing, "fine"), ended);
        assert_eq!(schedule.reports(ended), [result(Health::Passing, "fine")]);
        assert_eq!(schedule.next(true), Some(ended + secs(10)));
        let again = ended + secs(10);
        let run = schedule.due(again, 9).remove(0);
        schedule.finished(&id, run.generation, outcome(Health::Passing, "fine"), again);
        assert_eq!(schedule.reports(again), [], "nothing changed");
        let run = schedule.due(again + secs(10), 9).remove(0);
        schedule.finished(&id, run.generation, outcome(Health::Passing, "finer"), again + secs(10));
        assert_eq!(schedule.reports(again + secs(10)), [result(Health::Passing, "finer")]);
    }

    #[test]
    fn a_result_of_a_check_that_was_replaced_or_removed_comes_to_nothing() {
        let (mut schedule, now, id) = schedule(false);
        let mut tcp = definition(json!({"name": "c", "tcp": "127.0.0.1:1", "interval": "10s"}));
        schedule.set(id.clone(), tcp.clone(), Health::Critical, 0.0, now);
        let run = schedule.due(now, 9).remove(0);
        schedule.set(id.clone(), tcp.clone(), Health::Critical, 0.0, now);
        assert!(schedule.due(now, 9).is_empty(), "the same definition changes nothing");
        tcp.interval = secs(20);
        schedule.set(id.clone(), tcp, Health::Critical, 0.0, now);
        schedule.finished(&id, run.generation, outcome(Health::Passing, "old"), now);
        assert_eq!(schedule.reports(now), []);
        let run = schedule.due(now, 9).remove(0);
        schedule.remove(&id);
        schedule.finished(&id, run.generation, outcome(Health::Passing, "late"), now);
        assert_eq!((schedule.reports(now), schedule.next(true)), (vec![], None));
    }

    #[test]
    fn room_is_kept() {
        let (mut schedule, now, _) = schedule(false);
        for name in ["a", "b", "c"] {
            schedule.set(
                name.into(),
                definition(json!({"name": name, "udp": "127.0.0.1:1", "interval": "10s"})),
                Health::Critical,
                0.0,
                now,
            );
        }
        assert_eq!((schedule.due(now, 2).len(), schedule.due(now, 0).len(), schedule.due(now, 2).len()), (2, 0, 1));
    }

    #[test]
    fn a_ttl_runs_out_unless_it_is_heard_of() {
        let (mut schedule, now, id) = schedule(false);
        schedule.set(id.clone(), definition(json!({"name": "c", "ttl": "15s"})), Health::Critical, 0.0, now);
        assert_eq!(schedule.reports(now + secs(15)), [], "it was critical already");
        let heard = now + secs(20);
        schedule.heartbeat(&id, Health::Passing, String::new(), heard);
        schedule.heartbeat(&id, Health::Passing, "all good".into(), heard + secs(10));
        assert_eq!(schedule.reports(heard + secs(15)), [], "the last heartbeat counts");
        assert_eq!(schedule.next(true), Some(heard + secs(25)));
        assert_eq!(
            schedule.reports(heard + secs(25)),
            [result(Health::Critical, "TTL expired (last output before timeout follows): all good")]
        );
        assert_eq!(schedule.reports(heard + secs(99)), [], "it is told once");
        schedule.heartbeat(&id, Health::Warning, String::new(), heard + secs(100));
        assert_eq!(schedule.reports(heard + secs(115)), [result(Health::Critical, "TTL expired")]);
    }

    #[test]
    fn a_service_is_reaped_once_its_check_was_critical_long_enough_without_a_break() {
        let (mut schedule, now, id) = schedule(false);
        let mut ttl =
            definition(json!({"name": "c", "ttl": "15s", "service_id": "s", "deregister_critical_service_after": "20s"}));
        let reap = Report::Reap { service_id: "s".into(), check_id: id.clone(), after: secs(20) };
        schedule.set(id.clone(), ttl.clone(), Health::Passing, 0.0, now);
        assert_eq!(schedule.reports(now + secs(15)), [result(Health::Critical, "TTL expired")]);
        assert_eq!(schedule.critical_since(&id), Some(now + secs(15)));
        schedule.heartbeat(&id, Health::Passing, String::new(), now + secs(30));
        assert_eq!(schedule.reports(now + secs(36)), [], "it recovered");
        schedule.heartbeat(&id, Health::Critical, String::new(), now + secs(40));
        schedule.heartbeat(&id, Health::Critical, String::new(), now + secs(50));
        ttl.notes = "another definition does not make it well".into();
        schedule.set(id.clone(), ttl, Health::Critical, 0.0, now + secs(55));
        assert_eq!(schedule.reports(now + secs(59)), []);
        assert_eq!(schedule.next(true), Some(now + secs(60)));
        assert_eq!(schedule.reports(now + secs(60)), vec![reap.clone()]);
        assert_eq!(schedule.reports(now + secs(90)), [reap], "told again while the check is there");
        schedule.remove(&id);
        assert_eq!((schedule.reports(now + secs(200)), schedule.next(true)), (vec![], None));
    }

    #[test]
    fn as_consul_reaps_after_a_minute_at_least_and_every_30_s() {
        let (mut schedule, now, id) = schedule(true);
        let ttl = definition(json!({"name": "c", "ttl": "1h", "service_id": "s", "deregister_critical_service_after": "20s"}));
        schedule.set(id.clone(), ttl, Health::Critical, 0.0, now + secs(7));
        assert_eq!(schedule.reports(now + secs(89)), []);
        assert_eq!(schedule.reports(now + secs(90)).len(), 1);
    }

    #[test]
    fn what_does_not_run_says_so() {
        let (mut schedule, now, id) = schedule(false);
        schedule.set(
            id.clone(),
            definition(json!({"name": "c", "args": ["/bin/true"], "interval": "1s"})),
            Health::Passing,
            0.0,
            now,
        );
        assert_eq!(
            schedule.reports(now),
            [result(Health::Critical, "script checks are off: start with them enabled to have this one run")]
        );
        schedule.set(id, definition(json!({"name": "c", "grpc": "127.0.0.1:1", "interval": "1s"})), Health::Critical, 0.0, now);
        assert_eq!(
            schedule.reports(now),
            [result(Health::Critical, "checks of kind grpc are not run here: use an http, tcp, udp, ttl or script check")]
        );
        assert_eq!(schedule.next(true), None);
    }

    #[test]
    fn spans_beyond_all_bounds_are_never() {
        let (mut schedule, now, id) = schedule(true);
        let mut ttl = definition(
            json!({"name": "c", "ttl": "2540400h", "service_id": "s", "deregister_critical_service_after": "2540400h"}),
        );
        schedule.set(id.clone(), ttl.clone(), Health::Critical, 0.0, now);
        ttl.kind = CheckKind::Ttl { ttl: Duration::MAX };
        ttl.deregister_critical_service_after = Some(Duration::MAX);
        schedule.set(id, ttl, Health::Critical, 0.0, now);
        assert_eq!(schedule.reports(now + secs(1_000_000)), []);
    }
}
