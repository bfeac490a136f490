//! How Go writes and reads what clients compare with: quoted strings, numbers, durations, its JSON decoder's errors.
//!
//! Consul's answers carry these texts, so ours do. Bodies are decoded by [`decode`], against a [`Shape`] that tells
//! which Go type stands where; keys match in any case, unknown keys are passed over, as there.

use serde_json::{Map, Value};

use crate::duration;
use crate::limits;

/// `strconv.Quote`.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `strconv.Unquote`, for back quotes and double quotes.
pub(super) fn unquote(literal: &str) -> Option<String> {
    if let Some(raw) = literal.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) {
        return Some(raw.replace('\r', ""));
    }
    let inner = literal.strip_prefix('"')?.strip_suffix('"')?;
    let mut octets = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        let escape = match c {
            '\n' | '"' => return None,
            '\\' => chars.next()?,
            c => {
                octets.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
        };
        let mut number = |digits: usize, radix: u32, first: Option<char>| {
            let mut value = first.map_or(Some(0), |c| c.to_digit(radix))?;
            for _ in 0..digits {
                value = value.checked_mul(radix)?.checked_add(chars.next()?.to_digit(radix)?)?;
            }
            Some(value)
        };
        let c = match escape {
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            '\\' | '"' => escape,
            'x' => {
                octets.push(u8::try_from(number(2, 16, None)?).ok()?);
                continue;
            }
            '0'..='7' => {
                octets.push(u8::try_from(number(2, 8, Some(escape))?).ok()?);
                continue;
            }
            'u' => char::from_u32(number(4, 16, None)?)?,
            'U' => char::from_u32(number(8, 16, None)?)?,
            _ => return None,
        };
        octets.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Some(String::from_utf8_lossy(&octets).into_owned())
}

/// `strconv.ParseBool`.
pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quote(text))),
    }
}

/// `strconv.ParseInt` with the base told by the text.
pub(super) fn parse_int(text: &str) -> Result<i64, String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1i128, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_str() {
        s if s.starts_with("0x") => (16, &lower[2..]),
        s if s.starts_with("0b") => (2, &lower[2..]),
        s if s.starts_with("0o") => (8, &lower[2..]),
        s if s.len() > 1 && s.starts_with('0') => (8, &lower[1..]),
        s => (10, s),
    };
    let wrong = |what: &str| format!("strconv.ParseInt: parsing {}: {what}", quote(text));
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(wrong("invalid syntax"));
    }
    let value = i128::from_str_radix(digits, radix).map_err(|_| wrong("value out of range"))?;
    i64::try_from(sign * value).map_err(|_| wrong("value out of range"))
}

/// `strconv.ParseUint` in base ten.
pub(super) fn parse_uint(text: &str) -> Result<u64, String> {
    let wrong = |what: &str| format!("strconv.ParseUint: parsing {}: {what}", quote(text));
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong("invalid syntax"));
    }
    text.parse().map_err(|_| wrong("value out of range"))
}

/// What Go's regexp package says of a pattern that ours refuses.
pub(super) fn regex_error(pattern: &str, error: &regex::Error) -> String {
    let text = error.to_string();
    let what = |what: &str| format!("error parsing regexp: {what}: `{pattern}`");
    if text.contains("unclosed group") {
        what("missing closing )")
    } else if text.contains("unopened group") {
        what("unexpected )")
    } else if text.contains("unclosed character class") {
        what("missing closing ]")
    } else if text.contains("repetition operator missing expression") {
        what("missing argument to repetition operator")
    } else {
        what("invalid or unsupported expression")
    }
}

/// The Go type that stands somewhere in a body, as far as its decoder's errors tell it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Text,
    Bool,
    Int,
    Uint,
    Float,
    /// A string such as `10s`, or nanoseconds.
    Duration,
    /// Anything at all, kept as it is.
    Any,
    List(&'static Shape),
    Map(&'static Shape),
    Struct(&'static Struct),
}

/// A Go struct. `alias` is what its own decoder puts before field names (`Alias`), else empty.
#[derive(Debug)]
pub(super) struct Struct {
    pub(super) package: &'static str,
    pub(super) name: &'static str,
    pub(super) alias: &'static str,
    pub(super) fields: &'static [(&'static str, Shape)],
}

impl Shape {
    fn go_name(self) -> String {
        match self {
            Shape::Text => "string".into(),
            Shape::Bool => "bool".into(),
            Shape::Int => "int".into(),
            Shape::Uint => "uint64".into(),
            Shape::Float => "float64".into(),
            Shape::Duration => "time.Duration".into(),
            Shape::Any => "interface {}".into(),
            Shape::List(of) => format!("[]{}", of.go_name()),
            Shape::Map(of) => format!("map[string]{}", of.go_name()),
            Shape::Struct(of) if of.package.is_empty() => of.name.to_owned(),
            Shape::Struct(of) => format!("{}.{}", of.package, of.name),
        }
    }
}

