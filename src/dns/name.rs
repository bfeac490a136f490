//! Domain names.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use super::ParseError;

/// The longest name in wire form, its root octet included (RFC 1035, 2.3.4).
const WIRE_MAX: usize = 255;
/// The longest label (RFC 1035, 2.3.4).
const LABEL_MAX: usize = 63;

/// An absolute domain name, kept in wire form with the case it came in; compared without regard to case (RFC 4343).
#[derive(Clone)]
pub struct Name {
    /// Length-prefixed labels, closed by the root's zero octet; never a compression pointer.
    wire: Box<[u8]>,
}

/// Why a text is not a domain name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Two dots in a row, or a leading dot.
    #[error("a name has no empty labels, got {0:?}")]
    EmptyLabel(String),
    /// A label above 63 octets.
    #[error("a label has at most 63 octets, got one of {length} in {text:?}")]
    LabelTooLong { text: String, length: usize },
    /// A name above 255 octets.
    #[error("a name has at most 255 octets, got {0}")]
    TooLong(usize),
    /// A backslash that starts no valid escape.
    #[error("a backslash is followed by three digits up to 255 or by one character, got {0:?}")]
    Escape(String),
    /// Letters that no name has in DNS (RFC 5892), or an escape beside letters that have to be encoded.
    #[error("a name has letters that DNS can carry (IDNA), got {0:?}")]
    Letters(String),
}

impl Name {
    /// The root, `.`.
    pub fn root() -> Self {
        Self { wire: Box::new([0]) }
    }

    /// Reads a name that starts at `start` in `message`, following compression pointers backwards only, so that the
    /// work is bounded by the name's 255 octets. Returns the offset behind it.
    pub fn parse(message: &[u8], start: usize) -> Result<(Self, usize), ParseError> {
        let mut wire = [0u8; WIRE_MAX];
        let (length, next) = Self::read(message, start, &mut wire)?;
        Ok((Self { wire: wire.get(..length).unwrap_or_default().into() }, next))
    }

    /// The offset behind a name that can be read.
    pub(super) fn skip(message: &[u8], start: usize) -> Result<usize, ParseError> {
        Self::each_label(message, start, |_, _| ())
    }

    /// Writes a name without pointers into `wire`; returns its length there, and the offset behind it.
    fn read(message: &[u8], start: usize, wire: &mut [u8; WIRE_MAX]) -> Result<(usize, usize), ParseError> {
        let mut end = 0;
        let next = Self::each_label(message, start, |at, label| {
            end = at + label.len();
            if let Some(room) = wire.get_mut(at..end) {
                room.copy_from_slice(label);
            }
        })?;
        Ok((end, next))
    }

    /// Follows a name to its root; `each` is told of every label with its length octet, and where that would stand in a name
    /// without pointers. Returns the offset behind the name.
    #[inline]
    fn each_label(message: &[u8], start: usize, mut each: impl FnMut(usize, &[u8])) -> Result<usize, ParseError> {
        let mut length = 0;
        let mut at = start;
        let mut floor = start;
        let mut next = None;
        loop {
            let octet = *message.get(at).ok_or(ParseError::Short { at: message.len(), what: "a name" })?;
            match octet >> 6 {
                0 => {
                    let count = usize::from(octet) + 1;
                    let label = message.get(at..at + count).ok_or(ParseError::Short { at: message.len(), what: "a label" })?;
                    if length + count > WIRE_MAX {
                        return Err(ParseError::NameTooLong { at: start });
                    }
                    each(length, label);
                    length += count;
                    at += count;
                    if octet == 0 {
                        return Ok(next.unwrap_or(at));
                    }
                }
                3 => {
                    let low =
                        *message.get(at + 1).ok_or(ParseError::Short { at: message.len(), what: "a compression pointer" })?;
                    let target = usize::from(u16::from_be_bytes([octet & 0x3f, low]));
                    next.get_or_insert(at + 2);
                    if target >= floor {
                        return Err(ParseError::Pointer { at });
                    }
                    floor = target;
                    at = target;
                }
                _ => return Err(ParseError::LabelKind { at }),
            }
        }
    }

