//! A services file: Consul's JSON with comments, of which each entry stands or falls by itself.
//!
//! The text is parsed once, entry by entry. Only when something is wrong is it walked again, to find where.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value as Json};

use super::read::{CHECK_KEYS, Reader, SERVICE_KEYS, fold, port_is_sound};
use super::{CheckDefinition, ServiceDefinition};
use crate::problem::{Place, Problem, nearest};

/// What one file, or several together, define.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Definitions {
    pub services: Vec<ServiceDefinition>,
    pub checks: Vec<CheckDefinition>,
}

/// Problems that are told of one file; a file of a million broken entries tells enough with these.
const PROBLEMS_MAX: usize = 100;

/// The settings of Consul's agent, which may stand beside services in one file. They are none of ours, and no mistake.
const AGENT_KEYS: &str = "\
    acl acl_agent_master_token acl_agent_token acl_datacenter acl_default_policy acl_down_policy \
    acl_enable_key_list_policy acl_enforce_version_8 acl_master_token acl_replication_token acl_token acl_ttl addresses \
    advertise_addr advertise_addr_ipv4 advertise_addr_ipv6 advertise_addr_wan advertise_addr_wan_ipv4 \
    advertise_addr_wan_ipv6 advertise_reconnect_timeout alt_domain audit auto_config auto_encrypt auto_reload_config \
    autopilot bind_addr bootstrap bootstrap_expect ca_file ca_path cache cert_file check_output_max_size \
    check_update_interval client_addr cloud config_entries connect data_dir datacenter default_intention_policy \
    default_query_time disable_anonymous_signature disable_coordinates disable_host_node_id \
    disable_http_unprintable_char_filter disable_keyring_file disable_remote_exec disable_update_check \
    discard_check_output discovery_max_stale dns_config domain enable_acl_replication enable_agent_tls_for_checks \
    enable_central_service_config enable_debug enable_local_script_checks enable_script_checks enable_syslog encrypt \
    encrypt_verify_incoming encrypt_verify_outgoing experiments gossip_lan gossip_wan http_config key_file \
    leave_on_terminate license_path limits locality log_file log_json log_level log_rotate_bytes log_rotate_duration \
    log_rotate_max_files max_query_time node_id node_meta node_name non_voting_server partition peering performance \
    pid_file ports primary_datacenter primary_gateways primary_gateways_interval protocol raft_boltdb raft_logstore \
    raft_protocol raft_snapshot_interval raft_snapshot_threshold raft_trailing_logs read_replica reconnect_timeout \
    reconnect_timeout_wan recursors rejoin_after_leave reporting request_limits retry_interval retry_interval_wan \
    retry_join retry_join_wan retry_max retry_max_wan rpc segment segments serf_lan serf_lan_allowed_cidrs serf_wan \
    serf_wan_allowed_cidrs server server_name server_rejoin_age_max session_ttl_min skip_leave_on_interrupt start_join \
    start_join_wan syslog_facility telemetry tls tls_cipher_suites tls_min_version tls_prefer_server_cipher_suites \
    translate_wan_addrs ui ui_config ui_content_path ui_dir unix_sockets use_streaming_backend verify_incoming \
    verify_incoming_https verify_incoming_rpc verify_outgoing verify_server_hostname version watches xds $schema";

const SHAPE: &str = "write {\"service\": {…}} for one, {\"services\": [{…}, {…}]} for several";

/// What a file is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// Services and checks, and nothing else.
    #[default]
    Services,
    /// Consul's agent configuration, in which whatever else stands is told by whoever reads the settings.
    Agent,
}

/// The entries of one file as they were written, for whoever hands them on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Written {
    pub services: Vec<Map<String, Json>>,
    pub checks: Vec<Map<String, Json>>,
}

/// Reads the text of a services file: what is sound, and what is wrong with the rest.
pub fn file(form: Form, path: &Path, text: &str) -> (Definitions, Vec<Problem>) {
    let (reading, problems) = read(Reading { form, ..Reading::default() }, path, text);
    (reading.definitions, problems)
}

/// The same, but gives the sound entries as they stand there, keys that are not known here included.
pub fn written(path: &Path, text: &str) -> (Written, Vec<Problem>) {
    let (reading, problems) = read(Reading { written: Some(Written::default()), ..Reading::default() }, path, text);
    (reading.written.unwrap_or_default(), problems)
}

