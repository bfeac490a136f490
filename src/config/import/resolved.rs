//! systemd-resolved's configuration (resolved.conf(5)): the file, and the drop-ins beside it.

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
use crate::upstream::Upstream;

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

/// Reads resolved.conf, and what stands in `resolved.conf.d` beside it, as ours.
pub fn resolved(files: &[PathBuf]) -> Result<Import, Vec<Problem>> {
    let mut disk = Disk::new();
    let with_drop_ins: Vec<PathBuf> = files.iter().flat_map(|file| [file.clone()].into_iter().chain(drop_ins(file))).collect();
    let mut import = Resolved::default();
    for (path, text) in texts(&with_drop_ins, &mut disk)? {
        import.file(&path, &text);
    }
    import.write()
}

/// The `*.conf` files of the folder that has the file's name and `.d`, in the order of their names.
fn drop_ins(file: &Path) -> Vec<PathBuf> {
    let mut folder = file.as_os_str().to_owned();
    folder.push(".d");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "conf")).collect();
    found.sort();
    found
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
    /// Domains whose names the servers are for; all names when there are none.
    routes: Vec<(Name, Origin)>,
    /// `~.`
    takes_all: bool,
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
    address: IpAddr,
    port: Option<u16>,
    name: Option<String>,
    origin: Origin,
}

impl Server {
    fn written(&self, encrypted: bool) -> String {
        let (scheme, usual) = if encrypted { ("tls://", 853) } else { ("", 53) };
        let port = self.port.filter(|port| *port != usual);
        let place = match (self.address, port) {
            (address, Some(port)) => SocketAddr::new(address, port).to_string(),
            (IpAddr::V6(address), None) if encrypted => format!("[{address}]"),
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
            "Domains" if value.is_empty() => (self.routes, self.takes_all) = (Vec::new(), false),
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
            "DNSSEC" => self.draft.set(Section::Dnssec, "validate", "true", from()),
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
                self.listen.push(Item { value: quoted(address.to_string()), from: from() });
            }
            "ReadEtcHosts" if is_off => self.draft.set(Section::Top, "hosts", "[]", from()),
            "ReadEtcHosts" => self.remarks.needless(origin, "rollcall reads /etc/hosts"),
            "ReadStaticRecords" if is_off => self.remarks.needless(origin, "rollcall does not read them"),
            "ReadStaticRecords" => {
                return Err(Left::new("rollcall does not read /etc/systemd/resolve/static.d").hint("write [[record]] for each"));
            }
            "ResolveUnicastSingleLabel" if is_off => self.draft.set(Section::Forward, "domain_needed", "true", from()),
            "ResolveUnicastSingleLabel" => self.remarks.needless(origin, "rollcall forwards names of one label"),
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
        let (address, port) = match (place.parse::<IpAddr>(), place.parse::<SocketAddr>()) {
            (Ok(address), _) => (address, None),
            (_, Ok(address)) => (address.ip(), Some(address.port())),
            _ => return Err(Left::new(format!("expected the address of a server, got {word:?}"))),
        };
        if interface.is_some() {
            self.remarks.changed(origin, "the routing table decides the way to the server, not its interface");
        }
        let server = Server { address, port, name, origin: origin.clone() };
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

    fn domains<'a>(&mut self, origin: &Origin, words: impl Iterator<Item = &'a str>) -> Result<(), Left> {
        let mut searched = Vec::new();
        for word in words {
            match word.strip_prefix('~') {
                Some(".") => self.takes_all = true,
                // One that cannot be read keeps no other from going its own way.
                Some(domain) => match Name::from_idn(domain) {
                    Ok(_) if domain.contains('*') => {
                        let left = Left::new(format!("nobody asks for a name with an asterisk, such as {domain}"));
                        self.remarks.left_out(origin, left.hint("a domain stands for all names below it: write it without"));
                    }
                    Ok(name) => self.routes.push((name, origin.clone())),
                    Err(error) => self.remarks.left_out(origin, Left::new(error.to_string())),
                },
                None => searched.push(word),
            }
        }
        if searched.is_empty() {
            return Ok(());
        }
        let line = format!("`search {}` in /etc/resolv.conf", searched.join(" "));
        Err(Left::new("which domains are tried behind a short name is for the programs that ask").hint(line))
    }

