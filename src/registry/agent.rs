//! What our own agent does: services and checks that are registered here, heartbeats, maintenance.
//!
//! Each operation is one write, so that it is ordered with all others and on disk when it returns. What the agent knows
//! beside the catalog (how its checks are run, which file a check is from) is [`State`]; it changes with the catalog, in
//! the same write or not at all.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use smol_str::SmolStr;
use tokio::sync::mpsc;

use super::checks::Report;
use super::definition::{CheckDefinition, CheckKind, Definitions, ServiceDefinition};
use super::writer::Transaction;
use super::{Error, Identity, Registry};
use crate::catalog::{Change, Check, CheckKey, Health, Index, Instance, InstanceKey, NodeKey, Origin, Refused, SourceId, Tree};
use crate::limits;
use crate::problem::Problem;

/// An output that changes while its check's status stays reaches the catalog at most this often: most outputs carry a
/// time or a counter, and each would wake every watcher (Consul's `check_update_interval`).
const OUTPUT_INTERVAL: Duration = Duration::from_secs(300);

const SERVICE_MAINTENANCE: &str = "_service_maintenance:";
const NODE_MAINTENANCE: &str = "_node_maintenance";

/// What the agent knows beside the catalog, and keeps on disk with it. A clone costs a few reference counts.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    definitions: Tree<Arc<str>, Arc<CheckDefinition>>,
    /// Those of the definitions that are aliases.
    aliases: Tree<Arc<str>, ()>,
    /// Which file a check is from, those of services included; one from none is not here.
    files_of_checks: Tree<Arc<str>, Arc<str>>,
}

/// The newest output of a check, and when one last went into the catalog.
#[derive(Debug)]
pub(super) struct Output {
    text: Arc<str>,
    told: Instant,
}

impl State {
    pub(super) fn definitions(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<CheckDefinition>)> {
        self.definitions.iter()
    }

    pub(super) fn definition(&self, id: &str) -> Option<&Arc<CheckDefinition>> {
        self.definitions.get(id)
    }

    pub(super) fn set_definition(&mut self, id: Arc<str>, definition: Arc<CheckDefinition>) {
        if matches!(definition.kind, CheckKind::Alias { .. }) {
            self.aliases.insert(id.clone(), ());
        } else {
            self.aliases.remove(&id);
        }
        self.definitions.insert(id, definition);
    }

    /// Whether it was there.
    pub(super) fn remove_definition(&mut self, id: &str) -> bool {
        self.aliases.remove(id);
        self.definitions.remove(id).is_some()
    }

    pub(super) fn file_of_check(&self, check: &str) -> Option<&Arc<str>> {
        self.files_of_checks.get(check)
    }

    /// Whether that changed anything.
    pub(super) fn set_file_of_check(&mut self, check: &Arc<str>, file: Option<&Arc<str>>) -> bool {
        set(&mut self.files_of_checks, check, file)
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
        Ok(self.inner.writer.write(move |transaction| registry.put_check(transaction, definition, None)).await?)
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
        let agent = self.inner.published.agent.load();
        let Some(definition) = agent.definition(id) else {
            // Maintenance is a check that nothing runs.
            let key = self.check_key(&id.into());
            let known = self.snapshot().checks().get(&key).is_some_and(|check| check.agent);
            return Err(if known { Error::NotTtl { id: id.to_owned() } } else { Error::UnknownCheck { id: id.to_owned() } });
        };
        if !matches!(definition.kind, CheckKind::Ttl { .. }) {
            return Err(Error::NotTtl { id: id.to_owned() });
        }
        let id: Arc<str> = definition.id.clone();
        drop(agent);
        if let Some(kept) = self.outputs().get_mut(&id) {
            kept.text = output.clone();
        }
        self.inner.runner.heartbeat(&id, status, output.to_string());
        self.set_statuses(vec![(id, status, output)], true).await
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
        self.outputs().get(&key.id).map(|output| output.text.clone())
    }

    /// How our agent runs a check.
    pub fn check_definition(&self, id: &str) -> Option<CheckDefinition> {
        self.inner.published.agent.load().definition(id).map(|definition| CheckDefinition::clone(definition))
    }

