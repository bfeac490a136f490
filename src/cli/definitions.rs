//! Services and checks as files hold them (Consul's JSON), each as it stands, to be sent to a server.
//!
//! Only the frame is read here: which objects are services and which are checks. What they mean is the server's
//! business, so a newer server takes keys that this program has never heard of.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// The services and checks of one file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Definitions {
    pub(super) services: Vec<Map<String, Value>>,
    pub(super) checks: Vec<Map<String, Value>>,
    /// Keys at the top of the file that are neither; registering leaves them out.
    pub(super) others: Vec<String>,
}

/// Why a file's definitions cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not JSON: line {line}, column {column}: {reason}{excerpt}", path.display())]
    Json { path: PathBuf, line: usize, column: usize, reason: String, excerpt: String },
    #[error("{} is HCL; only JSON is read", path.display())]
    Hcl { path: PathBuf },
    #[error("{}: expected an object with `service`, `services`, `check` or `checks`, got {got}", path.display())]
    Frame { path: PathBuf, got: &'static str },
    #[error("{}: {key} has to be {expected}, got {got}", path.display())]
    Entry { path: PathBuf, key: String, expected: &'static str, got: &'static str },
    #[error("{} has no *.json file", path.display())]
    EmptyFolder { path: PathBuf },
    #[error("{} defines no service and no check", path.display())]
    Nothing { path: PathBuf },
}

impl Error {
    pub(super) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Read { .. } => return None,
            Self::Json { .. } => {
                "comments (// and /* */) are accepted, else it has to be strict JSON: double quotes, no bare words"
            }
            Self::Hcl { .. } => "write the same keys as JSON: {\"service\": {\"name\": \"web\", \"port\": 80}}",
            Self::Frame { .. } | Self::Nothing { .. } => {
                "write {\"service\": {…}} for one, {\"services\": [{…}, {…}]} for several"
            }
            Self::Entry { .. } => "`service` and `check` hold one object, `services` and `checks` a list of objects",
            Self::EmptyFolder { .. } => "name a file, or a folder with *.json files",
        };
        Some(hint.to_owned())
    }
}

impl Definitions {
    /// Reads one file; `-` is the standard input.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("hcl")) {
            return Err(Error::Hcl { path: path.to_owned() });
        }
        let mut bytes = Vec::new();
        let read = if path == Path::new("-") {
            io::stdin().read_to_end(&mut bytes).map(|_| ())
        } else {
            std::fs::read(path).map(|content| bytes = content)
        };
        read.map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(&String::from_utf8_lossy(&bytes), path)
    }

    /// Reads the text of a file; `path` is for messages only.
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut bare = text.to_owned();
        // An open comment is left in place, where the parser of JSON stumbles over it and names the line.
        if json_strip_comments::strip(&mut bare).is_err() {
            text.clone_into(&mut bare);
        }
        let value: Value = serde_json::from_str(&bare).map_err(|error| {
            let reason = error.to_string();
            Error::Json {
                path: path.to_owned(),
                line: error.line(),
                column: error.column(),
                reason: reason.split(" at line ").next().unwrap_or(&reason).to_owned(),
                excerpt: excerpt(text, error.line(), error.column()),
            }
        })?;
        let Value::Object(top) = value else {
            return Err(Error::Frame { path: path.to_owned(), got: kind(&value) });
        };
        let is_frame = |key: &str| ["service", "services", "check", "checks"].contains(&folded(key).as_str());
        // A bare service is what the HTTP API takes as a body, and what people keep in files for curl.
        if !top.keys().any(|key| is_frame(key)) || (field(&top, "name").is_some() && field(&top, "service").is_none()) {
            return if field(&top, "name").is_some() {
                Ok(Self { services: vec![top], ..Self::default() })
            } else {
                Err(Error::Nothing { path: path.to_owned() })
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
                            let key = format!("{key}[{place}]");
                            return Err(Error::Entry { path: path.to_owned(), key, expected: "an object", got: kind(&one) });
                        };
                        list.push(one);
                    }
                }
                Value::Null => {}
                other => {
                    let expected = "an object, or a list of objects";
                    return Err(Error::Entry { path: path.to_owned(), key, expected, got: kind(&other) });
                }
            }
        }
        if definitions.services.is_empty() && definitions.checks.is_empty() {
            return Err(Error::Nothing { path: path.to_owned() });
        }
        Ok(definitions)
    }
}

/// The files that `paths` name: a folder stands for its *.json files in the order of their names.
pub(super) fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let entries = entries.map_err(|source| Error::Read { path: path.clone(), source })?;
        let mut within: Vec<PathBuf> =
            entries.into_iter().map(|entry| entry.path()).filter(|path| has_extension(path, "json")).collect();
        if within.is_empty() {
            return Err(Error::EmptyFolder { path: path.clone() });
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

/// The line that is meant, and a mark below the place; nothing where the text simply ends.
fn excerpt(text: &str, line: usize, column: usize) -> String {
    match text.lines().nth(line.saturating_sub(1)) {
        // A million services on one line are no help.
        Some(found) if !found.trim().is_empty() && found.len() <= 200 => {
            format!("\n  | {found}\n  | {}^", " ".repeat(column.saturating_sub(1)))
        }
        _ => String::new(),
    }
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

    fn parse(text: &str) -> Result<Definitions, Error> {
        Definitions::parse(text, Path::new("web.json"))
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
        let error = parse("// top\n{\"service\": {name: 1}}").unwrap_err().to_string();
        assert!(error.starts_with("web.json is not JSON: line 2, column 14: "), "{error}");
        assert!(error.contains("| {\"service\": {name: 1}}\n"), "{error}");
        assert_eq!(
            parse(r#"{"services": ["web"]}"#).unwrap_err().to_string(),
            "web.json: services[0] has to be an object, got a string"
        );
        assert!(matches!(parse("[]"), Err(Error::Frame { got: "a list", .. })));
        assert!(matches!(parse(r#"{"ports": {}}"#), Err(Error::Nothing { .. })));
        assert!(matches!(parse("/* open"), Err(Error::Json { line: 1, .. })));
        assert!(matches!(Definitions::read(Path::new("web.hcl")), Err(Error::Hcl { .. })));
    }
}