fn read(mut reading: Reading, path: &Path, text: &str) -> (Reading, Vec<Problem>) {
    // A mark of byte order has no meaning in UTF-8, but editors leave it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Most files have no comments, and large ones are dear to copy.
    let mut bare = Cow::Borrowed(text);
    let mut parsed = parse(&mut reading, &bare);
    if parsed.is_err() {
        reading = Reading { form: reading.form, written: reading.written.map(|_| Written::default()), ..Reading::default() };
        // An open comment is left in place, where the parser of JSON stumbles over it and names the line.
        if json_strip_comments::strip(bare.to_mut()).is_err() {
            bare = Cow::Borrowed(text);
        }
        parsed = parse(&mut reading, &bare);
    }
    if let Err(error) = parsed {
        // Half a file may be one that is still being written: none of it is taken.
        return (Reading::default(), vec![not_json(text, &error).in_file(path)]);
    }
    let problems = reading.problems(text, &bare).into_iter().map(|problem| problem.in_file(path)).collect();
    (reading, problems)
}

fn parse(reading: &mut Reading, text: &str) -> serde_json::Result<()> {
    let mut parser = serde_json::Deserializer::from_str(text);
    reading.deserialize(&mut parser)?;
    parser.end()
}

/// The file as it goes by.
#[derive(Debug, Default)]
struct Reading {
    form: Form,
    definitions: Definitions,
    written: Option<Written>,
    reader: Reader,
    faults: Vec<Fault>,
    further: usize,
    /// Entries seen of each kind; a fault names its entry by this count.
    services: usize,
    checks: usize,
}

#[derive(Debug)]
struct Fault {
    /// The entry is taken all the same.
    is_warning: bool,
    /// `None`: the whole file.
    entry: Option<(Entry, usize)>,
    key: Option<String>,
    message: String,
    hint: String,
}

#[derive(Debug, Clone, Copy)]
enum Entry {
    Service,
    Check,
}

impl Entry {
    fn of(key: &str) -> Option<Entry> {
        match fold(&mut String::new(), key) {
            "service" | "services" => Some(Entry::Service),
            "check" | "checks" => Some(Entry::Check),
            _ => None,
        }
    }
}

fn is_agents(key: &str) -> bool {
    AGENT_KEYS.split_ascii_whitespace().any(|own| own == key)
}

impl Reading {
    fn entry(&mut self, kind: Entry, json: &Json) {
        let count = match kind {
            Entry::Service => &mut self.services,
            Entry::Check => &mut self.checks,
        };
        let entry = (kind, *count);
        *count += 1;
        let (what, outcome) = match kind {
            Entry::Service => {
                let service = self.reader.service(json).and_then(|service| port_is_sound(json).map(|()| service));
                ("service", service.map(|service| self.definitions.services.push(service)))
            }
            Entry::Check => {
                let check = self.reader.check(json).and_then(|check| port_is_sound(json).map(|()| check));
                ("check", check.map(|check| self.definitions.checks.push(check)))
            }
        };
        for (key, of_check) in std::mem::take(&mut self.reader.unknown) {
            let known = if of_check { CHECK_KEYS } else { SERVICE_KEYS };
            let hint = match nearest(&key.to_lowercase(), known.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known keys: {}", known.join(", ")),
            };
            let message = format!("unknown key {key:?} in a {}; it is passed over", if of_check { "check" } else { "service" });
            self.fault(Fault { is_warning: true, entry: Some(entry), key: Some(key), message, hint });
        }
        if let Err(invalid) = outcome {
            let message = format!("this {what}{} is left out: {invalid}", named(json));
            let key = invalid.key().map(str::to_owned);
            return self.fault(Fault { is_warning: false, entry: Some(entry), key, message, hint: invalid.hint().to_owned() });
        }
        if let (Some(written), Json::Object(entry)) = (&mut self.written, json) {
            match kind {
                Entry::Service => written.services.push(entry.clone()),
                Entry::Check => written.checks.push(entry.clone()),
            }
        }
    }

    /// An object, or a list of objects.
    fn entries_of(&mut self, kind: Entry, key: &str, json: &Json) {
        match json {
            Json::Null => {}
            Json::Array(several) => several.iter().for_each(|one| self.entry(kind, one)),
            Json::Object(_) => self.entry(kind, json),
            _ => {
                let message = format!("{key} has to be an object, or a list of objects");
                self.fault(Fault {
                    is_warning: false,
                    entry: None,
                    key: Some(key.to_owned()),
                    message,
                    hint: SHAPE.to_owned(),
                });
            }
        }
    }

