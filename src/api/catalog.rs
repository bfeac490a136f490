//! `/v1/catalog`: what is known of nodes and services, and writing to it from outside.
//!
//! Rows written here have no agent behind them: their checks are kept as told and never run. What our own agent holds
//! is not touched by these writes; an agent would put it back at its next sync anyway.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use super::blocking::{Meta, View, Watch};
use super::go::{self, Shape, Struct};
use super::health::has_tags;
use super::json::{self, NodeView, ServiceRow, ServiceView};
use super::reply::{Refusal, Reply};
use super::request::Request;
use super::{Api, filter, near};
use crate::catalog::{
    Change, Check, CheckKey, Edit, Extra, Health, Index, Instance, InstanceEntry, InstanceKey, NamedPort, Node, NodeEntry,
    NodeKey, Origin, ServiceAddress, SourceId, Weights,
};
use crate::registry::{Identity, definition};

pub(super) static NODES: Watch = Watch {
    meta: Meta::Full,
    rows: Some(filter::NODE),
    check: |_| Ok(()),
    index: |view| view.catalog.tables().nodes,
    empty: |_| false,
    show: |view| {
        let nodes = view.catalog.nodes().iter().map(|(_, node)| node).filter(|node| view.has_meta(node));
        let ordered = near::order(view, nodes.collect(), |node| node.key());
        view.list(ordered.into_iter().map(|node| NodeView::from(&*node.node)))
    },
};

pub(super) static SERVICES: Watch = Watch {
    meta: Meta::Full,
    rows: Some(filter::SERVICE_ROW),
    check: |_| Ok(()),
    index: |view| {
        let tables = view.catalog.tables();
        let nodes = if view.options.node_meta.is_empty() { Index(0) } else { tables.nodes };
        tables.instances.max(nodes)
    },
    empty: |_| false,
    show: services,
};

pub(super) static SERVICE: Watch = Watch {
    meta: Meta::Full,
    rows: Some(filter::SERVICE_ROW),
    check: |request| missing(request, "Missing service name"),
    index: |view| view.catalog.service_index(&view.request.rest),
    empty: |view| view.catalog.service(&view.request.rest).is_none(),
    show: |view| {
        let service = view.catalog.service(&view.request.rest);
        show_instances(view, service.into_iter().flat_map(|service| &service.instances))
    },
};

pub(super) static CONNECT: Watch = Watch {
    meta: Meta::Full,
    rows: Some(filter::SERVICE_ROW),
    check: |request| missing(request, "Missing service name"),
    index: |view| view.catalog.tables().instances.max(view.catalog.tables().nodes),
    empty: |view| connect_instances(view).next().is_none(),
    show: |view| show_instances(view, connect_instances(view)),
};

pub(super) static NODE: Watch = Watch {
    meta: Meta::Full,
    rows: Some(filter::SERVICE),
    check: |request| missing(request, "Missing node name"),
    index: node_index,
    empty: |view| view.catalog.node(&view.request.rest).is_none(),
    show: |view| {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct WithServices<'a> {
            node: NodeView<'a>,
            services: BTreeMap<&'a str, ServiceView<'a>>,
        }
        let Some(node) = view.catalog.node(&view.request.rest) else { return Reply::json(view.request, &()) };
        let mut services = BTreeMap::new();
        for instance in view.catalog.instances_on(&node.key()) {
            let accepted = view.accepted(std::iter::once(ServiceView::from(&*instance.instance)))?;
            services.extend(accepted.into_iter().map(|service| (&*instance.id, service)));
        }
        Reply::json(view.request, &WithServices { node: (&*node.node).into(), services })
    },
};

pub(super) static NODE_SERVICES: Watch = Watch {
    meta: Meta::Full,
    rows: Some(filter::SERVICE),
    check: |request| missing(request, "Missing node name"),
    index: node_index,
    empty: |view| view.catalog.node(&view.request.rest).is_none(),
    show: |view| {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct WithServices<'a> {
            node: Option<NodeView<'a>>,
            services: Option<Vec<ServiceView<'a>>>,
        }
        let node = view.catalog.node(&view.request.rest);
        let services = node.map(|node| {
            let mut instances: Vec<&InstanceEntry> = view.catalog.instances_on(&node.key()).collect();
            instances.sort_by_cached_key(|instance| instance.id.to_lowercase());
            view.accepted(instances.into_iter().map(|instance| ServiceView::from(&*instance.instance)))
        });
        let shown = WithServices { node: node.map(|node| (&*node.node).into()), services: services.transpose()? };
        Reply::json(view.request, &shown)
    },
};

