//! Services files: each entry stands or falls by itself, and what is sound can be written into a catalog.

use std::path::Path;
use std::sync::Arc;

use rollcall::registry::definition::{self, Form};

/// Problems that are told of one file, and that there are more.
const PROBLEMS_MAX: usize = 128;

pub(crate) fn holds(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let (path, node) = (Path::new("services.json"), Arc::<str>::from("n"));
    for form in [Form::Services, Form::Agent] {
        let (definitions, problems) = definition::file(form, path, &text);
        assert!(problems.len() <= PROBLEMS_MAX, "{} problems", problems.len());
        assert_eq!(definition::file(form, path, &text).0, definitions);
        for service in &definitions.services {
            let _ = service.instance(&node, None);
        }
        for check in &definitions.checks {
            let _ = (check.initial_status(), check.initial_output(), check.interval_text(), check.timeout_text());
        }
    }
    let _ = definition::written(path, &text);
}