    /// Builds a name from labels, leftmost first; `None` if a label or the whole is too long or a label is empty.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut wire = Vec::with_capacity(64);
        for label in labels {
            if label.is_empty() || label.len() > LABEL_MAX {
                return None;
            }
            wire.push(label.len() as u8);
            wire.extend_from_slice(label);
        }
        wire.push(0);
        (wire.len() <= WIRE_MAX).then(|| Self { wire: wire.into() })
    }

    /// A name as a person writes it: master-file form, and the letters of any language as they are asked for (`xn--…`, RFC
    /// 5891, 4).
    pub fn from_idn(text: &str) -> Result<Self, NameError> {
        if text.is_ascii() {
            return text.parse();
        }
        let encoded = Some(text).filter(|text| !text.contains('\\')).and_then(|text| idna::domain_to_ascii(text).ok());
        encoded.ok_or_else(|| NameError::Letters(text.into()))?.parse()
    }

    /// The labels, leftmost first, without the root.
    pub fn labels(&self) -> Labels<'_> {
        Labels { rest: &self.wire }
    }

    /// The wire form: length-prefixed labels and the closing zero.
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    pub fn is_root(&self) -> bool {
        self.wire.len() == 1
    }

    /// How many labels, without the root.
    pub fn label_count(&self) -> usize {
        self.labels().count()
    }

    /// Is this name `zone` itself or below it?
    pub fn is_within(&self, zone: &Name) -> bool {
        self.labels_above(zone).is_some()
    }

    /// The labels left of `zone`, leftmost first; `None` when the name is not within it.
    pub fn labels_above(&self, zone: &Name) -> Option<Vec<&[u8]>> {
        let count = self.label_count().checked_sub(zone.label_count())?;
        let mut rest = self.labels();
        let mut above = Vec::with_capacity(count);
        for _ in 0..count {
            above.push(rest.next()?);
        }
        rest.rest.eq_ignore_ascii_case(&zone.wire).then_some(above)
    }

    /// `labels` in front of this name; `None` if that is too long.
    pub fn prefixed<'a>(&'a self, labels: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        Self::from_labels(labels.into_iter().chain(self.labels()))
    }

    /// The name without its leftmost label; the root has none.
    pub fn parent(&self) -> Option<Self> {
        let first = usize::from(*self.wire.first()?);
        (first > 0).then(|| Self { wire: self.wire[first + 1..].into() })
    }

    /// The same name in lower case.
    pub fn to_lowercase(&self) -> Self {
        Self { wire: self.wire.to_ascii_lowercase().into() }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.wire.eq_ignore_ascii_case(&other.wire)
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for octet in &self.wire {
            state.write_u8(octet.to_ascii_lowercase());
        }
    }
}

/// The labels of a name, leftmost first.
#[derive(Clone)]
pub struct Labels<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (&length, rest) = self.rest.split_first()?;
        if length == 0 {
            return None;
        }
        let (label, rest) = rest.split_at_checked(usize::from(length))?;
        self.rest = rest;
        Some(label)
    }
}

/// Master-file form (RFC 1035, 5.1): `\DDD` and `\X` escapes; a closing dot may be left out, the name is absolute.
impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "." || text.is_empty() {
            return Ok(Self::root());
        }
        let mut wire = Vec::with_capacity(text.len() + 2);
        let mut label = Vec::new();
        let mut close = |label: &mut Vec<u8>| match label.len() {
            0 => Err(NameError::EmptyLabel(text.into())),
            length @ 1..=LABEL_MAX => {
                wire.push(length as u8);
                wire.append(label);
                Ok(())
            }
            length => Err(NameError::LabelTooLong { text: text.into(), length }),
        };
        let mut bytes = text.bytes();
        let mut closed = false;
        while let Some(byte) = bytes.next() {
            closed = false;
            match byte {
                b'.' => {
                    close(&mut label)?;
                    closed = true;
                }
                b'\\' => label.push(unescape(&mut bytes).ok_or_else(|| NameError::Escape(text.into()))?),
                _ => label.push(byte),
            }
        }
        if !closed {
            close(&mut label)?;
        }
        wire.push(0);
        if wire.len() > WIRE_MAX {
            return Err(NameError::TooLong(wire.len()));
        }
        Ok(Self { wire: wire.into() })
    }
}

