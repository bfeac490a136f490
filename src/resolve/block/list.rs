//! One line of a block list: a hosts file's, a domain by itself, or what adblock rules say of whole domains. Not here: files,
//! and what becomes of the names.

use std::net::IpAddr;

use super::Form;
use super::names::Reach;
use crate::dns::Name;

/// How the lines of a file are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) form: Form,
    /// Whether an entry holds for the names below too, when its form is not to decide that.
    pub(super) below: Option<bool>,
}

/// A name of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: Name,
    pub(super) reach: Reach,
    /// It is to be spared.
    pub(super) is_exception: bool,
}

/// Why a line, or a word of it, is left out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault<'a> {
    /// It says something, but not of whole domains: a rule for browsers.
    Foreign,
    /// What was expected and what came, the word that is meant, and what to do.
    Wrong { word: &'a str, message: String, hint: &'static str },
}

/// Reads a line, with `each` told of every name in it. Words that are wrong do not keep the others out.
pub(super) fn read<'a>(line: &'a str, reading: Reading, each: &mut impl FnMut(Entry), wrong: &mut impl FnMut(Fault<'a>)) {
    let line = line.trim();
    let is_comment = line.starts_with(['#', '!', ';']) || line.starts_with("//");
    if line.is_empty() || is_comment || line.starts_with('[') && line.ends_with(']') {
        return;
    }
    if line.starts_with("||") || line.starts_with("@@") {
        match rule(line) {
            Some(entry) => each(entry),
            None => wrong(Fault::Foreign),
        }
        return;
    }
    // Elsewhere than behind a blank it is no comment: `example.com##.banner` is a rule of a browser's.
    let mut words = line.split_ascii_whitespace().take_while(|word| !word.starts_with('#'));
    let Some(first) = words.next() else { return };
    let address = first.split('%').next().unwrap_or(first).parse::<IpAddr>().ok();
    match (address, reading.form) {
        (Some(address), Form::Auto | Form::Hosts) => hosts(first, address, words, reading, each, wrong),
        (None, Form::Auto | Form::Domains) => domain(first, words.next(), reading, each, wrong),
        (Some(_), _) => wrong(Fault::Wrong {
            word: first,
            message: format!("expected a domain, got the address {first}"),
            hint: "`form = \"auto\"` reads hosts files and lists of domains",
        }),
        (None, _) => wrong(Fault::Wrong {
            word: first,
            message: format!("expected an address, got {first:?}"),
            hint: "a line of a hosts file is `0.0.0.0 NAME`; `form = \"auto\"` reads lists of domains too",
        }),
    }
}

/// `0.0.0.0 NAME [NAME ...]`: these very names, as a hosts file knows no others.
fn hosts<'a>(
    first: &'a str,
    address: IpAddr,
    words: impl Iterator<Item = &'a str>,
    reading: Reading,
    each: &mut impl FnMut(Entry),
    wrong: &mut impl FnMut(Fault<'a>),
) {
    if !(address.is_unspecified() || address.is_loopback()) {
        // The head of most lists is that of a system's own hosts file, with `ff02::1 ip6-allnodes` and the like.
        let is_of_the_system = match address {
            IpAddr::V4(v4) => v4.is_broadcast() || v4.is_multicast() || v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_multicast() || v6.is_unicast_link_local(),
        };
        if !is_of_the_system {
            wrong(Fault::Wrong {
                word: first,
                message: format!("expected 0.0.0.0 or 127.0.0.1 before names to block, got {first}"),
                hint: "`hosts = [...]` is for files with the addresses of names",
            });
        }
        return;
    }
    let reach = if reading.below == Some(true) { Reach::BOTH } else { Reach::ITSELF };
    for word in words {
        match name(word) {
            // `localhost`, `broadcasthost`, `ip6-loopback`, and `0.0.0.0` itself.
            Ok(name) if name.label_count() < 2 || word.parse::<IpAddr>().is_ok() => {}
            Ok(name) => each(Entry { name, reach, is_exception: false }),
            Err(fault) => wrong(fault),
        }
    }
}

/// `example.com` or `.example.com`: the domain and all below it; `*.example.com`: all below it.
fn domain<'a>(
    word: &'a str,
    more: Option<&'a str>,
    reading: Reading,
    each: &mut impl FnMut(Entry),
    wrong: &mut impl FnMut(Fault<'a>),
) {
    if let Some(more) = more {
        return wrong(Fault::Wrong {
            word: more,
            message: format!("expected one domain a line, got another word, {more:?}"),
            hint: "a list has a domain on each line, or `0.0.0.0 NAME`",
        });
    }
    let (text, reach) = match (word.strip_prefix("*."), word.strip_prefix('.')) {
        (Some(text), _) => (text, Reach::BELOW),
        (_, Some(text)) => (text, Reach::BOTH),
        _ if reading.below == Some(false) => (word, Reach::ITSELF),
        _ => (word, Reach::BOTH),
    };
    match name(text) {
        Ok(name) if name.label_count() < 2 && text == word && reading.form == Form::Auto => wrong(Fault::Wrong {
            word,
            message: format!("expected a domain, got {word:?}, which would be all of a top-level domain"),
            hint: "`form = \"domains\"` takes it, and so does `*.` in front of it",
        }),
        Ok(name) => each(Entry { name, reach, is_exception: false }),
        Err(fault) => wrong(fault),
    }
}