    /// Registers what files say, replacing what files said before: a service or a check that is no longer there goes,
    /// unless `keep` says that its file or folder could not be read whole. What cannot be registered is returned. Nobody
    /// waits for the disk: the files are there.
    pub(super) async fn register_files(
        &self,
        files: Vec<(PathBuf, Definitions)>,
        keep: Vec<PathBuf>,
    ) -> Result<Vec<Problem>, Error> {
        let scripts = self.inner.config.enable_script_checks || self.inner.config.enable_local_script_checks;
        let registry = self.clone();
        let change = move |transaction: &mut Transaction| {
            let former = transaction.agent().clone();
            let identity = registry.identity();
            let ours = transaction.edit.catalog().instances_on(&registry.node());
            let of_files = ours.filter_map(|entry| match &entry.origin {
                Origin::File(file) => Some((entry.id.clone(), file.clone())),
                Origin::Catalog | Origin::Agent => None,
            });
            let former_services: Vec<(SmolStr, Arc<str>)> = of_files.collect();
            let (mut services, mut checks) = (Vec::<SmolStr>::new(), BTreeSet::<Arc<str>>::new());
            let mut problems = Vec::new();
            let mut alone = Vec::new();
            for (path, definitions) in files {
                // A path that is no UTF-8 is still one path.
                let file: Arc<str> = path.to_string_lossy().into();
                let mut plain = Vec::with_capacity(definitions.services.len());
                for service in definitions.services {
                    if let Err(error) = registry.allow(&service.checks, scripts) {
                        problems.push(Problem::new(format!("service {:?}: {error}", service.id)).in_file(&path));
                        continue;
                    }
                    checks.extend(service.checks.iter().map(|check| check.id.clone()));
                    let instance = service.instance(&identity.node_name, Some(&file));
                    services.push(instance.id.clone());
                    if instance.mesh_destination().is_none() {
                        plain.push((instance, service.checks));
                    } else {
                        // Its address may hang on those before it, and of two with one id the later counts.
                        registry.put_plain_services(transaction, std::mem::take(&mut plain), &file)?;
                        registry.put_service(transaction, service, false, Some(&file))?;
                    }
                }
                registry.put_plain_services(transaction, plain, &file)?;
                alone.extend(definitions.checks.into_iter().map(|check| (path.clone(), file.clone(), check)));
            }
            // Last, since a check may be of a service that stands in a later file.
            for (path, file, check) in alone {
                let id = check.id.clone();
                let put = registry.allow(std::slice::from_ref(&check), scripts);
                match put.and_then(|()| registry.put_check(transaction, check, Some(&file))) {
                    Ok(()) => drop(checks.insert(id)),
                    Err(error) => problems.push(Problem::new(format!("check {id:?}: {error}")).in_file(&path)),
                }
            }
            // Of a folder that could not be read, no file was.
            let kept = |file: &str| keep.iter().any(|kept| Path::new(file).starts_with(&*kept.to_string_lossy()));
            for (id, file) in former.files_of_checks.iter() {
                if !checks.contains(id) && !kept(file) {
                    registry.remove_check(transaction, id)?;
                }
            }
            if !former_services.is_empty() {
                services.sort_unstable();
            }
            for (id, file) in &former_services {
                if services.binary_search(id).is_err() && !kept(file) {
                    registry.remove_service(transaction, id)?;
                }
            }
            Ok(problems)
        };
        Ok(self.inner.writer.note(change).await?)
    }

    /// Takes in what checks report, until the registry ends. What waits is written at once, so that a mass failure is one
    /// change to those who watch.
    pub(super) async fn take_reports(&self, mut reports: mpsc::Receiver<Report>) {
        let mut waiting = Vec::new();
        while reports.recv_many(&mut waiting, limits::REGISTRY_WRITES_PER_COMMIT_MAX).await > 0 {
            let (mut results, mut reaped) = (Vec::new(), Vec::new());
            for report in waiting.drain(..) {
                match report {
                    Report::Result { id, status, output } => results.push((id, status, output)),
                    Report::Reap { service_id, check_id, after } => reaped.push((service_id, check_id, after)),
                }
            }
            if let Err(error) = self.set_statuses(results, false).await {
                tracing::warn!("what checks found was lost: {error}");
            }
            for (service_id, check_id, after) in reaped {
                // The runner tells of it again while the service is there.
                if let Err(error) = self.reap(service_id, check_id, after).await {
                    tracing::warn!("a service that was critical for too long stays for now: {error}");
                }
            }
        }
    }

