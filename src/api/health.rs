//! `/v1/health`: services with their health, and checks by node, service and state.

use std::sync::Arc;

use super::blocking::{Meta, View, Watch};
use super::catalog::{connect_instances, missing};
use super::json::{CheckView, HealthView};
use super::near;
use super::reply::{Refusal, Reply};
use super::request::Request;
use super::{filter, go};
use crate::catalog::{Check, Health, Index, InstanceEntry, NodeEntry};

/// health/service: the main discovery call.
pub(super) static SERVICE: Watch = Watch {
    meta: Meta::Streamed,
    rows: Some(filter::HEALTH),
    check: check_service,
    index: |view| view.catalog.service_index(&view.request.rest),
    empty: |view| view.catalog.service(&view.request.rest).is_none(),
    show: |view| {
        let service = view.catalog.service(&view.request.rest);
        show_instances(view, service.into_iter().flat_map(|service| &service.instances))
    },
};

/// health/connect: the proxies of a service, or itself where it speaks for itself.
pub(super) static CONNECT: Watch = Watch {
    meta: Meta::Streamed,
    rows: Some(filter::HEALTH),
    check: check_service,
    index: whole,
    empty: |view| connect_instances(view).next().is_none(),
    show: |view| show_instances(view, connect_instances(view)),
};

/// health/ingress: no ingress gateway is configured here, so nothing is ever behind one.
pub(super) static INGRESS: Watch = Watch {
    meta: Meta::Streamed,
    rows: Some(filter::HEALTH),
    check: check_service,
    index: whole,
    empty: |_| true,
    show: |view| view.list(std::iter::empty::<()>()),
};

pub(super) static NODE: Watch = Watch {
    meta: Meta::Full,
    rows: Some(filter::CHECK),
    check: |request| missing(request, "Missing node name"),
    index: |view| view.catalog.tables().checks,
    empty: |view| view.catalog.node(&view.request.rest).is_none(),
    show: |view| {
        let node = view.catalog.node(&view.request.rest).map(|node| node.key());
        let checks = node.iter().flat_map(|node| view.catalog.checks_on(node));
        view.list(checks.map(|check| CheckView::from(&**check)))
    },
};

/// health/checks: the checks of a service's instances, not those of their nodes.
pub(super) static CHECKS: Watch = Watch {
    meta: Meta::Full,
    rows: Some(filter::CHECK),
    check: |request| missing(request, "Missing service name"),
    index: |view| match view.catalog.service(&view.request.rest) {
        Some(service) => service.index,
        None => view.catalog.tables().service_gone,
    },
    empty: |view| view.catalog.service(&view.request.rest).is_none(),
    show: |view| {
        let service = view.catalog.service(&view.request.rest);
        let instances = service.into_iter().flat_map(|service| &service.instances);
        show_checks(view, instances.flat_map(|instance| instance.checks.iter()))
    },
};

pub(super) static STATE: Watch = Watch {
    meta: Meta::Full,
    rows: Some(filter::CHECK),
    check: |request| missing(request, "Missing check state"),
    index: |view| view.catalog.tables().checks,
    empty: |_| false,
    show: |view| {
        let state = view.request.rest.as_str();
        let checks = view.catalog.checks().iter().map(|(_, check)| check);
        show_checks(view, checks.filter(|check| state == "any" || check.status.as_str() == state))
    },
};

fn check_service(request: &Request) -> Result<(), Refusal> {
    missing(request, "Missing service name")?;
    only_passing(request).map(|_| ())
}

fn only_passing(request: &Request) -> Result<bool, Refusal> {
    match (request.has("passing"), request.get("passing")) {
        (false, _) => Ok(false),
        (true, None) => Ok(true),
        (true, Some(value)) => go::parse_bool(value).map_err(|_| Refusal::bad("Invalid value for ?passing")),
    }
}

fn show_instances<'a>(view: &View<'a>, instances: impl Iterator<Item = &'a InstanceEntry>) -> Result<Reply, Refusal> {
    let only_passing = only_passing(view.request)?;
    let joined = instances.filter_map(|instance| Some((view.catalog.node_of(instance)?, instance)));
    let wanted = joined.filter(|(node, instance)| {
        view.has_meta(node) && has_tags(view, instance) && !(only_passing && worst(node, instance) != Health::Passing)
    });
    let ordered = near::order(view, wanted.collect(), |(node, _): &(&NodeEntry, _)| node.key());
    view.list(ordered.into_iter().map(|(node, instance)| HealthView::new(node, instance)))
}

fn worst(node: &NodeEntry, instance: &InstanceEntry) -> Health {
    node.health().max(instance.own_health())
}

/// Whether an instance bears all the tags asked for, in any case.
pub(super) fn has_tags(view: &View, instance: &InstanceEntry) -> bool {
    view.options.tags.iter().all(|wanted| instance.tags.iter().any(|tag| tag.to_lowercase() == *wanted))
}

fn show_checks<'a>(view: &View<'a>, checks: impl Iterator<Item = &'a Arc<Check>>) -> Result<Reply, Refusal> {
    let on_wanted_node = |check: &&Arc<Check>| {
        view.options.node_meta.is_empty() || view.catalog.nodes().get(&check.node_key()).is_some_and(|node| view.has_meta(node))
    };
    let ordered = near::order(view, checks.filter(on_wanted_node).collect(), |check| check.node_key());
    view.list(ordered.into_iter().map(|check| CheckView::from(&**check)))
}

/// The last change of anything that decides for health.
fn whole(view: &View) -> Index {
    let tables = view.catalog.tables();
    tables.nodes.max(tables.instances).max(tables.checks)
}
