//! Response policy zones (draft-vixie-dnsop-dns-rpz): master files whose owners say when something is done, and whose records
//! say what. Not here: what becomes of it.
//!
//! A zone comes as a file and is not transferred, so that its SOA record may be missing; names that are not absolute are then
//! below the root, as what they stand for. What only those see who ask the authorities themselves, the names and addresses of
//! name servers, cannot trigger anything here, and is told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::names::Action;
use super::networks::Network;
use crate::dns::{Name, RData, Record, Type};
use crate::problem::{Place, Problem};
use crate::resolve::zone::each_record;

/// When something is done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Trigger {
    /// A question for this name, or an answer with an alias of it.
    Name(Name),
    /// The same for all names below it.
    Below(Name),
    /// A client in this network.
    Client(Network),
    /// An answer with an address in it.
    Address(Network),
}

impl std::fmt::Display for Trigger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Client(network) => write!(f, "the client {network}"),
            Self::Address(network) => write!(f, "the address {network}"),
        }
    }
}

/// What is done; with [`Action::Data`], a record that is given, and its TTL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Effect {
    pub(super) action: Action,
    pub(super) data: Option<(u32, RData)>,
}

/// Does a file begin as a master file does? Lists of names do not.
pub(super) fn is_zone(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head);
    let first = head.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with(';')).unwrap_or_default();
    let mut words = first.split_ascii_whitespace().peekable();
    let is = |word: &str, among: [&str; 2]| among.iter().any(|other| word.eq_ignore_ascii_case(other));
    words.peek().is_some_and(|word| is(word, ["$TTL", "$ORIGIN"])) || words.skip(1).any(|word| is(word, ["SOA", "CNAME"]))
}

/// Reads a zone, with `each` told of every rule and the number of its line. Says what is wrong, and how many rules there are.
pub(super) fn read(path: &Path, text: &str, each: &mut impl FnMut(usize, Trigger, Effect)) -> (Vec<Problem>, usize) {
    let mut apex = Name::root();
    let (mut count, mut unseen, mut first) = (0, 0, None);
    let mut problems = each_record(path, text, |record, line| {
        if record.record_type() == Type::SOA {
            apex = record.owner;
            return Ok(());
        }
        match rule(&apex, &record)? {
            Rule::None => {}
            Rule::Unseen => {
                unseen += 1;
                first.get_or_insert(line);
            }
            Rule::Of(trigger, effect) => {
                count += 1;
                each(line, trigger, effect);
            }
        }
        Ok(())
    });
    if let Some(line) = first {
        let message = format!(
            "{unseen} rules have triggers on name servers (rpz-nsdname, rpz-nsip), which whoever forwards never sees; they have no effect"
        );
        let line_text = text.lines().nth(line - 1).unwrap_or_default();
        let place = Place { line, ..Place::of(line_text, 0..line_text.len()) };
        let problem = Problem::new(message).in_file(path).at(place).warning();
        problems.push(problem.hint("triggers on names (QNAME) and on addresses of answers (rpz-ip) have"));
    }
    (problems, count)
}

/// What a record is.
enum Rule {
    /// Of the zone itself, or of its signatures.
    None,
    /// One whose trigger is not seen here.
    Unseen,
    Of(Trigger, Effect),
}