    /// What stood at the top besides the services: checks, the keys of a service that stands there bare, and others.
    fn finish(&mut self, services_seen: bool, top: Map<String, Json>) {
        let alone = self.form == Form::Services;
        let named = top.keys().any(|key| key.eq_ignore_ascii_case("name"));
        if alone && named && !services_seen {
            // What the HTTP API takes as a body, and what people keep in files for curl.
            return self.entry(Entry::Service, &Json::Object(top));
        }
        for (key, json) in &top {
            if let Some(kind) = Entry::of(key) {
                self.entries_of(kind, key, json);
            } else if alone && !is_agents(key) {
                let message = format!("unknown key {key:?} at the top of a services file; it is passed over");
                self.fault(Fault { is_warning: true, entry: None, key: Some(key.clone()), message, hint: SHAPE.to_owned() });
            }
        }
        // An empty list says that there are none; a file that says nothing is rather a mistake, and so is one without services
        // from which they are to be handed on.
        let is_settings = self.written.is_none() && top.keys().any(|key| is_agents(key));
        let spoken = services_seen || is_settings || top.keys().any(|key| Entry::of(key).is_some());
        if alone && !spoken && self.faults.is_empty() {
            let message = "this file defines no service and no check".to_owned();
            self.fault(Fault { is_warning: false, entry: None, key: None, message, hint: SHAPE.to_owned() });
        }
    }

    fn fault(&mut self, fault: Fault) {
        if self.faults.len() < PROBLEMS_MAX { self.faults.push(fault) } else { self.further += 1 }
    }

    fn problems(&mut self, text: &str, bare: &str) -> Vec<Problem> {
        if self.faults.is_empty() {
            return Vec::new();
        }
        let places = Places::find(bare);
        let faults = std::mem::take(&mut self.faults);
        let mut problems: Vec<Problem> = faults
            .into_iter()
            .map(|fault| {
                let problem = Problem::new(fault.message).hint(fault.hint);
                let problem = if fault.is_warning { problem.warning() } else { problem };
                match fault.entry.map(|(kind, entry)| places.of(kind, entry)) {
                    None => match fault.key.and_then(|key| find_key(bare, 0..bare.len(), &key)) {
                        Some(span) => problem.at(Place::of(text, span)),
                        None => problem,
                    },
                    Some(span) => {
                        let key = fault.key.and_then(|key| find_key(bare, span.clone(), &key));
                        problem.at(Place::of(text, key.unwrap_or(span.start..span.start + 1)))
                    }
                }
            })
            .collect();
        if self.further > 0 {
            problems.push(Problem::new(format!("and {} more problems of the same file", self.further)));
        }
        problems
    }
}

impl<'de> DeserializeSeed<'de> for &mut Reading {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Reading {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with service, services, check or checks")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut top = Map::new();
        let mut services_seen = false;
        while let Some(key) = map.next_key::<String>()? {
            if let Some(Entry::Service) = Entry::of(&key) {
                services_seen = true;
                map.next_value_seed(Services { reading: self, key: &key })?;
            } else {
                top.insert(key, map.next_value()?);
            }
        }
        self.finish(services_seen, top);
        Ok(())
    }
}

/// The value of `services`, of which one entry at a time is held as JSON.
struct Services<'r> {
    reading: &'r mut Reading,
    key: &'r str,
}

impl<'de> DeserializeSeed<'de> for Services<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Services<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a service, or a list of services")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(json) = list.next_element::<Json>()? {
            self.reading.entry(Entry::Service, &json);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let json = Json::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        self.reading.entries_of(Entry::Service, self.key, &json);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// ` "web"`, when the entry has a name or an id.
fn named(json: &Json) -> String {
    let field = |name| json.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?.1.as_str();
    let name = field("id").or_else(|| field("name")).filter(|name| !name.is_empty());
    name.map(|name| format!(" {name:?}")).unwrap_or_default()
}

fn not_json(text: &str, error: &serde_json::Error) -> Problem {
    let reason = error.to_string();
    let reason = reason.split(" at line ").next().unwrap_or(&reason);
    let line_start: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let at = line_start + error.column().saturating_sub(1);
    let hint = "comments (// and /* */) are accepted, else it has to be strict JSON: double quotes, no bare words";
    Problem::new(format!("nothing of this file is taken; expected JSON, got {reason}"))
        .at(Place::of(text, at..at + 1))
        .hint(hint)
}

/// Where the entries of a file stand, in the order in which they are counted.
#[derive(Debug, Default)]
struct Places {
    services: Vec<Range<usize>>,
    checks: Vec<Range<usize>>,
    whole: Range<usize>,
}

