//! Names that the standards keep on the host: what each means. Not how it is answered.

use super::PrivateNames;
use crate::dns::{ExtendedError, Name, Question, Type};

/// What a special-use name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The loopback addresses.
    Loopback,
    /// There is no such name in DNS, as this says, of which kind (RFC 8914).
    Nothing(ExtendedError, &'static str),
    /// There is the name, and nothing there.
    Empty,
}

/// What a standard says is nowhere in DNS.
const fn nowhere(standard: &'static str) -> Meaning {
    Meaning::Nothing(ExtendedError::Other, standard)
}

/// Never asked of anybody, whatever the configuration.
const ALWAYS: &[(&str, Meaning)] = &[
    ("localhost", Meaning::Loopback), // RFC 6761, 6.3
    ("invalid", nowhere("RFC 6761, 6.4")),
    ("test", nowhere("RFC 6761, 6.2")),
    ("local", nowhere("RFC 6762, 22.1")), // multicast DNS
    ("onion", nowhere("RFC 7686, 2")),
    ("alt", nowhere("RFC 9476, 2")),   // not DNS at all
    ("resolver.arpa", Meaning::Empty), // RFC 9462, 4.2 and 6.4: each resolver speaks of itself
    // This host, this network, link-local. The documentation ranges are not among them, as laboratories use them.
    ("0.in-addr.arpa", nowhere("RFC 6303, 4.2")),
    ("127.in-addr.arpa", nowhere("RFC 6303, 4.2")),
    ("254.169.in-addr.arpa", nowhere("RFC 6303, 4.2")),
    ("255.255.255.255.in-addr.arpa", nowhere("RFC 6303, 4.2")),
    ("0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa", nowhere("RFC 6303, 4.3")),
    ("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa", nowhere("RFC 6303, 4.3")),
    ("8.e.f.ip6.arpa", nowhere("RFC 6303, 4.5")),
    ("9.e.f.ip6.arpa", nowhere("RFC 6303, 4.5")),
    ("a.e.f.ip6.arpa", nowhere("RFC 6303, 4.5")),
    ("b.e.f.ip6.arpa", nowhere("RFC 6303, 4.5")),
];

/// Names that mean something in a private network only; 172.16.0.0/12 and 100.64.0.0/10 are told apart by number.
const PRIVATE: &[&str] = &[
    "internal",             // reserved by ICANN for private use
    "home.arpa",            // RFC 8375
    "10.in-addr.arpa",      // RFC 1918
    "168.192.in-addr.arpa", // RFC 1918
    "c.f.ip6.arpa",         // RFC 4193
    "d.f.ip6.arpa",         // RFC 4193
];

/// The ends of names that lead from addresses back to names.
const REVERSE: &[&str] = &["in-addr.arpa", "ip6.arpa"];

/// The last labels of all these names, so that an ordinary name is told apart by a few comparisons.
const LAST_LABELS: &[&str] = &["arpa", "localhost", "invalid", "test", "local", "onion", "alt", "internal"];

/// The special-use domain that `name` is in, and what that means; `None` for an ordinary name.
pub(super) fn meaning(question: &Question, private_names: PrivateNames) -> Option<(Name, Meaning)> {
    let name = &question.name;
    let last = name.labels().last()?;
    if !LAST_LABELS.iter().any(|label| last.eq_ignore_ascii_case(label.as_bytes())) {
        return None;
    }
    let always = ALWAYS.iter().find_map(|&(zone, meaning)| Some((within(name, zone)?, meaning)));
    if always.is_some() || private_names == PrivateNames::Forward {
        return always;
    }
    let is_meant = |zone: &&&str| private_names == PrivateNames::Block || REVERSE.iter().any(|end| zone.ends_with(end));
    let told = Meaning::Nothing(ExtendedError::Blocked, "private_names");
    let private = PRIVATE.iter().filter(is_meant).find_map(|zone| within(name, zone));
    // That it is not signed stands in the zone above it (RFC 8375, 4; RFC 4035, 3.1.4.1).
    let is_above = |zone: &Name| question.qtype == Type::DS && zone == name;
    private.or_else(|| shared_range(name)).filter(|zone| !is_above(zone)).map(|zone| (zone, told))
}

