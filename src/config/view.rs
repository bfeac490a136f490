//! `[[view]]`: what some clients are answered instead of what all are.

use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::file::expected_and_got;
use super::{Options, override_upstreams, relative_to};
use crate::limits::VIEWS_MAX;
use crate::problem::{Problem, nearest};
use crate::resolve::{block, local, zone};
use crate::server::Network;
use crate::upstream;

/// What answers the clients of a view.
#[derive(Debug, Clone)]
pub struct View {
    pub name: String,
    pub clients: Vec<Network>,
    pub local: local::Config,
    pub zones: zone::Config,
    pub blocks: Vec<block::Config>,
    pub forward: upstream::Config,
}

/// A view as it is written. What it has of its own is read when it stands beside what it takes from the rest.
#[derive(Debug, Deserialize)]
pub(super) struct Section {
    name: String,
    clients: Vec<Network>,
    #[serde(flatten)]
    own: Table,
}

/// What a view may have of its own.
const KEYS: [&str; 10] =
    ["forward", "block", "record", "hosts", "hosts_domain", "leases", "leases_domain", "local_ttl", "private_names", "zones"];

/// The same, read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Own {
    forward: upstream::Config,
    zones: zone::Config,
    block: Vec<block::Config>,
    #[serde(flatten)]
    local: local::Config,
}

/// Reads the views of a configuration, whose text is `whole`.
pub(super) fn read(sections: Vec<Section>, whole: &Table, options: &Options) -> Result<Vec<View>, Vec<Problem>> {
    let (mut views, mut problems) = (Vec::new(), Vec::new());
    let folder = options.config.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    for section in sections {
        match view(section, whole, folder, options) {
            Ok(view) => views.push(view),
            Err(more) => problems.extend(more),
        }
    }
    problems.extend(check(&views));
    if problems.is_empty() { Ok(views) } else { Err(problems) }
}

/// Consul has no views.
pub(super) fn none(sections: &[Section]) -> Result<Vec<View>, Vec<Problem>> {
    let Some(section) = sections.first() else { return Ok(Vec::new()) };
    let problem = Problem::new(format!("[[view]] {:?}: expected none with compat = \"consul\"", section.name));
    Err(vec![problem.hint("take the views out, or the compat")])
}

fn view(section: Section, whole: &Table, folder: &Path, options: &Options) -> Result<View, Vec<Problem>> {
    let Section { name, clients, own } = section;
    let mut problems = Vec::new();
    for key in own.keys().filter(|key| !KEYS.contains(&key.as_str())) {
        let problem = Problem::new(format!("[[view]] {name:?}: expected a known key, got `{key}`"));
        problems.push(problem.hint(match nearest(key, KEYS) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("a view has name, clients, {}", KEYS.join(", ")),
        }));
    }
    let has_upstreams = own.get("forward").and_then(|forward| forward.get("upstreams")).is_some();
    let mut both: Table = whole.iter().filter(|(key, _)| KEYS.contains(&key.as_str())).map(owned).collect();
    lay_over(&mut both, own);
    let Own { mut forward, mut zones, mut block, mut local } = match Own::deserialize(Value::Table(both)) {
        Ok(read) => read,
        Err(error) => {
            problems.push(Problem::new(format!("[[view]] {name:?}: {}", expected_and_got(error.message(), None))));
            return Err(problems);
        }
    };
    relative_to(
        folder,
        local.hosts.iter_mut().chain(&mut local.leases).chain(&mut zones.folder).chain(&mut forward.resolv_conf),
    );
    relative_to(folder, forward.files());
    relative_to(folder, block.iter_mut().flat_map(block::Config::files));
    if !has_upstreams {
        override_upstreams(&mut forward, &options.upstreams, &mut problems);
    }
    problems.extend(forward.check());
    if problems.is_empty() { Ok(View { name, clients, local, zones, blocks: block, forward }) } else { Err(problems) }
}

fn owned((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

/// Puts what one table says in the place of what another one does; tables in them are laid over one another in turn.
fn lay_over(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_over(below, above),
            (_, value) => drop(below.insert(key, value)),
        }
    }
}