pub(super) fn datacenters(api: &Api, request: &Request) -> Result<Reply, Refusal> {
    Reply::json(request, &[&api.identity().datacenter])
}

/// Refuses a path that ends where a name should follow.
pub(super) fn missing(request: &Request, text: &str) -> Result<(), Refusal> {
    if request.rest.is_empty() { Err(Refusal::bad(text)) } else { Ok(()) }
}

/// The instances by which a service is reached through the mesh: its proxies, and those that need none.
pub(super) fn connect_instances<'a>(view: &View<'a>) -> impl Iterator<Item = &'a InstanceEntry> + use<'a> {
    view.catalog.mesh_instances(&view.request.rest)
}

/// Removals leave no trace on a node, so the whole tables stand for it.
fn node_index(view: &View) -> Index {
    let tables = view.catalog.tables();
    if view.catalog.node(&view.request.rest).is_some() { tables.nodes.max(tables.instances) } else { tables.nodes }
}

fn services(view: &View) -> Result<Reply, Refusal> {
    let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let filtered = view.filter.is_some() || !view.options.node_meta.is_empty();
    for (_, service) in view.catalog.services().iter() {
        for instance in &service.instances {
            if filtered {
                let Some(node) = view.catalog.node_of(instance).filter(|node| view.has_meta(node)) else { continue };
                if view.accepted(std::iter::once(ServiceRow::new(node, instance)))?.is_empty() {
                    continue;
                }
            }
            let tags = names.entry(&instance.service).or_default();
            for tag in instance.tags.iter() {
                if !tags.contains(&&**tag) {
                    tags.push(tag);
                }
            }
        }
    }
    Reply::json(view.request, &names)
}

fn show_instances<'a>(view: &View<'a>, instances: impl Iterator<Item = &'a InstanceEntry>) -> Result<Reply, Refusal> {
    let joined = instances.filter_map(|instance| Some((view.catalog.node_of(instance)?, instance)));
    let wanted = joined.filter(|(node, instance)| view.has_meta(node) && has_tags(view, instance));
    let ordered = near::order(view, wanted.collect(), |(node, _): &(&NodeEntry, _)| node.key());
    view.list(ordered.into_iter().map(|(node, instance)| ServiceRow::new(node, instance)))
}

pub(super) async fn register(api: Api, request: Request) -> Result<Reply, Refusal> {
    request.refuse_partitions()?;
    let body = decode(&request, &REGISTER)?;
    api.own_datacenter(body.text("Datacenter").or_else(|| request.get("dc")))?;
    if let Some(service) = body.inner("Service").filter(|_| !api.registry.compat_consul()) {
        definition::port_is_sound(&Value::Object(service.0)).map_err(|invalid| Refusal::bad(invalid.to_string()))?;
    }
    let registration = Registration::read(body, api.identity())?;
    let identity = api.identity().clone();
    api.write(move |edit| registration.apply(edit, &identity)).await?;
    Reply::json(&request, &true)
}

pub(super) async fn deregister(api: Api, request: Request) -> Result<Reply, Refusal> {
    request.refuse_partitions()?;
    let body = decode(&request, &DEREGISTER)?;
    api.own_datacenter(body.text("Datacenter").or_else(|| request.get("dc")))?;
    let node = NodeKey::local(body.text("Node").ok_or_else(|| Refusal::internal("Must provide node"))?);
    let identity = api.identity().clone();
    api.write(move |edit| {
        if let Some(id) = body.text("ServiceID") {
            remove_instance(edit, InstanceKey { node, id: id.into() })
        } else if let Some(id) = body.text("CheckID") {
            remove_check(edit, CheckKey { node, id: id.into() })
        } else {
            remove_node(edit, node, &identity)
        }
    })
    .await?;
    Reply::json(&request, &true)
}

fn remove_instance(edit: &mut Edit, key: InstanceKey) -> Result<(), Refusal> {
    if edit.catalog().instances().get(&key).is_some_and(|instance| instance.origin.is_agent()) {
        return Ok(());
    }
    Ok(edit.apply(Change::RemoveInstance(key))?)
}

