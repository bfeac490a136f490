//! A configuration of ours that is being written: settings in their sections, each with the lines that it comes from.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;

use super::Origin;
use crate::dns::Name;

/// Sections in the order in which they are written. Those with two brackets may come more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Section {
    Top,
    Node,
    Dns,
    DnsConfig,
    Registry,
    Forward,
    Cache,
    Filter,
    Dnssec,
    Route,
    Record,
    Log,
}

impl Section {
    fn head(self) -> &'static str {
        match self {
            Self::Top => "",
            Self::Node => "[node]",
            Self::Dns => "[dns]",
            Self::DnsConfig => "[dns_config]",
            Self::Registry => "[registry]",
            Self::Forward => "[forward]",
            Self::Cache => "[forward.cache]",
            Self::Filter => "[forward.filter]",
            Self::Dnssec => "[forward.dnssec]",
            Self::Route => "[[forward.route]]",
            Self::Record => "[[record]]",
            Self::Log => "[log]",
        }
    }
}

/// Text of a TOML value, with the lines that it comes from.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) value: String,
    pub(super) from: Vec<Origin>,
}

#[derive(Debug)]
enum Value {
    One(Item),
    List(Vec<Item>),
}

type Settings = Vec<(Cow<'static, str>, Value)>;

#[derive(Debug)]
struct Table {
    section: Section,
    settings: Settings,
}

/// The configuration so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    tables: Vec<Table>,
}

impl Draft {
    /// Begins another table of a section that may have several.
    pub(super) fn begin(&mut self, section: Section) {
        self.tables.push(Table { section, settings: Vec::new() });
    }

    /// Sets a key; what it was set to before is replaced.
    pub(super) fn set(&mut self, section: Section, key: &'static str, value: impl Into<String>, from: Vec<Origin>) {
        self.put(section, key.into(), value.into(), from);
    }

    /// The same with a key that somebody else wrote.
    pub(super) fn set_as_written(&mut self, section: Section, key: String, value: String, from: Vec<Origin>) {
        self.put(section, quoted(key).into(), value, from);
    }

    fn put(&mut self, section: Section, key: Cow<'static, str>, value: String, from: Vec<Origin>) {
        let item = Item { value, from };
        let settings = self.settings(section);
        settings.retain(|(other, _)| *other != key);
        settings.push((key, Value::One(item)));
    }

    /// Sets a key's list, in which nothing stands twice.
    pub(super) fn list(&mut self, section: Section, key: &'static str, items: Vec<Item>) {
        self.settings(section).push((key.into(), Value::List(items)));
    }

    /// Adds to a key's list what is not there yet.
    pub(super) fn add(&mut self, section: Section, key: &'static str, items: impl IntoIterator<Item = Item>) {
        let settings = self.settings(section);
        let at = settings.iter().position(|(other, _)| *other == key).unwrap_or_else(|| {
            settings.push((key.into(), Value::List(Vec::new())));
            settings.len() - 1
        });
        if let Some((_, Value::List(list))) = settings.get_mut(at) {
            let mut places: HashMap<String, usize> = list.iter().enumerate().map(|(at, own)| (own.value.clone(), at)).collect();
            for item in items {
                match places.get(&item.value).and_then(|at| list.get_mut(*at)) {
                    Some(own) => own.from.extend(item.from),
                    None => {
                        places.insert(item.value.clone(), list.len());
                        list.push(item);
                    }
                }
            }
        }
    }

    /// The last table of a section, which there is from now on.
    fn settings(&mut self, section: Section) -> &mut Settings {
        let at = self.tables.iter().rposition(|table| table.section == section).unwrap_or_else(|| {
            self.begin(section);
            self.tables.len() - 1
        });
        &mut self.tables[at].settings
    }

    /// The whole text, behind these words.
    pub(super) fn into_toml(mut self, title: &str) -> String {
        let mut text = String::new();
        title.lines().for_each(|line| comment(&mut text, "", line));
        self.tables.sort_by_key(|table| table.section);
        for Table { section, settings } in self.tables {
            if settings.is_empty() {
                continue;
            }
            text.push('\n');
            if section != Section::Top {
                text.push_str(section.head());
                text.push('\n');
            }
            for (key, value) in settings {
                match value {
                    Value::One(Item { value, from }) => {
                        from.iter().for_each(|origin| comment(&mut text, "", &origin.to_string()));
                        let _ = writeln!(text, "{key} = {value}");
                    }
                    Value::List(list) if list.len() < 2 => {
                        list.iter().flat_map(|item| &item.from).for_each(|origin| comment(&mut text, "", &origin.to_string()));
                        let value = list.first().map_or("", |item| &item.value);
                        let _ = writeln!(text, "{key} = [{value}]");
                    }
                    Value::List(list) => {
                        let _ = writeln!(text, "{key} = [");
                        let mut said = Vec::new();
                        for Item { value, from } in list {
                            // A line that many of them come from stands above them once.
                            if from != said {
                                from.iter().for_each(|origin| comment(&mut text, "    ", &origin.to_string()));
                            }
                            let _ = writeln!(text, "    {value},");
                            said = from;
                        }
                        text.push_str("]\n");
                    }
                }
            }
        }
        text
    }
}

/// A name as a TOML string, without the dot at its end.
pub(super) fn quoted_name(name: &Name) -> String {
    let text = name.to_string();
    quoted(text.strip_suffix('.').filter(|bare| !bare.is_empty()).unwrap_or(&text))
}

/// Text as a TOML string.
pub(super) fn quoted(text: impl AsRef<str>) -> String {
    let mut quoted = String::from("\"");
    for c in text.as_ref().chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A comment's line; nothing in it can end it.
fn comment(text: &mut String, indent: &str, words: &str) {
    let words: String =
        words.chars().map(|c| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c }).collect();
    let _ = writeln!(text, "{indent}# {}", words.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_stand_in_their_sections_with_the_lines_that_they_come_from() {
        let origin = |line| Origin::new("a.conf".as_ref(), Some(line), &format!("line\n{line}"));
        let item = |value: &str, line| Item { value: quoted(value), from: vec![origin(line)] };
        let mut draft = Draft::default();
        for (name, line) in [("a", 3), ("b\"\\\u{7f}", 4)] {
            draft.begin(Section::Record);
            draft.set(Section::Record, "name", quoted(name), vec![origin(line)]);
        }
        draft.add(Section::Forward, "upstreams", [item("192.0.2.1", 1)]);
        draft.add(Section::Forward, "upstreams", [item("192.0.2.2", 2), item("192.0.2.1", 5)]);
        draft.set(Section::Top, "local_ttl", "0", vec![]);
        draft.add(Section::Top, "hosts", []);
        assert_eq!(
            draft.into_toml("title"),
            "# title\n\nlocal_ttl = 0\nhosts = []\n\n[forward]\nupstreams = [\n    # a.conf:1: line\u{fffd}1\n    \
             # a.conf:5: line\u{fffd}5\n    \"192.0.2.1\",\n    # a.conf:2: line\u{fffd}2\n    \"192.0.2.2\",\n]\n\n\
             [[record]]\n# a.conf:3: line\u{fffd}3\nname = \"a\"\n\n[[record]]\n# a.conf:4: line\u{fffd}4\n\
             name = \"b\\\"\\\\\\u007F\"\n"
        );
    }
}
