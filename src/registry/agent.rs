//! What our own agent does: services and checks that are registered here, heartbeats, maintenance.
//!
//! Each operation is one write, so that it is ordered with all others and on disk when it returns. What the agent knows
//! beside the catalog (how its checks are run, which file a service is from) is [`State`]; only the writer thread changes
//! it, in the order of the writes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::checks::Report;
use super::definition::{CheckDefinition, CheckKind, Definitions, ServiceDefinition};
use super::writer::Transaction;
use super::{Error, Identity, Registry};
use crate::catalog::{Change, Check, CheckKey, Health, Index, Instance, InstanceKey, NodeKey, SourceId};

/// An output that changes while its check's status stays reaches the catalog at most this often: most outputs carry a
/// time or a counter, and each would wake every watcher (Consul's `check_update_interval`).
const OUTPUT_INTERVAL: Duration = Duration::from_secs(300);

const SERVICE_MAINTENANCE: &str = "_service_maintenance:";
const NODE_MAINTENANCE: &str = "_node_maintenance";

/// What the agent knows beside the catalog.
#[derive(Debug, Default)]
pub(super) struct State {
    definitions: BTreeMap<Arc<str>, CheckDefinition>,
    /// Those of the definitions that are aliases.
    aliases: BTreeSet<Arc<str>>,
    files: BTreeMap<Arc<str>, PathBuf>,
    /// The newest output of each check, and when one last went into the catalog.
    outputs: HashMap<Arc<str>, Output>,
}

#[derive(Debug)]
struct Output {
    text: Arc<str>,
    told: Instant,
}

impl State {
    pub(super) fn new(definitions: BTreeMap<Arc<str>, CheckDefinition>, files: BTreeMap<Arc<str>, PathBuf>) -> Self {
        let aliases = definitions.iter().filter(|(_, definition)| is_alias(definition)).map(|(id, _)| id.clone()).collect();
        Self { definitions, aliases, files, outputs: HashMap::new() }
    }
}

impl Registry {
    /// Registers a service with its checks, or replaces it. A check that was there before keeps its status; one that is no
    /// longer named stays, unless `replace_existing_checks`.
    pub async fn register_service(&self, definition: ServiceDefinition, replace_existing_checks: bool) -> Result<(), Error> {
        let scripts = self.inner.config.enable_script_checks;
        self.allow(&definition.checks, scripts)?;
        let registry = self.clone();
        let change =
            move |transaction: &mut Transaction| registry.put_service(transaction, definition, replace_existing_checks, None);
        Ok(self.inner.writer.write(change).await?)
    }

    /// Removes a service and its checks.
    pub async fn deregister_service(&self, id: &str) -> Result<(), Error> {
        let (registry, id) = (self.clone(), Arc::from(id));
        Ok(self.inner.writer.write(move |transaction| registry.remove_service(transaction, &id)).await?)
    }

    /// Registers a check of a service, or of the node when it names none.
    pub async fn register_check(&self, definition: CheckDefinition) -> Result<(), Error> {
        let scripts = self.inner.config.enable_script_checks;
        self.allow(std::slice::from_ref(&definition), scripts)?;
        let registry = self.clone();
        Ok(self.inner.writer.write(move |transaction| registry.put_check(transaction, definition, false)).await?)
    }

    /// Removes a check.
    pub async fn deregister_check(&self, id: &str) -> Result<(), Error> {
        let (registry, id) = (self.clone(), Arc::<str>::from(id));
        let change = move |transaction: &mut Transaction| {
            let key = registry.check_key(&id);
            match transaction.edit.catalog().checks().get(&key) {
                Some(check) if check.agent => registry.remove_check(transaction, &id),
                _ => Err(Error::UnknownCheck { id: id.to_string() }),
            }
        };
        Ok(self.inner.writer.write(change).await?)
    }

    /// A heartbeat: sets a TTL check's status and output and starts its time anew. One that changes no status costs no
    /// write.
    pub async fn update_ttl(&self, id: &str, status: Health, output: String) -> Result<(), Error> {
        let output: Arc<str> = output.into();
        let id = {
            let mut agent = self.agent();
            let Some((id, definition)) = agent.definitions.get_key_value(id) else {
                return Err(Error::UnknownCheck { id: id.to_owned() });
            };
            if !matches!(definition.kind, CheckKind::Ttl { .. }) {
                return Err(Error::NotTtl { id: id.to_string() });
            }
            let id = id.clone();
            let told = agent.outputs.get(&id).map(|output| output.told);
            if let Some(told) = told {
                agent.outputs.insert(id.clone(), Output { text: output.clone(), told });
            }
            id
        };
        self.inner.runner.heartbeat(&id, status, output.to_string());
        self.set_status(id, status, output, true).await
    }

