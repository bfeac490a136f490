//! The one writer: a thread that takes all writes that wait, applies them in order, commits them to disk once, publishes
//! one snapshot, and only then answers.
//!
//! A write that is refused leaves no trace. A commit that fails leaves the last good catalog in place, and everybody who
//! waited for it is told. Checks' results wait for nobody: they are published at once, and are on disk within
//! [`SYNC_WITHIN`]. So soon the database takes over what the journal has.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::agent::{self, State};
use super::checks::Runner;
use super::definition::CheckDefinition;
use super::metrics::Counters;
use super::store::{Changes, Store, StoreError};
use crate::catalog::{Catalog, CheckKey, Edit, Health, NodeKey, Touched};
use crate::limits;

/// How long a published change that nobody waited for may be missing on disk.
const SYNC_WITHIN: Duration = Duration::from_millis(500);

/// What one write may change: the catalog, and what our own agent keeps beside it. Nobody else sees either before the
/// write is done.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) edit: Edit,
    agent: State,
    changes: Changes,
    checks: Vec<CheckOrder>,
}

/// What the checks' runner is told once a write is done.
#[derive(Debug)]
enum CheckOrder {
    Set(Arc<str>, Arc<CheckDefinition>),
    Tell(Arc<str>, Health, Arc<str>),
    Remove(Arc<str>),
}

impl Transaction {
    fn begin(catalog: &Catalog, agent: &State) -> Self {
        Self { edit: catalog.edit(), agent: agent.clone(), changes: Changes::default(), checks: Vec::new() }
    }

    /// What the agent knows, with the changes made so far.
    pub(super) fn agent(&self) -> &State {
        &self.agent
    }

    /// Keeps how our agent runs a check, and lets it run from now on.
    pub(super) fn set_definition(&mut self, id: Arc<str>, definition: Arc<CheckDefinition>) {
        self.agent.set_definition(id.clone(), definition.clone());
        self.changes.definitions.insert(id.clone());
        self.checks.push(CheckOrder::Set(id, definition));
    }

    /// Tells the runner what a check says, as its owner would; a TTL starts anew.
    pub(super) fn tell_check(&mut self, id: Arc<str>, status: Health, output: Arc<str>) {
        self.checks.push(CheckOrder::Tell(id, status, output));
    }

    /// Forgets a check.
    pub(super) fn remove_definition(&mut self, id: &Arc<str>) {
        if self.agent.remove_definition(id) {
            self.changes.definitions.insert(id.clone());
            self.checks.push(CheckOrder::Remove(id.clone()));
        }
    }

    /// Keeps from which file a check was read, or that it is from none.
    pub(super) fn set_file_of_check(&mut self, check: &Arc<str>, file: Option<&Arc<str>>) {
        if self.agent.set_file_of_check(check, file) {
            self.changes.files_of_checks.insert(check.clone());
        }
    }
}

/// A write on its way: it is run, says whether it may stay, and is answered.
type Job = Box<dyn FnOnce(&mut Transaction) -> Verdict + Send>;
/// What a job leaves behind: who is to be told, and whether the change stays.
struct Verdict {
    keep: bool,
    answer: Box<dyn FnOnce(Result<(), Arc<StoreError>>) + Send>,
}

struct Order {
    job: Job,
    /// Somebody waits until it is on disk.
    acknowledged: bool,
}

/// What the thread is sent.
#[derive(Debug)]
enum Word {
    Write(Order),
    /// Have the database take everything, then say so.
    Settle(oneshot::Sender<()>),
}

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum WriteError<E> {
    /// The change itself was refused.
    #[error("{0}")]
    Refused(E),
    /// The disk did not take it; nothing changed.
    #[error("{0}")]
    Store(Arc<StoreError>),
    /// The registry is closed.
    #[error("the registry is closing")]
    Closed,
}

/// Where readers find what the writer published.
#[derive(Debug, Clone)]
pub(super) struct Published {
    pub(super) latest: Arc<ArcSwap<Catalog>>,
    pub(super) changes: watch::Sender<Arc<Catalog>>,
    /// What the agent knows beside the catalog.
    pub(super) agent: Arc<ArcSwap<State>>,
    pub(super) counters: Arc<Counters>,
}

