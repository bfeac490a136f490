//! systemd-resolved's configuration (resolved.conf(5)): the file and the drop-ins beside it, or all that it reads itself.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::draft::{Draft, Item, Section, quoted, quoted_name};
use super::{Disk, Import, Left, Origin, Remarks, finish, texts};
use crate::dns::{Name, Type};
use crate::problem::{Problem, nearest};
use crate::resolve::answer::Settings;
use crate::upstream::{Address, Upstream, system};

const KEYS: &[&str] = &[
    "DNS",
    "FallbackDNS",
    "Domains",
    "LLMNR",
    "MulticastDNS",
    "DNSSEC",
    "DNSOverTLS",
    "Cache",
    "CacheFromLocalhost",
    "DNSStubListener",
    "DNSStubListenerExtra",
    "ReadEtcHosts",
    "ReadStaticRecords",
    "ResolveUnicastSingleLabel",
    "StaleRetentionSec",
    "RefuseRecordTypes",
];

/// Where its files are, the folder first that has the last word.
const FOLDERS: &[&str] = &["etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd"];

/// Reads resolved.conf, and what stands in `resolved.conf.d` beside it, as ours; without a file, those that resolved reads.
pub fn resolved(files: &[PathBuf]) -> Result<Import, Vec<Problem>> {
    let mut import = Resolved::default();
    let mut disk = Disk::new();
    let files = match files {
        [] => {
            import.of_links = disk.nameservers(Path::new(system::RESOLVED_CONF)).unwrap_or_default();
            import.delegates(Path::new("/"));
            own_files(Path::new("/"))
        }
        files => files.iter().flat_map(|file| [file.clone()].into_iter().chain(drop_ins([file.as_path()]))).collect(),
    };
    if files.is_empty() {
        let problem = Problem::new("expected a configuration of systemd-resolved below /etc, /run or /usr, and there is none");
        return Err(vec![problem.hint("name the file: `rollcall import resolved FILE`")]);
    }
    for (path, text) in texts(&files, &mut disk)? {
        import.file(&path, &text);
    }
    import.write()
}

/// All that resolved reads: the first resolved.conf that there is, and the drop-ins of all folders.
fn own_files(root: &Path) -> Vec<PathBuf> {
    let places: Vec<PathBuf> = FOLDERS.iter().map(|folder| root.join(folder).join("resolved.conf")).collect();
    let main = places.iter().find(|path| path.exists()).filter(|path| !is_masked(path));
    main.cloned().into_iter().chain(drop_ins(places.iter().map(PathBuf::as_path))).collect()
}

/// The `*.conf` files of the folders that have these files' names and `.d`, in the order of their own names; of one name,
/// that of the first folder alone.
fn drop_ins<'a>(files: impl IntoIterator<Item = &'a Path>) -> Vec<PathBuf> {
    let mut found: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for file in files {
        let mut folder = file.as_os_str().to_owned();
        folder.push(".d");
        for (name, path) in files_of(Path::new(&folder), "conf") {
            found.entry(name).or_insert(path);
        }
    }
    found.into_values().filter(|path| !is_masked(path)).collect()
}

/// A folder's files with this ending, by their names.
fn files_of(folder: &Path, ending: &str) -> Vec<(OsString, PathBuf)> {
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let meant = paths.filter(|path| path.extension().is_some_and(|end| end == ending));
    meant.filter_map(|path| Some((path.file_name()?.to_owned(), path))).collect()
}

/// A link to /dev/null stands for a file that is not there.
fn is_masked(path: &Path) -> bool {
    fs::canonicalize(path).is_ok_and(|path| path == Path::new("/dev/null"))
}

