//! `/v1/coordinate`: where nodes are in network space. We keep what agents report; we do not measure.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Api;
use super::blocking::{Meta, View, Watch};
use super::go::{self, Shape, Struct};
use super::json::CoordinateView;
use super::reply::{Refusal, Reply};
use super::request::Request;
use crate::catalog::{Change, Coordinate, NodeKey};

/// The dimensions of the space that agents reckon in.
const DIMENSIONS: usize = 8;

pub(super) static NODES: Watch = Watch {
    meta: Meta::Plain,
    rows: None,
    check: |_| Ok(()),
    index: |view| view.catalog.tables().coordinates,
    empty: |_| false,
    show: |view| view.list(coordinates(view, None).map(CoordinateView::from)),
};

pub(super) static NODE: Watch = Watch {
    meta: Meta::Plain,
    rows: None,
    check: |_| Ok(()),
    index: |view| view.catalog.tables().coordinates,
    empty: |view| coordinates(view, Some(&view.request.rest)).next().is_none(),
    show: |view| {
        let found: Vec<_> = coordinates(view, Some(&view.request.rest)).map(CoordinateView::from).collect();
        if found.is_empty() {
            return Err(Refusal::not_found(""));
        }
        view.list(found.into_iter())
    },
};

/// The one server's place among servers, which is where everyone begins.
pub(super) fn datacenters(api: &Api, request: &Request) -> Result<Reply, Refusal> {
    let identity = api.identity();
    let coord = json!({"Vec": vec![0.0; DIMENSIONS], "Error": 1.5, "Adjustment": 0, "Height": 1e-5});
    let us = json!({"Node": identity.node_name, "Segment": "", "Coord": coord});
    Reply::json(request, &json!([{"Datacenter": identity.datacenter, "AreaID": "wan", "Coordinates": [us]}]))
}

/// Takes a node's new place. Nodes that are not registered are passed over, since theirs may come too early.
pub(super) async fn update(api: Api, request: Request) -> Result<Reply, Refusal> {
    let body = go::decode(&request.body, Shape::Struct(&UPDATE))
        .map_err(|problem| Refusal::bad(format!("Request decode failed: {problem}")))?;
    api.own_datacenter(request.get("dc").or_else(|| body["Datacenter"].as_str()))?;
    let place = &body["Coord"];
    if place.is_null() {
        return Err(Refusal::bad("Must provide coordinate"));
    }
    let number = |name: &str| place[name].as_f64().unwrap_or(0.0);
    let vec: Vec<f64> = place["Vec"].as_array().map_or(&[][..], Vec::as_slice).iter().filter_map(Value::as_f64).collect();
    if vec.len() != DIMENSIONS {
        return Err(Refusal::internal("incompatible coordinate"));
    }
    let text = |name: &str| body[name].as_str().unwrap_or("");
    let coordinate = Coordinate {
        node: text("Node").into(),
        segment: text("Segment").into(),
        adjustment: number("Adjustment"),
        error: number("Error"),
        height: number("Height"),
        vec,
    };
    api.write(move |edit| {
        let Some(node) = edit.catalog().nodes().get(&NodeKey::local(&coordinate.node)) else { return Ok(()) };
        let coordinate = Coordinate { node: node.name.clone(), ..coordinate };
        edit.apply(Change::PutCoordinate(coordinate)).map_err(Refusal::from)
    })
    .await?;
    Ok(Reply::done())
}

fn coordinates<'a>(view: &View<'a>, node: Option<&'a str>) -> impl Iterator<Item = &'a Coordinate> + use<'a> {
    let segment = view.request.has("segment").then(|| view.request.get("segment").unwrap_or(""));
    let node = node.map(NodeKey::local);
    let all = view.catalog.coordinates().iter();
    let wanted = all.filter(move |((at, in_segment), _)| {
        node.as_ref().is_none_or(|node| node == at) && segment.is_none_or(|segment| *segment == **in_segment)
    });
    wanted.map(|(_, coordinate): (_, &Arc<Coordinate>)| &**coordinate)
}

static UPDATE: Struct = Struct {
    package: "structs",
    name: "CoordinateUpdateRequest",
    alias: "",
    fields: &[
        ("Datacenter", Shape::Text),
        ("Node", Shape::Text),
        ("Segment", Shape::Text),
        ("Coord", Shape::Struct(&COORDINATE)),
    ],
};

static COORDINATE: Struct = Struct {
    package: "coordinate",
    name: "Coordinate",
    alias: "",
    fields: &[
        ("Vec", Shape::List(&Shape::Float)),
        ("Error", Shape::Float),
        ("Adjustment", Shape::Float),
        ("Height", Shape::Float),
    ],
};
