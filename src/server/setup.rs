//! What the configuration makes of us, and what follows from it alone.

use std::collections::HashSet;
use std::iter;
use std::net::IpAddr;
use std::sync::Arc;

use super::clients::{Clients, Standing};
use super::cookies::Cookies;
use super::query_log::QueryLog;
use crate::catalog::Catalog;
use crate::dns::{Name, Query, Question, add_option, find_option, option};
use crate::resolve::Room;
use crate::resolve::answer::{Client, Compat, Discovery, Explained, Settings};
use crate::resolve::block::Blocks;
use crate::resolve::local::Local;
use crate::resolve::passing::truncated;
use crate::resolve::rewrite::Rewrites;
use crate::resolve::zone::Zones;
use crate::upstream::Forwarder;

/// What answers, of which each view may have its own.
#[derive(Debug)]
pub struct Parts {
    pub discovery: Discovery,
    pub local: Arc<Local>,
    pub zones: Arc<Zones>,
    pub blocks: Arc<Blocks>,
    pub forwarder: Arc<Forwarder>,
}

/// What all views have in common.
#[derive(Debug, Clone, Default)]
pub struct Common {
    pub clients: Arc<Clients>,
    pub rewrites: Arc<Rewrites>,
    /// Each has a secret of its own, unless it is made with one.
    pub cookies: Cookies,
    pub log: Option<Arc<QueryLog>>,
    /// What we call ourselves to who asks (RFC 5001).
    pub nsid: Option<Arc<str>>,
}

/// What the configuration makes of us; a reload replaces it whole. Cloning is cheap, and a clone in force lets workers
/// forget what they have near.
#[derive(Debug, Clone)]
pub struct Setup {
    pub(super) discovery: Discovery,
    /// No local data stands in front of names of the discovery domain.
    pub(super) at_once: bool,
    pub local: Arc<Local>,
    /// Names without data of their own that have local names below them, in domains that a route answers by itself.
    pub(super) parents: Arc<HashSet<Name>>,
    pub(super) clients: Arc<Clients>,
    pub(super) log: Option<Arc<QueryLog>>,
    pub(super) nsid: Option<Arc<str>>,
    /// What answers clients that have a view of their own; a view has none.
    pub(super) views: Vec<Arc<Setup>>,
    /// The name of the view that it is, and its place among all, from 1; the main one has none, and 0.
    pub(super) view: Option<Arc<str>>,
    pub(super) place: usize,
    pub(super) cookies: Cookies,
    pub zones: Arc<Zones>,
    pub blocks: Arc<Blocks>,
    pub(super) rewrites: Arc<Rewrites>,
    pub forwarder: Arc<Forwarder>,
}

impl Setup {
    /// `views` answer instead of the main parts, by names, in the order that [`Clients`] knows them by.
    pub fn new(main: Parts, views: Vec<(String, Parts)>, common: Common) -> Self {
        let view = |(place, (name, mut parts)): (usize, (String, Parts))| {
            // What is prepared for one is good for all, unless they say otherwise whether they forward.
            if parts.discovery.settings().recursors == main.discovery.settings().recursors {
                parts.discovery = main.discovery.clone();
            }
            Arc::new(Self { view: Some(name.into()), place, ..Self::alone(parts, common.clone()) })
        };
        let views = (1..).zip(views).map(view).collect();
        Self { views, ..Self::alone(main, common) }
    }

    fn alone(parts: Parts, common: Common) -> Self {
        let Parts { discovery, local, zones, blocks, forwarder } = parts;
        let Common { clients, rewrites, cookies, log, nsid } = common;
        let (views, view, place) = (Vec::new(), None, 0);
        let (at_once, parents) = (false, Arc::default());
        let mut setup = Self {
            discovery,
            at_once,
            local,
            parents,
            clients,
            log,
            nsid,
            views,
            view,
            place,
            cookies,
            zones,
            blocks,
            rewrites,
            forwarder,
        };
        setup.settle();
        setup
    }

    /// Finds again what follows from its parts, of which one is another now.
    pub(super) fn settle(&mut self) {
        let Settings { domain, alt_domain, .. } = self.discovery.settings();
        let apexes = self.zones.apexes();
        let in_zones = self.zones.covers(domain) || apexes.iter().any(|apex| apex.is_within(domain));
        let is_rewritten = alt_domain.iter().chain([domain]).any(|domain| self.rewrites.has_within(domain));
        self.at_once = !in_zones && !self.local.has_within(domain) && !is_rewritten;
        let mut parents = HashSet::new();
        for name in self.local.names().chain(&apexes) {
            let mut above = name.parent();
            while let Some(name) = above.filter(|name| self.forwarder.is_answered_here(name)) {
                above = name.parent();
                parents.insert(name);
            }
        }
        self.parents = Arc::new(parents);
    }

    /// The same, but for what is done to it and to each of its views; with nothing done, one by which nobody has anything
    /// near.
    pub(super) fn changed(&self, change: impl Fn(&mut Self)) -> Self {
        let changed = |setup: &Self| {
            let mut setup = setup.clone();
            change(&mut setup);
            setup
        };
        let views = self.views.iter().map(|view| Arc::new(changed(view))).collect();
        Self { views, ..changed(self) }
    }

