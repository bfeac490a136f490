//! Who may ask, and for what: a server that looks up any name for anybody is a weapon against others (RFC 5358, BCP 140).
//!
//! What the configuration says becomes one table of address ranges, so that a query costs one short search in it.

mod ranges;
mod rate;

use std::cmp::Reverse;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Deserializer, de};

use self::ranges::{Networks, Ranges};
use self::rate::Limiter;
use crate::limits::RATE_MAX;
use crate::problem::Problem;
use crate::resolve::filter::read_network;

/// The `[clients]` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who is answered at all.
    pub allowed: Vec<Network>,
    /// Whose questions about names that are not ours are answered; `None` is [`Network::Local`], but for Consul's way.
    pub forwarding_allowed: Option<Vec<Network>>,
    /// Who is not answered, whatever else is said.
    pub refused: Vec<Network>,
    /// Queries a second that one client may ask; as many as it likes unless it says otherwise.
    pub rate: Option<NonZeroU32>,
    /// Queries that it may ask at once, if it has been quiet; as many as in a second unless it says otherwise.
    pub burst: Option<NonZeroU32>,
    /// Who may ask as much as it likes.
    pub rate_exempt: Vec<Network>,
}

impl Config {
    /// What is wrong with it.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (key, value) in [("rate", self.rate), ("burst", self.burst)] {
            if let Some(value) = value.filter(|value| value.get() > RATE_MAX) {
                let problem = Problem::new(format!("[clients]: expected `{key}` of 1 to {RATE_MAX} queries, got {value}"));
                problems.push(problem.hint("without the key a client may ask as much as it likes"));
            }
        }
        if self.rate.is_none() && (self.burst.is_some() || !self.rate_exempt.is_empty()) {
            let problem = Problem::new("[clients]: `burst` and `rate_exempt` say nothing without `rate`");
            problems.push(problem.hint("write rate = 100, queries a second of one client").warning());
        }
        problems
    }
}

impl Default for Config {
    fn default() -> Self {
        let (forwarding_allowed, refused, rate, burst, rate_exempt) = Default::default();
        Self { allowed: vec![Network::Any], forwarding_allowed, refused, rate, burst, rate_exempt }
    }
}

/// Clients, as the configuration names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Network {
    /// `"any"`: everybody.
    Any,
    /// `"local"`: this host, private networks, and the networks that it is in.
    Local,
    /// A network, or one address.
    Of(IpNet),
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "any" => Ok(Self::Any),
            "local" => Ok(Self::Local),
            _ => read_clients(text).map(Self::Of).map_err(|error| match text.contains('/') {
                true => error,
                false => format!("{error}, nor \"local\" or \"any\""),
            }),
        }
    }
}

/// A network of clients, or one address, as clients are compared with it: an IPv4 address that is mapped into IPv6 is one of
/// IPv4 (RFC 4291, 2.5.5.2).
fn read_clients(text: &str) -> Result<IpNet, String> {
    let network = read_network(text)?;
    let mapped = network.prefix_len().checked_sub(96).zip(v4_of(network.addr()));
    Ok(mapped.and_then(|(length, address)| Ipv4Net::new(address, length).ok()).map_or(network, IpNet::V4))
}

fn v4_of(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => address.to_ipv4_mapped(),
    }
}

/// Networks and addresses, for no word stands for proxies.
pub fn networks_alone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| read_clients(text).map_err(de::Error::custom)).collect()
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("\"any\""),
            Self::Local => f.write_str("\"local\""),
            Self::Of(network) => fmt::Display::fmt(network, f),
        }
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Everybody.
const ANY: [IpNet; 2] =
    [IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)), IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0))];

/// Those who can only be near: loopback, private (RFC 1918, RFC 4193), shared (RFC 6598) and link-local addresses
/// (RFC 3927, RFC 4291).
const NEAR: [IpNet; 9] = [
    v4(127, 0, 8),
    v4(10, 0, 8),
    v4(172, 16, 12),
    v4(192, 168, 16),
    v4(169, 254, 16),
    v4(100, 64, 10),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
    v6(0xfe80, 10),
    v6(0xfc00, 7),
];

const fn v4(first: u8, second: u8, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(first, second, 0, 0), length))
}

const fn v6(first: u16, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0), length))
}

/// The networks that these words mean on a host in `around`.
fn networks(words: &[Network], around: &[IpNet]) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for word in words {
        match word {
            Network::Any => networks.extend(ANY),
            Network::Local => networks.extend(NEAR.iter().chain(around)),
            Network::Of(network) => networks.push(*network),
        }
    }
    networks
}

/// What a client may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Every name.
    Everything,
    /// Names that are known here: local data, zones, discovery.
    OurNames,
    Nothing,
}