    /// Writes what checks say, in the order given. The same status with another output is kept aside, and written now and
    /// then.
    async fn set_statuses(&self, results: Vec<(Arc<str>, Health, Arc<str>)>, acknowledged: bool) -> Result<(), Error> {
        let snapshot = self.snapshot();
        let now = Instant::now();
        let mut seen = BTreeSet::new();
        let mut worth = results;
        worth.retain(|(id, status, output)| {
            let Some(check) = snapshot.checks().get(&self.check_key(id)) else { return false };
            // A second word on a check is compared with the first, which the snapshot does not have.
            if !seen.insert(id.clone()) || check.status != *status {
                return true;
            }
            let mut outputs = self.outputs();
            let kept = outputs.entry(id.clone()).or_insert_with(|| Output { text: check.output.clone(), told: now });
            kept.text = output.clone();
            // What an ill check says first tells why it is ill; Consul lets one wait for that too.
            let first = check.output.is_empty() && *status != Health::Passing && !self.compat_consul();
            check.output != *output && (first || now.duration_since(kept.told) >= OUTPUT_INTERVAL)
        });
        if worth.is_empty() {
            return Ok(());
        }
        let registry = self.clone();
        let change = move |transaction: &mut Transaction| {
            for (id, status, output) in worth {
                let Some(check) = transaction.edit.catalog().checks().get(&registry.check_key(&id)) else { continue };
                let check = Check { status, output: output.clone(), ..(**check).clone() };
                transaction.edit.apply(Change::PutCheck(check))?;
                registry.outputs().insert(id, Output { text: output, told: Instant::now() });
            }
            Ok(())
        };
        let writer = &self.inner.writer;
        let done = if acknowledged { writer.write(change).await } else { writer.note(change).await };
        Ok(done?)
    }

