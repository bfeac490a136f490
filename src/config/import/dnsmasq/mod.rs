//! dnsmasq's configuration.
//!
//! A file is read line by line as dnsmasq reads it ([`statement`]), with all that it includes. What each line asks for is
//! gathered first ([`Dnsmasq`]), since lines about one domain stand anywhere and one of them decides, and is written at the
//! end ([`Dnsmasq::write`]). Lines about who is asked are in `servers`, those that give a name data in `records`.

mod line;
mod options;
mod records;
mod servers;
mod write;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use line::{
    character_strings, domain_of, expected, fields, generic, name_data, name_of, network, number, plain, shown, statement,
};
use servers::Domain;

use super::draft::{Draft, Item, Section, quoted, quoted_name};
use super::{Disk, Found, Import, Left, Origin, Remarks, absolute, texts};
use crate::dns::{Name, Type};
use crate::file;
use crate::limits;
use crate::problem::Problem;
use crate::resolve::cache;
use crate::resolve::dnssec::Anchor;
use crate::resolve::local::RecordConfig;

/// What a handler makes of a value.
type Taken = Result<(), Left>;

/// Reads dnsmasq's files as ours.
pub fn dnsmasq(files: &[PathBuf]) -> Result<Import, Vec<Problem>> {
    let mut disk = Disk::new();
    let texts = texts(files, &mut disk)?;
    let start = Origin::new(files.first().map_or(Path::new(""), PathBuf::as_path), None, "");
    let mut import = Dnsmasq::new(disk, start);
    for (path, text) in &texts {
        import.file(path, text, false);
    }
    let refused = std::mem::take(&mut import.refused);
    Ok(Import { refused, ..import.write()? })
}

/// All that the lines ask for.
#[derive(Debug)]
struct Dnsmasq {
    disk: Disk,
    /// The first file as a whole.
    start: Origin,
    remarks: Remarks,
    refused: Vec<String>,
    settings: usize,
    /// How deep the file that is being read was included.
    depth: usize,
    draft: Draft,
    /// Options that may come once, and did.
    once: HashSet<&'static str>,
    flags: HashMap<&'static str, Vec<Origin>>,
    general: Vec<Item>,
    /// By their names in lower case.
    domains: BTreeMap<String, Domain>,
    single_label: Domain,
    listen: Vec<(IpAddr, Origin)>,
    interfaces: Vec<(String, Origin)>,
    excepted: Vec<(String, Origin)>,
    /// `local-service`, and whether it is for this host alone.
    local_service: Option<(bool, Origin)>,
    /// Lines of `dhcp-range`, with the place of the remark on each.
    dhcp_ranges: Vec<(usize, Origin)>,
    lease_file: Option<(PathBuf, Origin)>,
    port: Option<(u16, Origin)>,
    resolv_files: Vec<(PathBuf, Origin)>,
    hosts: Vec<Item>,
    domain: Option<(Name, Origin)>,
    /// `srv-host` of two labels waits for the domain.
    services: Vec<(Vec<String>, Origin)>,
    /// `mx-host`, which waits for `mx-target`.
    mail_hosts: Vec<(Vec<String>, Origin)>,
    mail_target: Option<(String, Origin)>,
    /// No server is left for names without a line of their own.
    asks_nobody: bool,
    /// `proxy-dnssec`: servers are believed what they say of signatures.
    trusts: bool,
    ttls: HashMap<&'static str, (u32, Origin)>,
    /// `min-port` and `max-port`.
    ports: HashMap<&'static str, (u16, Origin)>,
    /// `log-queries`, whatever more it asks for.
    log_queries: Vec<Origin>,
    log_facility: Option<(String, Origin)>,
    records: Vec<(RecordConfig, Origin)>,
    /// Reverse names that have their PTR record.
    reversed: HashSet<Name>,
    /// Names with records, and where those lead that are aliases.
    claimed: HashMap<Name, Option<String>>,
    bogus: Vec<Item>,
    trust_anchors: Vec<Item>,
    ignored: Vec<Item>,
    without: Vec<Item>,
    translate: Vec<Item>,
    rebinding_allowed: Vec<Item>,
}

impl Dnsmasq {
    fn new(disk: Disk, start: Origin) -> Self {
        Self {
            disk,
            start,
            remarks: Remarks::default(),
            refused: Vec::new(),
            settings: 0,
            depth: 0,
            draft: Draft::default(),
            once: HashSet::new(),
            flags: HashMap::new(),
            general: Vec::new(),
            domains: BTreeMap::new(),
            single_label: Domain::default(),
            listen: Vec::new(),
            interfaces: Vec::new(),
            excepted: Vec::new(),
            local_service: None,
            dhcp_ranges: Vec::new(),
            lease_file: None,
            port: None,
            resolv_files: Vec::new(),
            hosts: Vec::new(),
            domain: None,
            services: Vec::new(),
            mail_hosts: Vec::new(),
            mail_target: None,
            asks_nobody: false,
            trusts: false,
            ttls: HashMap::new(),
            ports: HashMap::new(),
            log_queries: Vec::new(),
            log_facility: None,
            records: Vec::new(),
            reversed: HashSet::new(),
            claimed: HashMap::new(),
            bogus: Vec::new(),
            trust_anchors: Vec::new(),
            ignored: Vec::new(),
            without: Vec::new(),
            translate: Vec::new(),
            rebinding_allowed: Vec::new(),
        }
    }