#[derive(Debug, Default)]
struct Resolved {
    remarks: Remarks,
    settings: usize,
    draft: Draft,
    servers: Vec<Server>,
    /// A server could not be carried over.
    has_lost_one: bool,
    /// Whether they are asked over TLS, and the line that says so.
    tls: (Tls, Vec<Origin>),
    listen: Vec<Item>,
    /// Domains whose names are for the servers alone, and not for those of links.
    routes: Vec<(Name, Origin)>,
    /// `~.`: so are all others.
    takes_all: Option<Origin>,
    /// The line that has all answers validated.
    validates: Option<Origin>,
    /// What `ResolveUnicastSingleLabel=` says.
    single_label: Option<(bool, Origin)>,
    /// The servers that the machine asks now, those of `DNS=` among them.
    of_links: Vec<Address>,
    without: Vec<Item>,
}

/// `DNSOverTLS=`
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Tls {
    #[default]
    Never,
    /// `opportunistic`: where it works, and in the clear where it does not.
    Perhaps,
    Always,
}

/// A word of `DNS=`.
#[derive(Debug)]
struct Server {
    address: Address,
    port: Option<u16>,
    name: Option<String>,
    origin: Origin,
}

impl Server {
    fn written(&self, encrypted: bool) -> String {
        let (scheme, usual) = if encrypted { ("tls://", 853) } else { ("", 53) };
        let port = self.port.filter(|port| *port != usual);
        let place = match (&self.address, port) {
            (address, Some(port)) if address.ip.is_ipv6() => format!("[{address}]:{port}"),
            (address, Some(port)) => format!("{address}:{port}"),
            (address, None) if address.ip.is_ipv6() && encrypted => format!("[{address}]"),
            (address, None) => address.to_string(),
        };
        let name = self.name.as_ref().filter(|_| encrypted).map_or_else(String::new, |name| format!("#{name}"));
        format!("{scheme}{place}{name}")
    }
}