    /// Removes a service that was critical for too long, if its check still is.
    async fn reap(&self, service_id: SmolStr, check_id: Arc<str>, after: Duration) -> Result<(), Error> {
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
                return Ok(());
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
            Ok(transaction.edit.apply(Change::PutCheck(check))?)
        };
        Ok(self.inner.writer.write(change).await?)
    }

    fn put_service(
        &self,
        transaction: &mut Transaction,
        definition: ServiceDefinition,
        replace_existing_checks: bool,
        file: Option<&Arc<str>>,
    ) -> Result<(), Error> {
        let identity = self.identity();
        // Who registers it over HTTP has it now; a file no longer speaks for it.
        let mut instance = definition.instance(&identity.node_name, file);
        transaction.edit.give_virtual_address(&mut instance);
        let key = instance.key();
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
            self.put_check(transaction, CheckDefinition { service_id: definition.id.clone(), ..check }, file)?;
        }
        Ok(())
    }

    /// Puts many instances of a file, none of them of the mesh, with the checks of each: the same as one after the other, at
    /// less cost.
    fn put_plain_services(
        &self,
        transaction: &mut Transaction,
        mut services: Vec<(Instance, Vec<CheckDefinition>)>,
        file: &Arc<str>,
    ) -> Result<(), Error> {
        // Sorted once for all tables.
        services.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
        let (mut instances, mut checks) = (Vec::with_capacity(services.len()), Vec::new());
        for (instance, own) in services {
            let owned = |check| CheckDefinition { service_id: instance.id.clone(), ..check };
            checks.extend(own.into_iter().map(owned));
            instances.push(instance);
        }
        transaction.edit.put_instances(instances)?;
        for check in checks {
            self.put_check(transaction, check, Some(file))?;
        }
        Ok(())
    }

    fn remove_service(&self, transaction: &mut Transaction, id: &str) -> Result<(), Error> {
        let instance = self.own_instance(transaction, id)?;
        let key = instance.key();
        let checks = transaction.edit.catalog().instances().get(&key).map(|entry| entry.checks.clone()).unwrap_or_default();
        for check in checks.iter() {
            self.remove_check(transaction, &check.id)?;
        }
        Ok(transaction.edit.apply(Change::RemoveInstance(key))?)
    }

    /// Puts a check. One that was there keeps its status and output, so that registering again does not flap.
    fn put_check(
        &self,
        transaction: &mut Transaction,
        definition: CheckDefinition,
        file: Option<&Arc<str>>,
    ) -> Result<(), Error> {
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
            output: output.clone(),
            kind: definition.kind.name().into(),
            interval: definition.interval_text().into(),
            timeout: definition.timeout_text().into(),
            ..self.blank_check(id.clone(), owner.as_deref())
        };
        transaction.edit.apply(Change::PutCheck(check))?;
        transaction.set_file_of_check(&id, file);
        if transaction.agent().definition(&id).is_none_or(|known| **known != definition) {
            transaction.set_definition(id, Arc::new(definition));
        } else if matches!(definition.kind, CheckKind::Ttl { .. }) {
            // As in Consul, its time starts anew.
            transaction.tell_check(id, status, output);
        }
        Ok(())
    }

    fn remove_check(&self, transaction: &mut Transaction, id: &Arc<str>) -> Result<(), Error> {
        transaction.edit.apply(Change::RemoveCheck(self.check_key(id)))?;
        transaction.remove_definition(id);
        transaction.set_file_of_check(id, None);
        // Should the write fail, the catalog's output is shown until the next one.
        self.outputs().remove(id);
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
            Some(entry) if entry.origin.is_agent() => Ok(entry.instance.clone()),
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

/// Sets each alias check of our node to the health of what it stands for.
pub(super) fn follow_aliases(transaction: &mut Transaction, ours: &NodeKey) -> Result<(), Refused> {
    let agent = transaction.agent().clone();
    // An alias of an alias takes another round, and so on; two of one another come to rest too.
    for _ in 0..agent.aliases.len() {
        let mut at_rest = true;
        for id in agent.aliases.keys() {
            let Some(CheckKind::Alias { service, node }) = agent.definition(id).map(|definition| &definition.kind) else {
                continue;
            };
            let catalog = transaction.edit.catalog();
            let Some(check) = catalog.checks().get(&CheckKey { node: ours.clone(), id: id.clone() }).cloned() else { continue };
            let node = if node.is_empty() { ours.clone() } else { NodeKey::local(node) };
            let others: Vec<&Arc<Check>> = if service.is_empty() {
                catalog.checks_on(&node).collect()
            } else {
                let instance = catalog.instances().get(&InstanceKey { node: node.clone(), id: (&**service).into() });
                let of_instance = instance.into_iter().flat_map(|entry| entry.checks.iter());
                let of_node = catalog.nodes().get(&node).into_iter().flat_map(|entry| entry.checks.iter());
                of_instance.chain(of_node).collect()
            };
            let status = Health::worst(others.iter().filter(|other| other.id != *id).map(|other| other.status));
            let output = match status {
                Health::Passing => "All checks passing.",
                Health::Warning => "Aliased check in warning state.",
                Health::Critical => "Aliased check in critical state.",
            };
            if check.status != status || &*check.output != output {
                transaction.edit.apply(Change::PutCheck(Check { status, output: output.into(), ..(*check).clone() }))?;
                transaction.tell_check(id.clone(), status, output.into());
                at_rest = false;
            }
        }
        if at_rest {
            break;
        }
    }
    Ok(())
}

fn set(files: &mut Tree<Arc<str>, Arc<str>>, id: &Arc<str>, file: Option<&Arc<str>>) -> bool {
    if files.get(id) == file {
        return false;
    }
    match file {
        Some(file) => files.insert(id.clone(), file.clone()),
        None => files.remove(id),
    };
    true
}

fn or_default(reason: &str, default: &str) -> String {
    if reason.is_empty() { default.to_owned() } else { reason.to_owned() }
}