    /// Reads one file; a servers-file may hold nothing but servers.
    fn file(&mut self, path: &Path, text: &str, servers_only: bool) {
        for (number, line) in text.lines().enumerate() {
            let origin = || Origin::new(path, Some(number + 1), line.trim());
            match statement(line) {
                Ok(None) => {}
                Ok(Some((name, value))) => {
                    self.settings += 1;
                    let origin = origin();
                    let taken = match servers_only && !["server", "rev-server"].contains(&&*name) {
                        true => Err(Left::new("a servers-file may hold nothing but server and rev-server")),
                        false => self.option(&origin, &name, value.as_deref()),
                    };
                    if let Err(left) = taken {
                        if left.is_refused && !self.refused.contains(&name) {
                            self.refused.push(name);
                        }
                        self.remarks.left_out(&origin, left);
                    }
                }
                Err(why) => {
                    self.settings += 1;
                    self.remarks.left_out(&origin(), Left::new(why));
                }
            }
        }
    }

    /// Takes one option.
    fn option(&mut self, origin: &Origin, name: &str, value: Option<&str>) -> Taken {
        match options::without_effect(name) {
            Some(Ok(why)) => {
                self.remarks.needless(origin, why);
                return Ok(());
            }
            Some(Err(left)) => {
                let fields = fields(value.unwrap_or_default());
                let left = self.unanswered(origin, name, &fields, left);
                if name == "dhcp-range" {
                    self.dhcp_ranges.push((self.remarks.0.len(), origin.clone()));
                }
                return Err(left);
            }
            None => {}
        }
        let Some(name) = options::carried(name) else {
            // dnsmasq does not start with it.
            let left = Left::new(format!("dnsmasq knows no option {:?}", shown(name))).refused();
            return Err(match options::near(name) {
                Some(near) => left.hint(format!("did you mean `{near}`?")),
                None => left,
            });
        };
        if options::is_once(name) && !self.once.insert(name) {
            return Err(Left::new("dnsmasq takes this option once; the first one counts"));
        }
        if options::is_flag(name) {
            return match value {
                None | Some("") => {
                    self.flags.entry(name).or_default().push(origin.clone());
                    Ok(())
                }
                Some(value) => Err(Left::new(format!("this option takes no value, got {:?}", shown(value))).refused()),
            };
        }
        let value = value.unwrap_or_default();
        match name {
            "server" | "local" => self.server(origin, value),
            "rev-server" => self.rev_server(origin, value),
            "address" => self.address(origin, value),
            "conf-file" => self.conf_file(value, false),
            "servers-file" => {
                self.remarks.changed(origin, "its lines are copied; dnsmasq reads the file again on SIGHUP");
                self.conf_file(value, true)
            }
            "conf-dir" => self.conf_dir(origin, value),
            "resolv-file" if value.is_empty() => {
                self.flags.entry("no-resolv").or_default().push(origin.clone());
                Ok(())
            }
            "resolv-file" => {
                self.resolv_files.push((absolute(&plain(value)), origin.clone()));
                Ok(())
            }
            "addn-hosts" | "hostsdir" => self.hosts_file(origin, value),
            "dhcp-leasefile" | "dhcp-lease" => {
                self.lease_file = Some((absolute(&plain(value)), origin.clone()));
                Ok(())
            }
            "listen-address" => self.listen_address(origin, value),
            "interface" | "except-interface" => {
                let list = if name == "interface" { &mut self.interfaces } else { &mut self.excepted };
                list.extend(fields(value).into_iter().filter(|name| !name.is_empty()).map(|name| (name, origin.clone())));
                Ok(())
            }
            "local-service" => match value {
                "" | "net" | "host" => {
                    self.local_service = Some((value == "host", origin.clone()));
                    Ok(())
                }
                other => Err(Left::new(format!("expected net or host, got {:?}", shown(other))).refused()),
            },
            "port" => match number::<u16>(value)? {
                0 => {
                    Err(Left::new("port=0 switches DNS off").hint("this dnsmasq may stay as it is, beside rollcall").refused())
                }
                port => {
                    self.port = Some((port, origin.clone()));
                    Ok(())
                }
            },
            "host-record" => self.host_record(origin, value),
            "interface-name" => self.interface_name(origin, value),
            "cname" => self.cname(origin, value),
            "srv-host" => {
                let fields = fields(value);
                name_of(fields.first().map_or("", |name| name))?;
                self.services.push((fields, origin.clone()));
                Ok(())
            }
            "mx-host" => {
                let fields = fields(value);
                name_of(fields.first().map_or("", |name| name))?;
                self.mail_hosts.push((fields, origin.clone()));
                Ok(())
            }
            "mx-target" => {
                line::host_of(&plain(value))?;
                self.mail_target = Some((plain(value), origin.clone()));
                Ok(())
            }
            "neg-ttl" => {
                number::<u32>(value)?;
                let why = "denials without an SOA record are not kept (RFC 2308, 5): whoever gives such is asked each time";
                self.remarks.changed(origin, why);
                Ok(())
            }
            "use-stale-cache" => {
                let seconds = if value.is_empty() { 86_400 } else { number::<u32>(value)? };
                let seconds = if seconds == 0 { i32::MAX.cast_unsigned() } else { seconds };
                self.draft.set(Section::Cache, "stale_after", quoted("0s"), vec![origin.clone()]);
                self.draft.set(Section::Cache, "max_stale", seconds.to_string(), vec![origin.clone()]);
                Ok(())
            }
            "txt-record" => {
                // Blanks between strings are part of them.
                let (owner, strings) = value.split_once(',').unwrap_or((value, ""));
                let strings = strings.trim_start().split(',').flat_map(|text| character_strings(&plain(text)));
                let value = strings.collect::<Vec<_>>().join(" ");
                self.record(origin, name_of(&plain(owner.trim()))?, "TXT", value, None)
            }
            "ptr-record" => match &fields(value)[..] {
                [owner, target] => self.record(origin, name_of(owner)?, "PTR", name_data(&name_of(target)?), None),
                _ => Err(expected("NAME,TARGET", value)),
            },
            "caa-record" => match &fields(value)[..] {
                [owner, flags, tag, text] if tag.chars().all(|c| c.is_ascii_alphanumeric()) && !tag.is_empty() => {
                    let mut octets = vec![number::<u8>(flags)?, u8::try_from(tag.len()).unwrap_or(u8::MAX)];
                    octets.extend(tag.bytes().chain(text.bytes()));
                    let is_simple = text.chars().all(|c| c.is_ascii_graphic() && !['"', '\\'].contains(&c));
                    let value = if is_simple { format!("{flags} {tag} \"{text}\"") } else { generic(&octets) };
                    self.record(origin, name_of(owner)?, "CAA", value, None)
                }
                _ => Err(expected("NAME,FLAGS,TAG,VALUE", value)),
            },
            "naptr-record" => self.naptr_record(origin, value),
            "dns-rr" => self.dns_rr(origin, value),
            "domain" | "domain-suffix" => self.domain(origin, value),
            "alias" => self.alias(origin, value),
            "trust-anchor" => self.trust_anchor(origin, value),
            "bogus-nxdomain" | "ignore-address" => {
                let network = network(value)?;
                let item = Item { value: quoted(network.to_string()), from: vec![origin.clone()] };
                if name == "ignore-address" { &mut self.ignored } else { &mut self.bogus }.push(item);
                Ok(())
            }
            "rebind-domain-ok" => self.rebind_domain_ok(origin, value),
            "filter-rr" => self.filter_rr(origin, value),
            "cache-size" => self.cache_size(origin, value),
            "local-ttl" | "max-ttl" | "max-cache-ttl" | "min-cache-ttl" => {
                let seconds = number::<u32>(value)?.min(i32::MAX.cast_unsigned());
                self.ttls.insert(name, (seconds, origin.clone()));
                Ok(())
            }
            "min-port" | "max-port" => {
                self.ports.insert(name, (number(value)?, origin.clone()));
                Ok(())
            }
            "log-queries" => {
                self.log_queries.push(origin.clone());
                Ok(())
            }
            "log-facility" => {
                self.log_facility = Some((plain(value), origin.clone()));
                Ok(())
            }
            "edns-packet-max" => match number::<u32>(value)? {
                1232 => {
                    self.remarks.needless(origin, "1232 octets are what rollcall sends and takes");
                    Ok(())
                }
                _ => Err(Left::new("rollcall sends and takes datagrams of 1232 octets (RFC 9715); more goes over TCP")
                    .hint("take the line out")),
            },
            // Every name of the list has its arm; one that had none would be told rather than lost.
            _ => Err(Left::new("it is not read here")),
        }
    }