impl Published {
    pub(super) fn new(catalog: Arc<Catalog>, agent: State) -> Self {
        Self {
            latest: Arc::new(ArcSwap::new(catalog.clone())),
            changes: watch::Sender::new(catalog),
            agent: Arc::new(ArcSwap::from_pointee(agent)),
            counters: Arc::default(),
        }
    }

    fn publish(&self, catalog: Arc<Catalog>) {
        self.latest.store(catalog.clone());
        self.changes.send_replace(catalog);
    }
}

/// The way to the writer thread.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    orders: mpsc::Sender<Word>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Order").field("acknowledged", &self.acknowledged).finish_non_exhaustive()
    }
}

impl Writer {
    /// Starts the thread; `unsynced` is published and not yet on disk. It ends when the last `Writer` is dropped, with
    /// everything on disk.
    pub(super) fn start(
        store: Option<Store>,
        published: Published,
        runner: Arc<Runner>,
        node: NodeKey,
        unsynced: Vec<Touched>,
    ) -> std::io::Result<Self> {
        let (orders, waiting) = mpsc::channel(limits::REGISTRY_WRITES_WAITING_MAX);
        let runtime = Handle::current();
        let unsynced = if store.is_some() { unsynced } else { Vec::new() };
        let unsynced = Changes { touched: unsynced.into_iter().collect(), ..Changes::default() };
        let (catalog, agent) = (published.latest.load_full(), State::clone(&published.agent.load()));
        let unsettled = Changes::default();
        let thread = Thread { store, catalog, agent, published, runner, node, unsynced, unsettled, failing: false };
        thread::Builder::new().name("registry".into()).spawn(move || thread.run(waiting, &runtime))?;
        Ok(Self { orders })
    }

    /// Runs `change` on the newest catalog and returns when what it did is on disk and published.
    pub(super) async fn write<T, E>(
        &self,
        change: impl FnOnce(&mut Transaction) -> Result<T, E> + Send + 'static,
    ) -> Result<T, WriteError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        self.order(true, change).await
    }

    /// The same, but returns as soon as it is published: for what the registry finds out by itself.
    pub(super) async fn note<T, E>(
        &self,
        change: impl FnOnce(&mut Transaction) -> Result<T, E> + Send + 'static,
    ) -> Result<T, WriteError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        self.order(false, change).await
    }

    /// Returns when everything before it is in the database, or cannot be.
    pub(super) async fn settle(&self) {
        let (answer, answered) = oneshot::channel();
        if self.orders.send(Word::Settle(answer)).await.is_ok() {
            let _ = answered.await;
        }
    }

    async fn order<T, E>(
        &self,
        acknowledged: bool,
        change: impl FnOnce(&mut Transaction) -> Result<T, E> + Send + 'static,
    ) -> Result<T, WriteError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |transaction| {
            let result = change(transaction);
            let keep = result.is_ok();
            let tell = move |stored: Result<(), Arc<StoreError>>| {
                let result = match (result, stored) {
                    (Err(refused), _) => Err(WriteError::Refused(refused)),
                    (Ok(_), Err(error)) => Err(WriteError::Store(error)),
                    (Ok(value), Ok(())) => Ok(value),
                };
                // Who no longer waits need not be told.
                let _ = answer.send(result);
            };
            Verdict { keep, answer: Box::new(tell) }
        });
        self.orders.send(Word::Write(Order { job, acknowledged })).await.map_err(|_| WriteError::Closed)?;
        answered.await.unwrap_or(Err(WriteError::Closed))
    }
}

/// The writer thread's own.
struct Thread {
    store: Option<Store>,
    catalog: Arc<Catalog>,
    agent: State,
    published: Published,
    runner: Arc<Runner>,
    /// Our own node.
    node: NodeKey,
    /// Published, but not yet on disk.
    unsynced: Changes,
    /// Not yet in the database, though most of it is in the journal.
    unsettled: Changes,
    /// The last commit failed, which was told.
    failing: bool,
}

