//! Durations as Go writes them, and so Consul and our own configuration: `90s`, `1h30m`, `1.5s`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Unexpected, Visitor};

/// Why a text is no duration, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    #[error("time: missing unit in duration {0:?}")]
    NoUnit(String),
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit { unit: String, text: String },
}

/// Reads a duration; one below zero reads as zero, since nothing here can last less.
pub fn parse(text: &str) -> Result<Duration, Fault> {
    Ok(Duration::from_nanos(u64::try_from(parse_nanoseconds(text)?).unwrap_or(0)))
}

/// Reads a duration of a configuration file.
pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    configured(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

/// Reads durations of a configuration file, by name.
pub fn deserialize_map<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Duration>, D::Error> {
    let texts = BTreeMap::<String, String>::deserialize(deserializer)?;
    let read = texts.into_iter().map(|(key, text)| Ok((key, configured(&text)?)));
    read.collect::<Result<_, String>>().map_err(de::Error::custom)
}

/// Reads whole seconds of a configuration file: a number, or a duration.
pub fn deserialize_seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    deserializer.deserialize_any(Seconds)
}

/// The same, where they may be left out.
pub fn deserialize_seconds_if_any<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    deserialize_seconds(deserializer).map(Some)
}

struct Seconds;

impl Visitor<'_> for Seconds {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("seconds, such as 300 or \"5m\"")
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<u32, E> {
        u32::try_from(seconds).map_err(|_| E::invalid_value(Unexpected::Signed(seconds), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u32, E> {
        let whole = configured(text).ok().filter(|duration| duration.subsec_nanos() == 0);
        let seconds = whole.and_then(|duration| u32::try_from(duration.as_secs()).ok());
        seconds.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

fn configured(text: &str) -> Result<Duration, String> {
    let read = parse_nanoseconds(text).ok().and_then(|nanoseconds| u64::try_from(nanoseconds).ok());
    let wrong = || format!("expected a duration such as \"10s\", \"1h30m\" or \"500ms\", got {text:?}");
    read.map(Duration::from_nanos).ok_or_else(wrong)
}

/// Go's `time.ParseDuration`.
pub fn parse_nanoseconds(text: &str) -> Result<i64, Fault> {
    let invalid = || Fault::Invalid(text.to_owned());
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(invalid());
        }
        let unit: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(Fault::NoUnit(text.to_owned())),
            unit => return Err(Fault::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() }),
        };
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        // Digits beyond the twelfth are below a nanosecond, whatever the unit.
        let fraction = fraction.get(..12).unwrap_or(fraction);
        let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| invalid())? };
        let scale = 10u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        total += u128::from(whole) * unit + part * unit / scale;
        // Go counts in 63 bits of nanoseconds.
        if total > i64::MAX as u128 {
            return Err(invalid());
        }
        rest = after;
    }
    let total = i64::try_from(total).map_err(|_| invalid())?;
    Ok(if negative { -total } else { total })
}

/// Go's `time.Duration.String`, of nanoseconds.
pub fn write_nanoseconds(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    format!("{sign}{}", write(Duration::from_nanos(nanoseconds.unsigned_abs())))
}

/// Writes a duration as Go does: the largest units first, no zeros in front, a fraction only of the last.
pub fn write(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let decimal = |unit: u128, name: &str| {
        let width = unit.ilog10() as usize;
        let fraction = format!("{:0width$}", nanos % 60_000_000_000 % unit);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() || unit == 1 { "" } else { "." };
        let fraction = if unit == 1 { "" } else { fraction };
        format!("{}{point}{fraction}{name}", nanos % 60_000_000_000 / unit)
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => decimal(1, "ns"),
        1_000..1_000_000 => decimal(1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(1_000_000, "ms"),
        _ => {
            let minutes = nanos / 60_000_000_000;
            let seconds = decimal(1_000_000_000, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_in_go() {
        for (text, millis) in
            [("10s", 10_000), ("1m30s", 90_000), ("1.5h", 5_400_000), (".5s", 500), ("0", 0), ("+2ms", 2), ("-3s", 0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("1us").unwrap(), Duration::from_micros(1));
        assert_eq!(parse("1.0000000000001s").unwrap(), Duration::from_secs(1));
        assert_eq!(parse("10").unwrap_err().to_string(), "time: missing unit in duration \"10\"");
        assert_eq!(parse("1d").unwrap_err().to_string(), "time: unknown unit \"d\" in duration \"1d\"");
        for text in ["", "-", "s", ".s", "1.2.3s", "9999999999h", "é"] {
            assert!(matches!(parse(text), Err(Fault::Invalid(_))), "{text}");
        }
    }

    #[test]
    fn a_configuration_is_held_to_what_makes_sense() {
        for (text, millis) in [("0", 0), ("0s", 0), ("10s", 10_000), ("1h30m", 5_400_000), ("1.5s", 1500), ("500ms", 500)] {
            assert_eq!(configured(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "10 s", "-1s", "1d", "1..2s"] {
            assert!(configured(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_in_go() {
        assert_eq!(write_nanoseconds(parse_nanoseconds("-90s").unwrap()), "-1m30s");
        for text in ["0s", "7ns", "1.5µs", "20ms", "100.25ms", "10s", "1m0s", "1m30.05s", "24h0m0s", "2h0m0.000000001s"] {
            assert_eq!(write(parse(text).unwrap()), text);
        }
    }
}
