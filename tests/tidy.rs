//! Holds what ARCHITECTURE.md promises of the tree: which folder may import which, who may name which library, and that
//! nothing prints but the command line.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which folder (or file) of `src/` may name which others; `main` and `lib` are free.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("dns", &[]),
    ("limits", &[]),
    ("clock", &[]),
    ("duration", &[]),
    ("problem", &[]),
    ("metrics", &[]),
    ("watch", &[]),
    ("file", &[]),
    ("tls", &[]),
    ("doh", &[]),
    ("catalog", &["dns", "limits"]),
    ("resolve", &["dns", "catalog", "limits", "problem", "duration", "metrics", "file"]),
    ("registry", &["dns", "catalog", "limits", "problem", "duration", "metrics", "watch", "file", "tls"]),
    ("upstream", &["clock", "dns", "resolve", "limits", "problem", "duration", "metrics", "file", "tls", "doh"]),
    ("server", &["clock", "dns", "catalog", "resolve", "upstream", "limits", "problem", "metrics", "watch", "file", "doh"]),
    ("api", &["dns", "catalog", "registry", "limits", "problem", "duration"]),
    ("config", &["dns", "registry", "resolve", "upstream", "server", "limits", "problem", "duration", "file"]),
    (
        "run",
        &[
            "clock", "dns", "catalog", "registry", "resolve", "upstream", "server", "api", "config", "limits", "problem",
            "duration", "metrics", "tls",
        ],
    ),
    (
        "cli",
        &[
            "clock", "dns", "catalog", "registry", "resolve", "upstream", "server", "api", "config", "run", "limits",
            "problem", "file", "tls",
        ],
    ),
];

/// Libraries and words that only some places may name, so that to take or leave one is a change in one place.
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    ("verify_tls13_signature", &["tls.rs"], "one verifier, whomever it is told to trust"),
    ("redb::", &["registry/store.rs"], "the store is the one that knows the database"),
    ("hickory_server", &["resolve/zone"], "hickory's authority stands behind the zones"),
    ("hickory_net", &["upstream/validator"], "hickory judges signatures for the validator alone"),
    ("hickory_resolver", &["upstream/system"], "the system's configuration and bootstrapping"),
    ("axum", &["api/"], "the HTTP API is the one that knows its framework"),
    ("RecommendedWatcher", &["watch.rs"], "one way to see that files changed"),
    ("unsafe {", &["server/batch.rs"], "unsafe code is for the batched sockets"),
    ("libc::", &["server/batch.rs", "file.rs"], "raw system calls"),
    ("println!", &[], "only the command line prints, through its output"),
];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    assert!(found.len() > 10, "the sources are not where this test looks");
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Lines of code, without comments and without the unit tests at the end of a file.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    text[..end].lines().enumerate().map(|(n, line)| (n + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn imports_go_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let first = path.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if first == "main" || first == "lib" {
            continue;
        }
        let Some(may) = allowed.get(first) else {
            wrong.push(format!("src/{first} is not in the table of this test, nor in ARCHITECTURE.md"));
            continue;
        };
        for (number, line) in code(&text) {
            for part in line.split("crate::").skip(1) {
                let target: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if target != first && !may.contains(&target.as_str()) && allowed.contains_key(target.as_str()) {
                    wrong.push(format!("src/{}:{number}: {first} may not import {target}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_library_has_its_place() {
    let mut wrong = Vec::new();
    for (word, places, _) in ONLY_IN {
        for place in *places {
            let names = |(path, text): &(PathBuf, String)| path.to_str().unwrap().starts_with(place) && text.contains(word);
            assert!(sources().iter().any(names), "src/{place} may name {word}, and does not");
        }
    }
    for (path, text) in sources() {
        let path = path.to_str().unwrap().to_owned();
        for (word, places, reason) in ONLY_IN {
            if places.iter().any(|place| path.starts_with(place)) {
                continue;
            }
            for (number, line) in code(&text).filter(|(_, line)| line.contains(word)) {
                wrong.push(format!("src/{path}:{number}: {word} ({reason}): {}", line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn decisions_are_told_what_time_it_is() {
    for (file, text) in sources() {
        let is_pure = ["dns", "catalog", "resolve"].iter().any(|folder| file.starts_with(folder));
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let asks = code.lines().any(|line| line.contains("Instant::now(") || line.contains("SystemTime::now("));
        let is_drill = file.ends_with("drill.rs");
        assert!(!is_pure || !asks || is_drill, "{} asks what time it is", file.display());
    }
}

#[test]
fn the_sample_has_every_key_of_the_manual() {
    let read = |file: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let (manual, sample) = (read("docs/configuration.md"), read("zones/rollcall.toml"));
    let rows = manual.lines().filter_map(|line| line.strip_prefix('|')?.split('|').nth(1));
    let words = rows.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    // `[[forward.route]]` and `clients.rate` are the last of their words.
    let keys = words.filter_map(|word| word.trim_matches(['[', ']']).rsplit('.').next());
    let is_key = |key: &&str| !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let of_values = ["strict", "parallel", "random", "hedged", "of", "mask", "wan"];
    let mut count = 0;
    for key in keys.filter(is_key).filter(|key| !of_values.contains(key)) {
        count += 1;
        let is_there = sample.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == key);
        assert!(is_there, "{key} is in docs/configuration.md and not in zones/rollcall.toml");
    }
    assert!(count > 50, "the table is not where this test looks: {count} keys");
}

#[test]
fn comments_are_as_wide_as_code() {
    for (file, text) in sources() {
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| line.trim_start().starts_with("//")) {
            assert!(line.chars().count() <= 128, "{}:{number} is too wide", file.display());
        }
    }
}

#[test]
fn the_map_in_the_architecture_names_each_folder() {
    let text = fs::read_to_string(root().join("../ARCHITECTURE.md")).unwrap();
    for (folder, _) in MAY_IMPORT {
        assert!(text.contains(&format!("`{folder}`")), "ARCHITECTURE.md does not name `{folder}`");
    }
}

/// The words between backquotes in a text that are names of tests.
fn tests_named(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split('`').skip(1).step_by(2);
    words.filter(|word| word.contains('_') && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
}

#[test]
fn each_demand_of_a_standard_has_its_test() {
    let listed = fs::read_to_string(root().join("../tests/rfcs.md")).unwrap();
    let tables: String = listed.lines().filter(|line| line.starts_with("| ")).collect::<Vec<_>>().join("\n");
    let mut found: BTreeSet<String> = BTreeSet::new();
    let mut folders = vec![root(), root().join("../tests")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let names = text.split("fn ").skip(1).filter_map(|rest| rest.split_once("()")).map(|(name, _)| name.to_owned());
                found.extend(names);
            }
        }
    }
    let named: BTreeSet<&str> = tests_named(&tables).collect();
    let gone: Vec<&&str> = named.iter().filter(|name| !found.contains(**name)).collect();
    assert!(named.len() > 60 && gone.is_empty(), "tests/rfcs.md names tests that there are none of: {gone:#?}");
}
