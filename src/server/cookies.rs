//! Cookies that clients get (RFC 7873, RFC 9018): who brings back what we gave to its address is no forger of that address.
//!
//! Pure: the time is told, in seconds of Unix time.

use std::fmt;
use std::hash::Hasher as _;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, de};
use siphasher::sip::SipHasher24;

use crate::dns::{add_option, is_cookie, option};
use crate::limits::COOKIE_SECRETS_MAX;

/// Octets of a client's cookie.
const CLIENT: usize = 8;
/// Octets of ours behind it: version, three of no meaning, the time, the hash (RFC 9018, 4).
const SERVER: usize = 16;
const VERSION: u8 = 1;
/// How old one may be, and how far ahead of our clock; and how old it gets before a new one is given (RFC 9018, 4.3).
const AGE_MAX: i32 = 3_600;
const AHEAD_MAX: i32 = 300;
const RENEWED: i32 = 1_800;

/// Gives cookies and knows them again.
#[derive(Debug, Clone)]
pub struct Cookies(Arc<[Secret]>);

/// What the cookies of all servers of one address are made with: 32 hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
struct Secret([u8; 16]);

/// One secret, or a list of them: cookies are made with the first, and those of all are known (RFC 9018, 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets(Vec<Secret>);

impl Default for Cookies {
    /// With a secret of its own.
    fn default() -> Self {
        let mut secret = [0; 16];
        // Without chance there is no secret, and a cookie shows nothing; it is as if there were none.
        let _ = getrandom::fill(&mut secret);
        Self([Secret(secret)].into())
    }
}

impl Cookies {
    /// Octets that a cookie takes in an answer.
    pub(super) const ROOM: usize = 4 + CLIENT + SERVER;

    pub fn new(secrets: &Secrets) -> Self {
        Self(secrets.0.as_slice().into())
    }

    /// Puts the cookie that is due into an answer, if that has an OPT record: `brought` is what the client sent, its own
    /// cookie and maybe one of ours.
    pub(super) fn grant(&self, brought: &[u8], client: IpAddr, now: u32, answer: &mut Vec<u8>) {
        let Some(own) = brought.first_chunk::<CLIENT>().filter(|_| is_cookie(brought.len())) else { return };
        let Some(secret) = self.0.first() else { return };
        let mut cookie = [0; CLIENT + SERVER];
        let (first, second) = cookie.split_at_mut(CLIENT);
        first.copy_from_slice(own);
        match brought.get(CLIENT..) {
            // One of another secret is renewed at once, so that this one may go.
            Some(young) if secret.age(brought, client, now).is_some_and(|age| age <= RENEWED) => second.copy_from_slice(young),
            _ => second.copy_from_slice(&secret.made(*own, [VERSION, 0, 0, 0], now, client)),
        }
        add_option(answer, option::COOKIE, &cookie);
    }

    /// Does the client bring a cookie of ours that is still good?
    pub(super) fn knows(&self, brought: &[u8], client: IpAddr, now: u32) -> bool {
        self.age(brought, client, now).is_some()
    }

    fn age(&self, brought: &[u8], client: IpAddr, now: u32) -> Option<i32> {
        self.0.iter().find_map(|secret| secret.age(brought, client, now))
    }
}

impl Secret {
    /// Seconds since we gave this cookie to this client; `None` for what is not ours or not his, too old or not yet.
    fn age(&self, brought: &[u8], client: IpAddr, now: u32) -> Option<i32> {
        let (own, ours) = brought.split_first_chunk::<CLIENT>()?;
        let ours: &[u8; SERVER] = ours.try_into().ok()?;
        let [version, a, b, c, time @ ..] = ours.first_chunk::<8>()?;
        let time = u32::from_be_bytes(*time);
        // Serial numbers go round (RFC 9018, 4.3; RFC 1982).
        let age = now.wrapping_sub(time).cast_signed();
        let is_ours = *version == VERSION && self.made(*own, [*version, *a, *b, *c], time, client) == *ours;
        (is_ours && (-AHEAD_MAX..=AGE_MAX).contains(&age)).then_some(age)
    }