    fn write(mut self) -> Result<Import, Vec<Problem>> {
        let upstreams = self.upstreams();
        let local = Item { value: quoted("127.0.0.1:53"), from: Vec::new() };
        self.draft.add(Section::Dns, "listen", [local].into_iter().chain(self.listen));
        let own = Settings::default().domain;
        let (ours, routes): (Vec<_>, Vec<_>) = self.routes.into_iter().partition(|(name, _)| name.is_within(&own));
        for (_, origin) in &ours {
            self.remarks.changed(origin, "rollcall answers these names by itself, from its own registry");
        }
        let items = |routes: Vec<(Name, Origin)>| {
            routes.into_iter().map(|(name, origin)| Item { value: quoted_name(&name), from: vec![origin] })
        };
        if upstreams.is_empty() && self.has_lost_one && !routes.is_empty() {
            for (_, origin) in &routes {
                let why = "its servers could not be carried over: these names are asked of nobody, lest they go to others";
                self.remarks.changed(origin, why);
            }
            self.draft.begin(Section::Route);
            self.draft.add(Section::Route, "domains", items(routes));
            self.draft.set(Section::Route, "upstreams", "[]", Vec::new());
        } else if upstreams.is_empty() {
            for (_, origin) in &routes {
                self.remarks.needless(origin, "without DNS= it has no effect");
            }
        } else if self.takes_all || routes.is_empty() && ours.is_empty() {
            self.draft.add(Section::Forward, "upstreams", upstreams);
        } else if !routes.is_empty() {
            // The servers are for these domains; all else goes where the machine's links say.
            for (_, origin) in &routes {
                self.remarks.changed(
                    origin,
                    "only the servers of this domain are carried over; those of the links are what /etc/resolv.conf says",
                );
            }
            self.draft.begin(Section::Route);
            self.draft.add(Section::Route, "domains", items(routes));
            self.draft.add(Section::Route, "upstreams", upstreams);
        } else {
            for origin in upstreams.iter().flat_map(|item| &item.from) {
                self.remarks.changed(origin, "it was asked about rollcall's own names alone, which rollcall answers by itself");
            }
        }
        if !self.without.is_empty() {
            self.draft.add(Section::Filter, "without", self.without);
        }
        let title = "Made by `rollcall import resolved`; above each setting stands the line that it comes from.";
        finish(self.draft.into_toml(title), self.remarks, self.settings)
    }
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
        assert_eq!(remarks, [(Fate::Needless, Some(6)), (Fate::Changed, Some(3)),], "{text}");
        assert!(text.contains("10.conf:4: DNSStubListenerExtra=udp:127.0.0.9"), "{text}");
    }

    #[test]
    fn route_domains_are_routes_and_never_the_default() {
        let (table, remarks, text) =
            import("[Resolve]\nDNS=10.0.0.2\nDomains=~corp.example ~consul lan\nDNSSEC=yes\nDNSOverTLS=yes\nDSN=1\n", "");
        assert!(table["forward"].get("upstreams").is_none(), "{text}");
        let route = &table["forward"]["route"][0];
        assert_eq!((&route["domains"], &route["upstreams"]), (&vec!["corp.example"].into(), &vec!["tls://10.0.0.2"].into()));
        let lost: Vec<_> = remarks.iter().filter(|(fate, _)| *fate == Fate::LeftOut).map(|(_, line)| line.unwrap()).collect();
        assert_eq!(lost, [3, 6]);
        assert_eq!(table["forward"]["dnssec"]["validate"].as_bool(), Some(true));
        let (table, ..) = import("[Resolve]\nDNS=10.0.0.2\nDomains=~. ~corp.example\n", "");
        assert_eq!(table["forward"]["upstreams"], vec!["10.0.0.2"].into());
        // A domain that cannot be read takes no other with it, and an asterisk is no domain.
        let (table, remarks, text) =
            import("[Resolve]\nDNS=10.0.0.2\nDomains=~a..b ~*.lab.example ~münchen.example ~corp.example\n", "");
        let domains = vec!["xn--mnchen-3ya.example", "corp.example"].into();
        assert_eq!(table["forward"]["route"][0]["domains"], domains, "{text}");
        assert_eq!(remarks.iter().filter(|(fate, _)| *fate == Fate::LeftOut).count(), 2);
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
        // Another server is enough, and an empty list takes back what was said before.
        let (table, ..) = import("[Resolve]\nDNS=10.0.0.300 10.0.0.1\nDomains=~corp.example\n", "");
        assert_eq!(table["forward"]["route"][0]["upstreams"][0].as_str(), Some("10.0.0.1"));
        let (table, ..) = import("[Resolve]\nDNS=10.0.0.300\nDNS=\nDomains=~corp.example\n", "");
        assert!(table.get("forward").is_none());
    }
}