/// The octet that an escape stands for, its backslash already read.
fn unescape(bytes: &mut std::str::Bytes<'_>) -> Option<u8> {
    let first = bytes.next()?;
    if !first.is_ascii_digit() {
        return Some(first);
    }
    let mut value = u32::from(first - b'0');
    for _ in 0..2 {
        let digit = bytes.next().filter(u8::is_ascii_digit)?;
        value = value * 10 + u32::from(digit - b'0');
    }
    u8::try_from(value).ok()
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for label in self.labels() {
            for &octet in label {
                match octet {
                    b'.' | b'\\' | b'"' | b';' | b'@' | b'$' | b'(' | b')' => write!(f, "\\{}", char::from(octet))?,
                    b'!'..=b'~' => write!(f, "{}", char::from(octet))?,
                    _ => write!(f, "\\{octet:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As a configuration has it. No text is no name, lest a domain that was forgotten is all there are; the root is `"."`.
impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        if text.is_empty() {
            return Err(D::Error::custom("expected a name, got \"\" (`.` is the root, and as a domain all names)"));
        }
        Self::from_idn(&text).map_err(D::Error::custom)
    }
}

/// Which names are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    All,
    /// This very name.
    One(Name),
    /// This name and all that end in it.
    Below(Name),
}

impl Names {
    /// Is this name, in wire form and lower case, one of them?
    pub fn has(&self, wire: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::One(name) => name.wire().eq_ignore_ascii_case(wire),
            Self::Below(domain) => {
                let mut rest = wire;
                loop {
                    if rest.eq_ignore_ascii_case(domain.wire()) {
                        return true;
                    }
                    let label = rest.first().map_or(0, |length| usize::from(*length));
                    match rest.get(label + 1..) {
                        Some(parent) if label > 0 => rest = parent,
                        _ => return false,
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn text_round_trips() {
        for text in [".", "consul.", "a.b.c.", "f\\.o.x.", "\\000\\255.x.", "_web._tcp.service.consul."] {
            assert_eq!(name(text).to_string(), text);
        }
        assert_eq!(name("a.b"), name("A.B."));
    }

    #[test]
    fn bad_text_is_refused() {
        assert!(matches!("a..b".parse::<Name>(), Err(NameError::EmptyLabel(_))));
        assert!(matches!(".a".parse::<Name>(), Err(NameError::EmptyLabel(_))));
        assert!(matches!("x".repeat(64).parse::<Name>(), Err(NameError::LabelTooLong { length: 64, .. })));
        assert!(matches!("abc.".repeat(64).parse::<Name>(), Err(NameError::TooLong(257))));
        assert!(matches!("a\\25".parse::<Name>(), Err(NameError::Escape(_))));
        assert!(matches!("a\\256".parse::<Name>(), Err(NameError::Escape(_))));
    }

    #[test]
    fn rfc5891_4_letters_of_all_languages_are_asked_for_encoded() {
        let read = |text: &str| Name::from_idn(text).map(|name| name.to_string());
        for (text, name) in [
            ("münchen.example", "xn--mnchen-3ya.example."),
            ("MÜNCHEN.Example.", "xn--mnchen-3ya.example."),
            ("_x.例え。テスト", "_x.xn--r8jz45g.xn--zckzah."),
            ("A.\\195\\188.example", "A.\\195\\188.example."),
            (".", "."),
        ] {
            assert_eq!(read(text).as_deref(), Ok(name), "{text}");
        }
        for text in ["ü\\.example", "\\195.ü", "a\u{fffd}.example", "ü..example", "\\256.example", "\\"] {
            assert!(read(text).is_err(), "{text}: {:?}", read(text));
        }
    }

    #[test]
    fn zones_are_matched_by_whole_labels() {
        let zone = name("consul.");
        assert!(name("web.service.CONSUL.").is_within(&zone));
        assert!(zone.is_within(&zone));
        assert!(!name("notconsul.").is_within(&zone));
        assert!(name("x.").is_within(&Name::root()));
        assert_eq!(name("a.b.consul.").labels_above(&zone), Some(vec![&b"a"[..], b"b"]));
    }

    #[test]
    fn rfc4343_3_only_letters_of_ascii_have_two_cases() {
        assert_eq!(name("A-z.ExAmple"), name("a-Z.eXaMPLE"));
        // `@` and backquote stand where letters would, 32 apart; and an umlaut is two octets of its own.
        for (one, other) in [("\\064.x", "`.x"), ("[.x", "{.x"), ("\\195\\132.x", "\\195\\164.x"), ("a\\000.x", "a\\032.x")] {
            assert_ne!(name(one), name(other));
        }
    }

    #[test]
    fn rfc9267_2_pointers_go_backwards_only() {
        let message = b"\x03foo\x00\x03bar\xc0\x00\xc0\x0b";
        assert_eq!(Name::parse(message, 5), Ok((name("bar.foo."), 11)));
        assert_eq!(Name::parse(message, 11), Err(ParseError::Pointer { at: 11 }));
        assert!(Name::parse(b"\x01a\xc0\x00", 0).is_err());
        assert!(matches!(Name::parse(b"\x40", 0), Err(ParseError::LabelKind { at: 0 })));
    }
}