fn remove_check(edit: &mut Edit, key: CheckKey) -> Result<(), Refusal> {
    if edit.catalog().checks().get(&key).is_some_and(|check| check.agent) {
        return Ok(());
    }
    Ok(edit.apply(Change::RemoveCheck(key))?)
}

/// A node goes with all it bears; of our own only what was written to it from outside.
fn remove_node(edit: &mut Edit, node: NodeKey, identity: &Identity) -> Result<(), Refusal> {
    if node != NodeKey::local(&identity.node_name) {
        return Ok(edit.apply(Change::RemoveNode(node))?);
    }
    let instances: Vec<InstanceKey> = edit.catalog().instances_on(&node).map(|instance| instance.key()).collect();
    for key in instances.into_iter().filter(|key| &*key.id != "consul") {
        remove_instance(edit, key)?;
    }
    let checks: Vec<CheckKey> = edit.catalog().checks_on(&node).map(|check| check.key()).collect();
    for key in checks.into_iter().filter(|key| &*key.id != SERF_HEALTH) {
        remove_check(edit, key)?;
    }
    Ok(())
}

const SERF_HEALTH: &str = "serfHealth";

/// What one body of catalog/register tells.
struct Registration {
    node: Node,
    skip_node: bool,
    service: Option<Instance>,
    checks: Vec<Check>,
}

impl Registration {
    fn read(body: Body, identity: &Identity) -> Result<Registration, Refusal> {
        let name: Arc<str> = body.text("Node").ok_or_else(|| Refusal::internal("Must provide node"))?.into();
        let id = body.text("ID").unwrap_or("");
        if !id.is_empty() && !is_uuid(id) {
            return Err(Refusal::internal(format!("Bad node ID {}: expected a UUID", go::quote(id))));
        }
        let skip_node = body.flag("SkipNodeUpdate");
        let address = body.text("Address").unwrap_or("");
        if address.is_empty() && !skip_node {
            return Err(Refusal::internal("Must provide address if SkipNodeUpdate is not set"));
        }
        let node = Node {
            source: SourceId::LOCAL,
            name: name.clone(),
            id: id.to_lowercase().into(),
            datacenter: identity.datacenter.clone(),
            address: address.into(),
            tagged_addresses: body.texts("TaggedAddresses"),
            meta: body.texts("NodeMeta"),
            create_index: Index(0),
            modify_index: Index(0),
        };
        let service = body.inner("Service").map(|service| read_service(&service, &name)).transpose()?;
        let given = body.list("Checks").chain(body.inner("Check"));
        let checks = given.map(|check| read_check(&check, &name)).collect::<Result<_, _>>()?;
        Ok(Registration { node, skip_node, service, checks })
    }

    fn apply(self, edit: &mut Edit, identity: &Identity) -> Result<(), Refusal> {
        let ours = NodeKey::local(&identity.node_name);
        let key = self.node.key();
        let known = edit.catalog().nodes().contains_key(&key);
        if key != ours && !(self.skip_node && known) {
            put_node(edit, self.node, &ours)?;
        }
        if let Some(service) = self.service {
            put_service(edit, service)?;
        }
        for check in self.checks {
            put_check(edit, check)?;
        }
        Ok(())
    }
}

/// A node known by its id takes the new name; a name that belongs to another living node is refused.
fn put_node(edit: &mut Edit, mut node: Node, ours: &NodeKey) -> Result<(), Refusal> {
    let key = node.key();
    let reserved = |node: &Node, by: &Node| {
        Refusal::internal(format!(
            "failed inserting node: Error while renaming Node ID: {} ({}): Node name {} is reserved by node {} with name {} ({})",
            go::quote(&node.id),
            node.address,
            node.name,
            by.id,
            by.name,
            by.address
        ))
    };
    if let Some(known) = edit.catalog().nodes().get(&key) {
        if node.id.is_empty() {
            node.id = known.id.clone();
        } else if !known.id.is_empty() && known.id != node.id {
            let serf = known.checks.iter().find(|check| &*check.id == SERF_HEALTH);
            if serf.is_some_and(|check| check.status != Health::Critical) {
                return Err(reserved(&node, &known.node));
            }
        }
    }
    if !node.id.is_empty() && edit.catalog().nodes().get(&key).is_none_or(|known| known.id != node.id) {
        let same_id = edit.catalog().nodes().iter().map(|(_, other)| other).find(|other| other.id == node.id);
        if let Some(other) = same_id.filter(|other| other.key() != key) {
            if other.key() == *ours {
                return Err(reserved(&node, &other.node));
            }
            let former = other.key();
            edit.apply(Change::RemoveNode(former))?;
        }
    }
    Ok(edit.apply(Change::PutNode(node))?)
}

