//! Imports of other programs' configurations: whatever stands in the files, what comes of them is our configuration.

use std::fs;
use std::path::{Path, PathBuf};

use rollcall::config::import::{self, Import};
use rollcall::config::{self, Options};
use rollcall::problem::Problem;
use rollcall::resolve::local::Local;

type Importer = fn(&[PathBuf]) -> Result<Import, Vec<Problem>>;

pub(crate) fn holds(octets: &[u8]) {
    // What a line includes is read, and a terminal or a pipe would be waited for.
    let text = String::from_utf8_lossy(octets);
    if !text.contains("/dev") && !text.contains("/proc") {
        carries(&text);
    }
}

/// Does any import of it have a setting that came over?
pub(crate) fn carries(text: &str) -> bool {
    super::file("file", text.as_bytes(), |file| {
        // Consul's files are JSON, and refused as a whole when they are not.
        let importers: [(Importer, bool); 3] = [(import::dnsmasq, true), (import::resolved, true), (import::consul, false)];
        let mut carried = false;
        for (importer, must) in importers {
            match importer(&[file.to_owned()]) {
                Ok(import) => {
                    assert!(import.remarks.len() <= 8 * import.settings + 8, "a few words on each setting");
                    carried |= import.toml.contains("file:");
                    loads(file, &import.toml, must);
                }
                Err(problems) => assert!(!must, "{problems:?}"),
            }
        }
        carried
    })
}

/// What was imported is read by the server, and none of its records is refused.
fn loads(beside: &Path, toml: &str, must: bool) {
    let path = beside.with_file_name("rollcall.toml");
    fs::write(&path, toml).expect("written");
    match config::load(&Options { config: Some(path), ..Options::default() }) {
        Ok(config) => {
            let (_, problems) = Local::load(&config.local, None, 0);
            let refused: Vec<_> = problems.iter().filter(|problem| problem.message.starts_with("[[record]]")).collect();
            assert!(refused.is_empty(), "{refused:?}\n{toml}");
        }
        Err(problems) => assert!(!must, "{problems:?}\n{toml}"),
    }
}