    fn made(&self, own: [u8; CLIENT], head: [u8; 4], time: u32, client: IpAddr) -> [u8; SERVER] {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        let time = time.to_be_bytes();
        hasher.write(&own);
        hasher.write(&head);
        hasher.write(&time);
        match client.to_canonical() {
            IpAddr::V4(address) => hasher.write(&address.octets()),
            IpAddr::V6(address) => hasher.write(&address.octets()),
        }
        let mut cookie = [0; SERVER];
        cookie[..4].copy_from_slice(&head);
        cookie[4..8].copy_from_slice(&time);
        cookie[8..].copy_from_slice(&hasher.finish().to_le_bytes());
        cookie
    }
}

impl FromStr for Secret {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        // What was written is not repeated where a log may hold it.
        let wrong = "expected 32 hexadecimal digits, as `openssl rand -hex 16` prints them, got something else";
        let is_right = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let secret = u128::from_str_radix(text, 16).ok().filter(|_| is_right).ok_or(wrong)?;
        Ok(Self(secret.to_be_bytes()))
    }
}

impl<'de> Deserialize<'de> for Secrets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Secrets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    "a secret, or a list of 1 to {COOKIE_SECRETS_MAX}: the one that makes cookies, and others that are still good"
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secrets, E> {
                text.parse().map(|secret| Secrets(vec![secret])).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Secrets, A::Error> {
                let secrets = Vec::deserialize(SeqAccessDeserializer::new(list))?;
                let count = secrets.len();
                let is_right = (1..=COOKIE_SECRETS_MAX).contains(&count);
                if is_right {
                    Ok(Secrets(secrets))
                } else {
                    Err(de::Error::custom(format!("expected 1 to {COOKIE_SECRETS_MAX} secrets, got {count}")))
                }
            }
        }

        deserializer.deserialize_any(OneOrMore)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Class, Query, Question, Type};
    use crate::dns::{Edns, Rcode, find_option};

    fn octets(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    fn cookies(secret: &str) -> Cookies {
        Cookies::new(&Secrets(secret.split(' ').map(|secret| secret.parse().unwrap()).collect()))
    }

    /// What a client gets that brought this.
    fn granted(cookies: &Cookies, brought: &str, client: &str, now: u32) -> Vec<u8> {
        let question = Question { name: "example.net".parse().unwrap(), qtype: Type::A, qclass: Class::IN };
        let message = Query::of(question).response(Rcode::NOERROR);
        let mut answer = crate::dns::Message { edns: Some(Edns::new(1232)), ..message }.compose(true);
        cookies.grant(&octets(brought), client.parse().unwrap(), now, &mut answer);
        find_option(&answer, option::COOKIE).unwrap().to_vec()
    }

    const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";

    #[test]
    fn rfc9018_a_1_learning_a_new_server_cookie() {
        let given = granted(&cookies(SECRET), "2464c4abcf10c957", "198.51.100.100", 1_559_731_985);
        assert_eq!(given, octets("2464c4abcf10c957010000005cf79f111f8130c3eee29480"));
    }

    #[test]
    fn rfc9018_a_2_the_same_client_learning_a_renewed_server_cookie() {
        let brought = "2464c4abcf10c957010000005cf79f111f8130c3eee29480";
        let cookies = cookies(SECRET);
        assert_eq!(cookies.age(&octets(brought), "198.51.100.100".parse().unwrap(), 1_559_734_385), Some(2_400));
        let given = granted(&cookies, brought, "198.51.100.100", 1_559_734_385);
        assert_eq!(given, octets("2464c4abcf10c957010000005cf7a871d4a564a1442aca77"));
    }

    #[test]
    fn rfc9018_a_3_another_client_learning_a_renewed_server_cookie() {
        let brought = "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5";
        let cookies = cookies(SECRET);
        let client = "203.0.113.203".parse().unwrap();
        // What is of no meaning is none of its business, but the hash is over it.
        assert!(cookies.age(&octets(brought), client, 1_559_728_000).is_some());
        let given = granted(&cookies, brought, "203.0.113.203", 1_559_734_700);
        assert_eq!(given, octets("fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e"));
    }

    #[test]
    fn rfc9018_a_4_ipv6_query_with_a_rolled_over_secret() {
        let brought = "22681ab97d52c298010000005cf7c57926556bd0934c72f8";
        let client = "2001:db8:220:1:59de:d0f4:8769:82b8";
        assert!(
            cookies("dd3bdf9344b678b185a6f5cb60fca715").age(&octets(brought), client.parse().unwrap(), 1_559_741_817).is_some()
        );
        let now = cookies("445536bcd2513298075a5d379663c962");
        assert_eq!(now.age(&octets(brought), client.parse().unwrap(), 1_559_741_961), None);
        assert_eq!(granted(&now, brought, client, 1_559_741_961), octets("22681ab97d52c298010000005cf7c609a6bb79d16625507a"));
    }

    #[test]
    fn rfc9018_5_a_secret_is_rolled_over_in_three_steps_and_no_cookie_is_refused() {
        let (old, new) = ("dd3bdf9344b678b185a6f5cb60fca715", "445536bcd2513298075a5d379663c962");
        let (own, client, now) = ("22681ab97d52c298", "2001:db8::7", 1_800_000_000);
        let text = |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
        let [before, staged, rolled, after] =
            [old.into(), format!("{old} {new}"), format!("{new} {old}"), new.into()].map(|secrets: String| cookies(&secrets));
        let first = granted(&before, own, client, now);
        let renewed = granted(&rolled, &text(&first), client, now + 1);
        // Servers of one address roll over one after the other.
        assert_eq!(
            granted(&staged, &text(&first), client, now + 1),
            first,
            "those of the first secret stay while they are young"
        );
        assert_ne!(renewed, first, "those of another become the first's");
        let knows = |cookies: &Cookies, cookie: &[u8]| cookies.knows(cookie, client.parse().unwrap(), now + 2);
        assert!([&before, &staged, &rolled].iter().all(|cookies| knows(cookies, &first)) && !knows(&after, &first));
        assert!([&staged, &rolled, &after].iter().all(|cookies| knows(cookies, &renewed)) && !knows(&before, &renewed));
        assert_eq!(granted(&after, &text(&renewed), client, now + 3), renewed);
    }

    #[test]
    fn secrets_are_one_or_a_few() {
        #[derive(Debug, Deserialize)]
        struct Sample {
            s: Secrets,
        }
        let read = |value: &str| toml::from_str::<Sample>(&format!("s = {value}"));
        let of = |count: usize| format!("{:?}", vec![SECRET; count]);
        assert_eq!(read(&format!("{SECRET:?}")).unwrap().s, read(&of(1)).unwrap().s);
        assert_eq!(read(&of(COOKIE_SECRETS_MAX)).unwrap().s.0.len(), COOKIE_SECRETS_MAX);
        for wrong in [of(0), of(COOKIE_SECRETS_MAX + 1), "7".into(), "[\"e5e9\"]".into()] {
            let error = read(&wrong).unwrap_err();
            assert!(error.message().contains("expected") && !error.message().contains("e5e9"), "{wrong}: {error}");
        }
    }

    #[test]
    fn rfc9018_4_3_a_cookie_holds_for_an_hour_and_is_renewed_after_half_of_it() {
        let (cookies, client, now) = (Cookies::default(), "192.0.2.1", 1_800_000_000);
        let own = "0102030405060708";
        let given = granted(&cookies, own, client, now);
        let text: String = given.iter().map(|octet| format!("{octet:02x}")).collect();
        let age = |client: &str, then| cookies.age(&given, client.parse().unwrap(), then);
        assert_eq!((age(client, now + 3_600), age(client, now + 3_601)), (Some(3_600), None));
        assert_eq!((age(client, now - 300), age(client, now - 301)), (Some(-300), None));
        assert_eq!((age("192.0.2.2", now), age("::ffff:192.0.2.1", now)), (None, Some(0)), "of this address");
        assert_eq!(Cookies::default().age(&given, client.parse().unwrap(), now), None, "another secret");
        assert_eq!(granted(&cookies, &text, client, now + 1_800), given, "the same as long as it is young");
        assert_ne!(granted(&cookies, &text, client, now + 1_801), given);
        for wrong in ["", "01", "01020304050607"] {
            assert_eq!(cookies.age(&octets(wrong), client.parse().unwrap(), now), None);
        }
    }

    #[test]
    fn a_secret_is_32_hexadecimal_digits_and_is_shown_to_nobody() {
        assert_eq!(format!("{:?}", cookies(SECRET)), "Cookies([Secret])");
        for wrong in ["", "e5e9", "+5e973e5a6b2a43f48e7dc849e37bfcf", "g5e973e5a6b2a43f48e7dc849e37bfcf"] {
            assert!(wrong.parse::<Secret>().unwrap_err().contains("32 hexadecimal digits"));
        }
    }
}