impl Places {
    /// Walks a text that is known to be JSON.
    fn find(text: &str) -> Places {
        let mut walk = Walk { text: text.as_bytes(), at: 0 };
        walk.blank();
        let start = walk.at;
        let mut places = Places { whole: start..text.len(), ..Places::default() };
        walk.members(|walk, key| {
            let list = match text.get(key).and_then(Entry::of) {
                Some(Entry::Service) => &mut places.services,
                Some(Entry::Check) => &mut places.checks,
                None => return walk.value(),
            };
            if walk.peek() == Some(b'[') {
                walk.items(|walk| {
                    let start = walk.at;
                    walk.value();
                    list.push(start..walk.at);
                });
            } else {
                let start = walk.at;
                walk.value();
                list.push(start..walk.at);
            }
        });
        places
    }

    fn of(&self, kind: Entry, number: usize) -> Range<usize> {
        let list = match kind {
            Entry::Service => &self.services,
            Entry::Check => &self.checks,
        };
        // A bare service is the whole file.
        list.get(number).unwrap_or(&self.whole).clone()
    }
}

/// Where a key stands within `span`, whatever its spelling.
fn find_key(text: &str, span: Range<usize>, key: &str) -> Option<Range<usize>> {
    let (mut wanted, mut folded) = (String::new(), String::new());
    let wanted = fold(&mut wanted, key);
    let mut walk = Walk { text: text.get(..span.end)?.as_bytes(), at: span.start };
    while let Some(octet) = walk.peek() {
        if octet != b'"' {
            walk.at += 1;
            continue;
        }
        let start = walk.at;
        walk.string();
        let end = walk.at;
        walk.blank();
        if walk.peek() == Some(b':') && text.get(start + 1..end - 1).is_some_and(|key| fold(&mut folded, key) == wanted) {
            return Some(start..end);
        }
    }
    None
}

/// Steps over JSON without reading it.
struct Walk<'t> {
    text: &'t [u8],
    at: usize,
}