fn put_service(edit: &mut Edit, mut service: Instance) -> Result<(), Refusal> {
    if let Some(known) = edit.catalog().instances().get(&service.key()).filter(|known| known.origin.is_agent()) {
        // The agent's own definition stands, but for tags where it leaves them to others.
        if !known.enable_tag_override {
            return Ok(());
        }
        service = Instance { tags: service.tags, ..Instance::clone(&known.instance) };
    }
    edit.give_virtual_address(&mut service);
    Ok(edit.apply(Change::PutInstance(service))?)
}

fn put_check(edit: &mut Edit, mut check: Check) -> Result<(), Refusal> {
    if edit.catalog().checks().get(&check.key()).is_some_and(|known| known.agent) {
        return Ok(());
    }
    let node = check.node_key();
    let Some(on) = edit.catalog().nodes().get(&node) else {
        return Err(Refusal::internal(format!("Unknown node {} for check ID '{}'", go::quote(&check.node), check.id)));
    };
    check.node = on.name.clone();
    if !check.service_id.is_empty() {
        let owner = InstanceKey { node, id: check.service_id.clone() };
        let Some(owner) = edit.catalog().instances().get(&owner) else {
            let text = format!("Unknown service ID '{}' for check ID '{}'", check.service_id, check.id);
            return Err(Refusal::internal(text));
        };
        check.service_name = owner.service.clone();
        check.service_tags = owner.tags.clone();
    }
    Ok(edit.apply(Change::PutCheck(check))?)
}

fn read_service(service: &Body, node: &Arc<str>) -> Result<Instance, Refusal> {
    let (id, name) = (service.text("ID"), service.text("Service"));
    let Some(name) = name else {
        return Err(Refusal::internal(match id {
            Some(_) => "Must provide service name (Service.Service) when service ID is provided",
            None => "Must provide service name (Service.Service)",
        }));
    };
    let address = service.text("Address").unwrap_or("");
    if matches!(address, "0.0.0.0" | "::" | "[::]") {
        return Err(Refusal::internal("Invalid service address"));
    }
    let ports: Vec<NamedPort> = service
        .list("Ports")
        .map(|port| NamedPort {
            name: port.text("Name").unwrap_or("").to_owned(),
            port: port.port("Port"),
            default: port.flag("Default"),
        })
        .collect();
    let default_port = ports.iter().find(|port| port.default).or(ports.first()).map_or(0, |port| port.port);
    let tagged = service.map("TaggedAddresses").map(|tagged| {
        let address = |value: &Value| {
            let at = Body(value.as_object().cloned().unwrap_or_default());
            ServiceAddress { address: at.text("Address").unwrap_or("").to_owned(), port: at.port("Port") }
        };
        tagged.iter().map(|(tag, value)| (tag.clone(), address(value))).collect()
    });
    let weights = service.inner("Weights").and_then(|weights| {
        let weight = |name| u16::try_from(weights.number(name)).ok();
        let (passing, warning) = (weight("Passing")?, weight("Warning")?);
        (passing > 0).then_some(Weights { passing, warning })
    });
    let kept = |name: &str| {
        let map: Map<String, Value> = service.map(name)?.clone();
        json::definition(&map)
    };
    let extra = Extra {
        kind: service.text("Kind").map(Into::into),
        tagged_addresses: tagged,
        meta: service.texts("Meta"),
        ports,
        socket_path: service.text("SocketPath").map(Into::into),
        proxy: kept("Proxy"),
        connect: kept("Connect"),
    };
    Ok(Instance {
        source: SourceId::LOCAL,
        node: node.clone(),
        id: id.unwrap_or(name).into(),
        service: name.into(),
        tags: service.strings("Tags").into(),
        address: address.into(),
        port: if service.port("Port") == 0 { default_port } else { service.port("Port") },
        weights: weights.unwrap_or_default(),
        enable_tag_override: service.flag("EnableTagOverride"),
        origin: Origin::Catalog,
        extra: extra.boxed(),
        create_index: Index(0),
        modify_index: Index(0),
    })
}

