//! Which upstreams there are, as the configuration has them, and who of them is asked about which names.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::address::{Address, Host, Protocol, Upstream};
use super::bootstrap::{Bootstrap, Place};
use super::config::{Config, Sequential, Whom};
use super::group::{Group, Means};
use super::link::Link;
use super::system;
use super::tally::Tally;
use crate::dns::Question;
use crate::problem::Problem;
use crate::resolve::forward::{Manner, Strategy};
use crate::resolve::route::{self, Routes, To};

/// How long a start or a reload waits for names of upstreams; all are looked up at the same time.
const FIND_MAX: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Groups {
    /// The first is the default group.
    pub(super) all: Vec<Arc<Group>>,
    /// Domains that are answered by others than that.
    pub(super) routes: Routes,
}

/// Upstreams that will be a group.
struct Wanted<'a> {
    name: String,
    strategy: Strategy,
    /// The system's, when unset.
    upstreams: Option<&'a [Upstream]>,
}

/// Where an upstream was found, or why it was not, and how it can be looked for later.
type Located<'a> = (&'a Upstream, Result<Vec<Place>, (Problem, Bootstrap)>);

impl Groups {
    /// What is written as a host name is looked up, once. The links and tallies of `previous` groups go on where they are
    /// still wanted. `own` are our listeners, which are never asked. Upstreams that cannot be found are problems; they are
    /// asked where they were, or else over TCP, for which they are looked up each time.
    pub(super) async fn new(
        config: &Config,
        means: &Arc<Means>,
        previous: Option<&Self>,
        own: &[SocketAddr],
    ) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let (wanted, routes) = wanted(config, &mut problems);
        let located = join_all(wanted.iter().map(|wanted| locate(wanted.upstreams.unwrap_or_default(), own))).await;
        let members = || previous.iter().flat_map(|groups| &groups.all).flat_map(|group| &group.members);
        let mut known: Vec<Arc<Link>> = members().map(|member| member.link.clone()).collect();
        let tallies: Vec<Arc<Tally>> = members().map(|member| member.tally.clone()).collect();
        let group = |(Wanted { name, strategy, upstreams }, located): (Wanted<'_>, _)| {
            let links = match upstreams {
                Some(_) => links(located, own, &mut known, &mut problems),
                // Consul has no upstreams but those that are written.
                None if !config.asks_the_system() => Vec::new(),
                None => system_links(config, own, &mut known, &mut problems),
            };
            let manner = match config.sequential {
                Some(Sequential { timeout, random }) => Manner::Sequential { timeout, random },
                None => Manner::Ranked { strategy, deadline: config.timeout },
            };
            Arc::new(Group::new(name, links, manner, means.clone(), &tallies))
        };
        let all = wanted.into_iter().zip(located).map(group).collect();
        (Self { all, routes }, problems)
    }

    pub(super) fn get(&self, number: u16) -> Option<&Arc<Group>> {
        self.all.get(usize::from(number))
    }

    /// Who is asked, and the number of that group; `None` when nobody is.
    pub(super) fn of(&self, question: &Question) -> Option<(u16, &Arc<Group>)> {
        let number = self.routes.group(question)?;
        Some((number, self.get(number)?))
    }

    /// All upstreams, each once.
    pub(super) fn links(&self) -> Vec<&Arc<Link>> {
        let mut links: Vec<&Arc<Link>> = Vec::new();
        for member in self.all.iter().flat_map(|group| &group.members) {
            if !links.iter().any(|other| Arc::ptr_eq(other, &member.link)) {
                links.push(&member.link);
            }
        }
        links
    }

    /// Are both written the same? A name that leads elsewhere is still the same upstream.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.routes == other.routes
            && self.all.len() == other.all.len()
            && self.all.iter().zip(&other.all).all(|(one, other)| one.named() == other.named())
    }

    /// Are the upstreams of both the same, and in the same places?
    pub(super) fn asks_the_same(&self, other: &Self) -> bool {
        self.all.len() == other.all.len() && self.all.iter().zip(&other.all).all(|(one, other)| one.asks_the_same(other))
    }
}