/// What is wrong with them together.
fn check(views: &[View]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    for (place, View { name, clients, .. }) in views.iter().enumerate() {
        let before = views.get(..place).unwrap_or_default();
        if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
            let problem = Problem::new(format!("[[view]]: expected a name of letters, digits, - and _, got {name:?}"));
            problems.push(problem.hint("metrics and `rollcall explain` show it"));
        }
        if before.iter().any(|other| other.name == *name) {
            problems.push(Problem::new(format!("[[view]]: expected a name of its own, got {name:?} again")));
        }
        if clients.is_empty() {
            let problem = Problem::new(format!("[[view]] {name:?}: expected the networks of its clients, got none"));
            problems.push(problem.hint("write clients = [\"10.1.0.0/16\"]"));
        }
        for network in clients {
            if let Some(other) = before.iter().find(|other| other.clients.contains(network)) {
                let problem = Problem::new(format!("[[view]] {name:?}: {network} is in the view {:?} already", other.name));
                problems.push(problem.hint("a client has one view, that of the smallest network which it is in"));
            }
        }
    }
    if views.len() > VIEWS_MAX {
        let problem = Problem::new(format!("[[view]]: expected at most {VIEWS_MAX}, got {}", views.len()));
        problems.push(problem.hint("each has a cache of its own; give clients with the same needs the same view"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Name;

    fn views(text: &str) -> Result<Vec<View>, Vec<Problem>> {
        let table: Table = text.parse().unwrap();
        let sections = Vec::deserialize(table["view"].clone()).unwrap();
        let options = Options { config: Some("/etc/rollcall/rollcall.toml".into()), ..Options::default() };
        read(sections, &table, &options)
    }

    const MAIN: &str = "hosts = [\"hosts.d\"]\nhosts_domain = \"corp.example\"\nlocal_ttl = 7\n[registry]\nhttp = \"127.0.0.1:1\"\n\
        [forward]\nupstreams = [\"192.0.2.1\"]\nstrategy = \"strict\"\n[forward.cache]\nsize = 1000\nmax_ttl = 60\n";

    #[test]
    fn a_view_takes_from_the_rest_what_it_does_not_say() {
        let own = "[[view]]\nname = \"own\"\nclients = [\"10.0.0.0/8\"]\nhosts = [\"own.hosts\"]\n[view.forward]\n\
            upstreams = [\"192.0.2.2\"]\n[view.forward.cache]\nsize = 0\n[[view]]\nname = \"same\"\nclients = [\"10.1.2.3\"]\n";
        let views = views(&format!("{MAIN}{own}")).unwrap();
        let [own, same] = &views[..] else { panic!("{views:?}") };
        let cache = |view: &View| (view.forward.cache.size, view.forward.cache.max_ttl);
        assert_eq!((cache(own), cache(same)), ((0, 60), (1000, 60)));
        let upstreams = |view: &View| format!("{:?}", view.forward.upstreams);
        assert!(upstreams(own).contains("192.0.2.2") && !upstreams(own).contains("192.0.2.1"), "a list is replaced whole");
        assert_eq!(own.forward.strategy, same.forward.strategy);
        assert_ne!(own.forward.strategy, upstream::Config::default().strategy);
        assert_eq!(own.local.hosts, [Path::new("/etc/rollcall/own.hosts")]);
        assert_eq!(same.local.hosts, [Path::new("/etc/rollcall/hosts.d")]);
        let domain: Name = "corp.example".parse().unwrap();
        assert!(views.iter().all(|view| view.local.hosts_domain.as_ref() == Some(&domain) && view.local.local_ttl == 7));
    }

    #[test]
    fn an_upstream_of_the_command_line_is_for_who_has_none_of_its_own() {
        let text = format!(
            "{MAIN}[[view]]\nname = \"a\"\nclients = [\"10.0.0.1\"]\n[[view]]\nname = \"b\"\nclients = [\"10.0.0.2\"]\nforward.upstreams = [\"192.0.2.2\"]\n"
        );
        let table: Table = text.parse().unwrap();
        let options = Options { upstreams: vec!["192.0.2.9".into()], ..Options::default() };
        let views = read(Vec::deserialize(table["view"].clone()).unwrap(), &table, &options).unwrap();
        let upstreams = |view: &View| format!("{:?}", view.forward.upstreams);
        assert!(upstreams(&views[0]).contains("192.0.2.9") && upstreams(&views[1]).contains("192.0.2.2"), "{views:?}");
    }

    #[test]
    fn views_are_bounded_and_each_has_a_name() {
        let many: String =
            (0..=VIEWS_MAX).map(|n| format!("[[view]]\nname = \"v{n}\"\nclients = [\"10.0.0.{n}\"]\n")).collect();
        let problems = views(&many).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].to_string().contains("at most 64, got 65"), "{problems:?}");
        for name in ["", ".", "a b", "a/b", "\u{e9}"] {
            assert!(views(&format!("[[view]]\nname = {name:?}\nclients = [\"any\"]\n")).is_err(), "{name}");
        }
    }
}