    /// Puts a service into maintenance, which takes it out of every answer, or takes it out of that.
    pub async fn service_maintenance(&self, id: &str, enable: bool, reason: &str) -> Result<(), Error> {
        const DEFAULT: &str =
            "Maintenance mode is enabled for this service, but no reason was provided. This is a default message.";
        let check = Arc::<str>::from(format!("{SERVICE_MAINTENANCE}{id}"));
        self.maintenance(check, Some(id.into()), "Service Maintenance Mode", enable, or_default(reason, DEFAULT)).await
    }

    /// The same for all services of our node.
    pub async fn node_maintenance(&self, enable: bool, reason: &str) -> Result<(), Error> {
        const DEFAULT: &str =
            "Maintenance mode is enabled for this node, but no reason was provided. This is a default message.";
        let reason = or_default(reason, DEFAULT);
        self.maintenance(NODE_MAINTENANCE.into(), None, "Node Maintenance Mode", enable, reason).await
    }

    /// A check's newest output, where it is newer than the catalog's.
    pub fn check_output(&self, key: &CheckKey) -> Option<Arc<str>> {
        if key.node != self.node() {
            return None;
        }
        self.agent().outputs.get(&key.id).map(|output| output.text.clone())
    }

    /// How our agent runs a check.
    pub fn check_definition(&self, id: &str) -> Option<CheckDefinition> {
        self.agent().definitions.get(id).cloned()
    }

    /// Registers what files say, replacing what the same files said before: a service that is no longer in its file goes,
    /// unless `keep` says that its file could not be read whole. Nobody waits for the disk: the files are there.
    pub(super) async fn register_files(&self, files: Vec<(PathBuf, Definitions)>, keep: Vec<PathBuf>) -> Result<(), Error> {
        let scripts = self.inner.config.enable_script_checks || self.inner.config.enable_local_script_checks;
        let registry = self.clone();
        let change = move |transaction: &mut Transaction| {
            let former = std::mem::take(&mut registry.agent().files);
            let mut present = BTreeMap::new();
            for (path, definitions) in files {
                for service in definitions.services {
                    let id: Arc<str> = Arc::from(&*service.id);
                    if let Err(error) = registry.allow(&service.checks, scripts) {
                        tracing::warn!("service {id} of {}: {error}", path.display());
                        continue;
                    }
                    registry.put_service(transaction, service, true, Some(&path))?;
                    if former.get(&id) != Some(&path) {
                        transaction.set_file(id.clone(), Some(path.clone()));
                    }
                    present.insert(id, path.clone());
                }
                for check in definitions.checks {
                    let id = check.id.clone();
                    let put = registry.allow(std::slice::from_ref(&check), scripts);
                    if let Err(error) = put.and_then(|()| registry.put_check(transaction, check, false)) {
                        tracing::warn!("check {id} of {}: {error}", path.display());
                    }
                }
            }
            for (id, path) in former {
                if present.contains_key(&id) {
                    continue;
                }
                if keep.contains(&path) {
                    present.insert(id, path);
                    continue;
                }
                transaction.set_file(id.clone(), None);
                // It may have been deregistered over HTTP meanwhile.
                let _ = registry.remove_service(transaction, &id);
            }
            registry.agent().files = present;
            Ok(())
        };
        Ok(self.inner.writer.note(change).await?)
    }

    /// Takes in what checks report, until the registry ends.
    pub(super) async fn take_reports(&self, mut reports: mpsc::Receiver<Report>) {
        while let Some(report) = reports.recv().await {
            let done = match report {
                Report::Result { id, status, output } => self.set_status(id, status, output, false).await,
                Report::Reap { service_id, check_id, after } => self.reap(service_id, check_id, after).await,
            };
            if let Err(error) = done {
                tracing::warn!("a check's report was lost: {error}");
            }
        }
    }

    /// Writes a check's status. The same status with another output is kept aside, and written now and then.
    async fn set_status(&self, id: Arc<str>, status: Health, output: Arc<str>, acknowledged: bool) -> Result<(), Error> {
        let key = self.check_key(&id);
        let snapshot = self.snapshot();
        let Some(check) = snapshot.checks().get(&key) else { return Ok(()) };
        if check.status == status {
            let mut agent = self.agent();
            let now = Instant::now();
            let kept = agent.outputs.entry(id.clone()).or_insert_with(|| Output { text: check.output.clone(), told: now });
            kept.text = output.clone();
            if check.output == output || now.duration_since(kept.told) < OUTPUT_INTERVAL {
                return Ok(());
            }
        }
        let registry = self.clone();
        let change = move |transaction: &mut Transaction| {
            let Some(check) = transaction.edit.catalog().checks().get(&key) else { return Ok(()) };
            let check = Check { status, output: output.clone(), ..(**check).clone() };
            transaction.edit.apply(Change::PutCheck(check))?;
            registry.agent().outputs.insert(key.id.clone(), Output { text: output, told: Instant::now() });
            registry.follow_aliases(transaction)
        };
        let writer = &self.inner.writer;
        let _: () = if acknowledged { writer.write(change).await? } else { writer.note(change).await? };
        Ok(())
    }

