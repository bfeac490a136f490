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
use crate::resolve::answer::{Client, Compat, Discovery, Explained};
use crate::resolve::block::Blocks;
use crate::resolve::local::Local;
use crate::resolve::passing::truncated;
use crate::resolve::rewrite::Rewrites;
use crate::resolve::zone::Zones;
use crate::upstream::Forwarder;

/// What the configuration makes of us; a reload replaces it whole. Cloning is cheap, and a clone in force lets workers
/// forget what they have near.
#[derive(Debug, Clone)]
pub struct Setup {
    pub(super) discovery: Discovery,
    /// No local data stands in front of names of the discovery domain.
    pub(super) at_once: bool,
    pub(super) local: Arc<Local>,
    /// Names without data of their own that have local names below them, in domains that a route answers by itself.
    pub(super) parents: Arc<HashSet<Name>>,
    pub(super) clients: Arc<Clients>,
    pub(super) log: Option<Arc<QueryLog>>,
    /// What we call ourselves to who asks (RFC 5001).
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
    pub fn new(
        discovery: Discovery,
        local: impl Into<Arc<Local>>,
        zones: impl Into<Arc<Zones>>,
        forwarder: Arc<Forwarder>,
    ) -> Self {
        let (local, zones) = (local.into(), zones.into());
        let domain = &discovery.settings().domain;
        let in_zones = zones.covers(domain) || zones.apexes().iter().any(|apex| apex.is_within(domain));
        let at_once = !in_zones && !local.has_within(domain);
        let mut parents = HashSet::new();
        for name in local.names().chain(&zones.apexes()) {
            let mut above = name.parent();
            while let Some(name) = above.filter(|name| forwarder.is_answered_here(name)) {
                above = name.parent();
                parents.insert(name);
            }
        }
        let parents = Arc::new(parents);
        Self {
            discovery,
            at_once,
            local,
            parents,
            clients: Arc::default(),
            cookies: Cookies::default(),
            log: None,
            nsid: None,
            views: Vec::new(),
            view: None,
            place: 0,
            zones,
            blocks: Arc::default(),
            rewrites: Arc::default(),
            forwarder,
        }
    }

    /// For these clients.
    pub fn with_clients(mut self, clients: Clients) -> Self {
        let clients = Arc::new(clients);
        for view in &mut self.views {
            *view = Arc::new(Self { clients: clients.clone(), ..Self::clone(view) });
        }
        Self { clients, ..self }
    }

    /// With a log of all that is answered.
    pub fn with_log(self, log: Option<Arc<QueryLog>>) -> Self {
        Self { log, ..self }
    }

    /// With what answers instead of it, by names, in the order that [`Clients`] knows them by. Who may ask, and what is logged,
    /// is one for all.
    pub fn with_views(self, views: Vec<(String, Self)>) -> Self {
        let view = |(place, (name, view)): (usize, (String, Self))| {
            // What is prepared for one is good for all, unless they say otherwise whether they forward.
            let same = view.discovery.settings().recursors == self.discovery.settings().recursors;
            let discovery = if same { self.discovery.clone() } else { view.discovery.clone() };
            let (clients, log) = (self.clients.clone(), self.log.clone());
            Arc::new(Self { discovery, clients, log, view: Some(name.into()), place, ..view })
        };
        let views = (1..).zip(views).map(view).collect();
        Self { views, ..self }
    }

    /// The same, by which nobody has anything near.
    pub(super) fn anew(&self) -> Self {
        let views = self.views.iter().map(|view| Arc::new(Self::clone(view))).collect();
        Self { views, ..self.clone() }
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
        let mut forwarders: Vec<(Option<&str>, &Arc<Forwarder>)> = Vec::new();
        for setup in self.all() {
            if !forwarders.iter().any(|(_, other)| Arc::ptr_eq(other, &setup.forwarder)) {
                forwarders.push((setup.view(), &setup.forwarder));
            }
        }
        forwarders
    }

    /// Is this the name that an upstream of any of them was asked for only to see whether it leads here? It comes back as a
    /// query of the upstream's, whose view may be another.
    pub(super) fn has_come_back(&self, name: &Name) -> bool {
        self.forwarders().iter().any(|(_, forwarder)| forwarder.has_come_back(name))
    }

    /// The block lists of all of them, where there are any, each with the name of the first view that has them.
    pub(super) fn block_lists(&self) -> Vec<(Option<&str>, &Arc<Blocks>)> {
        let mut lists: Vec<(Option<&str>, &Arc<Blocks>)> = Vec::new();
        for setup in self.all() {
            if !setup.blocks.is_empty() && !lists.iter().any(|(_, other)| Arc::ptr_eq(other, &setup.blocks)) {
                lists.push((setup.view(), &setup.blocks));
            }
        }
        lists
    }

    pub fn local(&self) -> &Arc<Local> {
        &self.local
    }

    pub fn log(&self) -> Option<&Arc<QueryLog>> {
        self.log.as_ref()
    }

    /// Called this by who asks what we are called.
    pub fn with_nsid(self, nsid: Option<&str>) -> Self {
        Self { nsid: nsid.map(Arc::from), ..self }
    }

    /// Says who we are in an answer to who wants to know, as far as it has room (RFC 5001, 2.1).
    pub(super) fn introduce(&self, query: &Query, client: Client, answer: &mut Vec<u8>) {
        let Some(nsid) = &self.nsid else { return };
        let is_wanted = query.edns.as_ref().is_some_and(|edns| edns.option(option::NSID).is_some());
        if is_wanted && answer.len() + 4 + nsid.len() <= client.room.octets(query.payload_size()) {
            add_option(answer, option::NSID, nsid.as_bytes());
        }
    }

    /// With another forwarder of the same routes in the place of the former one, wherever that is.
    pub(super) fn with_forwarder(mut self, former: &Arc<Forwarder>, forwarder: &Arc<Forwarder>) -> Self {
        for view in self.views.iter_mut().filter(|view| Arc::ptr_eq(&view.forwarder, former)) {
            *view = Arc::new(Self { forwarder: forwarder.clone(), ..Self::clone(view) });
        }
        if Arc::ptr_eq(&self.forwarder, former) {
            self.forwarder = forwarder.clone();
        }
        self
    }

    /// With these cookies; each setup has a secret of its own otherwise.
    pub fn with_cookies(self, cookies: Cookies) -> Self {
        Self { cookies, ..self }
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

    /// The same with names that stand for others.
    #[must_use]
    pub fn with_rewrites(mut self, rewrites: Rewrites) -> Self {
        let settings = self.discovery.settings();
        let has_ours = settings.alt_domain.iter().chain([&settings.domain]).any(|domain| rewrites.has_within(domain));
        self.at_once &= !has_ours;
        Self { rewrites: Arc::new(rewrites), ..self }
    }

    /// The same with block lists.
    #[must_use]
    pub fn with_blocks(self, blocks: Arc<Blocks>) -> Self {
        Self { blocks, ..self }
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