fn read_check(check: &Body, node: &Arc<str>) -> Result<Check, Refusal> {
    if check.text("Node").is_some_and(|other| other.to_lowercase() != node.to_lowercase()) {
        let other = go::quote(check.text("Node").unwrap_or(""));
        return Err(Refusal::internal(format!("check node {other} does not match node {}", go::quote(node))));
    }
    let text = |name| Arc::<str>::from(check.text(name).unwrap_or(""));
    Ok(Check {
        source: SourceId::LOCAL,
        node: node.clone(),
        id: check.text("CheckID").or_else(|| check.text("Name")).unwrap_or("").into(),
        name: text("Name"),
        // What is no status is as good as none, and none is critical.
        status: text("Status").parse().unwrap_or(Health::Critical),
        notes: text("Notes"),
        output: text("Output"),
        service_id: check.text("ServiceID").unwrap_or("").into(),
        service_name: text("ServiceName"),
        service_tags: check.strings("ServiceTags").into(),
        kind: text("Type"),
        interval: text("Interval"),
        timeout: text("Timeout"),
        exposed_port: check.port("ExposedPort"),
        definition: check.map("Definition").and_then(json::definition).map(Box::new),
        agent: false,
        create_index: Index(0),
        modify_index: Index(0),
    })
}

fn is_uuid(text: &str) -> bool {
    let dashes = [8, 13, 18, 23];
    text.len() == 36
        && text.bytes().enumerate().all(|(at, b)| if dashes.contains(&at) { b == b'-' } else { b.is_ascii_hexdigit() })
}

fn decode(request: &Request, shape: &'static Struct) -> Result<Body, Refusal> {
    let value = go::decode(&request.body, Shape::Struct(shape))
        .map_err(|problem| Refusal::bad(format!("Request decode failed: {problem}")))?;
    Ok(match value {
        Value::Object(map) => Body(map),
        _ => Body(Map::new()),
    })
}

/// A decoded object: its fields have the types that its shape says, or are absent.
struct Body(Map<String, Value>);

impl Body {
    /// A text that is not empty.
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    fn number(&self, name: &str) -> i64 {
        self.0.get(name).and_then(Value::as_i64).unwrap_or(0)
    }

    /// A port as it reads on the wire, where Consul keeps any integer and cuts it to sixteen bits as late as there.
    fn port(&self, name: &str) -> u16 {
        self.number(name) as u16
    }

    fn map(&self, name: &str) -> Option<&Map<String, Value>> {
        self.0.get(name)?.as_object()
    }

    fn inner(&self, name: &str) -> Option<Body> {
        self.map(name).cloned().map(Body)
    }

    fn list(&self, name: &str) -> impl Iterator<Item = Body> {
        let list = self.0.get(name).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|value| value.as_object().cloned().map(Body))
    }

    fn strings(&self, name: &str) -> Vec<Arc<str>> {
        let list = self.0.get(name).and_then(Value::as_array);
        list.into_iter().flatten().map(|value| value.as_str().unwrap_or("").into()).collect()
    }

    fn texts(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        Some(self.map(name)?.iter().map(|(key, value)| (key.clone(), text(value))).collect())
    }
}

static DEREGISTER: Struct = Struct {
    package: "structs",
    name: "DeregisterRequest",
    alias: "",
    fields: &[
        ("Datacenter", Shape::Text),
        ("Node", Shape::Text),
        ("Address", Shape::Text),
        ("ServiceID", Shape::Text),
        ("CheckID", Shape::Text),
    ],
};

static REGISTER: Struct = Struct {
    package: "structs",
    name: "RegisterRequest",
    alias: "",
    fields: &[
        ("Datacenter", Shape::Text),
        ("ID", Shape::Text),
        ("Node", Shape::Text),
        ("Address", Shape::Text),
        ("TaggedAddresses", Shape::Map(&Shape::Text)),
        ("NodeMeta", Shape::Map(&Shape::Text)),
        ("Service", Shape::Struct(&NODE_SERVICE)),
        ("Check", Shape::Struct(&HEALTH_CHECK)),
        ("Checks", Shape::List(&Shape::Struct(&HEALTH_CHECK))),
        ("SkipNodeUpdate", Shape::Bool),
    ],
};