impl Thread {
    fn run(mut self, mut waiting: mpsc::Receiver<Word>, runtime: &Handle) {
        let mut settle_at = self.is_unsettled().then(|| Instant::now() + SYNC_WITHIN);
        loop {
            let next = match settle_at {
                Some(at) => runtime.block_on(async { timeout_at(at, waiting.recv()).await }),
                None => Ok(runtime.block_on(waiting.recv())),
            };
            match next {
                Ok(Some(first)) => {
                    let (mut orders, mut settlers) = (Vec::new(), Vec::new());
                    let mut next = Some(first);
                    while let Some(word) = next {
                        match word {
                            Word::Write(order) => orders.push(order),
                            Word::Settle(answer) => settlers.push(answer),
                        }
                        let room = orders.len() < limits::REGISTRY_WRITES_PER_COMMIT_MAX;
                        next = if room { waiting.try_recv().ok() } else { None };
                    }
                    // A full disk must not cost what the checks found out. Writes that wait at one time are from
                    // callers that do not know of one another, so that their order is free.
                    let (writes, notes): (Vec<_>, Vec<_>) = orders.into_iter().partition(|order| order.acknowledged);
                    self.carry_out(notes, false);
                    self.carry_out(writes, true);
                    if !settlers.is_empty() {
                        self.settle_all();
                        for answer in settlers {
                            // Who no longer waits need not be told.
                            let _ = answer.send(());
                        }
                    }
                }
                Ok(None) => return self.settle_all(),
                // It is time to settle.
                Err(_) => {}
            }
            // Reports that never pause must not put it off.
            let mut went_well = false;
            if settle_at.is_some_and(|at| at <= Instant::now()) {
                (went_well, settle_at) = (self.settle(), None);
            }
            settle_at = match settle_at {
                _ if !self.is_unsettled() => None,
                Some(at) => Some(at),
                // More than one transaction takes goes on at once, behind those who wait.
                None if went_well && !self.unsettled.is_empty() => Some(Instant::now()),
                None => Some(Instant::now() + SYNC_WITHIN),
            };
        }
    }

    /// One batch: everything applied, committed once if it is `acknowledged`, published once, answered.
    fn carry_out(&mut self, orders: Vec<Order>, acknowledged: bool) {
        if orders.is_empty() {
            return;
        }
        let mut batch = Batch { catalog: Catalog::clone(&self.catalog), agent: self.agent.clone(), ..Batch::default() };
        if acknowledged {
            self.published.counters.writes.raise_alone(orders.len() as u64);
        }
        let mut answers = Vec::new();
        for Order { job, .. } in orders {
            let mut transaction = Transaction::begin(&batch.catalog, &batch.agent);
            // A defect in one write must not take the writer from all others; its caller is told that it is closed.
            let Ok(verdict) = catch_unwind(AssertUnwindSafe(|| job(&mut transaction))) else {
                tracing::error!("a write to the registry failed by a defect of this program and was left out");
                continue;
            };
            answers.push(verdict.answer);
            if verdict.keep {
                batch.take(transaction);
            }
        }
        if !batch.changes.is_empty() {
            let mut transaction = Transaction::begin(&batch.catalog, &batch.agent);
            match agent::follow_aliases(&mut transaction, &self.node) {
                Ok(()) => batch.take(transaction),
                Err(error) => tracing::warn!("alias checks stay as they were: {error}"),
            }
        }
        let Batch { catalog, agent, changes, checks } = batch;
        let is_changed = !changes.is_empty();
        let stored = if acknowledged { self.commit(&catalog, &agent, changes) } else { self.postpone(changes) };
        if stored.is_ok() {
            self.agent = agent;
            self.published.agent.store(Arc::new(self.agent.clone()));
            if is_changed {
                self.catalog = Arc::new(catalog);
                self.published.publish(self.catalog.clone());
            }
            for order in checks {
                match order {
                    CheckOrder::Set(id, definition) => {
                        let status = self.status(&id);
                        self.runner.set(id, CheckDefinition::clone(&definition), status);
                    }
                    CheckOrder::Tell(id, status, output) => self.runner.heartbeat(&id, status, output.to_string()),
                    CheckOrder::Remove(id) => self.runner.remove(&id),
                }
            }
        }
        for answer in answers {
            answer(stored.clone());
        }
    }