/// The groups that the configuration wants, the default one first, and what goes to which of them. Lists of domains may have
/// a route each, and all of them the same upstreams.
fn wanted<'a>(config: &'a Config, problems: &mut Vec<Problem>) -> (Vec<Wanted<'a>>, Routes) {
    let mut wanted = vec![Wanted { name: "default".into(), strategy: config.strategy, upstreams: config.upstreams.as_deref() }];
    let mut routes = Routes::new(config.domain_needed);
    let mut numbers: HashMap<(Strategy, &[Upstream]), u16> = HashMap::new();
    for route in &config.route {
        let to = match &route.upstreams {
            None => None,
            Some(Whom::Default) => Some(To::Group(0)),
            Some(Whom::Own(upstreams)) if upstreams.is_empty() => Some(To::Nobody),
            Some(Whom::Own(upstreams)) => {
                let strategy = route.strategy.unwrap_or(config.strategy);
                let wants = (strategy, &upstreams[..]);
                match (numbers.get(&wants), u16::try_from(wanted.len())) {
                    (Some(number), _) => Some(To::Group(*number)),
                    (None, Ok(number)) => {
                        wanted.push(Wanted { name: route.called(), strategy, upstreams: Some(upstreams) });
                        numbers.insert(wants, number);
                        Some(To::Group(number))
                    }
                    (None, Err(_)) => {
                        let problem = Problem::new("expected at most 65,535 different lists of upstreams, got more");
                        problems.push(problem.hint("names of the routes beyond that do not exist"));
                        Some(To::Nobody)
                    }
                }
            }
        };
        let own = route::Route { addresses: route.addresses.clone().into(), to };
        route.domains.iter().for_each(|domain| routes.add(domain, own.clone()));
        if route.single_label {
            routes.add_single_label(own);
        }
    }
    (wanted, routes)
}

/// Finds upstreams that are written together. Host names without addresses are looked up by those of them that are written as
/// addresses and asked in plain text, else by the system's: for UDP, which has no connections, now.
async fn locate<'a>(upstreams: &'a [Upstream], own: &[SocketAddr]) -> Vec<Located<'a>> {
    let mut bootstrap = Bootstrap { via: Vec::new(), own: own.to_vec() };
    let plain = upstreams.iter().filter(|upstream| !upstream.protocol.is_encrypted());
    let plain = plain.filter_map(|upstream| match &upstream.host {
        Host::Address(address) => address.at(upstream.port).ok(),
        Host::Name(_) => None,
    });
    bootstrap.via = plain.filter(|address| !bootstrap.is_own(*address)).collect();
    let find = async |upstream: &'a Upstream| {
        let at = |address: &Address| match address.at(upstream.port) {
            Ok(address) => Ok(Place::At(address)),
            Err(error) => {
                let problem = Problem::new(format!("upstream {upstream}: {error}"));
                Err(problem.hint("it is asked as soon as there is one; `ip link` shows the interfaces"))
            }
        };
        let places = match &upstream.host {
            // Looked at for each connection.
            Host::Address(Address { interface: Some(_), .. }) if upstream.protocol != Protocol::Udp => {
                Ok(vec![Place::Named(bootstrap.clone())])
            }
            Host::Address(address) => at(address).map(|place| vec![place]),
            // Its name is never looked up; those of its addresses are asked that can be.
            Host::Name(_) if !upstream.addresses.is_empty() => {
                let told = |problem: &Problem| tracing::warn!("{problem}");
                Ok(upstream.addresses.iter().map(at).filter_map(|place| place.inspect_err(told).ok()).collect())
            }
            Host::Name(_) if upstream.protocol != Protocol::Udp => Ok(vec![Place::Named(bootstrap.clone())]),
            Host::Name(name) => match tokio::time::timeout(FIND_MAX, bootstrap.find(name, upstream.port)).await {
                Ok(Ok(addresses)) => Ok(addresses.into_iter().map(Place::At).collect()),
                Ok(Err(problem)) => Err(problem),
                Err(_) => {
                    let text = format!("upstream {name}: expected its addresses, got none within {} s", FIND_MAX.as_secs());
                    Err(Problem::new(text).hint("write addresses behind the name, so that nobody has to be asked for them"))
                }
            },
        };
        (upstream, places.map_err(|problem| (problem, bootstrap.clone())))
    };
    join_all(upstreams.iter().map(find)).await
}

