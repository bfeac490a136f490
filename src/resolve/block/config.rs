//! What is wanted of block lists: one `[[block]]` of the configuration.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error as _, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::list::Reading;
use crate::dns::Name;

/// One `[[block]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Files, and folders of them.
    pub lists: Vec<PathBuf>,
    pub form: Form,
    /// Whether an entry holds for all names below it too; by its form when unset: a hosts file's holds for one name, a domain
    /// for all that is below it.
    pub below: Option<bool>,
    /// What is said of a blocked name; what the list says when unset, else that there is no such name.
    pub answer: Option<Answer>,
    /// Domains that are spared, with all names below them, whatever the lists say.
    #[serde(deserialize_with = "crate::resolve::domains::deserialize")]
    pub except: Vec<Name>,
    /// Lists of such.
    pub except_lists: Vec<PathBuf>,
    /// A name is blocked too when what others say of it is an alias of a blocked one.
    pub aliases: bool,
    /// Seconds that an answer may be remembered.
    #[serde(deserialize_with = "crate::duration::deserialize_seconds")]
    pub ttl: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lists: Vec::new(),
            form: Form::default(),
            below: None,
            answer: None,
            except: Vec::new(),
            except_lists: Vec::new(),
            aliases: true,
            ttl: 10,
        }
    }
}

impl Config {
    /// The files that it names, to be taken relative to its own place.
    pub fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.lists.iter_mut().chain(&mut self.except_lists)
    }

    pub(super) fn reading(&self) -> Reading {
        Reading { form: self.form, below: self.below }
    }

    /// Which files there are now, and whether they tell names to be spared.
    pub(super) fn paths(&self) -> impl Iterator<Item = (&Path, bool)> {
        let spared = self.except_lists.iter().map(|path| (path.as_path(), true));
        self.lists.iter().map(|path| (path.as_path(), false)).chain(spared)
    }
}

/// What the lines of a list look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Each line says what it is.
    #[default]
    Auto,
    /// `0.0.0.0 NAME`.
    Hosts,
    /// A domain a line, or `||DOMAIN^` as browsers' lists have it.
    Domains,
    /// A response policy zone, as a master file.
    Rpz,
}

/// What is said of a blocked name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// There is no such name.
    Nxdomain,
    /// It has no such data.
    Nodata,
    Refused,
    /// These are its addresses; it has nothing else.
    Addresses(Box<[IpAddr]>),
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Answer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"nxdomain\", \"nodata\", \"null\", \"refused\" or a list of addresses")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Answer, E> {
                match text {
                    "nxdomain" => Ok(Answer::Nxdomain),
                    "nodata" => Ok(Answer::Nodata),
                    "refused" => Ok(Answer::Refused),
                    "null" => Ok(Answer::Addresses([Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()].into())),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Answer, A::Error> {
                let addresses = Box::<[IpAddr]>::deserialize(SeqAccessDeserializer::new(list));
                addresses.map(Answer::Addresses).map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(Either)
    }
}