/// `||example.com^`, or `@@||example.com^` for one that is to be spared; `None` for what else stands in lists for browsers.
fn rule(line: &str) -> Option<Entry> {
    let (is_exception, rest) = match line.strip_prefix("@@") {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (text, behind) = rest.strip_prefix("||")?.split_once('^')?;
    if !matches!(behind, "" | "|" | "$important" | "|$important") || text.parse::<IpAddr>().is_ok() {
        return None;
    }
    let (text, reach) = text.strip_prefix("*.").map_or((text, Reach::BOTH), |text| (text, Reach::BELOW));
    Some(Entry { name: name(text).ok()?, reach, is_exception })
}

/// A name as people write them: letters, digits, hyphens and underscores, and those of all languages (RFC 5891).
pub(super) fn name(word: &str) -> Result<Name, Fault<'_>> {
    let fault = |message| Fault::Wrong { word, message, hint: "the other entries of this list count" };
    let is_usual = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
    match Name::from_idn(word) {
        Ok(name) if !name.is_root() && !word.contains('\\') && name.labels().flatten().all(is_usual) => Ok(name),
        Ok(_) => Err(fault(format!("expected a domain, got {word:?}"))),
        Err(error) => Err(fault(format!("expected a domain: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(line: &str, form: Form, below: Option<bool>) -> (Vec<String>, usize, usize) {
        let (mut found, mut wrong, mut foreign) = (Vec::new(), 0, 0);
        let mut each = |entry: Entry| {
            let mark = if entry.is_exception { "@" } else { "" };
            let reach = match entry.reach {
                Reach::ITSELF => "=",
                Reach::BELOW => "*.",
                _ => "",
            };
            found.push(format!("{mark}{reach}{}", entry.name));
        };
        read(line, Reading { form, below }, &mut each, &mut |fault| match fault {
            Fault::Foreign => foreign += 1,
            Fault::Wrong { .. } => wrong += 1,
        });
        (found, wrong, foreign)
    }

    #[test]
    fn each_form_means_what_people_expect_of_it() {
        for (line, expected) in [
            ("0.0.0.0 ads.example", &["=ads.example."][..]),
            ("127.0.0.1\tads.example  Tracker.example # both", &["=ads.example.", "=Tracker.example."]),
            (":: ads.example", &["=ads.example."]),
            ("0.0.0.0 0.0.0.0", &[]),
            ("127.0.0.1 localhost", &[]),
            ("ff02::1 ip6-allnodes", &[]),
            ("fe80::1%lo0 localhost", &[]),
            ("255.255.255.255 broadcasthost", &[]),
            ("ads.example", &["ads.example."]),
            ("ads.example.   # why", &["ads.example."]),
            (".ads.example", &["ads.example."]),
            ("*.ads.example", &["*.ads.example."]),
            ("*.zip", &["*.zip."]),
            ("bücher.example", &["xn--bcher-kva.example."]),
            ("_tcp.ads-1.example", &["_tcp.ads-1.example."]),
            ("||ads.example^", &["ads.example."]),
            ("||ads.example^$important", &["ads.example."]),
            ("@@||good.ads.example^|", &["@good.ads.example."]),
            ("||*.ads.example^", &["*.ads.example."]),
            ("# comment", &[]),
            ("! comment", &[]),
            ("; comment", &[]),
            ("[Adblock Plus 2.0]", &[]),
            ("   ", &[]),
        ] {
            assert_eq!(entries(line, Form::Auto, None), (expected.iter().map(ToString::to_string).collect(), 0, 0), "{line}");
        }
    }

    #[test]
    fn what_is_no_name_is_told() {
        for line in
            ["192.0.2.1 nas.example", "ads.example other.example", "zip", "a..b", "<html>", "http://ads.example/", "a*.b"]
        {
            assert_eq!(entries(line, Form::Auto, None), (vec![], 1, 0), "{line}");
        }
        assert_eq!(entries("0.0.0.0 good.example b@d", Form::Auto, None), (vec!["=good.example.".into()], 1, 0));
        let long = "x".repeat(64) + ".example";
        assert_eq!(entries(&long, Form::Auto, None), (vec![], 1, 0));
        for line in ["||ads.example/banner^", "||ads.example^$third-party", "@@/path", "||ads*.example^", "||192.0.2.1^"] {
            assert_eq!(entries(line, Form::Auto, None), (vec![], 0, 1), "{line}");
        }
        // This names a domain and blocks none.
        assert_eq!(entries("example.com##.banner", Form::Auto, None), (vec![], 1, 0));
        assert_eq!(entries("0.0.0.0 ads.example", Form::Domains, None), (vec![], 1, 0));
        assert_eq!(entries("ads.example", Form::Hosts, None), (vec![], 1, 0));
        assert_eq!(entries("zip", Form::Domains, None), (vec!["zip.".into()], 0, 0));
    }

    #[test]
    fn whoever_writes_below_decides() {
        assert_eq!(entries("0.0.0.0 ads.example", Form::Auto, Some(true)).0, ["ads.example."]);
        assert_eq!(entries("ads.example", Form::Auto, Some(false)).0, ["=ads.example."]);
        assert_eq!(entries("*.ads.example", Form::Auto, Some(false)).0, ["*.ads.example."], "as it is written");
    }
}