    /// Removes a service that was critical for too long, if its check still is.
    async fn reap(&self, service_id: Arc<str>, check_id: Arc<str>, after: Duration) -> Result<(), Error> {
        let registry = self.clone();
        let change = move |transaction: &mut Transaction| {
            let check = transaction.edit.catalog().checks().get(&registry.check_key(&check_id));
            if check.is_none_or(|check| check.status != Health::Critical) {
                return Ok(());
            }
            tracing::info!("service {service_id} is deregistered: check {check_id} was critical for {after:?}");
            registry.remove_service(transaction, &service_id)
        };
        Ok(self.inner.writer.write(change).await?)
    }

    async fn maintenance(
        &self,
        id: Arc<str>,
        service: Option<Arc<str>>,
        name: &'static str,
        enable: bool,
        reason: String,
    ) -> Result<(), Error> {
        let registry = self.clone();
        let change = move |transaction: &mut Transaction| {
            let owner = match &service {
                Some(service) => Some(registry.own_instance(transaction, service)?),
                None => None,
            };
            if !enable {
                transaction.edit.apply(Change::RemoveCheck(registry.check_key(&id)))?;
                return registry.follow_aliases(transaction);
            }
            // A second reason does not replace the first, as in Consul.
            if transaction.edit.catalog().checks().get(&registry.check_key(&id)).is_some() {
                return Ok(());
            }
            let check = Check {
                name: name.into(),
                notes: reason.into(),
                kind: "maintenance".into(),
                ..registry.blank_check(id, owner.as_deref())
            };
            transaction.edit.apply(Change::PutCheck(check))?;
            registry.follow_aliases(transaction)
        };
        Ok(self.inner.writer.write(change).await?)
    }

    fn put_service(
        &self,
        transaction: &mut Transaction,
        definition: ServiceDefinition,
        replace_existing_checks: bool,
        file: Option<&Path>,
    ) -> Result<(), Error> {
        let identity = self.identity();
        let instance = definition.instance(&identity.node_name);
        let (id, key) = (instance.id.clone(), instance.key());
        if file.is_none() && self.agent().files.remove(&id).is_some() {
            // Who registers it over HTTP has it now; its file no longer speaks for it.
            transaction.set_file(id.clone(), None);
        }
        transaction.edit.apply(Change::PutInstance(instance))?;
        if replace_existing_checks {
            let named = |id: &str| definition.checks.iter().any(|check| *check.id == *id);
            let entry = transaction.edit.catalog().instances().get(&key);
            let former = entry.map(|entry| entry.checks.clone()).unwrap_or_default();
            let gone = former.iter().filter(|check| !named(&check.id) && !check.id.starts_with(SERVICE_MAINTENANCE));
            for check in gone {
                self.remove_check(transaction, &check.id)?;
            }
        }
        for check in definition.checks {
            self.put_check(transaction, CheckDefinition { service_id: id.to_string().into(), ..check }, true)?;
        }
        Ok(())
    }

    fn remove_service(&self, transaction: &mut Transaction, id: &Arc<str>) -> Result<(), Error> {
        let instance = self.own_instance(transaction, id)?;
        let key = instance.key();
        let checks = transaction.edit.catalog().instances().get(&key).map(|entry| entry.checks.clone()).unwrap_or_default();
        for check in checks.iter() {
            self.remove_check(transaction, &check.id)?;
        }
        transaction.edit.apply(Change::RemoveInstance(key))?;
        if self.agent().files.remove(id).is_some() {
            transaction.set_file(id.clone(), None);
        }
        self.follow_aliases(transaction)
    }

    /// Puts a check. One that was there keeps its status and output, so that registering again does not flap.
    fn put_check(&self, transaction: &mut Transaction, definition: CheckDefinition, of_service: bool) -> Result<(), Error> {
        // Consul shows a time that was not given as nothing in a service's own checks, and as 0s in others.
        let shown = |text: String, of_service: bool| Arc::<str>::from(if of_service && text == "0s" { "" } else { &text });
        let id: Arc<str> = Arc::from(&*definition.id);
        let owner = match &*definition.service_id {
            "" => None,
            service => {
                Some(self.own_instance(transaction, service).map_err(|_| Error::NoSuchService { id: service.to_owned() })?)
            }
        };
        let known = transaction.edit.catalog().checks().get(&self.check_key(&id)).cloned();
        let (status, output) = match &known {
            Some(known) => (known.status, known.output.clone()),
            None => (definition.initial_status(), definition.initial_output().into()),
        };
        let check = Check {
            name: Arc::from(&*definition.name),
            status,
            notes: Arc::from(&*definition.notes),
            output,
            kind: definition.kind.name().into(),
            interval: shown(definition.interval_text(), of_service),
            timeout: shown(definition.timeout_text(), of_service),
            ..self.blank_check(id.clone(), owner.as_deref())
        };
        transaction.edit.apply(Change::PutCheck(check))?;
        let mut agent = self.agent();
        if agent.definitions.get(&id) != Some(&definition) {
            if is_alias(&definition) {
                agent.aliases.insert(id.clone());
            } else {
                agent.aliases.remove(&id);
            }
            agent.definitions.insert(id.clone(), definition.clone());
            transaction.set_definition(id, definition);
        }
        drop(agent);
        self.follow_aliases(transaction)
    }