    fn conf_file(&mut self, value: &str, servers_only: bool) -> Taken {
        let path = plain(value);
        match &*path {
            "" => Ok(()),
            "-" => Err(Left::new("standard input is not read").hint("import it as a file")),
            path => self.include(Path::new(path), servers_only),
        }
    }

    fn include(&mut self, path: &Path, servers_only: bool) -> Taken {
        if self.depth == limits::IMPORT_DEPTH_MAX {
            return Err(Left::new("files include one another too deep").hint("import it as another FILE"));
        }
        match self.disk.read(path) {
            Ok(Found::Text(text)) => {
                self.depth += 1;
                self.file(path, &text, servers_only);
                self.depth -= 1;
                Ok(())
            }
            Ok(Found::Again) => Ok(()),
            Err(error) => Err(Left::new(format!("cannot read {}: {error}", path.display())).hint("import it as another FILE")),
        }
    }

    /// All files of a folder in the order of their names, but for what editors and package managers leave behind.
    fn conf_dir(&mut self, origin: &Origin, value: &str) -> Taken {
        let fields = fields(value);
        let Some((folder, suffixes)) = fields.split_first() else { return Ok(()) };
        let (wanted, unwanted): (Vec<&str>, Vec<&str>) =
            suffixes.iter().map(|s| &**s).filter(|suffix| !suffix.is_empty()).partition(|suffix| suffix.starts_with('*'));
        let entries = fs::read_dir(folder).map_err(|error| {
            Left::new(format!("cannot read the folder {folder}: {error}")).hint("import its files, each as a FILE")
        })?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        paths.sort();
        for path in paths {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let is_backup = name.ends_with('~') || name.starts_with('.') || name.starts_with('#') && name.ends_with('#');
            let is_wanted = wanted.is_empty() || wanted.iter().any(|suffix| name.ends_with(&suffix[1..]));
            if is_backup || !is_wanted || unwanted.iter().any(|suffix| name.ends_with(suffix)) {
                continue;
            }
            if let Err(left) = self.include(&path, false) {
                self.remarks.left_out(origin, left);
            }
        }
        Ok(())
    }

