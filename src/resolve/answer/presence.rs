//! Who is in an answer: the instances of a service that are asked for, and well.

use crate::catalog::{Catalog, Health, InstanceEntry, NodeEntry};

use super::grammar::{Form, Place};

/// An instance that may be answered, with its node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) instance: &'a InstanceEntry,
    pub(super) node: &'a NodeEntry,
    /// The worst of its checks and its node's.
    pub(super) health: Health,
}

/// What is known of a service. The three ways of having no instance to give are told apart.
#[derive(Debug)]
pub(super) enum Presence<'a> {
    /// No instance was ever told of, or none of that kind, in that place, with that tag.
    Unknown,
    /// Instances are registered, and none is well.
    Unhealthy { registered: usize },
    /// In natural order; never empty.
    Present(Vec<Candidate<'a>>),
}

/// A service as a name asks for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) service: &'a str,
    pub(super) tag: Option<&'a str>,
    pub(super) form: Form,
    pub(super) place: &'a Place,
}

impl<'a> Presence<'a> {
    pub(super) fn of(catalog: &'a Catalog, wanted: Wanted<'_>, local_datacenter: &str, only_passing: bool) -> Self {
        // Nothing is imported from peers.
        if wanted.place.peer.is_some() {
            return Presence::Unknown;
        }
        let mut registered = 0;
        let mut well = Vec::new();
        let mut consider = |instance: &'a InstanceEntry| {
            match Standing::of(catalog, instance, wanted, local_datacenter, only_passing) {
                Standing::Lost | Standing::Abroad(_) | Standing::Untagged => return,
                Standing::Unwell => {}
                Standing::Given(candidate) => well.push(candidate),
            }
            registered += 1;
        };
        match wanted.form {
            Form::Service => {
                catalog.service(wanted.service).iter().flat_map(|service| &service.instances).for_each(&mut consider)
            }
            Form::Connect => catalog.mesh_instances(wanted.service).for_each(&mut consider),
            // What a gateway exposes is said by configuration entries, which no source tells of.
            Form::Ingress => {}
        }
        match (registered, well.is_empty()) {
            (_, false) => Presence::Present(well),
            (0, true) => Presence::Unknown,
            (registered, true) => Presence::Unhealthy { registered },
        }
    }
}

/// Whether an instance is in an answer, and if not why.
#[derive(Debug)]
pub(super) enum Standing<'a> {
    /// It has no node.
    Lost,
    /// Its node is in another datacenter than the one asked for.
    Abroad(&'a NodeEntry),
    /// It has not the tag that is asked for.
    Untagged,
    Unwell,
    Given(Candidate<'a>),
}

impl<'a> Standing<'a> {
    pub(super) fn of(
        catalog: &'a Catalog,
        instance: &'a InstanceEntry,
        wanted: Wanted<'_>,
        local_datacenter: &str,
        only_passing: bool,
    ) -> Self {
        let Some(node) = catalog.node_of(instance) else { return Self::Lost };
        if !node.datacenter.eq_ignore_ascii_case(wanted.place.datacenter.as_deref().unwrap_or(local_datacenter)) {
            return Self::Abroad(node);
        }
        if !has_tag(instance, wanted.tag) {
            return Self::Untagged;
        }
        let health = instance.own_health().max(node.health());
        match health {
            Health::Warning if only_passing => Self::Unwell,
            Health::Critical => Self::Unwell,
            Health::Passing | Health::Warning => Self::Given(Candidate { instance, node, health }),
        }
    }
}

impl Candidate<'_> {
    /// The sampling weight, by health.
    pub(super) fn weight(&self) -> u16 {
        match self.health {
            Health::Passing => self.instance.weights.passing,
            Health::Warning => self.instance.weights.warning,
            Health::Critical => 0,
        }
    }
}

fn has_tag(instance: &InstanceEntry, tag: Option<&str>) -> bool {
    tag.is_none_or(|tag| instance.tags.iter().any(|own| own.eq_ignore_ascii_case(tag)))
}