impl Walk<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blank(&mut self) {
        while self.peek().is_some_and(|octet| octet.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn string(&mut self) {
        self.at += 1;
        while let Some(octet) = self.peek() {
            self.at += if octet == b'\\' { 2 } else { 1 };
            if octet == b'"' {
                break;
            }
        }
        self.at = self.at.min(self.text.len());
    }

    fn value(&mut self) {
        let mut depth = 0usize;
        while let Some(octet) = self.peek() {
            match octet {
                b'"' => {
                    self.string();
                    if depth == 0 {
                        return;
                    }
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth == 0 => return,
                b'}' | b']' if depth == 1 => {
                    self.at += 1;
                    return;
                }
                b'}' | b']' => depth -= 1,
                b',' if depth == 0 => return,
                _ => {}
            }
            self.at += 1;
        }
    }

    fn items(&mut self, mut each: impl FnMut(&mut Self)) {
        self.at += 1;
        loop {
            self.blank();
            match self.peek() {
                None | Some(b']' | b'}') => break,
                Some(b',') => self.at += 1,
                Some(_) => each(self),
            }
        }
        self.at += 1;
    }

    fn members(&mut self, mut each: impl FnMut(&mut Self, Range<usize>)) {
        self.items(|walk| {
            let start = walk.at;
            walk.value();
            let key = start + 1..walk.at.saturating_sub(1);
            walk.blank();
            walk.at += 1;
            walk.blank();
            each(walk, key);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_handed_on_as_they_were_written() {
        let written = |text: &str| {
            let (written, problems) = written(Path::new("s.json"), text);
            (written, problems.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let text = "//sample-service.json\n{\"Services\": [{\"ID\": \"a\", \"Name\": \"x\", \"New\": 1}, {\"Name\": \"y\", \"Port\": \"z\"}], \
                    /* c */ \"CHECKS\": [{\"Name\": \"c\", \"TTL\": \"1s\"}], \"prots\": {}}";
        let (several, problems) = written(text);
        assert_eq!(
            Json::Array(several.services.into_iter().map(Json::Object).collect()),
            serde_json::json!([{"ID": "a", "Name": "x", "New": 1}])
        );
        assert_eq!((several.checks.len(), problems.len()), (1, 3), "an unknown key, a wrong port, and `prots`: {problems:?}");
        let (bare, problems) = written(r#"{"ID": "web-1", "Name": "web", "Check": {"TTL": "15s"}}"#);
        assert_eq!((bare.services.len(), bare.checks.len(), problems.len()), (1, 0, 0));
        let (_, problems) = written("// top\n{\"service\": {name: 1}}");
        assert!(
            problems[0].starts_with("s.json:2:14: nothing of this file is taken; expected JSON, got key must be a string"),
            "{problems:?}"
        );
        assert!(problems[0].contains("2 | {\"service\": {name: 1}}\n    |              ^\n"), "{problems:?}");
        for (text, part) in [
            (r#"{"services": ["web"]}"#, "left out"),
            (r#"{"services": 5}"#, "a service, or a list of services"),
            ("[]", "an object with service"),
            (r#"{"ports": {}}"#, "defines no service"),
            ("/* open", "s.json:1:"),
            ("{\"service\": {\n", "s.json:"),
        ] {
            let (nothing, problems) = written(text);
            assert!(
                nothing == Written::default() && problems.iter().any(|problem| problem.contains(part)),
                "{text}: {problems:?}"
            );
        }
    }

    fn read(text: &str) -> (Definitions, Vec<String>) {
        let (definitions, problems) = file(Form::Services, Path::new("s.json"), text);
        (definitions, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn sound_files_of_every_shape() {
        let (several, problems) = read(
            "//sample-service.json\n{\"services\":[{\"ID\":\"a\",\"Name\":\"x\"},{\"name\":\"y\"}], /* c */ \"check\": {\"name\":\"c\",\"ttl\":\"1s\"}}",
        );
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(several.services.iter().map(|service| &*service.id).collect::<Vec<_>>(), ["a", "y"]);
        assert_eq!(several.checks.len(), 1);
        assert_eq!(read(r#"{"Service": {"Name": "one"}}"#).0.services.len(), 1);
        let (bare, problems) = read(r#"{"ID": "web-1", "Name": "web", "Check": {"TTL": "15s"}}"#);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!((bare.services.len(), bare.services[0].checks.len(), bare.checks.len()), (1, 1, 0));
        assert_eq!(read(r#"{"services": []}"#).1, Vec::<String>::new());
        // Consul's own single file has both, and its folder has files without services.
        let (both, problems) = read(r#"{"datacenter": "dc1", "acl": {"enabled": true}, "service": {"name": "db"}}"#);
        assert_eq!((both.services.len(), problems.len()), (1, 0), "{problems:?}");
        assert_eq!(read(r#"{"retry_join": ["192.0.2.1"], "ports": {}}"#).1, Vec::<String>::new());
    }

    #[test]
    fn a_broken_entry_is_told_with_its_place_and_its_neighbours_load() {
        let text = "{\n  \"services\": [\n    {\"name\": \"a\"},\n    {\"name\": \"b\", \"tags\": [\"}\\\"\"],\n     \"port\": \"80\"},\n    {\"port\": 1},\n    {\"name\": \"d\", \"port\": 70000},\n    {\"name\": \"e\", \"prot\": 5}\n  ],\n  \"checks\": [{\"name\": \"c\", \"interval\": \"5x\"}], \"prots\": {}\n}";
        let (definitions, problems) = read(text);
        assert_eq!(definitions.services.iter().map(|service| &*service.name).collect::<Vec<_>>(), ["a", "e"]);
        let firsts: Vec<_> = problems.iter().map(|problem| problem.lines().next().unwrap()).collect();
        assert_eq!(
            firsts,
            [
                "s.json:5:6: this service \"b\" is left out: port has to be a whole number, got the string \"80\"",
                "s.json:6:5: this service is left out: Missing service name",
                "s.json:7:19: this service \"d\" is left out: expected a port of 0 to 65535, got 70000",
                "s.json:8:19: unknown key \"prot\" in a service; it is passed over",
                "s.json:10:28: this check \"c\" is left out: interval is no duration: time: unknown unit \"x\" in duration \"5x\"",
                "s.json:10:48: unknown key \"prots\" at the top of a services file; it is passed over",
            ]
        );
        assert!(problems[3].contains("hint: did you mean \"port\"?"), "{}", problems[3]);
    }

    #[test]
    fn what_is_no_json_is_told_with_its_place_and_nothing_is_taken() {
        let (definitions, problems) = read("{\"services\": [{\"name\": \"a\"},\n {name: 1}]}");
        assert_eq!(definitions, Definitions::default());
        assert!(
            problems[0].starts_with("s.json:2:3: nothing of this file is taken; expected JSON, got key must be a string"),
            "{}",
            problems[0]
        );
        for text in
            ["", "[]", "{", "/* open", "{\"services\": 5}", "{\"checks\": 5}", "{} x", "{}", "\u{feff}{\"services\": [1]}"]
        {
            assert_eq!(read(text).1.len(), 1, "{text}: {:?}", read(text));
        }
    }

    #[test]
    fn problems_are_bounded() {
        let text = format!("{{\"services\": [{}{{\"name\": \"last\"}}]}}", "{},".repeat(5000));
        let (definitions, problems) = read(&text);
        assert_eq!(definitions.services.len(), 1);
        assert_eq!(problems.len(), PROBLEMS_MAX + 1);
        assert!(problems[PROBLEMS_MAX].contains("4900 more"));
    }
}