    /// A check's last known health, from which its runner goes on.
    fn status(&self, check: &Arc<str>) -> Health {
        let key = CheckKey { node: self.node.clone(), id: check.clone() };
        self.catalog.checks().get(&key).map_or(Health::Critical, |check| check.status)
    }

    /// Makes these changes durable, and with them what was published before.
    fn commit(&mut self, catalog: &Catalog, agent: &State, changes: Changes) -> Result<(), Arc<StoreError>> {
        let Some(store) = &mut self.store else { return Ok(()) };
        // Of a million rows from files nobody waits for one: they are in the files.
        if self.unsynced.len() <= limits::REGISTRY_ROWS_PER_COMMIT_MAX {
            self.unsynced.append(changes.clone());
        } else {
            self.unsettled.append(std::mem::replace(&mut self.unsynced, changes.clone()));
            self.unsynced.add_owners(catalog);
        }
        if self.unsynced.is_empty() {
            return Ok(());
        }
        // Should it fail, the rows that are refused are written again as they were: a commit that failed late may have
        // reached the disk.
        self.unsettled.append(changes);
        let begun = std::time::Instant::now();
        let noted = match store.has_room() {
            true => store.note(catalog, agent, &self.unsynced),
            false => store.commit(catalog, agent, &self.unsynced),
        };
        if noted.is_ok() {
            self.published.counters.sync.note(begun.elapsed(), 1);
            self.unsettled.append(std::mem::take(&mut self.unsynced));
        }
        self.told(noted)
    }

    fn postpone(&mut self, changes: Changes) -> Result<(), Arc<StoreError>> {
        if self.store.is_some() {
            self.unsynced.append(changes);
        }
        Ok(())
    }

    fn is_unsettled(&self) -> bool {
        !self.unsynced.is_empty() || !self.unsettled.is_empty()
    }

    fn settle_all(&mut self) {
        if self.unsynced.len() + self.unsettled.len() > 10 * limits::REGISTRY_ROWS_PER_COMMIT_MAX {
            tracing::info!("writing what is not yet in the registry's database");
        }
        while self.is_unsettled() && self.settle() {}
    }

    /// Has the database take some of what it does not have yet; says whether it did.
    fn settle(&mut self) -> bool {
        let Some(store) = &mut self.store else { return false };
        self.unsettled.append(std::mem::take(&mut self.unsynced));
        let some = self.unsettled.split_off(limits::REGISTRY_ROWS_PER_COMMIT_MAX);
        let settled = store.commit(&self.catalog, &self.agent, &some);
        let settled = match settled {
            Ok(()) if self.unsettled.is_empty() => store.settled(),
            Ok(()) => Ok(()),
            Err(error) => {
                self.unsettled.append(some);
                Err(error)
            }
        };
        // After an error the next attempt is half a second away.
        self.told(settled).is_ok()
    }

    /// Tells when writing begins to fail, and when it works again.
    fn told(&mut self, result: Result<(), StoreError>) -> Result<(), Arc<StoreError>> {
        match result {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the registry can be written again");
                }
                Ok(())
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!("{error}");
                }
                Err(Arc::new(error))
            }
        }
    }
}

/// What the writes of one batch come to.
#[derive(Default)]
struct Batch {
    catalog: Catalog,
    agent: State,
    changes: Changes,
    checks: Vec<CheckOrder>,
}

impl Batch {
    fn take(&mut self, mut transaction: Transaction) {
        let (catalog, touched) = transaction.edit.finish();
        self.catalog = catalog;
        self.agent = transaction.agent;
        // A set that is made at once is made several times as fast.
        transaction.changes.touched.append(&mut touched.into_iter().collect());
        self.changes.append(transaction.changes);
        self.checks.append(&mut transaction.checks);
    }
}