    fn hosts_file(&mut self, origin: &Origin, value: &str) -> Taken {
        let path = absolute(&plain(value));
        match fs::metadata(&path) {
            Err(error) => self.remarks.changed(origin, format!("it is carried over, but cannot be read now: {error}")),
            Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => {
                return Err(Left::new("expected a regular file or a folder").hint("write its lines into a file"));
            }
            Ok(_) => {}
        }
        self.hosts.push(Item { value: quoted(path.to_string_lossy()), from: vec![origin.clone()] });
        Ok(())
    }

    fn listen_address(&mut self, origin: &Origin, value: &str) -> Taken {
        for field in fields(value) {
            let address = field.parse().map_err(|_| expected("an address", &field))?;
            self.listen.push((address, origin.clone()));
        }
        Ok(())
    }

    fn domain(&mut self, origin: &Origin, value: &str) -> Taken {
        if value.contains(',') {
            let left = Left::new("rollcall has one domain for the names of hosts files, whatever their addresses");
            let left = left.hint("write the long names into the hosts file");
            return Err(self.unanswered(origin, "domain", &fields(value), left));
        }
        let name = match &*plain(value) {
            "#" => {
                self.remarks.changed(origin, "it is the domain that /etc/resolv.conf names now");
                let text = file::read_text(Path::new("/etc/resolv.conf"), limits::CONFIG_OCTETS_MAX).unwrap_or_default();
                let line =
                    text.lines().find_map(|line| line.trim().strip_prefix("search").or(line.trim().strip_prefix("domain")));
                let word = line.and_then(|line| line.split_ascii_whitespace().next()).map(str::to_owned);
                word.ok_or_else(|| Left::new("/etc/resolv.conf names no domain"))?
            }
            name => name.to_owned(),
        };
        self.domain = Some((name_of(&name)?, origin.clone()));
        Ok(())
    }

    /// `old[-last],new[,mask]`
    fn alias(&mut self, origin: &Origin, value: &str) -> Taken {
        let fields = fields(value);
        let (old, new, mask) = match &fields[..] {
            [old, new] => (old, new, "255.255.255.255"),
            [old, new, mask] => (old, new, &**mask),
            _ => return Err(expected("OLD,NEW,MASK", value)),
        };
        let address = |text: &str| text.trim().parse::<Ipv4Addr>().map_err(|_| expected("an IPv4 address", text));
        let (first, last) = old.split_once('-').map_or((&**old, None), |(first, last)| (first, Some(last)));
        let mut table = format!("{{ from = {}", quoted(address(first)?.to_string()));
        if let Some(last) = last {
            table.push_str(&format!(", through = {}", quoted(address(last)?.to_string())));
        }
        table.push_str(&format!(
            ", to = {}, mask = {} }}",
            quoted(address(new)?.to_string()),
            quoted(address(mask)?.to_string())
        ));
        self.translate.push(Item { value: table, from: vec![origin.clone()] });
        Ok(())
    }

    fn trust_anchor(&mut self, origin: &Origin, value: &str) -> Taken {
        let fields = fields(value);
        // The class may stand in front.
        let (zone, data) = match &fields[..] {
            [class, zone, data @ ..] if class.eq_ignore_ascii_case("IN") => (zone, data),
            [zone, data @ ..] => (zone, data),
            [] => return Err(expected("DOMAIN,KEYTAG,ALGORITHM,DIGESTTYPE,DIGEST", value)),
        };
        let zone = if zone.ends_with('.') { zone.clone() } else { format!("{zone}.") };
        let text = format!("{zone} DS {}", data.join(" "));
        text.parse::<Anchor>().map_err(|_| expected("DOMAIN,KEYTAG,ALGORITHM,DIGESTTYPE,DIGEST", value))?;
        self.trust_anchors.push(Item { value: quoted(text), from: vec![origin.clone()] });
        Ok(())
    }

    fn rebind_domain_ok(&mut self, origin: &Origin, value: &str) -> Taken {
        for domain in value.split('/').filter(|part| !part.is_empty() || value.is_empty()) {
            let domain = plain(domain);
            if domain.is_empty() {
                return Err(Left::new("rollcall has no word for names of one label here").hint("name each of them"));
            }
            let item = Item { value: quoted_name(&domain_of(&domain)?), from: vec![origin.clone()] };
            self.rebinding_allowed.push(item);
        }
        Ok(())
    }

    fn filter_rr(&mut self, origin: &Origin, value: &str) -> Taken {
        for field in fields(value) {
            let known = field.parse::<Type>().ok().filter(|kind| *kind != Type::ANY);
            let known = known.or_else(|| field.parse().ok().map(Type));
            let kind = known.ok_or_else(|| Left::new(format!("rollcall leaves out single types, not {field:?}")))?;
            self.without.push(Item { value: quoted(kind.to_string()), from: vec![origin.clone()] });
        }
        Ok(())
    }

