//! Who registers with us? Services and checks that come over HTTP or from files, the checks' runs, and the durable store
//! behind all of it. To the catalog the registry is a source like any other: it tells, by [`Change`](crate::catalog::Change)s.
//!
//! Start with [`Registry`]. Everything that writes goes through [`Registry::write`], which runs on the one writer thread;
//! `agent` has what our own agent does with services and checks, `checks` runs them, `store` keeps everything.

mod agent;
pub mod checks;
pub mod definition;
mod files;
mod journal;
mod metrics;
mod store;
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::catalog::{
    Address, Catalog, Change, Check, CheckKey, Edit, Health, Index, Instance, Node, NodeKey, Origin, SourceId, Weights,
};
use crate::limits;
use crate::problem::Problem;
use checks::{Report, Runner};
use definition::{CheckDefinition, Form, Invalid};
#[doc(hidden)]
pub use journal::journal_rows;
pub use store::{Fault as StoreFault, StoreError};
use store::{Loaded, Store};
pub use writer::WriteError;
use writer::{Published, Writer};

/// The `[registry]` section.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Files, or folders of `*.json` files, with services in Consul's format; watched.
    pub services: Paths,
    /// Consul's agent configuration, files or folders: the services and checks that stand there count as those of services
    /// files do.
    #[serde(skip)]
    pub agent_files: Vec<PathBuf>,
    /// Where registrations are kept; nowhere when unset.
    pub data: Option<PathBuf>,
    /// Run the commands of script checks, wherever they were registered.
    pub enable_script_checks: bool,
    /// Run the commands of script checks that come from files.
    pub enable_local_script_checks: bool,
    /// Consul's own bounds: an interval of at least a second, deregistration after at least a minute.
    #[serde(skip)]
    pub compat_consul: bool,
}

impl Config {
    /// All that is read for services, in order.
    fn files(&self) -> impl Iterator<Item = (Form, &Path)> {
        let agent = self.agent_files.iter().map(|path| (Form::Agent, path.as_path()));
        agent.chain(self.services.0.iter().map(|path| (Form::Services, path.as_path())))
    }
}

/// One path, or several.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "OneOrMany")]
pub struct Paths(pub Vec<PathBuf>);

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a path, or a list of paths")]
enum OneOrMany {
    One(PathBuf),
    Many(Vec<PathBuf>),
}

impl From<OneOrMany> for Paths {
    fn from(paths: OneOrMany) -> Self {
        match paths {
            OneOrMany::One(path) => Self(vec![path]),
            OneOrMany::Many(paths) => Self(paths),
        }
    }
}

/// Who we are among the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub node_name: Arc<str>,
    /// A UUID.
    pub node_id: Arc<str>,
    pub datacenter: Arc<str>,
    /// The address that other hosts reach us at.
    pub address: Arc<str>,
    pub node_meta: BTreeMap<String, String>,
}

/// Why an operation was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Unknown service ID {id:?}. Ensure that the service ID is passed, not the service name.")]
    UnknownService { id: String },
    #[error("Unknown check ID {id:?}. Ensure that the check ID is passed, not the check name.")]
    UnknownCheck { id: String },
    #[error("CheckID {id:?} does not have associated TTL")]
    NotTtl { id: String },
    #[error("ServiceID {id:?} does not exist")]
    NoSuchService { id: String },
    #[error(
        "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or 'enable_local_script_checks' to true"
    )]
    ScriptChecksOff,
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error(transparent)]
    Open(#[from] StoreError),
    #[error("{0}")]
    Store(Arc<StoreError>),
    #[error("cannot start the registry's writer: {0}")]
    Start(std::io::Error),
    #[error("{0}")]
    Catalog(#[from] crate::catalog::Refused),
    #[error("the registry is closing")]
    Closed,
}

impl From<WriteError<Error>> for Error {
    fn from(error: WriteError<Error>) -> Self {
        match error {
            WriteError::Refused(error) => error,
            WriteError::Store(error) => Error::Store(error),
            WriteError::Closed => Error::Closed,
        }
    }
}

/// The embedded registry. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    identity: Identity,
    published: Published,
    writer: Writer,
    runner: Arc<Runner>,
    /// What the checks report, until [`Registry::run`] takes it.
    reports: Mutex<Option<mpsc::Receiver<Report>>>,
    outputs: Mutex<HashMap<Arc<str>, agent::Output>>,
    /// The services files as they were when they were last read.
    files_read: Mutex<Vec<files::Stamp>>,
}

