//! Why a name of the discovery domain is answered as it is: what it asks for, and why each instance is in or out.

use serde::Serialize;

use super::grammar::{Form, Lookup};
use super::presence::{Standing, Wanted};
use super::{Discovery, domain_of};
use crate::catalog::{Address, Catalog, Check, Health};
use crate::dns::Question;

/// What a name asks for, in words, and what there is of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    pub asks_for: String,
    /// The instances of the service, if it asks for one.
    pub instances: Vec<Judged>,
}

/// An instance, and whether it is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judged {
    pub node: String,
    pub id: String,
    /// Its own, or its node's.
    pub address: String,
    pub port: u16,
    pub health: Health,
    pub given: bool,
    /// What speaks against it, also when it is given all the same.
    pub because: Vec<String>,
}

/// Checks that stand for maintenance, by the beginning of their ids.
const MAINTENANCE: [&str; 2] = ["_node_maintenance", "_service_maintenance:"];

impl Discovery {
    /// `None` for names that are not in the discovery domain.
    pub fn explain(&self, catalog: &Catalog, question: &Question) -> Option<Explained> {
        let (labels, _) = domain_of(&self.settings, &question.name)?;
        let lookup = Lookup::parse(&labels, question.qtype);
        let instances = match &lookup {
            Lookup::Service { name, tag, form, place } => {
                let wanted = Wanted { service: name, tag: tag.as_deref(), form: *form, place };
                self.judge(catalog, wanted)
            }
            _ => Vec::new(),
        };
        Some(Explained { asks_for: words(&lookup), instances })
    }

    fn judge(&self, catalog: &Catalog, wanted: Wanted<'_>) -> Vec<Judged> {
        let (own, only_passing) = (&self.settings.datacenter, self.settings.dns_config.only_passing);
        let judged = |instance| {
            let standing = Standing::of(catalog, instance, wanted, own, only_passing);
            let node = catalog.node_of(instance);
            let mut because = Vec::new();
            match &standing {
                Standing::Lost => because.push("its node is not registered".to_owned()),
                Standing::Abroad(node) => because.push(format!("its node is in the datacenter {}", node.datacenter)),
                Standing::Untagged => because.push(format!("it has no tag {}", wanted.tag.unwrap_or_default())),
                Standing::Unwell | Standing::Given(_) => {}
            }
            let node_checks = node.iter().flat_map(|node| node.checks.iter()).map(|check| ("its node's ", check));
            let checks = node_checks.chain(instance.checks.iter().map(|check| ("its ", check)));
            because.extend(checks.filter(|(_, check)| check.status != Health::Passing).map(|(whose, check)| ill(whose, check)));
            let address = match &instance.address {
                Address::OfNode => node.map_or_else(String::new, |node| node.address.to_string()),
                own => own.to_string(),
            };
            Judged {
                node: instance.node.to_string(),
                id: instance.id.to_string(),
                address,
                port: instance.port,
                health: catalog.health(instance),
                given: matches!(standing, Standing::Given(_)),
                because,
            }
        };
        match wanted.form {
            Form::Service => {
                catalog.service(wanted.service).iter().flat_map(|service| &service.instances).map(judged).collect()
            }
            Form::Connect => catalog.mesh_instances(wanted.service).map(judged).collect(),
            Form::Ingress => Vec::new(),
        }
    }
}

/// Why an instance is not well.
fn ill(whose: &str, check: &Check) -> String {
    let said = check.output.lines().next().unwrap_or_default().trim();
    if MAINTENANCE.iter().any(|id| check.id.starts_with(id)) {
        let whose = if check.service_id.is_empty() { "its node" } else { "it" };
        return format!("{whose} is in maintenance: {}", check.notes);
    }
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    format!("{whose}check {} is {}{said}", check.id, check.status)
}

fn words(lookup: &Lookup) -> String {
    match lookup {
        Lookup::Apex => "the domain itself".into(),
        Lookup::NameServer => "the server that the SOA record names".into(),
        Lookup::Service { name, tag, form, place } => {
            let mut words = match form {
                Form::Service => format!("the service {name}"),
                Form::Connect => format!("those that take mesh connections for the service {name}"),
                Form::Ingress => format!("the gateways of the service {name}"),
            };
            let parts = [("with the tag", tag), ("in the datacenter", &place.datacenter), ("of the peer", &place.peer)];
            for (word, value) in parts {
                if let Some(value) = value {
                    words.push_str(&format!(" {word} {value}"));
                }
            }
            words
        }
        Lookup::Virtual { name, .. } => format!("the virtual address of the service {name}"),
        Lookup::Node { name, .. } => format!("the node {name}"),
        Lookup::Query => "a prepared query, of which there are none".into(),
        Lookup::Address(address) => format!("the address {address}"),
        Lookup::Branch(_) => "nothing, but names below it may exist".into(),
        Lookup::Nothing => "nothing: names have no such form here".into(),
    }
}