/// Upstreams as they are reached.
fn links(
    located: Vec<Located<'_>>,
    own: &[SocketAddr],
    known: &mut Vec<Arc<Link>>,
    problems: &mut Vec<Problem>,
) -> Vec<Arc<Link>> {
    let is_own = |address: SocketAddr| own.iter().any(|own| system::is_own(address, *own));
    let mut found: Vec<Arc<Link>> = Vec::new();
    for (upstream, places) in located {
        let places = places.unwrap_or_else(|(problem, bootstrap)| {
            problems.push(problem);
            let former = known.iter().filter(|link| link.upstream == *upstream).map(|link| link.place.clone());
            let former: Vec<Place> = former.collect();
            if former.is_empty() { vec![Place::Named(bootstrap)] } else { former }
        });
        for place in places {
            match place {
                Place::At(address) if is_own(address) => {
                    problems.push(upstream.is_us());
                }
                place if found.iter().any(|link| link.is_same(upstream, &place)) => {}
                place => found.push(link(upstream.clone(), place, known)),
            }
        }
    }
    found
}

/// The servers that the system asks.
fn system_links(
    config: &Config,
    own: &[SocketAddr],
    known: &mut Vec<Arc<Link>>,
    problems: &mut Vec<Problem>,
) -> Vec<Arc<Link>> {
    match config.system_upstreams(own) {
        Ok(addresses) => addresses.into_iter().map(|address| link(address.into(), Place::At(address), known)).collect(),
        Err(problem) => {
            problems.push(problem);
            Vec::new()
        }
    }
}