impl Standing {
    /// Why a question is refused, for the client and whoever runs this server; short, since its sender may be forged.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Nothing => "this client is refused",
            _ => "not in clients.forwarding_allowed",
        }
    }
}

/// What the configuration says of clients, ready to be asked.
#[derive(Debug)]
pub struct Clients {
    config: Config,
    standings: Ranges<Standing>,
    /// Whose clients have a view of their own, and which; none without views.
    views: Vec<Vec<Network>>,
    view_of: Option<Ranges<Option<usize>>>,
    limiter: Option<Arc<Limiter>>,
    told_of_refusal: Once,
    told_of_haste: Once,
}

/// Something that is told when it happens for the first time. Later it is only read.
#[derive(Debug, Default)]
struct Once(AtomicBool);

impl Once {
    fn is_first(&self) -> bool {
        !self.0.load(Ordering::Relaxed) && !self.0.swap(true, Ordering::Relaxed)
    }
}

impl Clients {
    /// `views` are the clients of each view, and `around` the networks that this host is in.
    pub fn new(config: &Config, views: Vec<Vec<Network>>, around: &[IpNet]) -> Self {
        let of = |words: &[Network]| Networks::new(&networks(words, around));
        let (allowed, refused) = (of(&config.allowed), of(&config.refused));
        let forwarding = of(config.forwarding_allowed.as_deref().unwrap_or(&[Network::Local]));
        let all = [&allowed, &refused, &forwarding].into_iter().flat_map(Networks::iter);
        let standings = Ranges::new(all, |address| {
            if refused.contain(address) || !allowed.contain(address) {
                Standing::Nothing
            } else if forwarding.contain(address) {
                Standing::Everything
            } else {
                Standing::OurNames
            }
        });
        let limiter = config.rate.map(|rate| {
            let exempt = of(&config.rate_exempt);
            Arc::new(Limiter::new(rate, config.burst.unwrap_or(rate), exempt))
        });
        let view_of = (!views.is_empty()).then(|| view_of(&views, around));
        Self {
            config: config.clone(),
            standings,
            views,
            view_of,
            limiter,
            told_of_refusal: Once::default(),
            told_of_haste: Once::default(),
        }
    }

    /// The same in other surroundings; `None` when they make no difference.
    pub fn moved(&self, around: &[IpNet]) -> Option<Self> {
        let moved = Self::new(&self.config, self.views.clone(), around);
        let differs = moved.standings != self.standings || moved.view_of != self.view_of;
        // What clients have asked is not forgotten.
        differs.then(|| Self { limiter: self.limiter.clone(), ..moved })
    }

    /// Does this client ask more often than it may? What it is let through is counted. `proven` is one that has shown that
    /// answers reach it, as who connects or brings a cookie of ours has; whoever forges its address cannot use up what it may
    /// ask so.
    pub(super) fn asks_too_often(&self, client: IpAddr, proven: impl FnOnce() -> bool, now: Instant) -> bool {
        self.limiter.as_ref().is_some_and(|limiter| !limiter.admits(client, proven(), now))
    }

    /// The number of the view that this client has.
    pub(super) fn view(&self, client: IpAddr) -> Option<usize> {
        self.view_of.as_ref()?.get(client).flatten()
    }

    /// What this client may ask for.
    pub(super) fn standing(&self, client: IpAddr) -> Standing {
        self.standings.get(client).unwrap_or(Standing::Nothing)
    }

    /// Lets whoever runs the server know, once, that a client was refused for this reason.
    pub(super) fn tell_of_refusal(&self, client: IpAddr, standing: Standing) {
        if self.told_of_refusal.is_first() {
            let what = match standing {
                Standing::Nothing => "it is in clients.refused, or not in clients.allowed",
                _ => "it asks for names that are not ours, and is not in clients.forwarding_allowed",
            };
            tracing::warn!("the client {client} is refused: {what}; further ones are only counted");
        }
    }

    /// The same of one that asks too often.
    pub(super) fn tell_of_haste(&self, client: IpAddr) {
        if self.told_of_haste.is_first() {
            tracing::warn!("the client {client} asks more often than clients.rate allows; further ones are only counted");
        }
    }
}

impl Default for Clients {
    fn default() -> Self {
        Self::new(&Config::default(), Vec::new(), &[])
    }
}

/// The view of each address: that of the smallest network which it is in; of equal ones, that of the first.
fn view_of(views: &[Vec<Network>], around: &[IpNet]) -> Ranges<Option<usize>> {
    let of_view = |(number, words): (usize, &Vec<Network>)| {
        networks(words, around).into_iter().map(move |network| (network.trunc(), number))
    };
    let all: Vec<(IpNet, usize)> = views.iter().enumerate().flat_map(of_view).collect();
    Ranges::new(all.iter().map(|(network, _)| network), |address| {
        let around_it = all.iter().filter(|(network, _)| network.contains(&address));
        around_it.max_by_key(|(network, number)| (network.prefix_len(), Reverse(*number))).map(|(_, number)| *number)
    })
}