/// The part of `name` that is `zone`, when it ends so.
fn within(name: &Name, zone: &str) -> Option<Name> {
    // Compared label by label, so that an ordinary name costs no allocation: this is on every forwarded query's way.
    let skipped = name.label_count().checked_sub(zone.split('.').count())?;
    let ends_so =
        name.labels().skip(skipped).zip(zone.split('.')).all(|(label, wanted)| label.eq_ignore_ascii_case(wanted.as_bytes()));
    ends_so.then(|| Name::from_labels(name.labels().skip(skipped)))?
}

/// 16-31.172.in-addr.arpa (RFC 1918) and 64-127.100.in-addr.arpa (RFC 6598, 7793).
fn shared_range(name: &Name) -> Option<Name> {
    within(name, "in-addr.arpa")?;
    let skipped = name.label_count().checked_sub(4)?;
    let mut octets = name.labels().skip(skipped).map(|label| std::str::from_utf8(label).ok()?.parse::<u8>().ok());
    match (octets.next()??, octets.next()??) {
        (16..=31, 172) | (64..=127, 100) => Name::from_labels(name.labels().skip(skipped)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Class;

    fn question(name: &str, qtype: Type) -> Question {
        Question { name: name.parse().unwrap(), qtype, qclass: Class::IN }
    }

    fn is_kept(name: &str, blocks_private: bool) -> Option<Meaning> {
        let private_names = if blocks_private { PrivateNames::Block } else { PrivateNames::Forward };
        meaning(&question(name, Type::A), private_names).map(|(_, meaning)| meaning)
    }

    #[test]
    fn special_names_are_known_by_whole_labels() {
        assert_eq!(is_kept("a.LocalHost.", false), Some(Meaning::Loopback));
        for name in ["printer.local.", "x.onion.", "invalid.", "a.test.", "5.0.0.127.in-addr.arpa.", "x.8.e.f.ip6.arpa."] {
            assert!(matches!(is_kept(name, false), Some(Meaning::Nothing(ExtendedError::Other, _))), "{name}");
        }
        for name in [".", "mylocal.", "local.example.", "localhost.example.", "1.2.0.192.in-addr.arpa.", "in-addr.arpa."] {
            assert_eq!(is_kept(name, true), None, "{name}");
        }
    }

    #[test]
    fn every_special_name_passes_the_first_comparison() {
        for zone in ALWAYS.iter().map(|(zone, _)| *zone).chain(PRIVATE.iter().copied()) {
            assert!(is_kept(zone, true).is_some(), "{zone}");
        }
    }

    #[test]
    fn private_names_are_kept_only_when_blocked() {
        let told = Meaning::Nothing(ExtendedError::Blocked, "private_names");
        for name in
            ["db.internal.", "nas.home.arpa.", "1.0.0.10.in-addr.arpa.", "1.1.168.192.in-addr.arpa.", "16.172.in-addr.arpa."]
        {
            assert_eq!(is_kept(name, false), None, "{name}");
            assert_eq!(is_kept(name, true), Some(told), "{name}");
        }
        let reverse = |name: &str| meaning(&question(name, Type::A), PrivateNames::BlockReverse).is_some();
        assert!(reverse("1.1.168.192.in-addr.arpa.") && reverse("1.c.f.ip6.arpa.") && reverse("9.16.172.in-addr.arpa."));
        assert!(!reverse("db.internal.") && !reverse("nas.home.arpa.") && reverse("x.onion."));
        for name in ["1.1.15.172.in-addr.arpa.", "1.32.172.in-addr.arpa.", "9.63.100.in-addr.arpa.", "x.172.in-addr.arpa."] {
            assert_eq!(is_kept(name, true), None, "{name}");
        }
        assert_eq!(is_kept("1.1.127.100.in-addr.arpa.", true), Some(told));
    }

    #[test]
    fn rfc8375_4_whether_home_arpa_is_signed_stands_above_it() {
        for (name, is_here) in [("home.arpa.", false), ("10.in-addr.arpa.", false), ("x.home.arpa.", true), ("onion.", true)] {
            assert_eq!(meaning(&question(name, Type::DS), PrivateNames::Block).is_some(), is_here, "{name}");
        }
    }
}
