//! Which names stand for others? A question for one is answered with what is said of the other one, as an alias that tells so,
//! or without a word of it.
//!
//! Not here: who answers the other name. Whoever routes asks [`Rewrites::answer`] after data of exactly a name, and before
//! everybody else, and follows the alias that it says.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use serde::{Deserialize, Deserializer};

use super::local::respond;
use crate::dns::{Class, Message, Name, Query, Question, RData, Rcode, Record, Type};
use crate::limits::REWRITES_MAX;
use crate::problem::Problem;

/// One `[[rewrite]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub name: Name,
    pub to: Name,
    /// All names below it too, whose labels before it stay.
    #[serde(default)]
    pub below: bool,
    /// Only questions for this type.
    #[serde(default, rename = "type", deserialize_with = "record_type")]
    pub only: Option<Type>,
    /// The answer does not tell that it is another name's.
    #[serde(default)]
    pub hide: bool,
}

fn record_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Type>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

impl Config {
    /// Is this name rewritten by it, whatever is asked of it?
    fn has(&self, name: &Name) -> bool {
        *name == self.name || self.below && name.is_within(&self.name)
    }

    fn is_for(&self, qtype: Type) -> bool {
        self.only.is_none_or(|only| only == qtype)
    }

    /// May what this one makes of a name be for the other one to rewrite again?
    fn leads_to(&self, other: &Self) -> bool {
        let types_meet = self.only.zip(other.only).is_none_or(|(one, other)| one == other);
        types_meet && (other.has(&self.to) || self.below && other.name.is_within(&self.to))
    }

    /// What it makes of a name; `None` for one that would be too long.
    fn target(&self, name: &Name) -> Option<Name> {
        self.to.prefixed(name.labels_above(&self.name)?)
    }
}

/// All `[[rewrite]]`s.
#[derive(Debug, Default)]
pub struct Rewrites {
    by_name: HashMap<Name, Vec<Config>, RandomState>,
    ttl: u32,
}