impl Resolved {
    fn file(&mut self, path: &Path, text: &str) {
        let mut is_ours = false;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if line.starts_with('[') {
                is_ours = line == "[Resolve]";
                continue;
            }
            self.settings += 1;
            let origin = Origin::new(path, Some(number + 1), line);
            let taken = match line.split_once('=') {
                Some((key, value)) if is_ours => self.setting(&origin, key.trim(), value.trim()),
                _ => Err(Left::new("expected KEY=VALUE in the section [Resolve]")),
            };
            if let Err(left) = taken {
                self.remarks.left_out(&origin, left);
            }
        }
    }

    fn setting(&mut self, origin: &Origin, key: &str, value: &str) -> Result<(), Left> {
        let is_off = ["no", "false", "off", "0", "n", "f"].contains(&&*value.to_ascii_lowercase());
        let is_on = ["yes", "true", "on", "1", "y", "t"].contains(&&*value.to_ascii_lowercase());
        let words = || value.split_ascii_whitespace();
        let from = || vec![origin.clone()];
        match key {
            // An empty list takes back what was said before.
            "DNS" if value.is_empty() => (self.servers, self.has_lost_one) = (Vec::new(), false),
            "DNS" => {
                for word in words() {
                    match self.server(origin, word) {
                        Ok(server) => self.servers.push(server),
                        // One that cannot be read keeps no other out.
                        Err(left) => {
                            self.has_lost_one = true;
                            self.remarks.left_out(origin, left);
                        }
                    }
                }
            }
            "FallbackDNS" if value.is_empty() => {
                self.remarks.needless(origin, "rollcall has no servers that it asks without being told");
            }
            "FallbackDNS" => {
                return Err(Left::new("rollcall has no servers for when no others are known: it asks those that it is told")
                    .hint("write them into `forward.upstreams` if they may always be asked"));
            }
            "Domains" if value.is_empty() => (self.routes, self.takes_all) = (Vec::new(), None),
            "Domains" => return self.domains(origin, words()),
            "LLMNR" | "MulticastDNS" if is_off => self.remarks.needless(origin, "rollcall does not speak it"),
            "LLMNR" | "MulticastDNS" => {
                return Err(Left::new("rollcall asks no neighbours (mDNS, LLMNR)").hint("avahi-daemon and libnss-mdns do"));
            }
            "DNSSEC" if is_off => self.remarks.needless(origin, "rollcall validates only when it is told to"),
            "DNSSEC" if value == "allow-downgrade" => {
                return Err(Left::new(
                    "rollcall validates all answers or none: with less, whoever strips signatures has his way",
                )
                .hint("`validate = true` in [forward.dnssec], if the servers pass signatures on"));
            }
            "DNSSEC" | "DNSOverTLS" if value.is_empty() => self.remarks.needless(origin, "that is the default of resolved"),
            // What resolved cannot read it passes over.
            "DNSSEC" if !is_on => return Err(Left::new(format!("expected yes, no or allow-downgrade, got {value:?}"))),
            "DNSOverTLS" if !is_on && !is_off && value != "opportunistic" => {
                return Err(Left::new(format!("expected yes, no or opportunistic, got {value:?}")));
            }
            "DNSSEC" => {
                self.draft.set(Section::Dnssec, "validate", "true", from());
                self.validates = Some(origin.clone());
            }
            "DNSOverTLS" => {
                let tls = match value {
                    _ if is_off => Tls::Never,
                    "opportunistic" => Tls::Perhaps,
                    _ => Tls::Always,
                };
                self.tls = (tls, from());
            }
            "Cache" if is_off => self.draft.set(Section::Cache, "size", "0", from()),
            "Cache" if value == "no-negative" => self.draft.set(Section::Cache, "max_negative_ttl", "0", from()),
            "Cache" => self.remarks.needless(origin, "rollcall has a cache"),
            "CacheFromLocalhost" if is_off => {
                self.remarks.changed(origin, "answers of servers on this host are kept as others are")
            }
            "CacheFromLocalhost" => self.remarks.needless(origin, "answers are kept, whoever gave them"),
            "DNSStubListener" => self.remarks.changed(origin, "rollcall answers on 127.0.0.1, over UDP and TCP"),
            "DNSStubListenerExtra" if value.is_empty() => self.listen.clear(),
            "DNSStubListenerExtra" => {
                let bare = value.strip_prefix("udp:").or(value.strip_prefix("tcp:")).unwrap_or(value);
                let address = bare.parse::<SocketAddr>().ok().or_else(|| Some(SocketAddr::new(bare.parse().ok()?, 53)));
                let address = address.ok_or_else(|| Left::new(format!("expected an address, got {bare:?}")))?;
                if bare != value {
                    self.remarks.changed(origin, "rollcall listens there over UDP and TCP");
                }
                self.listen.push(Item { value: quoted(address.to_string()), from: from() });
            }
            "ReadEtcHosts" if is_off => self.draft.set(Section::Top, "hosts", "[]", from()),
            "ReadEtcHosts" => self.remarks.needless(origin, "rollcall reads /etc/hosts"),
            "ReadStaticRecords" if is_off => self.remarks.needless(origin, "rollcall does not read them"),
            "ReadStaticRecords" => {
                return Err(Left::new("rollcall does not read /etc/systemd/resolve/static.d").hint("write [[record]] for each"));
            }
            "ResolveUnicastSingleLabel" => self.single_label = Some((is_on, origin.clone())),
            "StaleRetentionSec" => {
                let seconds = value.parse().ok().map(Duration::from_secs).or_else(|| humantime::parse_duration(value).ok());
                let seconds = seconds.ok_or_else(|| Left::new(format!("expected a time, got {value:?}")))?.as_secs();
                let seconds = seconds.min(u64::from(u32::MAX)).to_string();
                self.draft.set(Section::Cache, "max_stale", seconds, from());
            }
            "RefuseRecordTypes" if value.is_empty() => self.without.clear(),
            "RefuseRecordTypes" => {
                self.remarks.changed(origin, "questions of these types get an empty answer rather than a refusal");
                for word in words() {
                    let kind: Type = word.parse().map_err(Left::new)?;
                    self.without.push(Item { value: quoted(kind.to_string()), from: from() });
                }
            }
            unknown => {
                let left = Left::new(format!("rollcall has no word for {unknown:?}"));
                return Err(match nearest(unknown, KEYS.iter().copied()) {
                    Some(near) if near != unknown => left.hint(format!("did you mean `{near}`?")),
                    _ => left,
                });
            }
        }
        Ok(())
    }

    /// `ADDRESS[:PORT][%INTERFACE][#NAME]`
    fn server(&mut self, origin: &Origin, word: &str) -> Result<Server, Left> {
        let (place, name) = word.split_once('#').map_or((word, None), |(place, name)| (place, Some(name.to_owned())));
        let (place, interface) = place.split_once('%').map_or((place, None), |(place, interface)| (place, Some(interface)));
        let (ip, port) = match (place.parse::<IpAddr>(), place.parse::<SocketAddr>()) {
            (Ok(ip), _) => (ip, None),
            (_, Ok(address)) => (address.ip(), Some(address.port())),
            _ => return Err(Left::new(format!("expected the address of a server, got {word:?}"))),
        };
        // Only an address of one link says nothing without it.
        let is_of_a_link = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if interface.is_some() && !is_of_a_link {
            self.remarks.changed(origin, "the routing table decides the way to the server, not its interface");
        }
        let interface = interface.filter(|_| is_of_a_link).map(str::to_owned);
        let server = Server { address: Address { ip, interface }, port, name, origin: origin.clone() };
        server.written(true).parse::<Upstream>().map_err(Left::new)?;
        Ok(server)
    }

    /// The servers as upstreams: over TLS where that was asked for, as far as it can be kept to.
    fn upstreams(&mut self) -> Vec<Item> {
        let (tls, asked_by) = mem::take(&mut self.tls);
        let mut is_bare = false;
        let mut items = Vec::new();
        for server in mem::take(&mut self.servers) {
            let encrypted = tls == Tls::Always || tls == Tls::Perhaps && server.name.is_some();
            is_bare |= !encrypted;
            if server.name.is_some() && !encrypted {
                self.remarks.changed(&server.origin, "the server's name is for TLS, and was left away");
            }
            items.push(Item { value: quoted(server.written(encrypted)), from: vec![server.origin] });
        }
        for origin in &asked_by {
            match tls {
                Tls::Never => self.remarks.needless(origin, "an upstream without a scheme is asked in the clear"),
                Tls::Always => {
                    self.remarks.changed(origin, "the servers are asked over TLS, which is written as tls:// at each of them");
                }
                Tls::Perhaps if is_bare => self.remarks.left_out(
                    origin,
                    Left::new(
                        "servers without a #NAME were carried over as plain DNS: rollcall has no encryption that may fail",
                    )
                    .hint("write \"tls://ADDRESS#NAME\" for those that speak TLS"),
                ),
                Tls::Perhaps => {
                    self.remarks.changed(origin, "the servers are asked over TLS alone, and have to prove their names");
                }
            }
        }
        items
    }

    /// Names below a domain are for the servers, whether it is tried behind short names too or, with `~`, not.
    fn domains<'a>(&mut self, origin: &Origin, words: impl Iterator<Item = &'a str>) -> Result<(), Left> {
        let mut searched = Vec::new();
        for word in words {
            let bare = word.strip_prefix('~').unwrap_or(word);
            match Name::from_idn(bare) {
                _ if [".", "*"].contains(&bare) => self.takes_all = Some(origin.clone()),
                // One that cannot be read keeps no other from going its own way.
                Ok(_) if bare.contains('*') => {
                    let left = Left::new(format!("nobody asks for a name with an asterisk, such as {bare}"));
                    self.remarks.left_out(origin, left.hint("a domain stands for all names below it: write it without"));
                }
                Ok(name) => {
                    self.routes.push((name, origin.clone()));
                    if bare == word {
                        searched.push(word);
                    }
                }
                Err(error) => self.remarks.left_out(origin, Left::new(error.to_string())),
            }
        }
        if searched.is_empty() {
            return Ok(());
        }
        let line = format!("`search {}` in /etc/resolv.conf", searched.join(" "));
        Err(Left::new("which domains are tried behind a short name is for the programs that ask").hint(line))
    }

    /// About names without a domain of theirs, resolved asks its own servers and those of links side by side; no file has the
    /// latter.
    fn tell_of_links(&mut self, upstreams: &[Item], own_servers: &[Address]) {
        let Some(origin) = upstreams.first().and_then(|item| item.from.first()) else { return };
        let others: Vec<String> =
            self.of_links.iter().filter(|address| !own_servers.contains(address)).map(Address::to_string).collect();
        let others = if others.is_empty() { String::new() } else { format!(", now {}", others.join(", ")) };
        let why = format!(
            "resolved asks, beside these servers, those of links that have a default route (DHCP, VPN{others}); rollcall asks \
             whom `forward.upstreams` names"
        );
        self.remarks.changed(origin, why);
    }

    /// Tells of the files that give a domain servers of its own (systemd.dns-delegate(5)).
    fn delegates(&mut self, root: &Path) {
        for folder in FOLDERS {
            for (_, path) in files_of(&root.join(folder).join("dns-delegate.d"), "dns-delegate") {
                let left = Left::new("files that delegate domains are not read");
                let left = left.hint("write a [[forward.route]] with its domains and servers");
                self.remarks.left_out(&Origin::new(&path, None, ""), left);
            }
        }
    }

    fn write(mut self) -> Result<Import, Vec<Problem>> {
        let own_servers: Vec<Address> = self.servers.iter().map(|server| server.address.clone()).collect();
        let upstreams = self.upstreams();
        let is_everywhere = self.listen.iter().any(|item| item.value == quoted("0.0.0.0:53"));
        let local = (!is_everywhere).then(|| Item { value: quoted("127.0.0.1:53"), from: Vec::new() });
        self.draft.add(Section::Dns, "listen", local.into_iter().chain(mem::take(&mut self.listen)));
        match self.single_label.take() {
            Some((true, origin)) => self.remarks.needless(&origin, "rollcall forwards names of one label"),
            // Unless it is told otherwise, resolved asks no server for the addresses of such names.
            said => {
                let from = said.into_iter().map(|(_, origin)| origin).collect();
                self.draft.set(Section::Forward, "domain_needed", "true", from);
            }
        }
        let own = Settings::default().domain;
        let (ours, routes): (Vec<_>, Vec<_>) =
            mem::take(&mut self.routes).into_iter().partition(|(name, _)| name.is_within(&own));
        for (_, origin) in &ours {
            self.remarks.changed(origin, "rollcall answers these names by itself, from its own registry");
        }
        let domains: Vec<Item> =
            routes.iter().map(|(name, origin)| Item { value: quoted_name(name), from: vec![origin.clone()] }).collect();
        if upstreams.is_empty() && self.has_lost_one && !routes.is_empty() {
            for (_, origin) in &routes {
                let why = "its servers could not be carried over: these names are asked of nobody, lest they go to others";
                self.remarks.changed(origin, why);
            }
            self.draft.begin(Section::Route);
            self.draft.add(Section::Route, "domains", domains);
            self.draft.set(Section::Route, "upstreams", "[]", Vec::new());
        } else if upstreams.is_empty() {
            for (_, origin) in &routes {
                self.remarks.needless(origin, "without DNS= it has no effect");
            }
        } else if let Some(origin) = self.takes_all.take() {
            self.draft.add(Section::Forward, "upstreams", upstreams);
            // What is said of the root is said of this too, which is multicast DNS otherwise.
            self.draft.begin(Section::Route);
            self.draft.add(Section::Route, "domains", [Item { value: quoted("local"), from: vec![origin] }]);
            self.draft.set(Section::Route, "upstreams", quoted("default"), Vec::new());
        } else if routes.is_empty() && !ours.is_empty() && upstreams.iter().all(is_of_this_host) {
            for origin in upstreams.iter().flat_map(|item| &item.from) {
                self.remarks.changed(origin, "it was asked about rollcall's own names alone, which rollcall answers by itself");
            }
        } else {
            self.tell_of_links(&upstreams, &own_servers);
            // Whoever is asked about other names too, one day, is not told these.
            if !routes.is_empty() {
                if let Some(origin) = &self.validates {
                    let why = "what servers of a route say is not validated unless it has `validate = true`: private names are seldom signed";
                    self.remarks.changed(origin, why);
                }
                self.draft.begin(Section::Route);
                self.draft.add(Section::Route, "domains", domains);
                self.draft.add(Section::Route, "upstreams", upstreams.clone());
            }
            self.draft.add(Section::Forward, "upstreams", upstreams);
        }
        if !self.without.is_empty() {
            self.draft.add(Section::Filter, "without", self.without);
        }
        let title = "Made by `rollcall import resolved`; above each setting stands the line that it comes from.";
        finish(self.draft.into_toml(title), self.remarks, self.settings)
    }
}