impl Registry {
    /// Opens the store and publishes what is in it, our own node included, before it returns. Needs a tokio runtime.
    pub fn open(config: Config, identity: Identity) -> Result<Self, Error> {
        let (store, loaded) = match &config.data {
            Some(directory) => Store::open(directory).map(|(store, loaded)| (Some(store), loaded))?,
            None => (None, Loaded::default()),
        };
        let Loaded { catalog, agent } = loaded;
        let mut edit = catalog.edit();
        put_ourselves(&mut edit, &identity)?;
        let (catalog, touched) = edit.finish();
        let (results, reports) = mpsc::channel(limits::CHECK_REPORTS_WAITING_MAX);
        let settings = checks::Settings {
            allow_scripts: config.enable_script_checks || config.enable_local_script_checks,
            compat_consul: config.compat_consul,
        };
        let runner = Arc::new(Runner::new(settings, results));
        let node = NodeKey::local(&identity.node_name);
        for (id, definition) in agent.definitions() {
            let key = CheckKey { node: node.clone(), id: id.clone() };
            let status = catalog.checks().get(&key).map_or(Health::Critical, |check| check.status);
            runner.set(id.clone(), CheckDefinition::clone(definition), status);
        }
        let published = Published::new(Arc::new(catalog), agent);
        let writer = Writer::start(store, published.clone(), runner.clone(), node, touched).map_err(Error::Start)?;
        let reports = Mutex::new(Some(reports));
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                identity,
                published,
                writer,
                runner,
                reports,
                outputs: Mutex::default(),
                files_read: Mutex::default(),
            }),
        })
    }

    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// Whether Consul's side is taken wherever the two differ.
    pub fn compat_consul(&self) -> bool {
        self.inner.config.compat_consul
    }

    /// The newest catalog.
    pub fn snapshot(&self) -> Arc<Catalog> {
        self.inner.published.latest.load_full()
    }

    /// Where the newest catalog always stands, for readers that look often.
    pub fn latest(&self) -> Arc<ArcSwap<Catalog>> {
        self.inner.published.latest.clone()
    }

    /// The newest catalog, and word of each newer one.
    pub fn published(&self) -> watch::Receiver<Arc<Catalog>> {
        self.inner.published.changes.subscribe()
    }

    /// Runs `change` on the newest catalog, in order with all other writes; what it did is on disk and published when
    /// this returns. A change that is refused leaves no trace.
    pub async fn write<T, E>(&self, change: impl FnOnce(&mut Edit) -> Result<T, E> + Send + 'static) -> Result<T, WriteError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        self.inner.writer.write(move |transaction| change(&mut transaction.edit)).await
    }

    /// Runs the checks, takes in what they report, and watches the services files, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let reports = self.inner.reports.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(reports) = reports else { return };
        tokio::select! {
            () = self.inner.runner.run() => {}
            () = self.take_reports(reports) => {}
            () = self.watch_files() => {}
            () = stop.cancelled() => {}
        }
    }

    /// Reads the services files again. What is wrong in them is returned; the rest is registered, and what a broken part
    /// of a file said before stays.
    pub async fn reload(&self) -> Vec<Problem> {
        self.read_files().await
    }

    /// Returns when everything is on disk.
    pub async fn close(&self) {
        self.inner.writer.settle().await;
    }

    /// The newest output of each check that the catalog does not have yet.
    fn outputs(&self) -> MutexGuard<'_, HashMap<Arc<str>, agent::Output>> {
        self.inner.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts our node, its `serfHealth` check, and the service by which Consul's clients find servers into the catalog. A node