/// The link to an upstream: another group's, or that of before a reload, with its connections, if there is one.
fn link(upstream: Upstream, place: Place, known: &mut Vec<Arc<Link>>) -> Arc<Link> {
    if let Some(link) = known.iter().find(|link| link.is_same(&upstream, &place)) {
        return link.clone();
    }
    let link = Arc::new(Link::new(upstream, place));
    known.push(link.clone());
    link
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Instant;

    use super::super::udp_peer::*;
    use super::super::{Forwarder, Kept, Route, peer};
    use super::*;
    use crate::dns::{RData, Rcode, Record, Type};

    #[tokio::test]
    async fn each_route_has_the_strategy_that_is_written() {
        let text = "upstreams = [\"192.0.2.1\"]\nstrategy = \"strict\"\n\
            [[route]]\ndomains = [\"a.example\"]\nupstreams = [\"192.0.2.2\"]\nstrategy = \"parallel\"\n\
            [[route]]\ndomains = [\"b.example\"]\nupstreams = [\"192.0.2.3\"]\n";
        let config: Config = toml::from_str(text).unwrap();
        let (forwarder, _) = Forwarder::new(&config, None, &[]).await;
        let manner = |strategy| Manner::Ranked { strategy, deadline: Config::default().timeout };
        let manners: Vec<Manner> = forwarder.groups.all.iter().map(|group| group.manner).collect();
        assert_eq!(manners, [Strategy::Strict, Strategy::Parallel, Strategy::Strict].map(manner));
        let error = toml::from_str::<Config>("strategy = \"best\"").unwrap_err().to_string();
        assert!(error.contains("`hedged`, `strict`, `parallel`, `random`"), "{error}");
    }

    #[tokio::test]
    async fn a_private_route_never_falls_back() {
        let (public, private) = (Peer::start(0, right).await, Peer::start(0, silent).await);
        let domains = vec!["corp.example".parse().unwrap()];
        let upstreams = Some(Whom::Own(vec![private.address.into()]));
        let route = Route { domains, upstreams, ..Route::default() };
        let timeout = Duration::from_millis(150);
        let forwarder = forwarder(&Config { route: vec![route], timeout, ..config(&[&public]) }).await;
        assert_eq!(ask(&forwarder, &query("www.CORP.example", false)).await.rcode, Rcode::SERVFAIL);
        assert_eq!(public.asked(), 0);
        assert_eq!(ask(&forwarder, &query("corp.example.net", false)).await.rcode, Rcode::NOERROR);
    }

    #[tokio::test]
    async fn a_private_route_whose_upstreams_are_unknown_falls_back_to_nobody() {
        let public = Peer::start(0, right).await;
        let text = "[[route]]\ndomains = [\"corp.example\"]\nupstreams = [\"dns.corp.invalid\"]\n\
                    [[route]]\ndomains = [\"shut.example\"]\nupstreams = []\n\
                    [[route]]\ndomains = [\"open.corp.example\"]\nupstreams = \"default\"\n";
        let routes: Config = toml::from_str(text).unwrap();
        let (forwarder, problems) = Forwarder::new(&Config { route: routes.route, ..config(&[&public]) }, None, &[]).await;
        assert_eq!(problems.len(), 1, "the host name cannot be looked up: {problems:?}");
        let (forwarder, asked) = (Arc::new(forwarder), public.asked());
        for name in ["www.corp.example", "corp.example", "www.shut.example"] {
            assert_eq!(ask(&forwarder, &query(name, false)).await.rcode, Rcode::SERVFAIL, "{name}");
            assert_eq!(forwarder.ask(query(name, false).question).await, None, "{name}");
        }
        assert_eq!(public.asked(), asked, "nobody else was asked");
        assert_eq!(ask(&forwarder, &query("x.open.corp.example", false)).await.rcode, Rcode::NOERROR);
        assert_eq!(public.asked(), asked + 1);
    }

    #[tokio::test]
    async fn we_are_no_upstream_of_ours_on_whatever_address() {
        let upstreams = ["127.0.0.1:5353", "127.0.0.9:5353", "127.0.0.9:5354"].map(|text| text.parse().unwrap());
        let config = Config { upstreams: Some(upstreams.into()), ..Config::default() };
        let (forwarder, problems) = Forwarder::new(&config, None, &["0.0.0.0:5353".parse().unwrap()]).await;
        assert_eq!(problems.len(), 2, "{problems:?}");
        let left: Vec<String> = forwarder.groups.all[0].members.iter().map(|member| member.link.to_string()).collect();
        assert_eq!(left, ["127.0.0.9:5354"]);
    }

    #[tokio::test]
    async fn connections_outlive_a_reload_and_one_server_has_them_once() {
        let peer = peer::Peer::start(Protocol::Tls).await;
        let upstreams = Some(Whom::Own(vec![peer.upstream()]));
        let route = Route { domains: vec!["corp.example".parse().unwrap()], upstreams, ..Route::default() };
        let config =
            Config { upstreams: Some(vec![peer.upstream(), peer.upstream()]), route: vec![route], ..Config::default() };
        let before = forwarder(&config).await;
        ask(&before, &query("www.example.net", false)).await;
        let (after, problems) = Forwarder::new(&config, Some(&before), &[]).await;
        assert_eq!(problems, []);
        let after = Arc::new(after);
        drop(before);
        let misses = || after.counters.misses.get();
        ask(&after, &query("www.example.net", false)).await;
        assert_eq!(misses(), 1, "nor is the cache lost");
        ask(&after, &query("www.corp.example", false)).await;
        assert_eq!((misses(), peer.asked().len(), peer.connections()), (2, 2, 1));
        let changed = Config { upstreams: Some(Vec::new()), ..config };
        let (other, _) = Forwarder::new(&changed, Some(&after), &[]).await;
        assert!(matches!(
            other.kept(&query("www.example.net", false), None, Instant::now()),
            Kept::Elsewhere | Kept::Nothing { .. }
        ));
    }

    #[tokio::test]
    async fn upstreams_by_name_are_looked_up_by_those_in_plain_text() {
        let secure = peer::Peer::start(Protocol::Tls).await;
        let asked_for = Arc::new(Mutex::new(Vec::new()));
        let noted = asked_for.clone();
        let plain = Peer::start(0, move |query| {
            noted.lock().unwrap().push(query.question.name.to_string());
            let mut message = query.response(Rcode::NOERROR);
            // The first address is of a server that never ends its handshake.
            for last in [2, 1].into_iter().filter(|_| query.question.qtype == Type::A) {
                message.answers.push(Record::new(query.question.name.clone(), 60, RData::A([127, 0, 0, last].into())));
            }
            Some(message)
        })
        .await;
        let mut upstream = secure.upstream();
        upstream.addresses.clear();
        let config = Config { upstreams: Some(vec![upstream.clone(), plain.address.into()]), ..Config::default() };
        let _stuck = tokio::net::TcpListener::bind(("127.0.0.2", secure.address.port())).await.unwrap();
        let by_name = forwarder(&config).await;
        assert_eq!(asked_for.lock().unwrap().len(), 0, "nothing is looked up before it is needed");
        let (begun, mut n) = (Instant::now(), 0);
        while secure.asked().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(5), "the encrypted one is asked once it is connected to");
            n += 1;
            assert_eq!(ask(&by_name, &query(&format!("n{n}.example.net"), false)).await.rcode, Rcode::NOERROR);
        }
        assert!(asked_for.lock().unwrap().iter().any(|name| name.starts_with(peer::NAME)));
        // That server is ourselves: nobody is left who could be asked.
        let (alone, problems) = Forwarder::new(&config, None, &[plain.address]).await;
        assert!(problems.iter().any(|problem| problem.message.contains("this server itself")), "{problems:?}");
        let Place::Named(bootstrap) = &alone.groups.all[0].members[0].link.place else { panic!("it has a name") };
        assert!(bootstrap.via.is_empty());
    }

    #[tokio::test]
    async fn an_upstream_by_name_is_followed_and_asked_where_it_was_while_nobody_knows() {
        let last = Arc::new(AtomicU64::new(1));
        let now_at = last.clone();
        let plain = Peer::start(0, move |query| {
            let last = now_at.load(Ordering::SeqCst) as u8;
            let mut message = query.response(if last == 0 { Rcode::NXDOMAIN } else { Rcode::NOERROR });
            if query.question.qtype == Type::A && last > 0 {
                message.answers.push(Record::new(query.question.name.clone(), 60, RData::A([127, 0, 0, last].into())));
            }
            Some(message)
        })
        .await;
        let upstreams = vec![plain.address.into(), "udp://dns.example.net:5353".parse().unwrap()];
        let named = Config { upstreams: Some(upstreams), ..Config::default() };
        assert!(named.has_names() && !config(&[&plain]).has_names());
        let places = |forwarder: &Forwarder| -> Vec<String> {
            forwarder.groups.all[0].members[1..].iter().map(|member| member.link.address().unwrap().to_string()).collect()
        };
        let (first, problems) = Forwarder::new(&named, None, &[]).await;
        assert_eq!((problems, places(&first)), (vec![], vec!["127.0.0.1:5353".to_owned()]));
        let again = Forwarder::new(&named, Some(&first), &[]).await.0;
        assert!(again.asks_the_same(&first));
        last.store(2, Ordering::SeqCst);
        let second = Forwarder::new(&named, Some(&first), &[]).await.0;
        assert_eq!((places(&second), second.asks_the_same(&first)), (vec!["127.0.0.2:5353".to_owned()], false));
        last.store(0, Ordering::SeqCst);
        let (third, problems) = Forwarder::new(&named, Some(&second), &[]).await;
        assert_eq!((problems.len(), third.asks_the_same(&second)), (1, true));
    }

    #[tokio::test]
    async fn other_servers_of_the_system_are_seen() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |text: &str| std::fs::write(file.path(), text).unwrap();
        write("nameserver 192.0.2.1\n");
        let config = Config { resolv_conf: Some(file.path().to_owned()), ..Config::default() };
        let (forwarder, problems) = Forwarder::new(&config, None, &[]).await;
        assert_eq!(problems, []);
        let sees = |text: &str| {
            write(text);
            forwarder.differs_from_system(&config, &["192.0.2.9:53".parse().unwrap()])
        };
        assert!(!sees("search example.net\nnameserver 192.0.2.1\n"));
        assert!(sees("nameserver 192.0.2.2\n") && sees("nameserver 192.0.2.1\nnameserver 192.0.2.2\n"));
        assert!(!sees("nameserver 192.0.2.9\n"), "we are no upstream of ours");
        assert!(!sees(""), "it is about to be written");
        let named = Config { upstreams: Some(Vec::new()), ..config.clone() };
        write("nameserver 192.0.2.2\n");
        assert!(!forwarder.differs_from_system(&named, &[]), "nobody has asked for them");
    }

    #[tokio::test]
    async fn names_that_nobody_knows_hold_up_a_start_once_and_are_asked_for_again() {
        let mute = Peer::start(0, silent).await;
        let named = |name: &str| vec![mute.address.into(), format!("udp://{name}.example.net").parse().unwrap()];
        let route = |domain: &str| Route {
            domains: vec![domain.parse().unwrap()],
            upstreams: Some(Whom::Own(named(domain))),
            ..Route::default()
        };
        let config =
            Config { upstreams: Some(named("first")), route: vec![route("second"), route("third")], ..Config::default() };
        let begun = Instant::now();
        let (forwarder, problems) = Forwarder::new(&config, None, &[]).await;
        let took = begun.elapsed();
        assert!(took < FIND_MAX * 2, "all are looked up at the same time, and not for {took:?}");
        assert_eq!(problems.len(), 3, "{problems:?}");
        for group in &forwarder.groups.all {
            assert!(matches!(group.members[1].link.place, Place::Named(_)), "it is looked up for each connection");
        }
    }
}