    /// dnsmasq counts names, rollcall octets.
    fn cache_size(&mut self, origin: &Origin, value: &str) -> Taken {
        /// Octets that one kept answer needs, about.
        const OCTETS: u64 = 500;
        let names: i64 = if value.is_empty() { 0 } else { number(value)? };
        match u64::try_from(names).unwrap_or(0).min(5_000_000) * OCTETS {
            0 => self.draft.set(Section::Cache, "size", "0", vec![origin.clone()]),
            size if size <= cache::Config::default().size => {
                self.remarks.needless(origin, "rollcall's cache of 32 MB has room for more names than that")
            }
            size => {
                self.remarks.changed(origin, "the size is in octets: room for about as many names");
                self.draft.set(Section::Cache, "size", size.to_string(), vec![origin.clone()]);
            }
        }
        Ok(())
    }
}

/// The addresses that interfaces have now, but for those that mean something on one link only.
fn addresses_of(is_meant: impl Fn(&str) -> bool) -> Vec<IpAddr> {
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    let wanted = |address: &IpAddr| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    all.into_iter().filter(|interface| is_meant(&interface.name)).map(|interface| interface.ip()).filter(wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::import::Fate;

    /// The configuration as a table, and the lines that did not come over with their reasons.
    fn import(text: &str) -> (toml::Table, Vec<(Option<usize>, String)>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dnsmasq.conf");
        fs::write(&file, text.replace("@DIR@", &folder.path().display().to_string())).unwrap();
        let import = dnsmasq(&[file]).unwrap();
        let lost = import.remarks.iter().filter(|remark| remark.fate == Fate::LeftOut);
        let lost = lost.map(|remark| (remark.origin.line, remark.why.clone())).collect();
        (import.toml.parse().unwrap(), lost)
    }

    fn strings(value: &toml::Value) -> Vec<&str> {
        value.as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect()
    }

    #[test]
    fn a_domain_whose_server_cannot_come_over_is_asked_of_nobody() {
        for target in ["10.0.0.2@eth0", "fe80::1", "10.0.0.2#text", "10.0.0.2#0", "[::1]#53", "10.0.0.2,10.0.0.3"] {
            let (table, lost) = import(&format!("no-resolv\nserver=192.0.2.1\nserver=/corp.example/{target}\n"));
            assert_eq!(lost.len(), 1, "{target}: {lost:?}");
            let route = &table["forward"]["route"][0];
            assert_eq!((strings(&route["domains"]), strings(&route["upstreams"])), (vec!["corp.example"], vec![]), "{target}");
        }
        // Nor does a domain that cannot be read take its neighbours with it.
        let (table, lost) = import("no-resolv\nserver=192.0.2.1\nserver=/*wild.example/corp.example/10.0.0.2\nlocal=/#/\n");
        assert_eq!(lost.iter().map(|(line, _)| line.unwrap()).collect::<Vec<_>>(), [3, 4], "{lost:?}");
        let route =
            |domain: &str, target: Option<&str>| (domain.to_owned(), target.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(routes(&table), [route("corp.example", Some("10.0.0.2")), route("wild.example", None)]);
        let (table, _) = import("no-resolv\nrev-server=10.0.0.0/8,10.0.0.2@eth0\n");
        assert_eq!(strings(&table["forward"]["route"][0]["upstreams"]), [""; 0]);
        let (table, lost) = import("no-resolv\nserver=fe80::1%eth0\nserver=fe80::2%br-lan#5353\n");
        assert_eq!((strings(&table["forward"]["upstreams"]), lost), (vec!["fe80::1%eth0", "[fe80::2%br-lan]:5353"], vec![]));
        // Another server of the domain is enough.
        let (table, _) = import("no-resolv\nserver=/corp.example/10.0.0.2@eth0\nserver=/corp.example/10.0.0.3\n");
        assert_eq!(strings(&table["forward"]["route"][0]["upstreams"]), ["10.0.0.3"]);
        assert_eq!(strings(&table["forward"]["upstreams"]), [""; 0], "and nobody is asked about the rest");
    }

    #[test]
    fn validation_comes_over_with_its_anchors() {
        let anchors = "trust-anchor=corp.example,4711,13,2,ABCD\ntrust-anchor=IN,.,20326,8,2,EF01\ntrust-anchor=x,1\n";
        let (table, lost) = import(&format!("no-resolv\ndnssec\ndnssec-check-unsigned\n{anchors}"));
        let own = &table["forward"]["dnssec"];
        assert_eq!(own["validate"].as_bool(), Some(true));
        assert_eq!(strings(&own["trust_anchors"]), ["corp.example. DS 4711 13 2 ABCD", ". DS 20326 8 2 EF01"]);
        assert_eq!(lost.iter().map(|(line, _)| line.unwrap()).collect::<Vec<_>>(), [6], "{lost:?}");
        let (table, _) = import(&format!("no-resolv\n{anchors}"));
        assert!(table["forward"].get("dnssec").is_none(), "without dnssec they have no effect");
    }

    /// Each domain of a route of its own servers, in order, with whom it asks.
    fn routes(table: &toml::Table) -> Vec<(String, Vec<String>)> {
        let routes = table["forward"].get("route").and_then(toml::Value::as_array).into_iter().flatten();
        let own = |list: &toml::Value| strings(list).into_iter().map(str::to_owned).collect::<Vec<_>>();
        let each = |route: &toml::Value| -> Vec<(String, Vec<String>)> {
            own(&route["domains"]).into_iter().map(|domain| (domain, own(&route["upstreams"]))).collect()
        };
        let mut all: Vec<_> = routes.filter(|route| route["upstreams"].is_array()).flat_map(each).collect();
        all.sort();
        all
    }

    #[test]
    fn names_that_dnsmasq_answers_by_itself_are_asked_of_nobody() {
        let reverse = "0.0.10.in-addr.arpa";
        for (line, domains) in [
            ("domain=corp,10.0.0.0/24,local", &["corp", reverse][..]),
            ("domain=corp,eth0,local", &["corp"]),
            ("domain=#,10.0.0.0/24,local", &[reverse]),
            // Its names were forwarded, but for those of leases and hosts files.
            ("domain=corp,10.0.0.0/24", &[]),
            ("synth-domain=Corp,10.0.0.0/24,host-", &["corp", reverse]),
            ("synth-domain=corp,10.0.0.0,10.0.0.255,host-*", &["corp", reverse]),
            ("synth-domain=corp,10.0.0.1,10.0.0.2", &["corp", "1.0.0.10.in-addr.arpa", "2.0.0.10.in-addr.arpa"]),
            ("synth-domain=corp,2001:db8::/32", &["corp", "8.b.d.0.1.0.0.2.ip6.arpa"]),
            ("synth-domain=corp,10.0.0.2,10.0.0.1", &["corp", "1.0.0.10.in-addr.arpa", "2.0.0.10.in-addr.arpa"]),
            ("auth-zone=corp", &["corp"]),
            ("auth-zone=corp,10.0.0.0,exclude:192.0.2.0/24,eth0/6", &["corp", reverse]),
            ("dynamic-host=host.corp,0.0.0.8,eth0", &["host.corp"]),
            ("server=/*corp/10.0.0.1", &["corp"]),
            ("address=/*corp/10.0.0.1", &["corp"]),
            ("server=/*/10.0.0.1", &[]),
            ("auth-zone", &[]),
            ("dynamic-host", &[]),
        ] {
            let (table, lost) = import(&format!("no-resolv\nserver=9.9.9.9\n{line}\n"));
            let wanted: Vec<(String, Vec<String>)> = domains.iter().map(|domain| (domain.to_string(), Vec::new())).collect();
            let mut found = routes(&table);
            found.sort_by_key(|(domain, _)| domains.iter().position(|wanted| wanted == domain));
            assert_eq!(found, wanted, "{line}");
            assert_eq!((lost.len(), lost[0].1.contains("asked of nobody")), (1, !domains.is_empty()), "{line}: {lost:?}");
        }
        // Another line about the domain says where it goes.
        let (table, _) = import("no-resolv\nauth-zone=corp\nserver=/corp/10.0.0.2\n");
        assert_eq!(routes(&table), [("corp".to_owned(), vec!["10.0.0.2".to_owned()])]);
    }

    #[test]
    fn domains_are_such_as_are_asked_for() {
        let (table, lost) = import(
            "no-resolv\nserver=/münchen.example/a*b.example/10.0.0.2\nstop-dns-rebind\nrebind-domain-ok=/*.corp.example/lan/\n",
        );
        assert_eq!(strings(&table["forward"]["route"][0]["domains"]), ["xn--mnchen-3ya.example"]);
        assert_eq!(lost.iter().map(|(line, _)| line.unwrap()).collect::<Vec<_>>(), [2, 4], "{lost:?}");
    }

    #[test]
    fn lists_of_domains_are_one_route() {
        let text: String =
            (0..3_000).map(|n| format!("address=/ads{n}.example/\nserver=/corp{n}.example/10.0.0.2\n")).collect();
        let (table, lost) = import(&format!("no-resolv\n{text}"));
        let routes = table["forward"]["route"].as_array().unwrap();
        assert_eq!((lost.len(), routes.len()), (0, 2));
        assert!(routes.iter().all(|route| strings(&route["domains"]).len() == 3_000));
    }

    #[test]
    fn what_comes_of_a_long_line_grows_with_it_and_not_with_its_square() {
        const COUNT: usize = 3_000;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dnsmasq.conf");
        let list = |form: &str| (0..COUNT).map(|n| form.replace('N', &n.to_string())).collect::<String>();
        for (text, names) in [
            (format!("server={}/10.0.0.2", list("/nN.example")), COUNT),
            (format!("server={}/10.0.0.2", list("/*.nN.example")), COUNT),
            (format!("server={}/10.0.0.2", list("/one.example")), 1),
            (format!("address={}/192.0.2.1", list("/nN.example")), COUNT),
            (format!("stop-dns-rebind\nrebind-domain-ok={}/", list("/nN.example")), COUNT),
            (format!("host-record={}{}", list("nN.example,"), list("192.0.2.1,").trim_end_matches(',')), COUNT + 1),
        ] {
            fs::write(&file, &text).unwrap();
            let import = dnsmasq(std::slice::from_ref(&file)).unwrap();
            let remarks: usize = import.remarks.iter().map(|remark| remark.to_string().len()).sum();
            let (start, octets) = (&text[..20], import.toml.len() + remarks);
            assert!(octets < 40 * text.len() + 50_000, "{start}: {octets} octets of {}", text.len());
            let domains = |list: &toml::Value| list.as_array().unwrap().len();
            let table: toml::Table = import.toml.parse().unwrap();
            let forward = table.get("forward");
            let route = forward.and_then(|forward| Some(domains(forward.get("route")?.get(0)?.get("domains")?)));
            let allowed = forward.and_then(|forward| Some(domains(forward.get("filter")?.get("private_allowed")?)));
            // The last route, of names that are forwarded as usual, is there in any case.
            assert_eq!(allowed.or(table.get("record").map(domains)).or(route), Some(names), "{start}");
        }
    }

    #[test]
    fn lines_that_dnsmasq_refuses_are_told_with_their_numbers() {
        let text = "no-resolv=yes\ncache-size=10\ncache-size=20\nsever=1.2.3.4\ntxt-record=\"open\nhost-record=a.example\n\
                    address=/x/host\ncname=a.example,b.example\nhost-record=a.example,192.0.2.1\nlocal=/*wild.example/\n\
                    conf-file=@DIR@/absent\nmin-cache-ttl=x\ncname=*.w.example,t.example\nptr-record=münchen.example,a\n";
        let (_, lost) = import(text);
        let lines: Vec<usize> = lost.iter().filter_map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14], "{lost:?}");
    }

    #[test]
    fn files_that_include_themselves_are_read_once_and_not_too_deep() {
        let folder = tempfile::tempdir().unwrap();
        let path = |n: usize| folder.path().join(format!("{n}.conf"));
        for n in 0..100 {
            let text = format!("conf-file={}\nconf-file={}\n", path(n).display(), path(n + 1).display());
            fs::write(path(n), text).unwrap();
        }
        let import = dnsmasq(&[path(0)]).unwrap();
        let lost: Vec<_> = import.remarks.iter().filter(|remark| remark.fate == Fate::LeftOut).collect();
        assert_eq!((lost.len(), import.settings), (2, 2 * (limits::IMPORT_DEPTH_MAX + 1)), "{lost:?}");
        assert!(lost[0].why.contains("too deep"), "{lost:?}");
        for (text, why) in [
            ("conf-file=/dev/zero", "regular file"),
            ("servers-file=/nonexistent", "No such file"),
            ("addn-hosts=/dev/zero", "regular file"),
        ] {
            fs::write(path(0), text).unwrap();
            let import = dnsmasq(&[path(0)]).unwrap();
            assert!(import.remarks.iter().any(|remark| remark.why.contains(why)), "{text}: {:?}", import.remarks);
        }
        assert!(dnsmasq(&[folder.path().join("absent")]).is_err());
    }

    #[test]
    fn queries_are_logged_where_they_were() {
        let logged = |text: &str| {
            let (table, lost) = import(text);
            assert!(lost.is_empty(), "{lost:?}");
            table.get("log").map(|log| log["queries"].as_str().unwrap().to_owned())
        };
        assert_eq!(logged("log-queries\n").as_deref(), Some("stderr"));
        assert_eq!(logged("log-facility=local0\nlog-queries=extra\n").as_deref(), Some("stderr"));
        assert_eq!(logged("log-queries\nlog-facility=/var/log/dns.log\n").as_deref(), Some("/var/log/dns.log"));
        assert_eq!(logged("log-facility=/var/log/dns.log\n"), None);
    }

    #[test]
    fn questions_leave_from_the_ports_that_they_left_from() {
        let ports = |text: &str| {
            let (table, lost) = import(text);
            (table.get("forward").and_then(|forward| forward.get("ports")?.as_str()).map(str::to_owned), lost.len())
        };
        for (text, expected, lost) in [
            ("min-port=4096\n", Some("4096-65535"), 0),
            ("max-port=20000\n", Some("1024-20000"), 0),
            ("min-port=50000\nmax-port=60000\n", Some("50000-60000"), 0),
            ("min-port=1\n", Some("1024-65535"), 0),
            ("min-port=50000\nmax-port=50100\n", None, 2),
            ("max-port=1000\n", None, 1),
            ("query-port=5353\n", None, 1),
        ] {
            assert_eq!(ports(text), (expected.map(str::to_owned), lost), "{text}");
        }
    }

    #[test]
    fn what_the_reference_has_a_place_for_comes_over() {
        let (table, lost) = import(
            "no-resolv\nserver=192.0.2.1\nserver=/corp.example/10.0.0.2\nproxy-dnssec\nuse-stale-cache=0\nneg-ttl=60\nstrip-subnet\n\
             mx-target=mail.example\nmx-host=corp.example\nserver=/printers.local/10.0.0.2\n",
        );
        assert_eq!(lost, []);
        let believed = |value: &toml::Value| (value["url"].as_str().map(str::to_owned), value["trust_ad"].as_bool());
        assert_eq!(believed(&table["forward"]["upstreams"][0]), (Some("192.0.2.1".to_owned()), Some(true)));
        assert_eq!(believed(&table["forward"]["route"][0]["upstreams"][0]), (Some("10.0.0.2".to_owned()), Some(true)));
        assert_eq!(table["forward"]["cache"]["max_stale"].as_integer(), Some(i64::from(i32::MAX)));
        assert_eq!(table["forward"]["cache"]["stale_after"].as_str(), Some("0s"));
        assert_eq!(table["record"][0]["value"].as_str(), Some("1 mail.example."));
        // Names that a private network may have go where they went.
        let special = |text: &str| -> Vec<String> {
            let (table, _) = import(text);
            let routes = table.get("forward").and_then(|forward| forward.get("route")?.as_array().cloned()).unwrap_or_default();
            let special = routes.iter().filter(|route| route.get("upstreams").and_then(toml::Value::as_str) == Some("default"));
            special.flat_map(|route| strings(&route["domains"]).into_iter().map(str::to_owned).collect::<Vec<_>>()).collect()
        };
        assert_eq!(special("no-resolv\nserver=192.0.2.1\n"), ["local", "test"]);
        assert_eq!(special("server=/local/10.0.0.2\n"), ["test"]);
        assert_eq!(special("no-resolv\n"), [""; 0], "nobody is asked about any name");
        assert_eq!(special("address=/#/192.0.2.1\n"), [""; 0], "all names have that address");
        let (_, lost) = import("mx-target=mail.example\nlocalmx\n");
        assert_eq!(lost.len(), 2, "{lost:?}");
    }

    #[test]
    fn names_of_dhcp_clients_are_answered_on_from_the_lease_file() {
        let import = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("dnsmasq.conf");
            fs::write(&file, text).unwrap();
            let import = dnsmasq(&[file]).unwrap();
            let hints: Vec<String> = import.remarks.into_iter().filter_map(|remark| remark.instead).collect();
            (import.toml, hints.join("\n"))
        };
        let range = "dhcp-range=set:lan,192.168.1.100,192.168.1.249,255.255.255.0,12h\n";
        let (toml, hints) = import(&format!("domain=lan\nlocal=/lan/\n{range}"));
        assert!(toml.contains("leases = [") && toml.contains("\"/var/lib/misc/dnsmasq.leases\""), "{toml}");
        assert!(toml.contains("leases_domain = \"lan\"") && hints.contains("port=0"), "{toml} {hints}");
        let (toml, _) = import(&format!("domain=lan\nexpand-hosts\n{range}dhcp-leasefile=/tmp/dhcp.leases\n"));
        assert!(
            toml.contains("\"/tmp/dhcp.leases\"") && toml.contains("hosts_domain") && !toml.contains("leases_domain"),
            "{toml}"
        );
        let (toml, _) = import("domain=lan\ndhcp-leasefile=/tmp/dhcp.leases\n");
        assert!(!toml.contains("leases"), "{toml}");
        assert!(import("no-round-robin\n").0.contains("rotate = false"));
    }

    #[test]
    fn interfaces_are_listened_on_by_their_names() {
        let listen = |text: &str| {
            let (table, lost) = import(text);
            (strings(&table["dns"]["listen"]).into_iter().map(str::to_owned).collect::<Vec<_>>(), lost.len())
        };
        for (text, expected, lost) in [
            ("interface=lan0\nport=5353\n", &["lan0:5353", "lo:5353"][..], 0),
            ("interface=eth0,eth1\nexcept-interface=eth1\nbind-dynamic\n", &["eth0:53", "lo:53"], 0),
            ("interface=eth0\nexcept-interface=lo\n", &["eth0:53"], 0),
            ("interface=lo\nbind-interfaces\n", &["lo:53"], 0),
            ("interface=l*\n", &["l*:53"], 0),
            ("interface=nosuch*\nlisten-address=127.0.0.5,::1\n", &["127.0.0.5:53", "[::1]:53", "nosuch*:53", "lo:53"], 0),
            ("interface=l*,nosuch0\nexcept-interface=nosuch*\n", &["l*:53"], 0),
            ("interface=l*\nexcept-interface=lan7\n", &["lo:53"], 0),
            ("interface=*\n", &["0.0.0.0:53", "[::]:53"], 0),
            ("interface=eth0:1\n", &["lo:53"], 1),
            ("listen-address=127.0.0.5\nexcept-interface=eth0\n", &["127.0.0.5:53"], 0),
            ("port=5353\n", &["0.0.0.0:5353", "[::]:5353"], 0),
            ("local-service\n", &["0.0.0.0:53", "[::]:53"], 0),
            ("local-service=host\n", &["127.0.0.1:53", "[::1]:53"], 0),
            ("local-service=host\ninterface=eth0\n", &["eth0:53", "lo:53"], 0),
            // What dnsmasq does not bind it answers nothing at.
            ("interface=eth0\nlisten-address=0.0.0.0,::\n", &["eth0:53", "lo:53"], 0),
            ("listen-address=0.0.0.0,127.0.0.5\n", &["127.0.0.5:53"], 0),
            ("listen-address=0.0.0.0\n", &["0.0.0.0:53"], 0),
            ("listen-address=0.0.0.0,::1,127.0.0.5\nbind-interfaces\n", &["0.0.0.0:53", "[::1]:53"], 0),
            ("interface=eth0\nlisten-address=0.0.0.0\nbind-dynamic\n", &["0.0.0.0:53", "eth0:53", "lo:53"], 0),
            ("interface=eth0,eth0\nlisten-address=::1\nlisten-address=::1\n", &["[::1]:53", "eth0:53", "lo:53"], 0),
        ] {
            assert_eq!(listen(text), (expected.iter().map(ToString::to_string).collect(), lost), "{text}");
        }
        let (others, lost) = listen("except-interface=lo\nexcept-interface=nosuch0\n");
        assert!(lost == 0 && !others.iter().any(|place| place.starts_with("lo:")), "{others:?}");
        let (others, _) = listen("except-interface=nosuch0\n");
        assert!(others.contains(&"lo:53".to_owned()), "{others:?}");
        let (table, _) = import("interface-name=host.example,lo/4\n");
        assert!(table["record"].as_array().unwrap().iter().any(|record| record["value"].as_str() == Some("127.0.0.1")));
    }
}