/// that had another name under our id hands over what its agent held.
fn put_ourselves(edit: &mut Edit, identity: &Identity) -> Result<(), crate::catalog::Refused> {
    let key = NodeKey::local(&identity.node_name);
    let former: Vec<NodeKey> = {
        let nodes = edit.catalog().nodes().iter();
        nodes
            .filter(|(other, node)| **other != key && !identity.node_id.is_empty() && node.id == identity.node_id)
            .map(|(key, _)| key.clone())
            .collect()
    };
    let tagged = ["lan", "lan_ipv4", "wan", "wan_ipv4"].map(|tag| (tag.to_owned(), identity.address.to_string()));
    let (tagged, is_v6) = (tagged, identity.address.contains(':'));
    let tagged = tagged.into_iter().map(|(tag, address)| (if is_v6 { tag.replace("ipv4", "ipv6") } else { tag }, address));
    edit.apply(Change::PutNode(Node {
        source: SourceId::LOCAL,
        name: identity.node_name.clone(),
        id: identity.node_id.clone(),
        datacenter: identity.datacenter.clone(),
        address: identity.address.clone(),
        tagged_addresses: Some(tagged.collect()),
        meta: Some(identity.node_meta.clone()),
        create_index: Index(0),
        modify_index: Index(0),
    }))?;
    for former in former {
        move_agent(edit, &former, identity)?;
        edit.apply(Change::RemoveNode(former))?;
    }
    edit.apply(Change::PutCheck(Check {
        source: SourceId::LOCAL,
        node: identity.node_name.clone(),
        id: "serfHealth".into(),
        name: "Serf Health Status".into(),
        status: Health::Passing,
        notes: "".into(),
        output: "Agent alive and reachable".into(),
        service_id: "".into(),
        service_name: "".into(),
        service_tags: Arc::default(),
        kind: "".into(),
        interval: "".into(),
        timeout: "".into(),
        exposed_port: 0,
        definition: None,
        agent: false,
        create_index: Index(0),
        modify_index: Index(0),
    }))?;
    edit.apply(Change::PutInstance(Instance {
        source: SourceId::LOCAL,
        node: identity.node_name.clone(),
        id: "consul".into(),
        service: "consul".into(),
        tags: Arc::default(),
        address: Address::OfNode,
        port: 8300,
        weights: Weights::default(),
        enable_tag_override: false,
        origin: Origin::Catalog,
        extra: None,
        create_index: Index(0),
        modify_index: Index(0),
    }))
}