/// Decodes the first JSON value of a body as Go would into `shape`: keys as the shape spells them, nulls left out. The
/// error is Go's text.
pub(super) fn decode(body: &[u8], shape: Shape) -> Result<Value, String> {
    let text = String::from_utf8_lossy(body);
    let value = first_value(&text)?;
    let value: Value = serde_json::from_str(value).map_err(|error| error.to_string())?;
    let mut place = Place { shape_name: None, path: Vec::new(), problem: None };
    let value = place.fit(value, shape);
    place.problem.map_or(Ok(value), Err)
}

struct Place {
    shape_name: Option<&'static str>,
    path: Vec<&'static str>,
    /// Only the first is told; decoding goes on behind it.
    problem: Option<String>,
}

impl Place {
    fn fit(&mut self, value: Value, shape: Shape) -> Value {
        match (shape, value) {
            (_, Value::Null) => Value::Null,
            (Shape::Any, value) => value,
            (Shape::Text, value @ Value::String(_)) | (Shape::Bool, value @ Value::Bool(_)) => value,
            (Shape::Float, value @ Value::Number(_)) => value,
            (Shape::Int | Shape::Duration, Value::Number(number)) if number.is_i64() => Value::Number(number),
            (Shape::Uint, Value::Number(number)) if number.is_u64() => Value::Number(number),
            (Shape::Duration, Value::String(text)) => match duration::parse_nanoseconds(&text) {
                Ok(nanoseconds) => nanoseconds.into(),
                Err(problem) => {
                    self.problem.get_or_insert(problem.to_string());
                    Value::Null
                }
            },
            (Shape::List(of), Value::Array(list)) => list.into_iter().map(|value| self.fit(value, *of)).collect(),
            (Shape::Map(of), Value::Object(map)) => {
                Value::Object(map.into_iter().map(|(key, value)| (key, self.fit(value, *of))).collect())
            }
            (Shape::Struct(of), Value::Object(map)) => self.fit_struct(map, of),
            (shape, value) => {
                self.mismatch(&value, shape);
                Value::Null
            }
        }
    }

    fn fit_struct(&mut self, map: Map<String, Value>, of: &'static Struct) -> Value {
        let outer = self.shape_name.replace(if of.alias.is_empty() { of.name } else { "" });
        let mut out = Map::new();
        for (key, value) in map {
            let exact = of.fields.iter().find(|(name, _)| **name == *key);
            let loose = || of.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(&key));
            let Some((name, shape)) = exact.or_else(loose) else { continue };
            let depth = self.path.len();
            if !of.alias.is_empty() {
                self.path.push(of.alias);
            }
            self.path.push(name);
            let value = self.fit(value, *shape);
            self.path.truncate(depth);
            if !value.is_null() {
                out.insert((*name).to_owned(), value);
            }
        }
        self.shape_name = outer;
        Value::Object(out)
    }

    fn mismatch(&mut self, value: &Value, shape: Shape) {
        let came = match value {
            Value::Bool(_) => "bool".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
            Value::Number(number) if matches!(shape, Shape::Int | Shape::Uint | Shape::Duration) => format!("number {number}"),
            Value::Number(_) | Value::Null => "number".to_owned(),
        };
        let wanted = shape.go_name();
        self.problem.get_or_insert_with(|| match self.shape_name {
            Some(name) => {
                format!("json: cannot unmarshal {came} into Go struct field {name}.{} of type {wanted}", self.path.join("."))
            }
            None => format!("json: cannot unmarshal {came} into Go value of type {wanted}"),
        });
    }
}