    fn remove_check(&self, transaction: &mut Transaction, id: &Arc<str>) -> Result<(), Error> {
        transaction.edit.apply(Change::RemoveCheck(self.check_key(id)))?;
        let mut agent = self.agent();
        agent.outputs.remove(id);
        agent.aliases.remove(id);
        if agent.definitions.remove(id).is_some() {
            transaction.remove_definition(id.clone());
        }
        Ok(())
    }

    /// Sets each alias check to the health of what it stands for.
    fn follow_aliases(&self, transaction: &mut Transaction) -> Result<(), Error> {
        let aliases: Vec<(Arc<str>, Arc<str>, Arc<str>)> = {
            let agent = self.agent();
            let aliases = agent.aliases.iter().filter_map(|id| match &agent.definitions.get(id)?.kind {
                CheckKind::Alias { service, node } => Some((id.clone(), service.clone(), node.clone())),
                _ => None,
            });
            aliases.collect()
        };
        for (id, service, node) in aliases {
            let catalog = transaction.edit.catalog();
            let Some(check) = catalog.checks().get(&self.check_key(&id)).cloned() else { continue };
            let node = if node.is_empty() { self.node() } else { NodeKey::local(&node) };
            let others: Vec<Health> = catalog
                .checks_on(&node)
                .filter(|other| other.id != id)
                .filter(|other| service.is_empty() || other.service_id == service || other.service_id.is_empty())
                .map(|other| other.status)
                .collect();
            let status = Health::worst(others);
            let output = match status {
                Health::Passing => "All checks passing.",
                Health::Warning => "Aliased check in warning state.",
                Health::Critical => "Aliased check in critical state.",
            };
            self.inner.runner.heartbeat(&id, status, output.to_owned());
            transaction.edit.apply(Change::PutCheck(Check { status, output: output.into(), ..(*check).clone() }))?;
        }
        Ok(())
    }

    /// May these checks run here?
    fn allow(&self, checks: &[CheckDefinition], scripts: bool) -> Result<(), Error> {
        let script = checks.iter().any(|check| matches!(check.kind, CheckKind::Script { .. }));
        if script && !scripts { Err(Error::ScriptChecksOff) } else { Ok(()) }
    }

    fn own_instance(&self, transaction: &Transaction, id: &str) -> Result<Arc<Instance>, Error> {
        let key = InstanceKey { node: self.node(), id: id.into() };
        match transaction.edit.catalog().instances().get(&key) {
            Some(entry) if entry.agent => Ok(entry.instance.clone()),
            _ => Err(Error::UnknownService { id: id.to_owned() }),
        }
    }

    fn blank_check(&self, id: Arc<str>, owner: Option<&Instance>) -> Check {
        let Identity { node_name, .. } = self.identity();
        Check {
            source: SourceId::LOCAL,
            node: node_name.clone(),
            id,
            name: "".into(),
            status: Health::Critical,
            notes: "".into(),
            output: "".into(),
            service_id: owner.map(|owner| owner.id.clone()).unwrap_or_default(),
            service_name: owner.map(|owner| owner.service.clone()).unwrap_or_default(),
            service_tags: owner.map(|owner| owner.tags.clone()).unwrap_or_default(),
            kind: "".into(),
            interval: "".into(),
            timeout: "".into(),
            exposed_port: 0,
            definition: None,
            agent: true,
            create_index: Index(0),
            modify_index: Index(0),
        }
    }

    fn node(&self) -> NodeKey {
        NodeKey::local(&self.identity().node_name)
    }

    fn check_key(&self, id: &Arc<str>) -> CheckKey {
        CheckKey { node: self.node(), id: id.clone() }
    }
}

fn is_alias(definition: &CheckDefinition) -> bool {
    matches!(definition.kind, CheckKind::Alias { .. })
}

fn or_default(reason: &str, default: &str) -> String {
    if reason.is_empty() { default.to_owned() } else { reason.to_owned() }
}