    /// What answers this client: its view's, if it has one.
    pub(super) fn of_client(self: &Arc<Self>, client: IpAddr) -> &Arc<Self> {
        if self.views.is_empty() {
            return self;
        }
        self.clients.view(client).and_then(|view| self.views.get(view)).unwrap_or(self)
    }

    /// The name of the view that it is.
    pub fn view(&self) -> Option<&str> {
        self.view.as_deref()
    }

    /// It and its views.
    pub fn all(&self) -> impl Iterator<Item = &Self> {
        iter::once(self).chain(self.views.iter().map(|view| &**view))
    }

    /// The forwarders of all of them, each with the name of the first view that has it.
    pub fn forwarders(&self) -> Vec<(Option<&str>, &Arc<Forwarder>)> {
        self.each(|setup| &setup.forwarder)
    }

    /// A part of all of them, each once, with the name of the first view that has it.
    pub(super) fn each<T>(&self, part: fn(&Self) -> &Arc<T>) -> Vec<(Option<&str>, &Arc<T>)> {
        let mut parts: Vec<(Option<&str>, &Arc<T>)> = Vec::new();
        for setup in self.all() {
            if !parts.iter().any(|(_, other)| Arc::ptr_eq(other, part(setup))) {
                parts.push((setup.view(), part(setup)));
            }
        }
        parts
    }

    /// Is this the name that an upstream of any of them was asked for only to see whether it leads here? It comes back as a
    /// query of the upstream's, whose view may be another.
    pub(super) fn has_come_back(&self, name: &Name) -> bool {
        self.forwarders().iter().any(|(_, forwarder)| forwarder.has_come_back(name))
    }

    /// The block lists of all of them, where there are any, each with the name of the first view that has them.
    pub(super) fn block_lists(&self) -> Vec<(Option<&str>, &Arc<Blocks>)> {
        let lists = self.each(|setup| &setup.blocks);
        lists.into_iter().filter(|(_, blocks)| !blocks.is_empty()).collect()
    }

    pub fn log(&self) -> Option<&Arc<QueryLog>> {
        self.log.as_ref()
    }

    /// Says who we are in an answer to who wants to know, as far as it has room (RFC 5001, 2.1).
    pub(super) fn introduce(&self, query: &Query, client: Client, answer: &mut Vec<u8>) {
        let Some(nsid) = &self.nsid else { return };
        let is_wanted = query.edns.as_ref().is_some_and(|edns| edns.option(option::NSID).is_some());
        if is_wanted && answer.len() + 4 + nsid.len() <= client.room.octets(query.payload_size()) {
            add_option(answer, option::NSID, nsid.as_bytes());
        }
    }

    /// How it gives cookies.
    pub fn cookies(&self) -> &Cookies {
        &self.cookies
    }

    /// Puts the cookie that is due to a client into the answer to its query, given by its octets; where that finds no room,
    /// the client is told to ask over TCP. Consul gives none.
    pub(super) fn seal(&self, octets: &[u8], client: Client, clock: u64, answer: &mut Vec<u8>) {
        // Most have no records behind their question.
        let may_have = octets.get(11) != Some(&0) && !answer.is_empty() && !self.is_consul();
        let Some(brought) = find_option(octets, option::COOKIE).filter(|_| may_have) else { return };
        if client.room == Room::Datagram
            && answer.len() + Cookies::ROOM > Room::Datagram.octets(None)
            && let Ok(query) = Query::parse(octets)
            && let Some(edns) = &query.edns
            && let room = Room::Datagram.octets(Some(edns.udp_size)).saturating_sub(Cookies::ROOM)
            && answer.len() > room
        {
            *answer = truncated(&query, answer, room);
        }
        self.cookies.grant(brought, client.address, clock as u32, answer);
    }

    /// Has the query a cookie that we gave to this client lately? Then answers reach it.
    pub(super) fn has_good_cookie(&self, octets: &[u8], client: Client, clock: u64) -> bool {
        find_option(octets, option::COOKIE).is_some_and(|brought| self.cookies.knows(brought, client.address, clock as u32))
    }

    /// What this client may ask for.
    pub(super) fn standing(&self, client: IpAddr) -> Standing {
        self.clients.standing(client)
    }

    /// Is the name in the discovery domain?
    pub(super) fn is_ours(&self, name: &Name) -> bool {
        self.discovery.is_ours(name)
    }

    /// Why a name of the discovery domain is answered as it is.
    pub(super) fn explain(&self, catalog: &Catalog, question: &Question) -> Option<Explained> {
        self.discovery.explain(catalog, question)
    }

    pub(super) fn is_consul(&self) -> bool {
        self.discovery.settings().compat == Compat::Consul
    }
}

#[cfg(test)]
impl Setup {
    /// With no data of its own but discovery's.
    pub(super) fn before(forwarder: Forwarder, settings: Settings) -> Self {
        let (local, _) = Local::load(&crate::resolve::local::Config { hosts: Vec::new(), ..Default::default() }, None, 0);
        let (discovery, zones, blocks) = (Discovery::new(settings), Zones::none(), Blocks::default());
        let (local, zones, blocks, forwarder) = (local.into(), zones.into(), blocks.into(), forwarder.into());
        Self::new(Parts { discovery, local, zones, blocks, forwarder }, Vec::new(), Common::default())
    }
}
