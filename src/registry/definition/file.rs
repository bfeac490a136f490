//! A services file: Consul's JSON with comments, of which each entry stands or falls by itself.
//!
//! The text is parsed once, entry by entry. Only when something is wrong is it walked again, to find where.

use std::ops::Range;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;

use super::read::{CHECK_KEYS, Reader, SERVICE_KEYS, fold};
use super::{CheckDefinition, Invalid, ServiceDefinition};
use crate::problem::{Place, Problem, nearest};

/// What one file, or several together, define.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Definitions {
    pub services: Vec<ServiceDefinition>,
    pub checks: Vec<CheckDefinition>,
}

/// Problems that are told of one file; a file of a million broken entries tells enough with these.
const PROBLEMS_MAX: usize = 100;

const SHAPE: &str = "write {\"service\": {…}} for one, {\"services\": [{…}, {…}]} for several";

/// Reads the text of a services file: what is sound, and what is wrong with the rest.
pub fn file(path: &Path, text: &str) -> (Definitions, Vec<Problem>) {
    // A mark of byte order has no meaning in UTF-8, but editors leave it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut bare = text.to_owned();
    // An open comment is left in place, where the parser of JSON stumbles over it and names the line.
    if json_strip_comments::strip(&mut bare).is_err() {
        text.clone_into(&mut bare);
    }
    let mut reading = Reading::default();
    let mut parser = serde_json::Deserializer::from_str(&bare);
    let parsed = (&mut reading).deserialize(&mut parser).and_then(|()| parser.end());
    if let Err(error) = parsed {
        // Half a file may be one that is still being written: none of it is taken.
        return (Definitions::default(), vec![not_json(text, &error).in_file(path)]);
    }
    let problems = reading.problems(text, &bare).into_iter().map(|problem| problem.in_file(path)).collect();
    (reading.definitions, problems)
}

/// The file as it goes by.
#[derive(Debug, Default)]
struct Reading {
    definitions: Definitions,
    reader: Reader,
    faults: Vec<Fault>,
    further: usize,
    /// Entries seen in all; a fault names its entry by this count.
    entries: usize,
}

#[derive(Debug)]
struct Fault {
    /// `None`: the whole file.
    entry: Option<usize>,
    key: Option<String>,
    message: String,
    hint: String,
}

#[derive(Clone, Copy)]
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

impl Reading {
    fn entry(&mut self, kind: Entry, json: &Json) {
        let entry = self.entries;
        self.entries += 1;
        let (what, outcome) = match kind {
            Entry::Service => ("service", self.reader.service(json).map(|service| self.definitions.services.push(service))),
            Entry::Check => ("check", self.reader.check(json).map(|check| self.definitions.checks.push(check))),
        };
        for (key, of_check) in std::mem::take(&mut self.reader.unknown) {
            let known = if of_check { CHECK_KEYS } else { SERVICE_KEYS };
            let hint = match nearest(&key.to_lowercase(), known.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known keys: {}", known.join(", ")),
            };
            let message = format!("unknown key {key:?} in a {}; it is passed over", if of_check { "check" } else { "service" });
            self.fault(Fault { entry: Some(entry), key: Some(key), message, hint });
        }
        match outcome {
            Err(invalid) => {
                let message = format!("this {what}{} is left out: {invalid}", named(json));
                let key = invalid.key().map(str::to_owned);
                self.fault(Fault { entry: Some(entry), key, message, hint: invalid.hint().to_owned() });
            }
            Ok(()) => {
                let port = json.as_object().into_iter().flatten().find(|(key, _)| key.eq_ignore_ascii_case("port")).and_then(|(_, port)| port.as_i64());
                if let Some(port) = port.filter(|port| !(0..=65535).contains(port)) {
                    if matches!(kind, Entry::Service) {
                        self.definitions.services.pop();
                    }
                    let message = format!("this {what}{} is left out: expected a port of 0 to 65535, got {port}", named(json));
                    let hint = "write the port that the service listens on".to_owned();
                    self.fault(Fault { entry: Some(entry), key: Some("port".to_owned()), message, hint });
                }
            }
        }
    }

    fn fault(&mut self, fault: Fault) {
        if self.faults.len() < PROBLEMS_MAX { self.faults.push(fault) } else { self.further += 1 }
    }

    fn problems(&mut self, text: &str, bare: &str) -> Vec<Problem> {
        if self.faults.is_empty() {
            return Vec::new();
        }
        let places = entries(bare);
        let faults = std::mem::take(&mut self.faults);
        let mut problems: Vec<Problem> = faults
            .into_iter()
            .map(|fault| {
                let problem = Problem::new(fault.message).hint(fault.hint);
                match fault.entry.map(|entry| places.get(entry).cloned().unwrap_or(0..1)) {
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