/// The first JSON value of a text, by Go's scanner: what follows it is not looked at.
fn first_value(text: &str) -> Result<&str, String> {
    let octets = text.as_bytes();
    let start = octets.iter().position(|b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n')).ok_or("EOF")?;
    let mut scanner = Scanner { text, at: start };
    scanner.value(0)?;
    text.get(start..scanner.at).ok_or_else(|| "unexpected EOF".to_owned())
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl Scanner<'_> {
    fn value(&mut self, depth: usize) -> Result<(), String> {
        if depth > limits::JSON_DEPTH_MAX {
            return Err("exceeded max depth".into());
        }
        self.space();
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string(),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(self.invalid("looking for beginning of value")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), String> {
        self.at += 1;
        self.space();
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            if self.peek()? != b'"' {
                return Err(self.invalid("looking for beginning of object key string"));
            }
            self.string()?;
            self.space();
            if self.peek()? != b':' {
                return Err(self.invalid("after object key"));
            }
            self.at += 1;
            self.value(depth + 1)?;
            self.space();
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => break,
                _ => return Err(self.invalid("after object key:value pair")),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), String> {
        self.at += 1;
        self.space();
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            self.space();
            match self.peek()? {
                b',' => self.at += 1,
                b']' => break,
                _ => return Err(self.invalid("after array element")),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(), String> {
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    self.at += 1;
                    match self.peek()? {
                        b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                        b'u' => {
                            for _ in 0..4 {
                                self.at += 1;
                                if !self.peek()?.is_ascii_hexdigit() {
                                    return Err(self.invalid("in \\u hexadecimal character escape"));
                                }
                            }
                        }
                        _ => return Err(self.invalid("in string escape code")),
                    }
                }
                0..0x20 => return Err(self.invalid("in string literal")),
                _ => {}
            }
            self.at += 1;
        }
        self.at += 1;
        Ok(())
    }

    fn literal(&mut self, word: &'static str) -> Result<(), String> {
        for wanted in word.bytes() {
            if self.peek()? != wanted {
                return Err(self.invalid(&format!("in literal {word} (expecting '{}')", wanted as char)));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), String> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        match self.peek()? {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits(),
            _ => return Err(self.invalid("in numeric literal")),
        }
        if self.next_is(b".") {
            self.at += 1;
            if !self.peek()?.is_ascii_digit() {
                return Err(self.invalid("after decimal point in numeric literal"));
            }
            self.digits();
        }
        if self.next_is(b"eE") {
            self.at += 1;
            if self.next_is(b"+-") {
                self.at += 1;
            }
            if !self.peek()?.is_ascii_digit() {
                return Err(self.invalid("in exponent of numeric literal"));
            }
            self.digits();
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.text.as_bytes().get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn next_is(&self, any_of: &[u8]) -> bool {
        self.text.as_bytes().get(self.at).is_some_and(|b| any_of.contains(b))
    }

    fn space(&mut self) {
        while self.next_is(b" \t\r\n") {
            self.at += 1;
        }
    }

    fn peek(&self) -> Result<u8, String> {
        self.text.as_bytes().get(self.at).copied().ok_or_else(|| "unexpected EOF".to_owned())
    }

    fn invalid(&self, context: &str) -> String {
        let c = self.text.get(self.at..).and_then(|rest| rest.chars().next()).unwrap_or('\u{fffd}');
        let shown = match c {
            '\'' => r"'\''".to_owned(),
            '"' => "'\"'".to_owned(),
            '\\' => r"'\\'".to_owned(),
            '\n' => r"'\n'".to_owned(),
            '\r' => r"'\r'".to_owned(),
            '\t' => r"'\t'".to_owned(),
            c if c.is_control() => format!("'\\x{:02x}'", c as u32),
            c => format!("'{c}'"),
        };
        format!("invalid character {shown} {context}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INNER: Struct = Struct {
        package: "structs",
        name: "NodeService",
        alias: "",
        fields: &[("Service", Shape::Text), ("Port", Shape::Int), ("Tags", Shape::List(&Shape::Text))],
    };
    const OUTER: Struct = Struct {
        package: "structs",
        name: "RegisterRequest",
        alias: "",
        fields: &[("Node", Shape::Text), ("Service", Shape::Struct(&INNER)), ("Wait", Shape::Duration)],
    };

    fn problem(body: &str) -> String {
        decode(body.as_bytes(), Shape::Struct(&OUTER)).expect_err(body)
    }

    #[test]
    fn keys_match_in_any_case_and_unknown_ones_are_passed_over() {
        let body = br#"{"node":"n","SERVICE":{"pOrt":80,"other":1},"Wait":"1m"} trailing"#;
        let value = decode(body, Shape::Struct(&OUTER)).unwrap();
        assert_eq!(value, serde_json::json!({"Node": "n", "Service": {"Port": 80}, "Wait": 60_000_000_000i64}));
        assert_eq!(decode(b"null", Shape::Struct(&OUTER)).unwrap(), Value::Null);
    }

    #[test]
    fn errors_read_as_go_writes_them() {
        for (body, text) in [
            ("", "EOF"),
            (" \n", "EOF"),
            ("{", "unexpected EOF"),
            ("xx", "invalid character 'x' looking for beginning of value"),
            ("{a}", "invalid character 'a' looking for beginning of object key string"),
            (r#"{"a" 1}"#, "invalid character '1' after object key"),
            (r#"{"a":1 "b"}"#, "invalid character '\"' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("tru3", "invalid character '3' in literal true (expecting 'e')"),
            (r#""x""#, "json: cannot unmarshal string into Go value of type structs.RegisterRequest"),
            (
                r#"{"Service":{"Port":"abc"}}"#,
                "json: cannot unmarshal string into Go struct field NodeService.Service.Port of type int",
            ),
            (
                r#"{"Service":{"Port":1.5}}"#,
                "json: cannot unmarshal number 1.5 into Go struct field NodeService.Service.Port of type int",
            ),
            (
                r#"{"Service":{"Tags":[1]}}"#,
                "json: cannot unmarshal number into Go struct field NodeService.Service.Tags of type string",
            ),
            (r#"{"Wait":"10"}"#, "time: missing unit in duration \"10\""),
        ] {
            assert_eq!(problem(body), text, "{body}");
        }
        assert_eq!(problem(&"[".repeat(100_000)), "exceeded max depth");
    }

    #[test]
    fn strings_unquote_as_in_go() {
        assert_eq!(unquote("`a\\n`").as_deref(), Some("a\\n"));
        assert_eq!(unquote(r#""a\n\x41\u00e9""#).as_deref(), Some("a\nAé"));
        assert_eq!(unquote(r#""\q""#), None);
    }
}
