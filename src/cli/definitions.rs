//! Services and checks as files hold them (Consul's JSON), each as it stands, to be sent to a server.
//!
//! Only the frame is read here: which objects are services and which are checks. What they mean is the server's
//! business, so a newer server takes keys that this program has never heard of.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::problem::{Place, Problem};

/// The services and checks of one file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Definitions {
    pub(super) services: Vec<Map<String, Value>>,
    pub(super) checks: Vec<Map<String, Value>>,
    /// Keys at the top of the file that are neither; registering leaves them out.
    pub(super) others: Vec<String>,
}

impl Definitions {
    /// Reads one file; `-` is the standard input.
    pub(super) fn read(path: &Path) -> Result<Self, Problem> {
        if has_extension(path, "hcl") {
            let problem = Problem::new("this is HCL; only JSON is read").in_file(path);
            return Err(problem.hint("write the same keys as JSON: {\"service\": {\"name\": \"web\", \"port\": 80}}"));
        }
        let mut bytes = Vec::new();
        let read = if path == Path::new("-") {
            io::stdin().read_to_end(&mut bytes).map(|_| ())
        } else {
            std::fs::read(path).map(|content| bytes = content)
        };
        read.map_err(|error| Problem::new(format!("cannot read this file: {error}")).in_file(path))?;
        Self::parse(&String::from_utf8_lossy(&bytes)).map_err(|problem| problem.in_file(path))
    }

    /// Reads the text of a file.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut bare = text.to_owned();
        // An open comment is left in place, where the parser of JSON stumbles over it and names the line.
        if json_strip_comments::strip(&mut bare).is_err() {
            text.clone_into(&mut bare);
        }
        let value: Value = serde_json::from_str(&bare).map_err(|error| not_json(text, &error))?;
        let Value::Object(top) = value else {
            let problem = format!("expected an object with `service`, `services`, `check` or `checks`, got {}", kind(&value));
            return Err(Problem::new(problem).hint(SHAPE));
        };
        let is_frame = |key: &str| ["service", "services", "check", "checks"].contains(&folded(key).as_str());
        // A bare service is what the HTTP API takes as a body, and what people keep in files for curl.
        if !top.keys().any(|key| is_frame(key)) || (field(&top, "name").is_some() && field(&top, "service").is_none()) {
            return if field(&top, "name").is_some() {
                Ok(Self { services: vec![top], ..Self::default() })
            } else {
                Err(nothing())
            };
        }
        let mut definitions = Self::default();
        for (key, value) in top {
            let list = match folded(&key).as_str() {
                "service" | "services" => &mut definitions.services,
                "check" | "checks" => &mut definitions.checks,
                _ => {
                    definitions.others.push(key);
                    continue;
                }
            };
            match value {
                Value::Object(one) => list.push(one),
                Value::Array(several) => {
                    for (place, one) in several.into_iter().enumerate() {
                        let Value::Object(one) = one else {
                            let problem = format!("{key}[{place}] has to be an object, got {}", kind(&one));
                            return Err(Problem::new(problem).hint(SHAPE));
                        };
                        list.push(one);
                    }
                }
                Value::Null => {}
                other => {
                    let problem = format!("{key} has to be an object, or a list of objects, got {}", kind(&other));
                    return Err(Problem::new(problem).hint(SHAPE));
                }
            }
        }
        if definitions.services.is_empty() && definitions.checks.is_empty() {
            return Err(nothing());
        }
        Ok(definitions)
    }
}

/// The files that `paths` name: a folder stands for its *.json files in the order of their names.
pub(super) fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Problem> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let entries = entries.map_err(|error| Problem::new(format!("cannot read this folder: {error}")).in_file(path))?;
        let mut within: Vec<PathBuf> =
            entries.into_iter().map(|entry| entry.path()).filter(|path| has_extension(path, "json")).collect();
        if within.is_empty() {
            return Err(Problem::new("this folder has no *.json file")
                .in_file(path)
                .hint("name a file, or a folder that has some"));
        }
        within.sort();
        files.append(&mut within);
    }
    Ok(files)
}

pub(super) fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

/// The value of a key in any of its spellings: `Name`, `name`; `TaggedAddresses`, `tagged_addresses`.
pub(super) fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.iter().find(|(key, _)| folded(key) == folded(name)).map(|(_, value)| value)
}

/// A text under a key in any spelling, where it is there and not empty.
pub(super) fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    field(object, name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// How a service is known to its agent: by its ID, else by its name.
pub(super) fn id(service: &Map<String, Value>) -> Option<&str> {
    text(service, "id").or_else(|| text(service, "name"))
}

const SHAPE: &str = "write {\"service\": {…}} for one, {\"services\": [{…}, {…}]} for several";

fn nothing() -> Problem {
    Problem::new("this file defines no service and no check").hint(SHAPE)
}

fn not_json(text: &str, error: &serde_json::Error) -> Problem {
    let reason = error.to_string();
    let reason = reason.split(" at line ").next().unwrap_or(&reason);
    let line_start: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let at = line_start + error.column().saturating_sub(1);
    let hint = "comments (// and /* */) are accepted, else it has to be strict JSON: double quotes, no bare words";
    Problem::new(format!("expected JSON, got {reason}")).at(Place::of(text, at..at + 1)).hint(hint)
}

fn folded(key: &str) -> String {
    key.chars().filter(|&c| c != '_').flat_map(char::to_lowercase).collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Definitions, String> {
        Definitions::parse(text).map_err(|problem| problem.to_string())
    }

    #[test]
    fn one_and_several_in_any_spelling() {
        let one = parse(r#"{"service": {"name": "web", "port": 80}}"#).unwrap();
        assert_eq!(id(&one.services[0]), Some("web"));
        let several = parse("//sample-service.json\n{\"Services\": [{\"ID\": \"a\", \"Name\": \"x\"}, {\"Name\": \"y\"}], /* c */ \"CHECKS\": [{\"Name\": \"c\"}], \"ports\": {}}").unwrap();
        assert_eq!(several.services.iter().map(|service| id(service).unwrap()).collect::<Vec<_>>(), ["a", "y"]);
        assert_eq!((several.checks.len(), several.others), (1, vec!["ports".to_owned()]));
    }

    #[test]
    fn a_bare_service_is_one_service() {
        let bare = parse(r#"{"ID": "web-1", "Name": "web", "Check": {"TTL": "15s"}}"#).unwrap();
        assert_eq!((bare.services.len(), bare.checks.len()), (1, 0));
    }

    #[test]
    fn mistakes_name_the_place_and_what_was_expected() {
        let problem = parse("// top\n{\"service\": {name: 1}}").unwrap_err();
        assert!(problem.starts_with("line 2, column 14: expected JSON, got key must be a string"), "{problem}");
        assert!(problem.contains("2 | {\"service\": {name: 1}}\n    |              ^\n"), "{problem}");
        assert!(parse(r#"{"services": ["web"]}"#).unwrap_err().starts_with("services[0] has to be an object, got a string"));
        assert!(parse(r#"{"services": 5}"#).unwrap_err().starts_with("services has to be an object, or a list"));
        assert!(parse("[]").unwrap_err().contains("got a list"));
        assert!(parse(r#"{"ports": {}}"#).unwrap_err().contains("no service and no check"));
        assert!(parse("/* open").unwrap_err().starts_with("line 1, "));
        assert!(parse("{\"service\": {\n").unwrap_err().starts_with("line "));
        assert!(Definitions::read(Path::new("web.hcl")).unwrap_err().to_string().starts_with("web.hcl: this is HCL"));
    }
}