static NODE_SERVICE: Struct = Struct {
    package: "structs",
    name: "NodeService",
    alias: "",
    fields: &[
        ("Kind", Shape::Text),
        ("ID", Shape::Text),
        ("Service", Shape::Text),
        ("Tags", Shape::List(&Shape::Text)),
        ("Address", Shape::Text),
        ("TaggedAddresses", Shape::Map(&Shape::Struct(&SERVICE_ADDRESS))),
        ("Meta", Shape::Map(&Shape::Text)),
        ("Port", Shape::Int),
        ("Ports", Shape::List(&Shape::Struct(&SERVICE_PORT))),
        ("SocketPath", Shape::Text),
        ("Weights", Shape::Struct(&WEIGHTS)),
        ("EnableTagOverride", Shape::Bool),
        ("Proxy", Shape::Struct(&PROXY)),
        ("Connect", Shape::Struct(&CONNECT_SHAPE)),
    ],
};

pub(super) static SERVICE_ADDRESS: Struct =
    Struct { package: "structs", name: "ServiceAddress", alias: "", fields: &[("Address", Shape::Text), ("Port", Shape::Int)] };

static SERVICE_PORT: Struct = Struct {
    package: "structs",
    name: "ServicePort",
    alias: "",
    fields: &[("Name", Shape::Text), ("Port", Shape::Int), ("Default", Shape::Bool)],
};

pub(super) static WEIGHTS: Struct =
    Struct { package: "structs", name: "Weights", alias: "", fields: &[("Passing", Shape::Int), ("Warning", Shape::Int)] };

static PROXY: Struct = Struct {
    package: "structs",
    name: "ConnectProxyConfig",
    alias: "",
    fields: &[
        ("DestinationServiceName", Shape::Text),
        ("DestinationServiceID", Shape::Text),
        ("LocalServiceAddress", Shape::Text),
        ("LocalServicePort", Shape::Int),
        ("LocalServiceSocketPath", Shape::Text),
        ("Mode", Shape::Text),
        ("Config", Shape::Any),
        ("Upstreams", Shape::Any),
        ("MeshGateway", Shape::Any),
        ("Expose", Shape::Any),
        ("TransparentProxy", Shape::Any),
        ("AccessLogs", Shape::Any),
    ],
};

static CONNECT_SHAPE: Struct = Struct {
    package: "structs",
    name: "ServiceConnect",
    alias: "",
    fields: &[("Native", Shape::Bool), ("SidecarService", Shape::Any)],
};

static HEALTH_CHECK: Struct = Struct {
    package: "structs",
    name: "HealthCheck",
    alias: "",
    fields: &[
        ("Node", Shape::Text),
        ("CheckID", Shape::Text),
        ("Name", Shape::Text),
        ("Status", Shape::Text),
        ("Notes", Shape::Text),
        ("Output", Shape::Text),
        ("ServiceID", Shape::Text),
        ("ServiceName", Shape::Text),
        ("ServiceTags", Shape::List(&Shape::Text)),
        ("Type", Shape::Text),
        ("Interval", Shape::Text),
        ("Timeout", Shape::Text),
        ("ExposedPort", Shape::Int),
        ("Definition", Shape::Struct(&DEFINITION)),
    ],
};

static DEFINITION: Struct = Struct {
    package: "structs",
    name: "HealthCheckDefinition",
    alias: "",
    fields: &[
        ("HTTP", Shape::Text),
        ("TLSServerName", Shape::Text),
        ("TLSSkipVerify", Shape::Bool),
        ("Header", Shape::Map(&Shape::List(&Shape::Text))),
        ("Method", Shape::Text),
        ("Body", Shape::Text),
        ("DisableRedirects", Shape::Bool),
        ("TCP", Shape::Text),
        ("TCPUseTLS", Shape::Bool),
        ("UDP", Shape::Text),
        ("H2PING", Shape::Text),
        ("H2PingUseTLS", Shape::Bool),
        ("OSService", Shape::Text),
        ("GRPC", Shape::Text),
        ("GRPCUseTLS", Shape::Bool),
        ("Interval", Shape::Duration),
        ("Timeout", Shape::Duration),
        ("DeregisterCriticalServiceAfter", Shape::Duration),
        ("TTL", Shape::Duration),
        ("OutputMaxSize", Shape::Uint),
        ("ScriptArgs", Shape::List(&Shape::Text)),
        ("DockerContainerID", Shape::Text),
        ("Shell", Shape::Text),
        ("AliasNode", Shape::Text),
        ("AliasService", Shape::Text),
    ],
};