/// Reads a record; what was expected of it and what came, when it is no rule.
fn rule(apex: &Name, record: &Record) -> Result<Rule, String> {
    let Some(labels) = record.owner.labels_above(apex) else {
        return Err(format!("expected a name within {apex}, where this zone starts, got {}", record.owner));
    };
    // DNSSEC and the zone's own name servers are no policy.
    let is_of_the_zone = matches!(record.record_type(), Type::RRSIG | Type::NSEC | Type::DNSKEY | Type::DS | Type::NS);
    let Some((last, rest)) = labels.split_last().filter(|_| !is_of_the_zone) else { return Ok(Rule::None) };
    let trigger = match last.to_ascii_lowercase().as_slice() {
        b"rpz-nsdname" | b"rpz-nsip" => return Ok(Rule::Unseen),
        b"rpz-ip" => Trigger::Address(network(rest).ok_or_else(|| encoding(&record.owner))?),
        b"rpz-client-ip" => Trigger::Client(network(rest).ok_or_else(|| encoding(&record.owner))?),
        _ => match labels.split_first() {
            Some((&b"*", below)) => Trigger::Below(Name::from_labels(below.iter().copied()).unwrap_or_else(Name::root)),
            _ => Trigger::Name(Name::from_labels(labels.iter().copied()).unwrap_or_else(Name::root)),
        },
    };
    let only = |action| Effect { action, data: None };
    let effect = match &record.data {
        RData::Cname(target) => match target.to_lowercase().labels().collect::<Vec<_>>().as_slice() {
            [] => only(Action::Nxdomain),
            [b"*"] => only(Action::Nodata),
            [b"rpz-passthru"] => only(Action::Passthru),
            [b"rpz-drop"] => only(Action::Drop),
            [b"rpz-tcp-only"] => only(Action::TcpOnly),
            [label] if label.starts_with(b"rpz-") => {
                return Err(format!("expected rpz-passthru., rpz-drop. or rpz-tcp-only., got {target}"));
            }
            // The form that rpz-passthru. had once.
            _ if matches!(&trigger, Trigger::Name(name) if name == target) => only(Action::Passthru),
            _ => Effect { action: Action::Data, data: Some((record.ttl, record.data.clone())) },
        },
        _ if record.record_type() == Type::DNAME => {
            return Err(format!("expected no DNAME record in a response policy zone, got that of {}", record.owner));
        }
        data => Effect { action: Action::Data, data: Some((record.ttl, data.clone())) },
    };
    Ok(Rule::Of(trigger, effect))
}

fn encoding(owner: &Name) -> String {
    format!("expected an address as LENGTH.OCTETS or LENGTH.WORDS from the last to the first, got {owner}")
}