/// What is one client: an IPv4 address, or an IPv6 network of 64 bits, all of whose addresses one host may use
/// (RFC 4291, 2.5.1).
pub(super) fn network(client: IpAddr) -> (bool, u64) {
    match client.to_canonical() {
        IpAddr::V4(address) => (false, address.to_bits().into()),
        IpAddr::V6(address) => (true, (address.to_bits() >> 64) as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(text: &str, around: &[&str]) -> Clients {
        let around: Vec<IpNet> = around.iter().map(|network| network.parse().unwrap()).collect();
        Clients::new(&toml::from_str(text).unwrap(), Vec::new(), &around)
    }

    fn standings(clients: &Clients, expected: Standing, addresses: &[&str]) {
        for address in addresses {
            assert_eq!(clients.standing(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn rfc5358_4_by_default_only_who_is_near_has_other_names_looked_up() {
        let clients = clients("", &["198.51.100.9/24", "2001:db8:7::1/64"]);
        let near = ["127.0.0.1", "127.255.255.255", "10.0.0.0", "172.31.255.255", "192.168.7.7", "169.254.1.1", "100.127.0.1"];
        standings(&clients, Standing::Everything, &near);
        standings(&clients, Standing::Everything, &["::1", "fe80::7", "febf::1", "fd00::1", "::ffff:10.1.2.3"]);
        standings(&clients, Standing::Everything, &["198.51.100.0", "198.51.100.255", "2001:db8:7::ffff"]);
        let far = ["0.0.0.0", "9.255.255.255", "11.0.0.0", "126.255.255.255", "128.0.0.0", "172.32.0.0", "172.15.255.255"];
        standings(&clients, Standing::OurNames, &far);
        standings(&clients, Standing::OurNames, &["198.51.101.0", "255.255.255.255", "100.128.0.0", "::ffff:8.8.8.8"]);
        standings(&clients, Standing::OurNames, &["::", "::2", "2001:db8:7:1::1", "fec0::1", "ff02::1"]);
    }

    #[test]
    fn refused_wins_over_allowed_and_allowed_over_forwarding() {
        let clients = clients(
            "allowed = [\"10.0.0.0/8\", \"192.0.2.7\", \"2001:db8::/32\"]\nforwarding_allowed = [\"local\", \"192.0.2.0/24\"]\n\
             refused = [\"10.9.0.0/16\", \"2001:db8:9::1\"]",
            &[],
        );
        standings(&clients, Standing::Everything, &["10.8.255.255", "10.10.0.0", "192.0.2.7"]);
        standings(&clients, Standing::OurNames, &["2001:db8:9::", "2001:db8:9::2"]);
        let nobody = ["10.9.0.0", "10.9.255.255", "127.0.0.1", "192.0.2.6", "192.0.2.8", "2001:db8:9::1", "::1", "::"];
        standings(&clients, Standing::Nothing, &nobody);
    }

    #[test]
    fn words_stand_for_networks() {
        let open = clients("forwarding_allowed = [\"any\"]", &[]);
        standings(&open, Standing::Everything, &["192.0.2.1", "2001:db8::1", "::", "255.255.255.255"]);
        assert_eq!((open.standings.v4.len(), open.standings.v6.len()), (1, 1));
        let closed = clients("allowed = []", &[]);
        standings(&closed, Standing::Nothing, &["127.0.0.1", "::1"]);
        for wrong in ["10.0.0.0/33", "example.com", "Local", ""] {
            let error = toml::from_str::<Config>(&format!("allowed = [{wrong:?}]")).unwrap_err().to_string();
            assert!(error.contains("expected an address or a network"), "{error}");
        }
    }

    #[test]
    fn rfc4291_2_5_5_2_a_mapped_network_is_one_of_ipv4() {
        let mapped = clients("allowed = [\"::ffff:192.0.2.7\", \"::ffff:10.0.0.0/104\", \"2001:db8::/32\"]", &[]);
        standings(&mapped, Standing::OurNames, &["192.0.2.7", "2001:db8::1"]);
        standings(&mapped, Standing::Everything, &["10.255.0.1", "::ffff:10.0.0.1"]);
        standings(&mapped, Standing::Nothing, &["192.0.2.8", "11.0.0.0", "::1"]);
        standings(&clients("refused = [\"::ffff:0:0/96\"]", &[]), Standing::Nothing, &["192.0.2.7", "127.0.0.1"]);
        // It has others in it too.
        let wide = clients("refused = [\"::/64\"]", &[]);
        standings(&wide, Standing::Everything, &["127.0.0.1"]);
        standings(&wide, Standing::Nothing, &["::1"]);
    }

    #[test]
    fn an_address_with_a_length_is_no_network() {
        for (text, meant) in [
            ("10.0.0.1/8", ["\"10.0.0.0/8\"", "\"10.0.0.1\""]),
            ("127.0.0.1/0", ["\"0.0.0.0/0\"", "\"127.0.0.1\""]),
            ("2001:db8::1/64", ["\"2001:db8::/64\"", "\"2001:db8::1\""]),
        ] {
            let error = text.parse::<Network>().unwrap_err();
            assert!(meant.iter().all(|meant| error.contains(meant)) && !error.contains("local"), "{error}");
        }
        assert_eq!("10.0.0.1/32".parse(), Ok(Network::Of("10.0.0.1/32".parse().unwrap())));
    }

    #[test]
    fn surroundings_matter_where_they_make_a_difference() {
        let around = |texts: &[&str]| -> Vec<IpNet> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let local = clients("", &["192.0.2.0/24"]);
        assert!(local.moved(&around(&["192.0.2.1/24", "10.0.0.1/8"])).is_none());
        let moved = local.moved(&around(&["203.0.113.1/24"])).unwrap();
        standings(&moved, Standing::Everything, &["203.0.113.77"]);
        standings(&moved, Standing::OurNames, &["192.0.2.77"]);
        assert!(clients("forwarding_allowed = [\"10.0.0.0/8\"]", &[]).moved(&around(&["203.0.113.1/24"])).is_none());
    }

    #[test]
    fn the_smallest_network_decides_on_the_view() {
        let of = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Network>>();
        let views = vec![of(&["10.0.0.0/8", "2001:db8::/32"]), of(&["10.1.0.0/16", "any"]), of(&["10.1.2.3", "10.1.0.0/16"])];
        let clients = Clients::new(&Config::default(), views, &[]);
        let view = |address: &str| clients.view(address.parse().unwrap());
        for (address, expected) in [
            ("10.0.0.1", Some(0)),
            ("10.255.255.255", Some(0)),
            ("10.1.2.2", Some(1)),
            ("10.1.2.3", Some(2)),
            ("::ffff:10.1.2.3", Some(2)),
            ("10.1.2.4", Some(1)),
            ("11.0.0.0", Some(1)),
            ("2001:db8::1", Some(0)),
            ("2001:db9::1", Some(1)),
        ] {
            assert_eq!(view(address), expected, "{address}");
        }
        let only = Clients::new(&Config::default(), vec![of(&["local"])], &["203.0.113.0/24".parse().unwrap()]);
        assert_eq!((only.view([203, 0, 113, 7].into()), only.view([198, 51, 100, 7].into())), (Some(0), None));
        assert!(only.moved(&[]).is_some_and(|moved| moved.view([203, 0, 113, 7].into()).is_none()));
        assert_eq!(Clients::default().view([127, 0, 0, 1].into()), None);
    }

    /// The table says what the networks say, one by one.
    #[test]
    fn ranges_agree_with_networks() {
        let mut rng = fastrand::Rng::with_seed(5358);
        for _ in 0..200 {
            let mut some = |longest: u8| -> Vec<IpNet> {
                let network = |rng: &mut fastrand::Rng| {
                    let bits = u32::from(rng.u8(..4)) << 30 | u32::from(rng.u8(..8));
                    Ipv4Net::new(bits.into(), rng.u8(..=longest)).unwrap().into()
                };
                (0..rng.usize(..8)).map(|_| network(&mut rng)).collect()
            };
            let of = |networks: &[IpNet]| networks.iter().map(|network| Network::Of(*network)).collect::<Vec<_>>();
            let (allowed, forwarding, refused) = (some(4), some(32), some(32));
            let config = Config {
                allowed: of(&allowed),
                forwarding_allowed: Some(of(&forwarding)),
                refused: of(&refused),
                ..Config::default()
            };
            let clients = Clients::new(&config, Vec::new(), &[]);
            for _ in 0..200 {
                let address = IpAddr::V4((u32::from(rng.u8(..4)) << 30 | u32::from(rng.u8(..16))).into());
                let is_in = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
                let expected = match (is_in(&refused) || !is_in(&allowed), is_in(&forwarding)) {
                    (true, _) => Standing::Nothing,
                    (false, true) => Standing::Everything,
                    (false, false) => Standing::OurNames,
                };
                assert_eq!(clients.standing(address), expected, "{address} {config:?}");
            }
        }
    }
}