impl Rewrites {
    /// Those of a configuration; `ttl` is how many seconds an alias may be remembered. Those that go in a circle are told, and
    /// left out.
    pub fn new(configs: &[Config], ttl: u32) -> (Self, Vec<Problem>) {
        let (mut rewrites, mut problems) = (Self { ttl, ..Self::default() }, Vec::new());
        if let Some(more) = configs.len().checked_sub(REWRITES_MAX).filter(|more| *more > 0) {
            let message = format!("expected at most {REWRITES_MAX} [[rewrite]]s; the last {more} have no effect");
            problems.push(Problem::new(message));
        }
        let configs = configs.get(..REWRITES_MAX).unwrap_or(configs);
        for (number, config) in configs.iter().enumerate() {
            if let Some(circle) = circle(configs, number) {
                let names: Vec<String> =
                    circle.iter().filter_map(|number| configs.get(*number)).map(|config| config.name.to_string()).collect();
                let message = format!(
                    "expected [[rewrite]]s that lead somewhere, got a circle: {} to {}; this one has no effect",
                    names.join(" to "),
                    config.name
                );
                problems.push(Problem::new(message).hint("`to` names a name that no [[rewrite]] of the circle has"));
                continue;
            }
            rewrites.by_name.entry(config.name.clone()).or_default().push(config.clone());
        }
        // What is said of a type counts before what is said of all.
        rewrites.by_name.values_mut().for_each(|own| own.sort_by_key(|config| config.only.is_none()));
        (rewrites, problems)
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// May any name in this domain be rewritten?
    pub fn has_within(&self, domain: &Name) -> bool {
        self.by_name
            .iter()
            .any(|(name, own)| name.is_within(domain) || domain.is_within(name) && own.iter().any(|config| config.below))
    }

    /// The alias that stands for an answer, if this name stands for another.
    pub fn answer(&self, query: &Query) -> Option<Message> {
        let rewrite = self.of(&query.question)?;
        let name = &query.question.name;
        let Some(target) = rewrite.target(name) else {
            // RFC 6672, 2.2: it does not fit with another end.
            return Some(respond(query, Rcode::YXDOMAIN));
        };
        let mut message = respond(query, Rcode::NOERROR);
        message.answers.push(Record::new(name.clone(), self.ttl, RData::Cname(target)));
        Some(message)
    }

    /// Takes from an answer to this question what tells that it is another name's, if that is wanted.
    pub fn disguise(&self, message: &mut Message) {
        let Some(question) = message.questions.first().cloned() else { return };
        if self.of(&question).is_none_or(|rewrite| !rewrite.hide) {
            return;
        }
        let wanted = |record: &Record| question.qtype == record.record_type() || record.record_type() != Type::CNAME;
        message.answers.retain(wanted);
        message.answers.iter_mut().for_each(|record| record.owner = question.name.clone());
    }

    /// The one for a question: that of the longest name.
    fn of(&self, question: &Question) -> Option<&Config> {
        if self.is_empty() || !matches!(question.qclass, Class::IN | Class::ANY) {
            return None;
        }
        let mut above = Some(question.name.clone());
        while let Some(name) = above {
            let own = self.by_name.get(&name).into_iter().flatten();
            let found = own.filter(|config| config.has(&question.name)).find(|config| config.is_for(question.qtype));
            if found.is_some() {
                return found;
            }
            above = name.parent();
        }
        None
    }
}

/// The circle that a rewrite may begin, by the numbers of those in it.
fn circle(configs: &[Config], start: usize) -> Option<Vec<usize>> {
    // Each is gone through once, whatever leads to it.
    let mut seen = vec![false; configs.len()];
    let mut ways = vec![vec![start]];
    while let Some(way) = ways.pop() {
        let last = configs.get(*way.last()?)?;
        for (number, _) in configs.iter().enumerate().filter(|(_, other)| last.leads_to(other)) {
            if number == start {
                return Some(way);
            }
            if let Some(seen) = seen.get_mut(number).filter(|seen| !**seen) {
                *seen = true;
                ways.push(way.iter().copied().chain([number]).collect());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, to: &str) -> Config {
        Config { name: name.parse().unwrap(), to: to.parse().unwrap(), below: false, only: None, hide: false }
    }

    fn below(name: &str, to: &str) -> Config {
        Config { below: true, ..config(name, to) }
    }

    fn query(name: &str, qtype: Type) -> Query {
        Query::of(Question { name: name.parse().unwrap(), qtype, qclass: Class::IN })
    }

    fn target(rewrites: &Rewrites, name: &str, qtype: Type) -> Option<String> {
        let message = rewrites.answer(&query(name, qtype))?;
        match &message.answers.first()?.data {
            RData::Cname(target) => Some(target.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_longest_name_counts_and_a_type_before_all() {
        let configs = [
            config("a.example", "b.example"),
            Config { only: Some(Type::MX), ..config("a.example", "mail.example") },
            below("corp.example", "internal.test"),
            config("www.corp.example", "web.example"),
            Config { only: Some(Type::TXT), ..below("sub.corp.example", "text.test") },
        ];
        let (rewrites, problems) = Rewrites::new(&configs, 30);
        assert_eq!(problems, []);
        for (name, qtype, expected) in [
            ("A.example", Type::A, Some("b.example.")),
            ("a.example", Type::MX, Some("mail.example.")),
            ("x.a.example", Type::A, None),
            ("corp.example", Type::A, Some("internal.test.")),
            ("x.Y.corp.example", Type::A, Some("x.Y.internal.test.")),
            ("www.corp.example", Type::A, Some("web.example.")),
            ("x.sub.corp.example", Type::TXT, Some("x.text.test.")),
            ("x.sub.corp.example", Type::A, Some("x.sub.internal.test.")),
            ("other.example", Type::A, None),
            (".", Type::A, None),
        ] {
            assert_eq!(target(&rewrites, name, qtype).as_deref(), expected, "{name} {qtype}");
        }
        let long = format!("{}corp.example", "a.".repeat(118));
        let (rewrites, _) = Rewrites::new(&[below("corp.example", "a.much.longer.name.example")], 30);
        assert_eq!(rewrites.answer(&query(&long, Type::A)).unwrap().rcode, Rcode::YXDOMAIN);
        assert!(rewrites.has_within(&"example".parse().unwrap()) && rewrites.has_within(&"x.corp.example".parse().unwrap()));
        assert!(!rewrites.has_within(&"test".parse().unwrap()));
    }

    #[test]
    fn circles_are_found_and_left_out() {
        for configs in [
            vec![config("a.example", "A.example")],
            vec![config("a.example", "b.example"), config("b.example", "c.example"), config("c.example", "a.example")],
            vec![below("example", "sub.example")],
            vec![below("a.example", "b.example"), below("b.example", "x.a.example")],
        ] {
            let count = configs.len();
            let (rewrites, problems) = Rewrites::new(&configs, 30);
            assert!(rewrites.is_empty() && problems.len() == count, "{problems:?}");
            assert!(problems[0].message.contains("got a circle: "), "{problems:?}");
        }
        let fine = [
            config("a.example", "b.example"),
            config("b.example", "c.example"),
            Config { only: Some(Type::A), ..config("x.example", "y.example") },
            Config { only: Some(Type::AAAA), ..config("y.example", "x.example") },
            config("into.circle.example", "round.example"),
        ];
        assert_eq!(Rewrites::new(&fine, 30).1, []);
        let led = [config("in.example", "a.example"), config("a.example", "b.example"), config("b.example", "a.example")];
        let (rewrites, problems) = Rewrites::new(&led, 30);
        assert_eq!((problems.len(), target(&rewrites, "in.example", Type::A).as_deref()), (2, Some("a.example.")));
    }

    #[test]
    fn who_hides_it_gives_the_data_as_that_of_the_name() {
        let configs = [Config { hide: true, ..config("a.example", "b.example") }, config("open.example", "b.example")];
        let (rewrites, _) = Rewrites::new(&configs, 30);
        for (name, expected) in [("a.example", &["a.example."][..]), ("open.example", &["open.example.", "b.example."])] {
            let mut message = rewrites.answer(&query(name, Type::A)).unwrap();
            message.answers.push(Record::address("b.example".parse().unwrap(), 60, [192, 0, 2, 1].into()));
            rewrites.disguise(&mut message);
            let owners: Vec<String> = message.answers.iter().map(|record| record.owner.to_string()).collect();
            assert_eq!(owners, expected);
        }
    }
}