/// `24.0.2.0.192` is 192.0.2.0/24, and `32.zz.db8.2001` is 2001:db8::/32.
fn network(labels: &[&[u8]]) -> Option<Network> {
    let (length, words) = labels.split_first().filter(|(_, words)| !words.is_empty())?;
    let length: u8 = std::str::from_utf8(length).ok()?.parse().ok()?;
    let words: Vec<&str> = words.iter().rev().map(|word| std::str::from_utf8(word).ok()).collect::<Option<_>>()?;
    let address: IpAddr = match words.as_slice() {
        [a, b, c, d] if !words.iter().any(|word| word.eq_ignore_ascii_case("zz")) => {
            let octets = [a.parse().ok()?, b.parse().ok()?, c.parse().ok()?, d.parse().ok()?];
            Ipv4Addr::from(octets).into()
        }
        words => {
            let text: Vec<&str> = words.iter().map(|word| if word.eq_ignore_ascii_case("zz") { "" } else { word }).collect();
            let mut text = text.join(":");
            // `::` at the beginning or the end is one colon more than what joins.
            if text.starts_with(':') {
                text.insert(0, ':');
            }
            if text.ends_with(':') {
                text.push(':');
            }
            if text.is_empty() {
                text.push_str("::");
            }
            text.parse::<Ipv6Addr>().ok()?.into()
        }
    };
    (length > 0).then(|| Network::new(address, length)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> (Vec<String>, Vec<String>) {
        let mut found = Vec::new();
        let (problems, _) = read(Path::new("rpz"), text, &mut |line, trigger, effect| {
            let data = effect.data.map_or_else(String::new, |(ttl, data)| format!(" {ttl} {}", data.record_type()));
            found.push(format!("{line} {trigger} {:?}{data}", effect.action));
        });
        (
            found,
            problems
                .iter()
                .map(|problem| format!("{}: {}", problem.place.as_ref().map_or(0, |p| p.line), problem.message))
                .collect(),
        )
    }

    #[test]
    fn owners_are_triggers_and_records_are_actions() {
        let text = "\
$TTL 60
@ SOA localhost. nobody.invalid. 1 3600 600 86400 60
@ NS localhost.
ads.example CNAME .
*.ads.example CNAME .
empty.example CNAME *.
fine.ads.example CNAME rpz-passthru.
old.ads.example CNAME old.ads.example.
drop.example CNAME rpz-drop.
tcp.example CNAME RPZ-TCP-only.
garden.example 30 CNAME *.garden.invalid.
data.example A 192.0.2.1
data.example TXT \"why\"
24.0.2.0.192.rpz-ip CNAME .
32.zz.db8.2001.rpz-ip CNAME .
128.1.zz.db8.2001.rpz-ip CNAME .
32.7.0.0.127.rpz-client-ip CNAME rpz-passthru.
";
        let (found, problems) = rules(text);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(
            found,
            [
                "4 ads.example. Nxdomain",
                "5 *.ads.example. Nxdomain",
                "6 empty.example. Nodata",
                "7 fine.ads.example. Passthru",
                "8 old.ads.example. Passthru",
                "9 drop.example. Drop",
                "10 tcp.example. TcpOnly",
                "11 garden.example. Data 30 CNAME",
                "12 data.example. Data 60 A",
                "13 data.example. Data 60 TXT",
                "14 the address 192.0.2.0/24 Nxdomain",
                "15 the address 2001:db8::/32 Nxdomain",
                "16 the address 2001:db8::1/128 Nxdomain",
                "17 the client 127.0.0.7/32 Passthru",
            ]
        );
    }

    #[test]
    fn a_zone_may_have_an_origin_or_no_soa_at_all() {
        let with = "$TTL 60\n$ORIGIN rpz.example.\n@ SOA ns h 1 1 1 1 1\nads.test CNAME .\nads.test.rpz.example. A 192.0.2.1\n";
        assert_eq!(rules(with).0, ["4 ads.test. Nxdomain", "5 ads.test. Data 60 A"]);
        assert_eq!(rules("$TTL 60\nads.test CNAME .\n").0, ["2 ads.test. Nxdomain"]);
    }

    #[test]
    fn what_has_no_effect_is_told_and_the_rest_counts() {
        let text = "$TTL 60\n\
            ns.evil.example.rpz-nsdname CNAME .\n\
            32.1.2.0.192.rpz-nsip CNAME .\n\
            24.1.2.0.192.rpz-ip CNAME .\n\
            200.0.2.0.192.rpz-ip CNAME .\n\
            a.example CNAME rpz-later.\n\
            b.example DNAME elsewhere.\n\
            $INCLUDE /etc/hostname\n\
            c.example A nowhere\n\
            d.example CNAME .\n";
        let (found, problems) = rules(text);
        assert_eq!(found, ["10 d.example. Nxdomain"]);
        let lines: Vec<&str> = problems.iter().map(|problem| problem.split(':').next().unwrap()).collect();
        assert_eq!(lines, ["4", "5", "6", "7", "8", "9", "2"], "{problems:#?}");
        assert!(problems[4].contains("$INCLUDE"), "{problems:#?}");
        assert!(problems[6].contains("2 rules have triggers on name servers"), "{problems:#?}");
        let many = format!("$TTL 60\n{}d.example CNAME .\n", "c.example A nowhere\n".repeat(1000));
        let (found, problems) = rules(&many);
        assert_eq!((found.len(), problems.len()), (1, 21));
        assert!(problems[20].contains("980 more"), "{:?}", problems[20]);
    }

    #[test]
    fn addresses_are_written_from_the_last_word_to_the_first() {
        let read =
            |text: &str| network(&text.split('.').map(str::as_bytes).collect::<Vec<_>>()).map(|network| network.to_string());
        for (text, expected) in [
            ("32.1.2.0.192", Some("192.0.2.1/32")),
            ("8.0.0.0.10", Some("10.0.0.0/8")),
            ("48.zz.101.db8.2001", Some("2001:db8:101::/48")),
            ("128.3.zz", Some("::3/128")),
            ("128.4.3.zz.1", Some("1::3:4/128")),
            ("128.8.7.6.5.4.3.2.1", Some("1:2:3:4:5:6:7:8/128")),
            ("1.zz", Some("::/1")),
            ("0.0.0.0.10", None),
            ("8.0.0.0.256", None),
            ("8.0.0.10", None),
            ("x.0.0.0.10", None),
            ("8", None),
            ("", None),
            ("64.zz.1.zz", None),
        ] {
            assert_eq!(read(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_zone_is_told_from_a_list() {
        for zone in ["$TTL 60\n", "; c\n\n$ORIGIN x.\n", "@ 60 IN SOA a b 1 1 1 1 1", "ads.example CNAME .", "\n@ IN SOA ("] {
            assert!(is_zone(zone.as_bytes()), "{zone}");
        }
        for list in ["", "ads.example\n", "0.0.0.0 ads.example\n", "# $TTL\n", "||ads.example^", "soa\n", "\u{0}\u{1}"] {
            assert!(!is_zone(list.as_bytes()), "{list}");
        }
    }
}
