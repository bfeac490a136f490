//! Services files on their way to a server: each sound entry as it stands, so that a newer server gets keys that this
//! program has never heard of.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::limits;
use crate::problem::Problem;
use crate::registry::definition::{self, Written};

/// Reads one file; `-` is the standard input.
pub(super) fn read(path: &Path) -> Result<(Written, Vec<Problem>), Problem> {
    if has_extension(path, "hcl") {
        let problem = Problem::new("this is HCL; only JSON is read").in_file(path);
        return Err(problem.hint("write the same keys as JSON: {\"service\": {\"name\": \"web\", \"port\": 80}}"));
    }
    let text = if path == Path::new("-") {
        io::read_to_string(io::stdin())
    } else {
        crate::file::read_text(path, limits::SERVICES_FILE_OCTETS_MAX)
    };
    let text = text.map_err(|error| Problem::new(format!("cannot read this file: {error}")).in_file(path))?;
    Ok(definition::written(path, &text))
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

fn folded(key: &str) -> String {
    key.chars().filter(|&c| c != '_').flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hcl_is_told_from_json() {
        assert!(read(Path::new("web.hcl")).unwrap_err().to_string().starts_with("web.hcl: this is HCL"));
    }

    #[test]
    fn a_service_is_known_by_its_id_or_else_its_name() {
        let service = |json: &str| serde_json::from_str::<Map<String, Value>>(json).unwrap();
        assert_eq!(id(&service(r#"{"ID": "web-1", "Name": "web"}"#)), Some("web-1"));
        assert_eq!(id(&service(r#"{"id": "", "name": "web"}"#)), Some("web"));
    }
}
