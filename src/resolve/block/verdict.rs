//! What becomes of a question that a list has something to say to, and what is answered.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use super::file::{self, Item};
use super::load::List;
use super::names::Action;
use super::rpz::Trigger;
use super::{Answer, Block, Config};
use crate::dns::{ExtendedError, Message, Name, Query, RData, Rcode, Record, Type};
use crate::limits::BLOCK_OCTETS_MAX;
use crate::metrics::Sum;
use crate::resolve::local::{respond, soa};

/// What becomes of a question.
#[derive(Debug)]
pub enum Verdict<'a> {
    /// What a list says.
    Listed(Listed<'a>),
    /// Nothing is passed on, as others' answer has more aliases or addresses than are looked up.
    Unknown,
}

impl Verdict<'_> {
    /// Counts it.
    pub fn note(&self) {
        self.counted().into_iter().for_each(|answered| answered.raise(1));
    }

    /// Where the answers of its list are counted.
    pub fn counted(&self) -> Option<&Arc<Sum>> {
        match self {
            Self::Listed(listed) => Some(&listed.list.answered),
            Self::Unknown => None,
        }
    }

    /// What is answered; `None` for nothing. Where an alias in it leads is for the caller to add.
    pub fn message(&self, query: &Query) -> Option<Message> {
        match self {
            Self::Listed(listed) => listed.message(query),
            Self::Unknown => {
                let mut message = respond(query, Rcode::SERVFAIL);
                message.flags.authoritative = false;
                if let Some(edns) = &mut message.edns {
                    edns.options.push(ExtendedError::Other.to_option(&self.reason()));
                }
                Some(message)
            }
        }
    }

    /// Why, in a few words.
    pub fn reason(&self) -> String {
        match self {
            Self::Listed(listed) => listed.reason(),
            Self::Unknown => "the answer has too many aliases or addresses for block lists".to_owned(),
        }
    }

    /// Where it stands: what the list has, the file, and the line if it is still there. Reads the file.
    pub fn place(&self) -> Option<(String, &Path, Option<usize>)> {
        match self {
            Self::Listed(listed) => Some(listed.place()),
            Self::Unknown => None,
        }
    }
}

/// What a list says of a question.
#[derive(Debug)]
pub struct Listed<'a> {
    pub(super) block: &'a Block,
    pub(super) list: &'a List,
    /// That of the list.
    pub(super) number: u16,
    pub(super) action: Action,
    pub(super) trigger: Trigger,
    /// The name of the answer that is meant, when it is not that of the question.
    pub(super) alias: Option<Name>,
}

impl Listed<'_> {
    fn message(&self, query: &Query) -> Option<Message> {
        let Config { answer, ttl, .. } = &self.block.config;
        let (name, qtype) = (&query.question.name, query.question.qtype);
        let wanted = |record: &Record| [record.record_type(), Type::ANY].contains(&qtype);
        let addressed = |addresses: &[IpAddr]| {
            let records = addresses.iter().map(|address| Record::address(name.clone(), *ttl, *address));
            records.filter(wanted).collect()
        };
        let (rcode, answers): (_, Vec<Record>) = match (answer, self.action) {
            (Some(Answer::Addresses(addresses)), _) => (Rcode::NOERROR, addressed(addresses)),
            (Some(Answer::Refused), _) => (Rcode::REFUSED, Vec::new()),
            (Some(Answer::Nodata), _) | (None, Action::Nodata) => (Rcode::NOERROR, Vec::new()),
            (None, Action::Drop) => return None,
            (None, Action::TcpOnly) => {
                let mut message = respond(query, Rcode::NOERROR);
                (message.flags.authoritative, message.flags.truncated) = (false, true);
                return Some(message);
            }
            (None, Action::Data) => (Rcode::NOERROR, self.data(name, qtype)),
            (Some(Answer::Nxdomain), _) | (None, _) => (Rcode::NXDOMAIN, Vec::new()),
        };
        let mut message = respond(query, rcode);
        // We say it, but not in the name of whoever has the zone.
        message.flags.authoritative = false;
        message.answers = answers;
        if message.answers.is_empty() && rcode != Rcode::REFUSED {
            let zone = match &self.trigger {
                Trigger::Name(zone) | Trigger::Below(zone) if self.alias.is_none() => zone,
                _ => name,
            };
            message.authorities.push(soa(zone.clone(), *ttl));
        }
        // RFC 8914, 4.5 and 4.16.
        let code = if message.answers.is_empty() { ExtendedError::Blocked } else { ExtendedError::Forged };
        if let Some(edns) = &mut message.edns {
            edns.options.push(code.to_option(&self.reason()));
        }
        Some(message)
    }

    /// The records that the list gives.
    fn data(&self, name: &Name, qtype: Type) -> Vec<Record> {
        let data = self.block.rules.data.get(&(self.number, self.trigger.clone())).map_or(&[][..], Vec::as_slice);
        let alias = data.iter().find_map(|(ttl, data)| match data {
            RData::Cname(target) => Some((ttl, target)),
            _ => None,
        });
        if let Some((ttl, target)) = alias {
            // `*.garden.example.`: the name in question, below that.
            let target = match target.labels().next() {
                Some(b"*") => target.parent().and_then(|garden| garden.prefixed(name.labels())),
                _ => Some(target.clone()),
            };
            return target.map(|target| Record::new(name.clone(), *ttl, RData::Cname(target))).into_iter().collect();
        }
        let records = data.iter().map(|(ttl, data)| Record::new(name.clone(), *ttl, data.clone()));
        records.filter(|record| [record.record_type(), Type::ANY].contains(&qtype)).collect()
    }

    fn reason(&self) -> String {
        let list = self.list.name();
        match (&self.alias, &self.trigger) {
            (_, Trigger::Client(_)) => format!("blocked by {list}, as a client"),
            (_, Trigger::Address(network)) => format!("blocked by {list}, as the address {network}"),
            (Some(alias), _) => format!("blocked by {list}, as an alias of {alias}"),
            (None, _) => format!("blocked by {list}"),
        }
    }

    fn place(&self) -> (String, &Path, Option<usize>) {
        let line = self.line_of(|item| match (item, &self.trigger) {
            (Item::Entry(entry), Trigger::Name(name) | Trigger::Below(name)) => entry.name == *name,
            (Item::Entry(_), _) => false,
            (Item::Policy(trigger, _), own) => trigger == own,
        });
        let has = match (&self.trigger, self.action) {
            // A list of names does not tell the two apart.
            (Trigger::Below(name), Action::Given) => name.to_string(),
            (trigger, _) => trigger.to_string(),
        };
        (has, &self.list.path, line)
    }

    fn line_of(&self, is_it: impl Fn(&Item) -> bool) -> Option<usize> {
        let mut line = None;
        let _ = file::read(&self.list.path, self.block.config.reading(), &mut { BLOCK_OCTETS_MAX }, &mut |number, item| {
            if line.is_none() && is_it(&item) {
                line = Some(number);
            }
        });
        line
    }
}
