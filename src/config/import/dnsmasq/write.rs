//! What was gathered of dnsmasq's lines, written as our configuration.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::super::draft::{Item, Section, quoted, quoted_name};
use super::super::{Import, Left, Origin, finish};
use super::Dnsmasq;
use super::servers::Domain;
use crate::dns::Name;
use crate::limits::{UPSTREAM_PORT_MIN, UPSTREAM_PORTS_MIN};
use crate::problem::Problem;
use crate::resolve::answer::Settings;
use crate::resolve::local::RecordConfig;
use crate::server::{ListenAddress, is_interface};
use crate::upstream::Ports;

/// What dnsmasq listens on besides whatever interfaces it is told.
const LOOPBACK: &str = "lo";
/// All addresses.
const WILDCARDS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
/// Special-use names that a network may have for itself, and dnsmasq asks its servers about.
const FORWARDED: [&str; 2] = ["local", "test"];
/// Where dnsmasq has its leases when nothing says where.
const LEASES: &str = "/var/lib/misc/dnsmasq.leases";

/// The interfaces of now that have a name like this, once each.
fn interfaces_like(pattern: &str) -> Vec<String> {
    let all = if_addrs::get_if_addrs().unwrap_or_default().into_iter().map(|interface| interface.name);
    let names: BTreeSet<String> = all.filter(|name| is_interface(pattern, name)).collect();
    names.into_iter().collect()
}

impl Dnsmasq {
    /// Writes all that was gathered.
    pub(super) fn write(mut self) -> Result<Import, Vec<Problem>> {
        for (fields, origin) in std::mem::take(&mut self.services) {
            if let Err(left) = self.srv_host(&origin, &fields) {
                self.remarks.left_out(&origin, left);
            }
        }
        let target = self.mail_target.take();
        let is_used = self.mail_hosts.iter().any(|(fields, _)| fields.len() == 1);
        for (fields, origin) in std::mem::take(&mut self.mail_hosts) {
            let target = target.as_ref().map(|(target, _)| &**target);
            if let Err(left) = self.mx_host(&origin, &fields, target) {
                self.remarks.left_out(&origin, left);
            }
        }
        match target {
            Some((_, origin)) if is_used => {
                self.remarks
                    .changed(&origin, "it is for the lines of mx-host without a host, and not for the machine's own name");
            }
            Some((_, origin)) => {
                let left = Left::new("rollcall makes up no MX records");
                let hint = "write them: [[record]] with type = \"MX\" and value = \"1 mail.example.\"";
                self.remarks.left_out(&origin, left.hint(hint));
            }
            None => {}
        }
        self.write_listen();
        self.write_local();
        self.write_upstreams();
        self.write_ports();
        self.write_routes();
        self.write_filter();
        self.write_dnssec();
        self.write_cache();
        self.write_log();
        for (flag, strategy) in [("strict-order", "strict"), ("all-servers", "parallel")] {
            let origins = self.take(flag);
            if !origins.is_empty() {
                self.draft.set(Section::Forward, "strategy", quoted(strategy), origins);
            }
        }
        let origins = self.take("no-0x20-encode");
        if !origins.is_empty() {
            self.draft.set(Section::Forward, "random_case", "false", origins);
        }
        for (RecordConfig { name, record_type, value, ttl }, from) in self.records {
            self.draft.begin(Section::Record);
            self.draft.set(Section::Record, "name", quoted_name(&name), vec![from]);
            self.draft.set(Section::Record, "type", quoted(record_type), vec![]);
            self.draft.set(Section::Record, "value", quoted(value), vec![]);
            if let Some(ttl) = ttl {
                self.draft.set(Section::Record, "ttl", ttl.to_string(), vec![]);
            }
        }
        let title = "Made by `rollcall import dnsmasq`; above each setting stands the line that it comes from.";
        finish(self.draft.into_toml(title), self.remarks, self.settings)
    }

    fn take(&mut self, flag: &str) -> Vec<Origin> {
        self.flags.remove(flag).unwrap_or_default()
    }