/// Is it a server of this host, as Consul's is that was asked about its own names?
fn is_of_this_host(server: &Item) -> bool {
    let address = server.value.trim_matches('"').trim_start_matches('[');
    address.starts_with("127.") || address.starts_with("::1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::import::Fate;

    fn import(main: &str, drop_in: &str) -> (toml::Table, Vec<(Fate, Option<usize>)>, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolved.conf");
        fs::create_dir(folder.path().join("resolved.conf.d")).unwrap();
        fs::write(&file, main).unwrap();
        fs::write(folder.path().join("resolved.conf.d/10.conf"), drop_in).unwrap();
        fs::write(folder.path().join("resolved.conf.d/readme"), "[Resolve]\nDNS=192.0.2.99\n").unwrap();
        let import = resolved(&[file]).unwrap();
        let remarks = import.remarks.iter().map(|remark| (remark.fate, remark.origin.line)).collect();
        (import.toml.parse().unwrap(), remarks, import.toml)
    }

    #[test]
    fn drop_ins_add_to_the_file_and_take_back() {
        let (table, remarks, text) = import(
            "[Resolve]\n# a comment\nDNS=192.0.2.1 192.0.2.2:5353\nCache=no-negative\nReadEtcHosts=no\nLLMNR=no\n",
            "[Resolve]\nDNS=\nDNS=2001:db8::1#dns.example\nDNSStubListenerExtra=udp:127.0.0.9\nStaleRetentionSec=1d\n",
        );
        assert_eq!(table["forward"]["upstreams"], toml::Value::from(vec!["2001:db8::1"]), "{text}");
        assert_eq!(table["forward"]["cache"]["max_negative_ttl"].as_integer(), Some(0));
        assert_eq!(table["forward"]["cache"]["max_stale"].as_integer(), Some(86_400));
        assert_eq!(table["dns"]["listen"], toml::Value::from(vec!["127.0.0.1:53", "127.0.0.9:53"]));
        assert_eq!(table["hosts"], toml::Value::Array(vec![]));
        let of_links = (Fate::Changed, Some(3));
        let udp_only = (Fate::Changed, Some(4));
        assert_eq!(remarks, [(Fate::Needless, Some(6)), udp_only, (Fate::Changed, Some(3)), of_links], "{text}");
        assert_eq!(
            table["forward"]["domain_needed"].as_bool(),
            Some(true),
            "resolved asks nobody for the address of `printer`"
        );
        assert!(text.contains("10.conf:4: DNSStubListenerExtra=udp:127.0.0.9"), "{text}");
        let (table, ..) = import("[Resolve]\nDNSStubListenerExtra=0.0.0.0\n", "");
        assert_eq!(table["dns"]["listen"], toml::Value::from(vec!["0.0.0.0:53"]));
    }

    #[test]
    fn names_of_all_domains_are_for_the_servers_and_others_are_not_kept_from_them() {
        let (table, remarks, text) =
            import("[Resolve]\nDNS=10.0.0.2\nDomains=~corp.example ~consul lan\nDNSSEC=yes\nDNSOverTLS=yes\nDSN=1\n", "");
        let servers: toml::Value = vec!["tls://10.0.0.2"].into();
        assert_eq!(table["forward"]["upstreams"], servers, "{text}");
        let route = &table["forward"]["route"][0];
        assert_eq!((&route["domains"], &route["upstreams"]), (&vec!["corp.example", "lan"].into(), &servers));
        let lost: Vec<_> = remarks.iter().filter(|(fate, _)| *fate == Fate::LeftOut).map(|(_, line)| line.unwrap()).collect();
        assert_eq!(lost, [3, 6]);
        assert_eq!(table["forward"]["dnssec"]["validate"].as_bool(), Some(true));
        assert!(remarks.contains(&(Fate::Changed, Some(4))), "a route is not validated: {remarks:?}");
        for all in ["~.", ".", "*", "~*"] {
            let (table, ..) = import(&format!("[Resolve]\nDNS=10.0.0.2\nDomains={all} ~corp.example lan\n"), "");
            assert_eq!(table["forward"]["upstreams"], vec!["10.0.0.2"].into());
            assert_eq!(table["forward"]["route"][0]["domains"], vec!["local"].into(), "{all} takes multicast DNS's names too");
        }
        // Consul's DNS, which rollcall takes the place of, is asked for nothing else.
        let (table, ..) = import("[Resolve]\nDNS=127.0.0.1:8600\nDomains=~consul\nResolveUnicastSingleLabel=yes\n", "");
        assert!(table.get("forward").is_none(), "{table}");
        // A domain that cannot be read takes no other with it, and an asterisk is no domain.
        let (table, remarks, text) =
            import("[Resolve]\nDNS=10.0.0.2\nDomains=~a..b ~*.lab.example ~münchen.example ~corp.example\n", "");
        let domains = vec!["xn--mnchen-3ya.example", "corp.example"].into();
        assert_eq!(table["forward"]["route"][0]["domains"], domains, "{text}");
        assert_eq!(remarks.iter().filter(|(fate, _)| *fate == Fate::LeftOut).count(), 2);
    }

    #[test]
    fn without_a_file_it_is_what_resolved_reads() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let found = || {
            let own = own_files(root.path());
            own.iter().map(|path| path.strip_prefix(root.path()).unwrap().display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found(), [""; 0]);
        write("usr/lib/systemd/resolved.conf", "");
        write("run/systemd/resolved.conf", "");
        write("usr/lib/systemd/resolved.conf.d/10-a.conf", "");
        write("run/systemd/resolved.conf.d/20-b.conf", "");
        write("etc/systemd/resolved.conf.d/20-b.conf", "");
        write("usr/local/lib/systemd/resolved.conf.d/30-c.conf", "");
        write("usr/lib/systemd/resolved.conf.d/40-d.conf", "");
        write("etc/systemd/resolved.conf.d/readme", "");
        std::os::unix::fs::symlink("/dev/null", root.path().join("etc/systemd/resolved.conf.d/40-d.conf")).unwrap();
        assert_eq!(
            found(),
            [
                "run/systemd/resolved.conf",
                "usr/lib/systemd/resolved.conf.d/10-a.conf",
                "etc/systemd/resolved.conf.d/20-b.conf",
                "usr/local/lib/systemd/resolved.conf.d/30-c.conf",
            ]
        );
        std::os::unix::fs::symlink("/dev/null", root.path().join("etc/systemd/resolved.conf")).unwrap();
        assert_eq!(found().len(), 3, "a masked file is none");
        let mut import = Resolved::default();
        write("etc/systemd/dns-delegate.d/vpn.dns-delegate", "[Delegate]\nDNS=10.0.0.1\nDomains=corp.example\n");
        import.delegates(root.path());
        assert_eq!(import.remarks.0.len(), 1);
    }

    #[test]
    fn what_was_encrypted_stays_encrypted() {
        let servers = "[Resolve]\nDNS=192.0.2.1#dns.example 192.0.2.2:8853#dns.example 2001:db8::1#dns.example 192.0.2.3\n";
        let (encrypted, plain) = ("tls://192.0.2.1#dns.example", "192.0.2.1");
        for (line, first, last, fate) in [
            ("DNSOverTLS=yes", encrypted, "tls://192.0.2.3", Fate::Changed),
            ("DNSOverTLS=opportunistic", encrypted, "192.0.2.3", Fate::LeftOut),
            ("DNSOverTLS=no", plain, "192.0.2.3", Fate::Needless),
            ("DNSOverTLS=maybe", plain, "192.0.2.3", Fate::LeftOut),
            ("DNSOverTLS=", plain, "192.0.2.3", Fate::Needless),
        ] {
            let (table, remarks, text) = import(servers, &format!("[Resolve]\n{line}\n"));
            let upstreams = table["forward"]["upstreams"].as_array().unwrap();
            assert_eq!((upstreams[0].as_str(), upstreams[3].as_str()), (Some(first), Some(last)), "{text}");
            if first == encrypted {
                let others = (upstreams[1].as_str(), upstreams[2].as_str());
                assert_eq!(
                    others,
                    (Some("tls://192.0.2.2:8853#dns.example"), Some("tls://[2001:db8::1]#dns.example")),
                    "{text}"
                );
            }
            assert!(remarks.contains(&(fate, Some(2))), "{line}: {remarks:?}");
            let config: crate::upstream::Config = table["forward"].clone().try_into().unwrap();
            assert_eq!(config.upstreams.unwrap().len(), 4);
        }
    }

    #[test]
    fn domains_whose_servers_cannot_be_read_are_asked_of_nobody() {
        let (table, remarks, _) = import("[Resolve]\nDNS=10.0.0.300 fe80::x\nDomains=~corp.example ~.\n", "");
        let route = &table["forward"]["route"][0];
        assert_eq!(
            (route["domains"][0].as_str(), route["upstreams"].as_array().map(Vec::len)),
            (Some("corp.example"), Some(0))
        );
        assert!(remarks.iter().filter(|(fate, line)| (*fate, *line) == (Fate::LeftOut, Some(2))).count() == 2, "{remarks:?}");
        assert!(remarks.contains(&(Fate::Changed, Some(3))), "{remarks:?}");
        let (table, ..) = import("[Resolve]\nDNS=fe80::1%eth0 [fe80::2]:5353%eth1 192.0.2.1%eth0\n", "");
        assert_eq!(table["forward"]["upstreams"], vec!["fe80::1%eth0", "[fe80::2%eth1]:5353", "192.0.2.1"].into());
        // Another server is enough, and an empty list takes back what was said before.
        let (table, ..) = import("[Resolve]\nDNS=10.0.0.300 10.0.0.1\nDomains=~corp.example\n", "");
        assert_eq!(table["forward"]["route"][0]["upstreams"][0].as_str(), Some("10.0.0.1"));
        let (table, ..) = import("[Resolve]\nDNS=10.0.0.300\nDNS=\nDomains=~corp.example\n", "");
        assert!(["upstreams", "route"].iter().all(|key| table["forward"].get(key).is_none()), "{table}");
    }
}