/// Gives what the agent held on a node to the node as it is called now.
fn move_agent(edit: &mut Edit, former: &NodeKey, identity: &Identity) -> Result<(), crate::catalog::Refused> {
    let instances: Vec<Instance> = edit
        .catalog()
        .instances_on(former)
        .filter(|entry| entry.origin.is_agent())
        .map(|entry| (*entry.instance).clone())
        .collect();
    let checks: Vec<Check> =
        edit.catalog().checks_on(former).filter(|check| check.agent).map(|check| (**check).clone()).collect();
    for instance in instances {
        edit.apply(Change::PutInstance(Instance { node: identity.node_name.clone(), ..instance }))?;
    }
    for check in checks {
        edit.apply(Change::PutCheck(Check { node: identity.node_name.clone(), ..check }))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;

    fn identity() -> Identity {
        Identity {
            node_name: "n".into(),
            node_id: "".into(),
            datacenter: "dc1".into(),
            address: "127.0.0.1".into(),
            node_meta: BTreeMap::new(),
        }
    }

    fn open(data: Option<&Path>, services: Vec<PathBuf>) -> Result<Registry, Error> {
        Registry::open(Config { data: data.map(Into::into), services: Paths(services), ..Config::default() }, identity())
    }

    fn write(file: PathBuf, json: Json) {
        fs::write(file, json.to_string()).unwrap();
    }

    fn has_check(registry: &Registry, id: &str) -> bool {
        registry.snapshot().checks().keys().any(|key| &*key.id == id)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_folder_that_cannot_be_read_keeps_its_services() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("services");
        fs::create_dir(&folder).unwrap();
        write(folder.join("a.json"), json!({"service": {"name": "web", "port": 80}}));
        let registry = open(None, vec![folder.clone()]).unwrap();
        assert!(registry.reload().await.is_empty());
        fs::rename(&folder, dir.path().join("away")).unwrap();
        assert_eq!(registry.reload().await.len(), 1);
        assert!(registry.snapshot().service("web").is_some(), "the problem says that it is kept");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_check_may_stand_in_a_file_before_its_service() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path().join("a.json"), json!({"check": {"name": "early", "service_id": "web", "ttl": "1m"}}));
        write(dir.path().join("b.json"), json!({"service": {"name": "web", "port": 80}}));
        let registry = open(None, vec![dir.path().into()]).unwrap();
        assert!(registry.reload().await.is_empty());
        assert!(has_check(&registry, "early"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_check_goes_with_its_entry_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path().join("a.json"), json!({"check": {"name": "disk", "ttl": "1m"}}));
        let registry = open(None, vec![dir.path().into()]).unwrap();
        registry.reload().await;
        assert!(has_check(&registry, "disk"));
        write(dir.path().join("a.json"), json!({"checks": []}));
        assert_eq!(registry.reload().await, []);
        assert!(!has_check(&registry, "disk"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_says_the_same_of_a_service_wakes_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let web = json!({"service": {"name": "web", "port": 80}});
        write(dir.path().join("a.json"), web.clone());
        let registry = open(None, vec![dir.path().into()]).unwrap();
        registry.reload().await;
        let origin = || registry.snapshot().service("web").map(|service| service.instances[0].origin.clone());
        let index = registry.snapshot().index();
        assert!(matches!(origin(), Some(Origin::File(file)) if file.ends_with("a.json")));
        let definition = definition::service(&json!({"name": "web", "port": 80})).unwrap();
        registry.register_service(definition, false).await.unwrap();
        assert_eq!((registry.snapshot().index(), origin()), (index, Some(Origin::Agent)));
        for _ in 0..2 {
            write(dir.path().join("b.json"), web.clone());
            assert_eq!(registry.reload().await, []);
            assert_eq!(registry.snapshot().index(), index, "two files that say the same");
        }
        fs::remove_file(dir.path().join("a.json")).unwrap();
        registry.reload().await;
        assert_eq!(registry.snapshot().index(), index, "one that was renamed");
        fs::remove_file(dir.path().join("b.json")).unwrap();
        registry.reload().await;
        assert!(registry.snapshot().service("web").is_none() && registry.snapshot().index() > index);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn services_are_found_whatever_their_letters() {
        let registry = open(None, Vec::new()).unwrap();
        registry
            .register_service(definition::service(&json!({"name": "\u{39f}\u{394}\u{39f}\u{3a3}"})).unwrap(), false)
            .await
            .unwrap();
        assert!(
            registry.snapshot().service("\u{39f}\u{394}\u{39f}\u{3a3}").is_some(),
            "a letter becomes the same wherever it stands"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_two_entries_with_one_id_the_later_counts() {
        let dir = tempfile::tempdir().unwrap();
        let proxy = |id| {
            json!({"id": id, "name": "web-proxy", "kind": "connect-proxy", "proxy": {"DestinationServiceName": "web"},
                "checks": [{"name": format!("{id}-proxy"), "ttl": "1m"}]})
        };
        let plain = |id| json!({"id": id, "name": "web", "checks": [{"name": format!("{id}-plain"), "ttl": "1m"}]});
        write(dir.path().join("a.json"), json!({"services": [plain("a"), proxy("a"), proxy("b"), plain("b"), plain("b")]}));
        let registry = open(None, vec![dir.path().into()]).unwrap();
        assert_eq!(registry.reload().await, []);
        let snapshot = registry.snapshot();
        let ids = |service: &str| {
            let service = snapshot.service(service).unwrap();
            service.instances.iter().map(|entry| (entry.id.to_string(), entry.checks.len())).collect::<Vec<_>>()
        };
        assert_eq!(ids("web-proxy"), [("a".to_owned(), 1)]);
        assert_eq!(ids("web"), [("b".to_owned(), 1)]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn services_of_the_agents_configuration_are_its_own_and_go_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let (file, data) = (dir.path().join("agent.json"), dir.path().join("data"));
        let check = json!({"args": ["true"], "interval": "10s"});
        write(file.clone(), json!({"datacenter": "dc1", "services": [{"name": "web", "port": 80, "check": check}]}));
        let config = || Config {
            data: Some(data.clone()),
            agent_files: vec![file.clone()],
            enable_local_script_checks: true,
            ..Config::default()
        };
        let registry = Registry::open(config(), identity()).unwrap();
        assert_eq!(registry.reload().await, [], "scripts of local files are allowed, and settings are passed over");
        assert!(registry.snapshot().service("web").is_some());
        registry.close().await;
        drop(registry);
        write(file.clone(), json!({"datacenter": "dc1"}));
        let registry = loop {
            // The writer of the first lets go of the file when its thread ends.
            match Registry::open(config(), identity()) {
                Ok(registry) => break registry,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        };
        assert!(registry.snapshot().service("web").is_some(), "it was on disk");
        assert_eq!(registry.reload().await, []);
        assert!(registry.snapshot().service("web").is_none());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_check_added_over_http_survives_a_reload() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path().join("a.json"), json!({"service": {"name": "web", "port": 80}}));
        let registry = open(None, vec![dir.path().into()]).unwrap();
        registry.reload().await;
        let check = definition::check(&json!({"name": "mine", "service_id": "web", "ttl": "1m"})).unwrap();
        registry.register_check(check).await.unwrap();
        registry.reload().await;
        assert!(has_check(&registry, "mine"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_cut_to_nothing_is_not_an_empty_registry() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("registry.redb"), b"").unwrap();
        assert!(open(Some(dir.path()), vec![]).is_err());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_acknowledged_is_in_the_file_without_a_close() {
        let dir = tempfile::tempdir().unwrap();
        let registry = open(Some(dir.path()), vec![]).unwrap();
        for i in 0..20 {
            let service =
                json!({"name": "web", "id": format!("s{i}"), "port": 80, "check": {"ttl": "10m", "status": "passing"}});
            registry.register_service(definition::service(&service).unwrap(), false).await.unwrap();
        }
        registry.update_ttl("service:s3", Health::Critical, "bad".into()).await.unwrap();
        registry.service_maintenance("s4", true, "why").await.unwrap();
        // The first still holds the files, as a process that was killed would have left them.
        let copy = tempfile::tempdir().unwrap();
        for file in ["registry.redb", "registry.journal"] {
            fs::copy(dir.path().join(file), copy.path().join(file)).unwrap();
        }
        assert_eq!(seen(&open(Some(copy.path()), vec![]).unwrap()), seen(&registry));
        let second = open(Some(dir.path()), vec![]).unwrap_err().to_string();
        assert!(second.contains("another rollcall"), "{second}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_heartbeat_that_says_nothing_new_moves_no_index() {
        let registry = open(None, vec![]).unwrap();
        let service = json!({"name": "web", "check": {"ttl": "10m", "status": "passing"}});
        registry.register_service(definition::service(&service).unwrap(), false).await.unwrap();
        let index = registry.snapshot().index();
        registry.update_ttl("service:web", Health::Passing, "fine".into()).await.unwrap();
        assert_eq!(registry.snapshot().index(), index);
        registry.update_ttl("service:web", Health::Critical, "ill".into()).await.unwrap();
        assert!(registry.snapshot().index() > index);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_service_goes_with_its_file_and_one_from_http_stays() {
        let dir = tempfile::tempdir().unwrap();
        let services = dir.path().join("services");
        fs::create_dir(&services).unwrap();
        let data = dir.path().join("data");
        write(services.join("a.json"), json!({"service": {"name": "web", "port": 80, "check": {"ttl": "1m"}}}));
        {
            let registry = open(Some(&data), vec![services.clone()]).unwrap();
            assert_eq!(registry.reload().await, []);
            let other = definition::service(&json!({"name": "other", "port": 81})).unwrap();
            registry.register_service(other, false).await.unwrap();
        }
        fs::remove_file(services.join("a.json")).unwrap();
        // The file is forgotten by the restart, but not what was read from it.
        let registry = reopen(&data, vec![services]).await;
        assert!(registry.snapshot().service("web").is_some());
        assert_eq!(registry.reload().await, []);
        assert!(registry.snapshot().service("web").is_none());
        assert!(!has_check(&registry, "service:web"));
        assert!(registry.snapshot().service("other").is_some());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_check_that_is_registered_again_keeps_its_status() {
        let registry = open(None, vec![]).unwrap();
        let service = json!({"name": "web", "check": {"ttl": "10m"}});
        let again = || registry.register_service(definition::service(&service).unwrap(), true);
        again().await.unwrap();
        registry.update_ttl("service:web", Health::Passing, "fine".into()).await.unwrap();
        again().await.unwrap();
        let catalog = registry.snapshot();
        let check = catalog.checks().values().find(|check| &*check.id == "service:web").unwrap();
        assert_eq!((check.status, &*check.output), (Health::Passing, "fine"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_alias_follows_what_is_written_past_the_agent() {
        let registry = open(None, vec![]).unwrap();
        for service in [json!({"name": "web"}), json!({"name": "front", "check": {"alias_service": "web"}})] {
            registry.register_service(definition::service(&service).unwrap(), false).await.unwrap();
        }
        let status = || {
            let catalog = registry.snapshot();
            catalog.checks().values().find(|check| &*check.kind == "alias").unwrap().status
        };
        assert_eq!(status(), Health::Passing);
        let change = |edit: &mut Edit| {
            let (_, serf) = edit.catalog().checks().iter().find(|(key, _)| &*key.id == "serfHealth").unwrap();
            let ill = Check { id: "ill".into(), service_id: "web".into(), status: Health::Critical, ..Check::clone(serf) };
            edit.apply(Change::PutCheck(ill))
        };
        registry.write(change).await.unwrap();
        assert_eq!(status(), Health::Critical);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_refused_write_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let registry = open(Some(dir.path()), vec![]).unwrap();
        let check = json!({"name": "c", "service_id": "absent", "ttl": "1m"});
        let before = seen(&registry);
        for _ in 0..2 {
            let refused = registry.register_check(definition::check(&check).unwrap()).await;
            assert!(matches!(refused, Err(Error::NoSuchService { .. })), "{refused:?}");
        }
        assert_eq!(seen(&registry), before);
        assert!(registry.check_definition("c").is_none());
        registry.register_service(definition::service(&json!({"name": "absent"})).unwrap(), false).await.unwrap();
        registry.register_check(definition::check(&check).unwrap()).await.unwrap();
        assert!(registry.check_definition("c").is_some());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn writes_that_wait_together_each_have_their_index() {
        let dir = tempfile::tempdir().unwrap();
        let registry = open(Some(dir.path()), vec![]).unwrap();
        let before = registry.snapshot().index().0;
        let mut writes = tokio::task::JoinSet::new();
        for i in 0..200 {
            let (registry, service) = (registry.clone(), json!({"name": "web", "id": format!("web-{i}"), "port": 80}));
            writes.spawn(async move {
                registry.register_service(definition::service(&service).unwrap(), false).await.unwrap();
                // What was acknowledged is published.
                assert!(registry.snapshot().instances().iter().any(|entry| *entry.id == *format!("web-{i}")));
            });
        }
        while let Some(write) = writes.join_next().await {
            write.unwrap();
        }
        let indexes: std::collections::BTreeSet<Index> =
            registry.snapshot().service("web").unwrap().instances.iter().map(|instance| instance.create_index).collect();
        assert_eq!(indexes.len(), 200);
        assert_eq!(registry.snapshot().index().0, before + 200);
    }

    /// Opens what a registry that was just dropped held; its thread lets go of the file a moment later.
    async fn reopen(data: &Path, services: Vec<PathBuf>) -> Registry {
        for _ in 0..500 {
            match open(Some(data), services.clone()) {
                Ok(registry) => return registry,
                Err(Error::Open(StoreError::Open { .. })) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the file is held for five seconds");
    }

    /// All that a registry keeps; the index of a node or a service forgets the checks that it lost.
    fn seen(registry: &Registry) -> String {
        let catalog = registry.snapshot();
        let agent = registry.inner.published.agent.load();
        let definitions: Vec<_> = agent.definitions().collect();
        let nodes: Vec<_> = catalog.nodes().values().map(|entry| (&entry.node, &entry.checks)).collect();
        let (instances, checks, tables) = (catalog.instances(), catalog.checks(), catalog.tables());
        format!("{} {nodes:?} {instances:?} {checks:?} {tables:?} {definitions:?}", catalog.index())
    }

    #[derive(Debug, Clone)]
    enum Operation {
        Register { id: u8, name: u8, checks: u8, replace: bool },
        Deregister { id: u8 },
        Check { id: u8, service: Option<u8> },
        DeregisterCheck { id: u8 },
        Heartbeat { id: u8, status: Health },
        Maintenance { id: u8, enable: bool },
        NodeMaintenance { enable: bool },
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let health = prop_oneof![Just(Health::Passing), Just(Health::Warning), Just(Health::Critical)];
        prop_oneof![
            3 => (0u8..4, 0u8..3, 0u8..3, any::<bool>())
                .prop_map(|(id, name, checks, replace)| Operation::Register { id, name, checks, replace }),
            1 => (0u8..4).prop_map(|id| Operation::Deregister { id }),
            2 => (0u8..4, proptest::option::of(0u8..4)).prop_map(|(id, service)| Operation::Check { id, service }),
            1 => (0u8..4).prop_map(|id| Operation::DeregisterCheck { id }),
            3 => (0u8..4, health).prop_map(|(id, status)| Operation::Heartbeat { id, status }),
            1 => (0u8..4, any::<bool>()).prop_map(|(id, enable)| Operation::Maintenance { id, enable }),
            1 => any::<bool>().prop_map(|enable| Operation::NodeMaintenance { enable }),
        ]
    }

    /// Some are refused, which has to leave no trace either.
    async fn carry_out(registry: &Registry, operation: Operation) {
        let _ = match operation {
            Operation::Register { id, name, checks, replace } => {
                let checks: Vec<Json> =
                    (0..checks).map(|check| json!({"checkid": format!("s{id}-{check}"), "ttl": "10m"})).collect();
                let service = json!({"id": format!("s{id}"), "name": format!("n{name}"), "port": 80, "checks": checks});
                registry.register_service(definition::service(&service).unwrap(), replace).await
            }
            Operation::Deregister { id } => registry.deregister_service(&format!("s{id}")).await,
            Operation::Check { id, service } => {
                let service = service.map_or(String::new(), |service| format!("s{service}"));
                let check = json!({"id": format!("c{id}"), "name": "c", "service_id": service, "ttl": "10m"});
                registry.register_check(definition::check(&check).unwrap()).await
            }
            Operation::DeregisterCheck { id } => registry.deregister_check(&format!("c{id}")).await,
            Operation::Heartbeat { id, status } => registry.update_ttl(&format!("c{id}"), status, format!("{status}")).await,
            Operation::Maintenance { id, enable } => registry.service_maintenance(&format!("s{id}"), enable, "why").await,
            Operation::NodeMaintenance { enable } => registry.node_maintenance(enable, "why").await,
        };
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn what_is_opened_again_is_what_was_there(operations in proptest::collection::vec(operation(), 1..30)) {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(async {
                let dir = tempfile::tempdir().unwrap();
                let registry = open(Some(dir.path()), vec![]).unwrap();
                for operation in operations {
                    carry_out(&registry, operation).await;
                }
                let before = seen(&registry);
                // Nobody closes it.
                drop(registry);
                prop_assert_eq!(seen(&reopen(dir.path(), vec![]).await), before);
                Ok(())
            })?;
        }
    }
}
