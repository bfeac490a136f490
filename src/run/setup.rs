//! What answers questions, made of the configuration; what could not be had of it is told, and the rest serves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::clock::unix_time;
use crate::config::{Config, View, host};
use crate::problem::Problem;
use crate::resolve::answer::{Discovery, Settings};
use crate::resolve::block::{self, Blocks};
use crate::resolve::local::{self, Local};
use crate::resolve::rewrite::Rewrites;
use crate::resolve::zone::{self, Zones};
use crate::server::{Clients, Common, Cookies, Parts, QueryLog, QueryLogConfig, Setup, Way};
use crate::upstream::{self, Forwarder};

/// Where we are asked.
pub(super) struct Here {
    pub(super) addresses: Vec<(Way, SocketAddr)>,
    /// What tells clients of plain DNS where the encrypted listeners are.
    pub(super) designations: Vec<String>,
}

impl Here {
    /// Where plain DNS is answered.
    pub(super) fn plain(&self) -> Vec<SocketAddr> {
        self.addresses.iter().filter(|(way, _)| *way == Way::Plain).map(|(_, address)| *address).collect()
    }
}

/// What answers questions, as the configuration has it; what could not be had of it is told, and the rest serves.
pub(super) async fn setup(config: &Config, former: Option<&Setup>, here: &Here) -> (Setup, Vec<Problem>) {
    let wanted = Wanted { local: &config.local, zones: &config.zones, blocks: &config.blocks, forward: &config.forward };
    let (main, mut problems) = parts(config, &wanted, former, None, here).await;
    let (common, more) = common(config, former);
    problems.extend(more);
    let mut views = Vec::new();
    for View { name, local, zones, blocks, forward, .. } in &config.views {
        let own = former.and_then(|former| former.all().find(|view| view.view() == Some(name)));
        let (view, more) = parts(config, &Wanted { local, zones, blocks, forward }, own, Some(&main), here).await;
        problems.extend(more.into_iter().filter(|problem| !problems.contains(problem)).collect::<Vec<_>>());
        views.push((name.clone(), view));
    }
    (Setup::new(main, views, common), problems)
}

fn common(config: &Config, former: Option<&Setup>) -> (Common, Vec<Problem>) {
    let (rewrites, mut problems) = Rewrites::new(&config.rewrites, config.local.local_ttl);
    let log = query_log(config.query_log.as_ref(), former.and_then(Setup::log));
    problems.extend(log.as_ref().err().cloned());
    let networks = config.views.iter().map(|view| view.clients.clone()).collect();
    let clients = Clients::new(&config.clients, networks, &host::networks());
    let cookies = match (&config.cookie_secret, former) {
        (Some(secrets), _) => Cookies::new(secrets),
        (None, Some(former)) => former.cookies().clone(),
        (None, None) => Cookies::default(),
    };
    let (clients, rewrites) = (Arc::new(clients), Arc::new(rewrites));
    let nsid = config.nsid.as_deref().map(Arc::from);
    (Common { clients, rewrites, cookies, log: log.unwrap_or_default(), nsid }, problems)
}

/// The parts of the configuration that a view may have of its own.
struct Wanted<'a> {
    local: &'a local::Config,
    zones: &'a zone::Config,
    blocks: &'a [block::Config],
    forward: &'a upstream::Config,
}

/// What answers as it is wanted. A view has in common with the `main` one what it wants as that does.
async fn parts(
    config: &Config,
    &Wanted { local, zones, blocks, forward }: &Wanted<'_>,
    former: Option<&Setup>,
    main: Option<&Parts>,
    here: &Here,
) -> (Parts, Vec<Problem>) {
    let mut problems = Vec::new();
    let local = match main.filter(|_| *local == config.local) {
        Some(main) => main.local.clone(),
        None => {
            let (mut local, more) = Local::load(local, former.map(|former| &*former.local), unix_time().as_secs());
            problems.extend(more);
            problems.extend(local.designate(&here.designations));
            Arc::new(local)
        }
    };
    let zones = match (main.filter(|_| *zones == config.zones), &zones.folder) {
        (Some(main), _) => main.zones.clone(),
        (None, Some(folder)) => {
            let (zones, more) = Zones::load(folder, former.map(|former| &*former.zones));
            problems.extend(more);
            Arc::new(zones)
        }
        (None, None) => Arc::new(Zones::none()),
    };
    let forwarder = match main.filter(|_| *forward == config.forward) {
        Some(main) => main.forwarder.clone(),
        None => {
            let former = former.map(|former| &*former.forwarder);
            let (forwarder, more) = Forwarder::new(forward, former, &here.plain()).await;
            problems.extend(more);
            Arc::new(forwarder)
        }
    };
    let blocks = match main.filter(|_| *blocks == config.blocks) {
        Some(main) => main.blocks.clone(),
        None => {
            let (configs, known) = (blocks.to_vec(), former.map(|former| former.blocks.clone()));
            // Lists may be long, and the runtime has others to serve.
            let load = move || Blocks::load(&configs, known.as_deref(), Instant::now());
            let (blocks, more) = tokio::task::spawn_blocking(load).await.unwrap_or_default();
            problems.extend(more);
            Arc::new(blocks)
        }
    };
    let settings = Settings {
        datacenter: config.identity.datacenter.to_string(),
        node_name: config.identity.node_name.to_string(),
        recursors: forwarder.has_upstreams(),
        ..config.settings.clone()
    };
    (Parts { discovery: Discovery::new(settings), local, zones, blocks, forwarder }, problems)
}

/// The log of queries that is wanted; the one that is written already, if it is that.
fn query_log(wanted: Option<&QueryLogConfig>, former: Option<&Arc<QueryLog>>) -> Result<Option<Arc<QueryLog>>, Problem> {
    let Some(wanted) = wanted else { return Ok(None) };
    if let Some(former) = former.filter(|former| former.config() == wanted) {
        former.open_anew();
        return Ok(Some(former.clone()));
    }
    let told = |error| Problem::new(format!("queries are not logged: {error}"));
    QueryLog::start(wanted.clone()).map(Some).map_err(told)
}