    /// The names of DHCP clients go on being answered, from where dnsmasq writes its leases down; says whether there are any.
    fn write_leases(&mut self) -> bool {
        let ranges = std::mem::take(&mut self.dhcp_ranges);
        let (path, origin) = match (self.lease_file.take(), ranges.first()) {
            (Some((path, origin)), Some(_)) => (path, origin),
            (None, Some((_, origin))) => (PathBuf::from(LEASES), origin.clone()),
            (written, None) => {
                written.iter().for_each(|(_, origin)| self.remarks.needless(origin, "no dhcp-range gives leases"));
                return false;
            }
        };
        let item = Item { value: quoted(path.to_string_lossy()), from: vec![origin] };
        self.draft.add(Section::Top, "leases", vec![item]);
        for (at, _) in ranges {
            if let Some(remark) = self.remarks.0.get_mut(at) {
                let hint = "keep dnsmasq for it beside rollcall, with port=0, so that it leaves DNS alone; the names of its clients \
                            are answered from its lease file (`leases`)";
                remark.instead = Some(hint.to_owned());
            }
        }
        true
    }

    fn write_listen(&mut self) {
        let (port, from_port) = match self.port.take() {
            Some((port, origin)) => (port, vec![origin]),
            None => (53, Vec::new()),
        };
        let mut items = Vec::new();
        let mut add = |place: String, from: Option<&Origin>| {
            let from = from.into_iter().chain(&from_port).cloned().collect();
            items.push(Item { value: quoted(place), from });
        };
        let binding = ["bind-interfaces", "bind-dynamic"].map(|flag| self.take(flag)).concat();
        for origin in &binding {
            self.remarks.needless(origin, "rollcall binds each address by itself, and follows those of interfaces");
        }
        let addresses = std::mem::take(&mut self.listen);
        let (interfaces, excepted) = (std::mem::take(&mut self.interfaces), std::mem::take(&mut self.excepted));
        let (wildcards, others): (Vec<_>, Vec<_>) = addresses.iter().partition(|(address, _)| address.is_unspecified());
        // Without binding it, dnsmasq compares 0.0.0.0 with the addresses that clients ask, none of which it is.
        let are_void = binding.is_empty() && !(interfaces.is_empty() && others.is_empty());
        for (address, origin) in &wildcards {
            if are_void {
                self.remarks
                    .needless(origin, "dnsmasq answers nothing at it without bind-interfaces, and on the others it does");
                continue;
            }
            if binding.is_empty() {
                let why =
                    format!("dnsmasq answers nobody at it without bind-interfaces, and this does on all that {address} has");
                self.remarks.changed(origin, why);
            }
            add(SocketAddr::new(*address, port).to_string(), Some(origin));
        }
        for (address, origin) in &others {
            match wildcards.iter().find(|(wildcard, _)| !are_void && wildcard.is_ipv4() == address.is_ipv4()) {
                Some((wildcard, _)) => self.remarks.needless(origin, format!("{wildcard} has {address}")),
                None => add(SocketAddr::new(*address, port).to_string(), Some(origin)),
            }
        }
        let excepting = |name: &str| excepted.iter().find(|(pattern, _)| is_interface(pattern, name)).map(|(_, origin)| origin);
        let mut has_loopback = false;
        for (pattern, origin) in &interfaces {
            let start = pattern.strip_suffix('*');
            let is_whole = !excepted.iter().any(|(other, _)| is_interface(pattern, other) || is_interface(other, pattern));
            let names = match start {
                // All that there are, now and later.
                Some("") if is_whole => {
                    WILDCARDS.iter().for_each(|address| add(SocketAddr::new(*address, port).to_string(), Some(origin)));
                    has_loopback = true;
                    continue;
                }
                Some(_) if !is_whole => interfaces_like(pattern),
                _ => vec![pattern.clone()],
            };
            if start.is_some() && !is_whole {
                self.remarks.changed(
                    origin,
                    "these are the interfaces that it fits now, but for those of except-interface; one that comes later is not listened on",
                );
            }
            for name in names {
                if excepting(&name).is_some() {
                    self.remarks.needless(origin, format!("except-interface takes {name} out"));
                    continue;
                }
                let place = format!("{name}:{port}");
                match place.parse::<ListenAddress>() {
                    Ok(_) => {
                        has_loopback |= is_interface(&name, LOOPBACK);
                        add(place, Some(origin));
                    }
                    Err(_) => {
                        let left = Left::new(format!("{name:?} is no interface that rollcall can follow"));
                        self.remarks.left_out(origin, left.hint("write its addresses into `dns.listen`"));
                    }
                }
            }
        }
        if !interfaces.is_empty() && !has_loopback && excepting(LOOPBACK).is_none() {
            // dnsmasq adds it by itself.
            add(format!("{LOOPBACK}:{port}"), None);
        }
        for (_, origin) in &excepted {
            let is_meant = interfaces.is_empty() && addresses.is_empty();
            match is_meant {
                true => self.remarks.changed(
                    origin,
                    "the other interfaces are those of now, and their addresses are followed; one that comes later is not listened on",
                ),
                false => self.remarks.needless(origin, "the interfaces and addresses to listen on are written by name"),
            }
            if is_meant {
                let others = interfaces_like("*").into_iter().filter(|name| excepting(name).is_none());
                others.for_each(|name| add(format!("{name}:{port}"), Some(origin)));
            }
        }
        let service = self.local_service.take();
        let is_open = interfaces.is_empty() && excepted.is_empty() && addresses.is_empty();
        if is_open {
            let is_of_host = service.as_ref().is_some_and(|(is_of_host, _)| *is_of_host);
            let places = if is_of_host { [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] } else { WILDCARDS };
            match &service {
                Some((true, _)) => {}
                Some((false, origin)) => self.remarks.needless(
                    origin,
                    "who may ask is in `[clients]`: names of others are for local clients alone, as this would have it",
                ),
                None => self.remarks.changed(
                    &self.start,
                    "no line says where to listen, which is on every address, as with dnsmasq; names of others are for local \
                     clients alone, unless `clients.forwarding_allowed` has more",
                ),
            }
            let from: Vec<Origin> =
                service.into_iter().filter(|_| is_of_host).map(|(_, origin)| origin).chain(from_port).collect();
            items.extend(
                places.map(|address| Item { value: quoted(SocketAddr::new(address, port).to_string()), from: from.clone() }),
            );
        } else if let Some((_, origin)) = service {
            self.remarks.needless(&origin, "other lines say where to listen, which switches it off");
        }
        if items.is_empty() {
            // None of those places can be had: this host itself is always served.
            items.push(Item { value: quoted(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port).to_string()), from: Vec::new() });
        }
        self.draft.add(Section::Dns, "listen", items);
    }

    fn write_ports(&mut self) {
        let (least, most) = (self.ports.remove("min-port"), self.ports.remove("max-port"));
        let written = least.iter().chain(&most);
        let from: Vec<Origin> = written.map(|(_, origin)| origin.clone()).collect();
        if from.is_empty() {
            return;
        }
        let first = least.as_ref().map_or(0, |(port, _)| *port).max(UPSTREAM_PORT_MIN);
        let last = most.as_ref().map_or(u16::MAX, |(port, _)| *port);
        if Ports::new(first, last).is_none() {
            let left = || {
                Left::new(format!(
                    "rollcall draws lots among {UPSTREAM_PORTS_MIN} ports or more, as a guard against forged answers"
                ))
            };
            from.iter().for_each(|origin| self.remarks.left_out(origin, left().hint("let the firewall allow more")));
            return;
        }
        if let Some((_, origin)) = least.as_ref().filter(|(port, _)| *port < first) {
            self.remarks.changed(origin, format!("ports below {first} are not used"));
        }
        self.draft.set(Section::Forward, "ports", quoted(format!("{first}-{last}")), from);
    }

    fn write_local(&mut self) {
        let no_hosts = self.take("no-hosts");
        let hosts = std::mem::take(&mut self.hosts);
        if !no_hosts.is_empty() || !hosts.is_empty() {
            let system = no_hosts.is_empty().then(|| Item { value: quoted("/etc/hosts"), from: Vec::new() });
            let items: Vec<Item> = system.into_iter().chain(hosts).collect();
            let is_empty = items.is_empty();
            self.draft.add(Section::Top, "hosts", items);
            if is_empty {
                self.draft.set(Section::Top, "hosts", "[]", no_hosts);
            }
        }
        let has_leases = self.write_leases();
        let expand = self.take("expand-hosts");
        match &self.domain {
            Some((domain, origin)) if !expand.is_empty() => {
                let from = expand.into_iter().chain([origin.clone()]).collect();
                self.draft.set(Section::Top, "hosts_domain", quoted_name(domain), from);
            }
            Some((domain, origin)) if has_leases => {
                self.draft.set(Section::Top, "leases_domain", quoted_name(domain), vec![origin.clone()]);
            }
            Some((_, origin)) => self.remarks.needless(origin, "without expand-hosts it is for DHCP and srv-host"),
            None => expand.iter().for_each(|origin| self.remarks.needless(origin, "there is no domain to expand with")),
        }
        let (ttl, from) = match self.ttls.remove("local-ttl") {
            Some((ttl, origin)) => (ttl, vec![origin]),
            // Unless it is told otherwise, dnsmasq lets nobody remember what is local.
            None => (0, Vec::new()),
        };
        self.draft.set(Section::Top, "local_ttl", ttl.to_string(), from);
        let bogus = self.take("bogus-priv");
        if !bogus.is_empty() {
            self.draft.set(Section::Top, "private_names", quoted("block-reverse"), bogus);
        }
    }

    fn write_upstreams(&mut self) {
        let no_resolv = self.take("no-resolv");
        let mut upstreams = std::mem::take(&mut self.general);
        let files = std::mem::take(&mut self.resolv_files);
        let believed_in = self.take("proxy-dnssec");
        self.trusts = !believed_in.is_empty();
        for item in &mut upstreams {
            item.value = believed(std::mem::take(&mut item.value), self.trusts);
            item.from.extend_from_slice(&believed_in);
        }
        if upstreams.is_empty() {
            for origin in &believed_in {
                let why =
                    "of servers that no line names, only those on this host are believed what they say of signatures (AD)";
                self.remarks.changed(origin, why);
            }
        }
        let needed = self.take("domain-needed");
        if !needed.is_empty() {
            for origin in &self.single_label.from {
                let why = "with domain-needed, dnsmasq says of addresses of these names that there are none; this asks as the line says";
                self.remarks.changed(origin, why);
            }
            self.draft.set(Section::Forward, "domain_needed", "true", needed);
        }
        if !no_resolv.is_empty() {
            for (_, origin) in &files {
                self.remarks.needless(origin, "no-resolv switches it off");
            }
            self.asks_nobody = upstreams.is_empty();
            match self.asks_nobody {
                true => self.draft.set(Section::Forward, "upstreams", "[]", no_resolv),
                false => self.draft.add(Section::Forward, "upstreams", upstreams),
            }
            return;
        }
        if upstreams.is_empty() {
            // Followed where they stand, as dnsmasq follows them.
            match &files[..] {
                [] => return,
                [(path, origin)] => {
                    if let Err(error) = fs::metadata(path) {
                        self.remarks.changed(origin, format!("it is carried over, but cannot be read now: {error}"));
                    }
                    return self.draft.set(
                        Section::Forward,
                        "resolv_conf",
                        quoted(path.to_string_lossy()),
                        vec![origin.clone()],
                    );
                }
                _ => {}
            }
        }
        let system = (PathBuf::from("/etc/resolv.conf"), None);
        let files: Vec<(PathBuf, Option<Origin>)> = if files.is_empty() {
            vec![system]
        } else {
            files.into_iter().map(|(path, origin)| (path, Some(origin))).collect()
        };
        for (path, origin) in files {
            let origin = origin.unwrap_or_else(|| Origin::new(&path, None, ""));
            match self.disk.nameservers(&path) {
                Ok(addresses) if addresses.is_empty() => {}
                Ok(addresses) => {
                    let items =
                        addresses.iter().map(|address| Item { value: quoted(address.to_string()), from: vec![origin.clone()] });
                    upstreams.extend(items);
                    self.remarks
                        .changed(&origin, "dnsmasq asks these servers beside its own; they are copied, and not followed");
                }
                Err(error) => {
                    let left = Left::new(format!("cannot read the servers of {}: {error}", path.display()));
                    self.remarks.left_out(&origin, left.hint("write them into `forward.upstreams`"));
                }
            }
        }
        if upstreams.is_empty() {
            self.asks_nobody = true;
            return self.draft.set(Section::Forward, "upstreams", "[]", Vec::new());
        }
        self.draft.add(Section::Forward, "upstreams", upstreams);
    }

    /// Domains that go the same way share a route, however many lines say so.
    ///
    /// Long lists of `address=/ads.example/` are routes too, and no `[[block]]`: of the lines for a name and for one above it
    /// the longer one counts, as among routes, while a list blocks all below; and an alias of such a name goes through.
    fn write_routes(&mut self) {
        let own = Settings::default().domain;
        // By their ways: domains, and the lines for names of one label.
        let mut routes: BTreeMap<Way, (Vec<Item>, Vec<Origin>)> = BTreeMap::new();
        let trusts = self.trusts;
        let is_named = |name: &str| self.domains.contains_key(name) || self.domains.contains_key(".");
        let forwarded: Vec<Item> = FORWARDED
            .iter()
            .filter(|name| !self.asks_nobody && !is_named(&format!("{name}.")))
            .map(|name| Item { value: quoted(name), from: vec![self.start.clone()] })
            .collect();
        for (name, domain) in std::mem::take(&mut self.domains) {
            let Ok(name) = name.parse::<Name>() else { continue };
            if name.is_within(&own) {
                for origin in &domain.from {
                    self.remarks.changed(origin, "rollcall answers these names by itself, from its own registry");
                }
                if name == own {
                    self.draft.set(Section::Dns, "domain", quoted_name(&own), domain.from);
                }
                continue;
            }
            let (way, from) = (domain.way(trusts), domain.from);
            routes.entry(way).or_default().0.push(Item { value: quoted_name(&name), from });
        }
        let single = std::mem::take(&mut self.single_label);
        if !single.from.is_empty() {
            let (way, from) = (single.way(trusts), single.from);
            routes.entry(way).or_default().1.extend(from);
        }
        for ((addresses, upstreams), (domains, single_label)) in routes {
            self.draft.begin(Section::Route);
            if !domains.is_empty() {
                self.draft.list(Section::Route, "domains", domains);
            }
            if !single_label.is_empty() {
                self.draft.set(Section::Route, "single_label", "true", single_label);
            }
            if !addresses.is_empty() {
                let addresses: Vec<String> = addresses.iter().map(|address| quoted(address.to_string())).collect();
                self.draft.set(Section::Route, "addresses", format!("[{}]", addresses.join(", ")), Vec::new());
            }
            if let Some(upstreams) = upstreams {
                self.draft.set(Section::Route, "upstreams", upstreams, Vec::new());
            }
        }
        if !forwarded.is_empty() {
            self.draft.begin(Section::Route);
            self.draft.list(Section::Route, "domains", forwarded);
            self.draft.set(Section::Route, "upstreams", quoted("default"), Vec::new());
        }
        if !self.asks_nobody {
            let why = "names below localhost, invalid, onion and alt are answered here, and dnsmasq forwards them (RFC 6761, 7686, \
                       9476); those below local and test are forwarded, as by dnsmasq";
            self.remarks.changed(&self.start, why);
        }
    }

    fn write_filter(&mut self) {
        let rebind = self.take("stop-dns-rebind");
        let loopback = self.take("rebind-localhost-ok");
        if rebind.is_empty() {
            let origins = self.rebinding_allowed.drain(..).flat_map(|item| item.from).chain(loopback);
            for origin in origins.collect::<Vec<_>>() {
                self.remarks.needless(&origin, "without stop-dns-rebind it has no effect");
            }
        } else {
            self.draft.set(Section::Filter, "private_addresses", "true", rebind);
            if !loopback.is_empty() {
                self.draft.set(Section::Filter, "loopback_allowed", "true", loopback);
            }
        }
        for (flag, kind) in [("filter-A", "A"), ("filter-AAAA", "AAAA")] {
            let from = self.take(flag);
            if !from.is_empty() {
                self.without.push(Item { value: quoted(kind), from });
            }
        }
        for (key, items) in [
            ("private_allowed", &mut self.rebinding_allowed),
            ("bogus", &mut self.bogus),
            ("ignored", &mut self.ignored),
            ("without", &mut self.without),
            ("translate", &mut self.translate),
        ] {
            if !items.is_empty() {
                self.draft.add(Section::Filter, key, std::mem::take(items));
            }
        }
    }

    fn write_dnssec(&mut self) {
        let (validate, anchors) = (self.take("dnssec"), std::mem::take(&mut self.trust_anchors));
        if validate.is_empty() {
            for origin in anchors.iter().flat_map(|item| &item.from) {
                self.remarks.needless(origin, "without dnssec it has no effect");
            }
            return;
        }
        self.draft.set(Section::Dnssec, "validate", "true", validate);
        if !anchors.is_empty() {
            self.draft.add(Section::Dnssec, "trust_anchors", anchors);
        }
    }

    fn write_log(&mut self) {
        let (mut from, facility) = (std::mem::take(&mut self.log_queries), self.log_facility.take());
        let target = match facility {
            Some((path, origin)) if path.starts_with('/') && !from.is_empty() => {
                from.push(origin);
                path
            }
            Some((_, origin)) => {
                self.remarks.needless(&origin, "the systemd unit decides where the log goes");
                "stderr".into()
            }
            None => "stderr".into(),
        };
        if !from.is_empty() {
            self.draft.set(Section::Log, "queries", quoted(target), from);
        }
    }

    fn write_cache(&mut self) {
        /// What dnsmasq cuts min-cache-ttl at.
        const FLOOR_MAX: u32 = 3_600;
        if let Some((seconds, origin)) = self.ttls.remove("min-cache-ttl") {
            self.remarks.changed(&origin, "the first answer, too, shows at least this TTL");
            self.draft.set(Section::Cache, "min_ttl", seconds.min(FLOOR_MAX).to_string(), vec![origin]);
        }
        let limits = [self.ttls.remove("max-cache-ttl"), self.ttls.remove("max-ttl")];
        if let Some((_, origin)) = &limits[1] {
            self.remarks.changed(origin, "answers are not kept for longer either");
        }
        for (_, origin) in limits.iter().flatten().filter(|(seconds, _)| *seconds == 0) {
            self.remarks.needless(origin, "0 is no bound to dnsmasq either");
        }
        let seconds = limits.iter().flatten().map(|(seconds, _)| *seconds).filter(|seconds| *seconds > 0).min();
        let from = limits.into_iter().flatten().map(|(_, origin)| origin).collect();
        if let Some(seconds) = seconds {
            self.draft.set(Section::Cache, "max_ttl", seconds.to_string(), from);
        }
        let none = self.take("no-negcache");
        if !none.is_empty() {
            self.draft.set(Section::Cache, "max_negative_ttl", "0", none);
        }
        let fixed = self.take("no-round-robin");
        if !fixed.is_empty() {
            fixed.iter().for_each(|origin| self.remarks.changed(origin, "addresses of hosts files and records take turns yet"));
            self.draft.set(Section::Cache, "rotate", "false", fixed);
        }
    }
}

