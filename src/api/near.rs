//! `?near=`: rows in the order of their nodes' distance from one node.

use std::sync::Arc;

use super::blocking::View;
use crate::catalog::{Coordinate, NodeKey};

/// Sorts rows by distance from the node that `near` names; nodes whose place is not known come last, in their natural
/// order. Without `near`, or when that node's own place is not known, all stay as they are.
pub(super) fn order<T>(view: &View, rows: Vec<T>, node: impl Fn(&T) -> NodeKey) -> Vec<T> {
    let Some(near) = view.options.near.as_deref() else { return rows };
    let near = if near == "_agent" { &view.identity.node_name } else { near };
    let place = |node: NodeKey| -> Option<&Arc<Coordinate>> { view.catalog.coordinates().get(&(node, "".into())) };
    let Some(here) = place(NodeKey::local(near)) else { return rows };
    let far = |node: NodeKey| {
        let seconds = place(node).and_then(|there| here.distance(there));
        // Whole nanoseconds, as Consul compares them.
        seconds.map_or(u64::MAX, |seconds| (seconds * 1e9) as u64)
    };
    let mut rows: Vec<(u64, T)> = rows.into_iter().map(|row| (far(node(&row)), row)).collect();
    rows.sort_by_key(|(distance, _)| *distance);
    rows.into_iter().map(|(_, row)| row).collect()
}
