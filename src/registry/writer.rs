//! The one writer: a thread that takes all writes that wait, applies them in order, commits them to disk once, publishes
//! one snapshot, and only then answers.
//!
//! A write that is refused leaves no trace. A commit that fails leaves the last good catalog in place, and everybody who
//! waited for it is told. Checks' results wait for nobody: they are published at once, and are on disk within
//! [`SYNC_WITHIN`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::checks::Runner;
use super::definition::CheckDefinition;
use super::store::{Changes, Store, StoreError};
use crate::catalog::{Catalog, CheckKey, Edit, Health, NodeKey, Touched};
use crate::limits;

/// How long a published change that nobody waited for may be missing on disk.
const SYNC_WITHIN: Duration = Duration::from_millis(500);

/// What one write may change: the catalog, and what our own agent keeps beside it.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) edit: Edit,
    changes: Changes,
    checks: Vec<CheckOrder>,
}

/// What the checks' runner is told once a write is done.
#[derive(Debug)]
enum CheckOrder {
    Set(Arc<str>, Box<CheckDefinition>),
    Remove(Arc<str>),
}

impl Transaction {
    fn begin(catalog: &Catalog) -> Self {
        Self { edit: catalog.edit(), changes: Changes::default(), checks: Vec::new() }
    }

    /// Keeps how our agent runs a check, and lets it run from now on.
    pub(super) fn set_definition(&mut self, id: Arc<str>, definition: CheckDefinition) {
        self.changes.definitions.push((id.clone(), Some(definition.clone())));
        self.checks.push(CheckOrder::Set(id, Box::new(definition)));
    }

    /// Forgets a check.
    pub(super) fn remove_definition(&mut self, id: Arc<str>) {
        self.changes.definitions.push((id.clone(), None));
        self.checks.push(CheckOrder::Remove(id));
    }

    /// Keeps from which file a service was read, or that it is from none.
    pub(super) fn set_file(&mut self, service: Arc<str>, file: Option<std::path::PathBuf>) {
        self.changes.files.push((service, file));
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
}

impl Published {
    pub(super) fn new(catalog: Arc<Catalog>) -> Self {
        Self { latest: Arc::new(ArcSwap::new(catalog.clone())), changes: watch::Sender::new(catalog) }
    }

    fn publish(&self, catalog: Arc<Catalog>) {
        self.latest.store(catalog.clone());
        self.changes.send_replace(catalog);
    }
}

/// The way to the writer thread.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    orders: mpsc::Sender<Order>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Order").field("acknowledged", &self.acknowledged).finish_non_exhaustive()
    }
}

impl Writer {
    /// Starts the thread; `unsynced` is published and not yet on disk. It ends when the last `Writer` is dropped, with everything on disk.
    pub(super) fn start(
        store: Option<Store>,
        published: Published,
        runner: Arc<Runner>,
        node: NodeKey,
        unsynced: Vec<Touched>,
    ) -> std::io::Result<Self> {
        let (orders, waiting) = mpsc::channel(limits::REGISTRY_WRITES_WAITING_MAX);
        let runtime = Handle::current();
        let unsynced = Changes { touched: if store.is_some() { unsynced } else { Vec::new() }, ..Changes::default() };
        let thread = Thread { store, catalog: published.latest.load_full(), published, runner, node, unsynced };
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

    /// Returns when everything before it is on disk.
    pub(super) async fn sync(&self) {
        // An acknowledged write commits what is unsynced with it, even when it changes nothing itself.
        let _ = self.write(|_| Ok::<(), std::convert::Infallible>(())).await;
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
        self.orders.send(Order { job, acknowledged }).await.map_err(|_| WriteError::Closed)?;
        answered.await.unwrap_or(Err(WriteError::Closed))
    }
}

/// The writer thread's own.
struct Thread {
    store: Option<Store>,
    catalog: Arc<Catalog>,
    published: Published,
    runner: Arc<Runner>,
    /// Our own node.
    node: NodeKey,
    /// Published, but not yet on disk.
    unsynced: Changes,
}

impl Thread {
    fn run(mut self, mut waiting: mpsc::Receiver<Order>, runtime: &Handle) {
        let mut sync_at = (!self.unsynced.is_empty()).then(|| Instant::now() + SYNC_WITHIN);
        loop {
            let next = match sync_at {
                Some(at) => runtime.block_on(async { timeout_at(at, waiting.recv()).await }),
                None => Ok(runtime.block_on(waiting.recv())),
            };
            match next {
                Ok(Some(first)) => {
                    let mut orders = vec![first];
                    while orders.len() < limits::REGISTRY_WRITES_PER_COMMIT_MAX
                        && let Ok(order) = waiting.try_recv()
                    {
                        orders.push(order);
                    }
                    self.carry_out(orders);
                }
                Ok(None) => {
                    self.sync();
                    return;
                }
                Err(_) => self.sync(),
            }
            sync_at = match (self.unsynced.is_empty(), sync_at) {
                (true, _) => None,
                (false, Some(at)) if at > Instant::now() => Some(at),
                (false, _) => Some(Instant::now() + SYNC_WITHIN),
            };
        }
    }

    /// One batch: everything applied, committed once, published once, answered.
    fn carry_out(&mut self, orders: Vec<Order>) {
        let mut catalog = Catalog::clone(&self.catalog);
        let mut changes = Changes::default();
        let (mut checks, mut answers) = (Vec::new(), Vec::new());
        let acknowledged = orders.iter().any(|order| order.acknowledged);
        for Order { job, .. } in orders {
            let mut transaction = Transaction::begin(&catalog);
            // A defect in one write must not take the writer from all others; its caller is told that it is closed.
            let Ok(verdict) = catch_unwind(AssertUnwindSafe(|| job(&mut transaction))) else {
                tracing::error!("a write to the registry failed by a defect of this program and was left out");
                continue;
            };
            answers.push(verdict.answer);
            if verdict.keep {
                let (next, touched) = transaction.edit.finish();
                catalog = next;
                changes.append(Changes { touched, ..transaction.changes });
                checks.append(&mut transaction.checks);
            }
        }
        let stored = if acknowledged { self.commit(&catalog, changes) } else { self.postpone(changes) };
        if stored.is_ok() {
            if catalog.index() != self.catalog.index() {
                self.catalog = Arc::new(catalog);
                self.published.publish(self.catalog.clone());
            }
            for order in checks {
                match order {
                    CheckOrder::Set(id, definition) => {
                        let status = self.status(&id);
                        self.runner.set(id, *definition, status);
                    }
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

    /// Commits these changes, and what was not yet on disk, durably.
    fn commit(&mut self, catalog: &Catalog, changes: Changes) -> Result<(), Arc<StoreError>> {
        let Some(store) = &self.store else { return Ok(()) };
        if self.unsynced.is_empty() && changes.is_empty() {
            return Ok(());
        }
        match store.commit(catalog, &[&self.unsynced, &changes]) {
            Ok(()) => {
                self.unsynced = Changes::default();
                Ok(())
            }
            Err(error) => {
                // What was published before stays to be written.
                tracing::error!("{error}");
                Err(Arc::new(error))
            }
        }
    }

    fn postpone(&mut self, changes: Changes) -> Result<(), Arc<StoreError>> {
        if self.store.is_some() {
            self.unsynced.append(changes);
        }
        Ok(())
    }

    fn sync(&mut self) {
        let catalog = self.catalog.clone();
        // An error was told; the next attempt is half a second away.
        let _ = self.commit(&catalog, Changes::default());
    }
}