/// An upstream as it is written, which is believed what it says of signatures if anybody is.
fn believed(upstream: String, trusts: bool) -> String {
    if trusts { format!("{{ url = {upstream}, trust_ad = true }}") } else { upstream }
}

/// Addresses, and whom a route asks, as it is written.
type Way = (Vec<IpAddr>, Option<String>);

impl Domain {
    /// Its addresses and whom a route asks, as dnsmasq decides between lines of one domain: an address without a value comes
    /// before servers, `#` before a server, and a server before nobody.
    fn way(&self, trusts: bool) -> Way {
        let mut seen = HashSet::new();
        let addresses = self.addresses.iter().copied().filter(|address| seen.insert(*address)).collect();
        let upstreams = if self.nothing {
            Some("[]".to_owned())
        } else if self.default {
            Some(quoted("default"))
        } else if !self.upstreams.is_empty() {
            let mut seen = HashSet::new();
            let upstreams: Vec<String> = self
                .upstreams
                .iter()
                .filter(|upstream| seen.insert(*upstream))
                .map(|upstream| believed(quoted(upstream), trusts))
                .collect();
            Some(format!("[{}]", upstreams.join(", ")))
        } else {
            (self.nobody || self.lost).then(|| "[]".to_owned())
        };
        (addresses, upstreams)
    }
}
