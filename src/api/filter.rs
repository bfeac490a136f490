//! `?filter=`: the expressions by which a client picks rows, such as `Service.Meta.version == "2" and web in Tags`.
//!
//! The language is go-bexpr's as Consul speaks it, its error texts included: a parse error names the furthest point
//! reached and every token that would have fitted there, so the parser keeps that list as it goes. An expression is
//! first checked against the [`Kind`] of the rows (which selectors there are, which operators fit them), then run on
//! their JSON. It is not a general query language: no `any`, no `<`, no arithmetic.
//!
//! Start with [`Filter::parse`].

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

use super::go;
use crate::limits;

/// What a selector leads to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Text,
    Bool,
    Int,
    List(&'static Kind),
    Map(&'static Kind),
    Struct(&'static [(&'static str, Kind)]),
}

/// A checked expression, ready to be asked of rows.
#[derive(Debug)]
pub(super) struct Filter {
    root: Expression,
    rows: Kind,
}

#[derive(Debug)]
enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Match(Match),
}

#[derive(Debug)]
struct Match {
    selector: Vec<String>,
    operator: Operator,
    value: String,
    operand: Operand,
}

/// The value, made ready for what it is compared with.
#[derive(Debug)]
enum Operand {
    Raw,
    Bool(bool),
    Int(i64),
    Pattern(Regex),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    In,
    NotIn,
    Matches,
    NotMatches,
    IsEmpty,
    IsNotEmpty,
}

impl Filter {
    /// Parses an expression and checks it against the rows' kind. The error is the text to answer with.
    pub(super) fn parse(text: &str, rows: Kind) -> Result<Filter, String> {
        let refuse = |problem: String| format!("Failed to create boolean expression evaluator: {problem}");
        if text.len() > limits::FILTER_OCTETS_MAX {
            return Err(refuse(format!(
                "expected an expression of at most {} octets, got {}",
                limits::FILTER_OCTETS_MAX,
                text.len()
            )));
        }
        let mut root = Parser::new(text).parse().map_err(refuse)?;
        check(&mut root, rows).map_err(refuse)?;
        Ok(Filter { root, rows })
    }

    pub(super) fn accepts(&self, row: &Value) -> bool {
        self.root.holds(row, self.rows)
    }
}

impl Expression {
    fn holds(&self, row: &Value, rows: Kind) -> bool {
        match self {
            Expression::All(parts) => parts.iter().all(|part| part.holds(row, rows)),
            Expression::Any(parts) => parts.iter().any(|part| part.holds(row, rows)),
            Expression::Not(part) => !part.holds(row, rows),
            Expression::Match(wanted) => wanted.holds(&wanted.selector, row, rows),
        }
    }
}

impl Match {
    fn holds(&self, path: &[String], value: &Value, kind: Kind) -> bool {
        let Some((head, rest)) = path.split_first() else { return self.test(value, kind) };
        match kind {
            // A list of structs: any element may match.
            Kind::List(element) => {
                value.as_array().is_some_and(|elements| elements.iter().any(|element_| self.holds(path, element_, *element)))
            }
            Kind::Map(of) => match value.get(head) {
                Some(value) => self.holds(rest, value, *of),
                None => self.operator.holds_for_absent(),
            },
            // A field that the JSON leaves out has its zero value.
            Kind::Struct(fields) => match fields.iter().find(|(name, _)| name == head) {
                Some((_, kind)) => self.holds(rest, value.get(head).unwrap_or(&Value::Null), *kind),
                None => false,
            },
            Kind::Text | Kind::Bool | Kind::Int => false,
        }
    }

    fn test(&self, value: &Value, kind: Kind) -> bool {
        let (positive, negated) = match self.operator {
            Operator::Equal => (Operator::Equal, false),
            Operator::NotEqual => (Operator::Equal, true),
            Operator::In => (Operator::In, false),
            Operator::NotIn => (Operator::In, true),
            Operator::Matches => (Operator::Matches, false),
            Operator::NotMatches => (Operator::Matches, true),
            Operator::IsEmpty => (Operator::IsEmpty, false),
            Operator::IsNotEmpty => (Operator::IsEmpty, true),
        };
        let holds = match positive {
            Operator::Equal => match (kind, &self.operand) {
                (Kind::Bool, Operand::Bool(wanted)) => value.as_bool().unwrap_or(false) == *wanted,
                (Kind::Int, Operand::Int(wanted)) => value.as_i64().unwrap_or(0) == *wanted,
                _ => value.as_str().unwrap_or("") == self.value,
            },
            Operator::In => match kind {
                Kind::Map(_) => value.get(&self.value).is_some(),
                Kind::List(_) => {
                    value.as_array().is_some_and(|list| list.iter().any(|element| element.as_str() == Some(&self.value)))
                }
                _ => value.as_str().unwrap_or("").contains(&self.value),
            },
            Operator::Matches => match &self.operand {
                Operand::Pattern(pattern) => pattern.is_match(value.as_str().unwrap_or("")),
                _ => false,
            },
            _ => match value {
                Value::Array(list) => list.is_empty(),
                Value::Object(map) => map.is_empty(),
                _ => true,
            },
        };
        holds != negated
    }
}

impl Operator {
    /// What a comparison with a key that a map does not have comes to.
    fn holds_for_absent(self) -> bool {
        matches!(self, Operator::NotEqual | Operator::NotIn | Operator::NotMatches | Operator::IsEmpty)
    }

    fn name(self) -> &'static str {
        match self {
            Operator::Equal => "Equal",
            Operator::NotEqual => "Not Equal",
            Operator::In => "In",
            Operator::NotIn => "Not In",
            Operator::Matches => "Matches",
            Operator::NotMatches => "Not Matches",
            Operator::IsEmpty => "Is Empty",
            Operator::IsNotEmpty => "Is Not Empty",
        }
    }

    fn fits(self, kind: Kind) -> bool {
        use Operator::{Equal, In, IsEmpty, IsNotEmpty, Matches, NotEqual, NotIn, NotMatches};
        match kind {
            Kind::Text => matches!(self, Equal | NotEqual | In | NotIn | Matches | NotMatches),
            Kind::Bool | Kind::Int => matches!(self, Equal | NotEqual),
            Kind::List(Kind::Struct(_)) => matches!(self, IsEmpty | IsNotEmpty),
            Kind::List(_) | Kind::Map(_) => matches!(self, In | NotIn | IsEmpty | IsNotEmpty),
            Kind::Struct(_) => false,
        }
    }
}

/// Checks selectors, operators and values against what the rows have.
fn check(expression: &mut Expression, rows: Kind) -> Result<(), String> {
    match expression {
        Expression::All(parts) | Expression::Any(parts) => parts.iter_mut().try_for_each(|part| check(part, rows)),
        Expression::Not(part) => check(part, rows),
        Expression::Match(wanted) => check_match(wanted, rows),
    }
}

fn check_match(wanted: &mut Match, rows: Kind) -> Result<(), String> {
    let selector = wanted.selector.join(".");
    let mut kind = rows;
    for (at, part) in wanted.selector.iter().enumerate() {
        let fields = match kind {
            Kind::List(element) => *element,
            other => other,
        };
        let next = match fields {
            Kind::Struct(fields) => fields.iter().find(|(name, _)| name == part).map(|(_, kind)| *kind),
            Kind::Map(of) => Some(*of),
            _ => None,
        };
        let so_far = || wanted.selector.get(..=at).unwrap_or_default().join(".");
        kind = next.ok_or_else(|| format!("Selector {} is not valid", go::quote(&so_far())))?;
    }
    if !wanted.operator.fits(kind) {
        let (operator, selector) = (go::quote(wanted.operator.name()), go::quote(&selector));
        return Err(format!("Invalid match operator {operator} for selector {selector}"));
    }
    let raw = &wanted.value;
    let refuse =
        |problem: String| format!("Failed to coerce value {} for selector {}: {problem}", go::quote(raw), go::quote(&selector));
    wanted.operand = match (kind, wanted.operator) {
        (Kind::Bool, _) => Operand::Bool(go::parse_bool(raw).map_err(refuse)?),
        (Kind::Int, _) => Operand::Int(go::parse_int(raw).map_err(refuse)?),
        (_, Operator::Matches | Operator::NotMatches) => {
            let pattern = regex::RegexBuilder::new(raw)
                .size_limit(limits::FILTER_PATTERN_OCTETS_MAX)
                .nest_limit(limits::FILTER_DEPTH_MAX as u32)
                .build();
            let refuse =
                |error| format!("Failed to compile regular expression {}: {}", go::quote(raw), go::regex_error(raw, &error));
            Operand::Pattern(pattern.map_err(refuse)?)
        }
        _ => Operand::Raw,
    };
    Ok(())
}

/// A parsing-expression grammar by hand. Each rule either moves `at` and succeeds, or puts it back and fails; every
/// token tried and not found at the furthest point is remembered, for the error text.
struct Parser<'a> {
    text: &'a str,
    at: usize,
    /// Inside a negative look-ahead, where what matches is the failure.
    inverted: bool,
    furthest: usize,
    expected: BTreeSet<String>,
    problems: Vec<String>,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0, inverted: false, furthest: 0, expected: BTreeSet::new(), problems: Vec::new(), depth: 0 }
    }

    fn parse(mut self) -> Result<Expression, String> {
        let root = self.input();
        match root {
            _ if !self.problems.is_empty() => Err(self.problems.join("\n")),
            Some(root) => Ok(root),
            None => {
                let end = self.expected.remove("!.");
                let mut expected: Vec<String> = self.expected.iter().cloned().collect();
                if end {
                    expected.push("EOF".into());
                }
                let list = match expected.split_last() {
                    Some((last, [])) => last.clone(),
                    Some((last, others)) => format!("{} or {last}", others.join(", ")),
                    None => String::new(),
                };
                Err(format!("{}: no match found, expected: {list}", self.place(self.furthest)))
            }
        }
    }

    fn input(&mut self) -> Option<Expression> {
        let start = self.at;
        self.space();
        if self.token("(") {
            self.space();
            if let Some(inner) = self.or() {
                self.space();
                if self.token(")") {
                    self.space();
                    if self.end() {
                        return Some(inner);
                    }
                }
            }
        }
        self.at = start;
        self.space();
        let root = self.or()?;
        self.space();
        self.end().then_some(root)
    }

    fn or(&mut self) -> Option<Expression> {
        let mut parts = vec![self.and()?];
        while let Some(next) = self.joined("or", Self::and) {
            parts.push(next);
        }
        Some(if parts.len() == 1 { parts.remove(0) } else { Expression::Any(parts) })
    }

    fn and(&mut self) -> Option<Expression> {
        let mut parts = vec![self.not()?];
        while let Some(next) = self.joined("and", Self::not) {
            parts.push(next);
        }
        Some(if parts.len() == 1 { parts.remove(0) } else { Expression::All(parts) })
    }

    fn joined(&mut self, word: &'static str, operand: fn(&mut Self) -> Option<Expression>) -> Option<Expression> {
        let start = self.at;
        if self.spaces()
            && self.token(word)
            && self.spaces()
            && let Some(next) = operand(self)
        {
            return Some(next);
        }
        self.at = start;
        None
    }

    fn not(&mut self) -> Option<Expression> {
        if self.depth >= limits::FILTER_DEPTH_MAX {
            self.problem_at(self.at, "grouping", "expressions are nested too deeply");
            return None;
        }
        self.depth += 1;
        let found = self.not_within();
        self.depth -= 1;
        found
    }

    fn not_within(&mut self) -> Option<Expression> {
        let start = self.at;
        if self.token("not")
            && self.spaces()
            && let Some(operand) = self.not()
        {
            return Some(Expression::Not(Box::new(operand)));
        }
        self.at = start;
        self.grouping()
    }

    fn grouping(&mut self) -> Option<Expression> {
        let start = self.at;
        if self.token("(") {
            self.space();
            if let Some(inner) = self.or() {
                self.space();
                if self.token(")") {
                    return Some(inner);
                }
                self.problem_at(self.at, "grouping", "Unmatched parentheses");
            }
        }
        self.at = start;
        self.comparison()
    }

    fn comparison(&mut self) -> Option<Expression> {
        let start = self.at;
        let value_operators: [fn(&mut Self) -> Option<Operator>; 6] = [
            |p| p.symbol("==").then_some(Operator::Equal),
            |p| p.symbol("!=").then_some(Operator::NotEqual),
            |p| (p.words(&["contains"]) && p.spaces()).then_some(Operator::In),
            |p| (p.words(&["not", "contains"]) && p.spaces()).then_some(Operator::NotIn),
            |p| (p.words(&["matches"]) && p.spaces()).then_some(Operator::Matches),
            |p| (p.words(&["not", "matches"]) && p.spaces()).then_some(Operator::NotMatches),
        ];
        let empty_operators: [fn(&mut Self) -> Option<Operator>; 2] = [
            |p| p.words(&["is", "empty"]).then_some(Operator::IsEmpty),
            |p| p.words(&["is", "not", "empty"]).then_some(Operator::IsNotEmpty),
        ];
        let member_operators: [fn(&mut Self) -> Option<Operator>; 2] = [
            |p| (p.words(&["in"]) && p.spaces()).then_some(Operator::In),
            |p| (p.words(&["not", "in"]) && p.spaces()).then_some(Operator::NotIn),
        ];
        let made =
            |selector, operator, value| Some(Expression::Match(Match { selector, operator, value, operand: Operand::Raw }));
        if let Some(selector) = self.selector() {
            let after = self.at;
            if let Some(operator) = self.first_of(&value_operators)
                && let Some(value) = self.value()
            {
                return made(selector, operator, value);
            }
            self.at = after;
            if let Some(operator) = self.first_of(&empty_operators) {
                return made(selector, operator, String::new());
            }
        }
        self.at = start;
        if let Some(value) = self.value()
            && let Some(operator) = self.first_of(&member_operators)
        {
            if let Some(selector) = self.selector() {
                return made(selector, operator, value);
            }
            self.problem_at(self.at, "match", "Invalid selector");
        }
        self.at = start;
        None
    }

    fn first_of(&mut self, operators: &[fn(&mut Self) -> Option<Operator>]) -> Option<Operator> {
        let start = self.at;
        for operator in operators {
            if let Some(found) = operator(self) {
                return Some(found);
            }
            self.at = start;
        }
        None
    }

    fn symbol(&mut self, symbol: &'static str) -> bool {
        self.space();
        let found = self.token(symbol);
        if found {
            self.space();
        }
        found
    }

    /// Words, each after white space.
    fn words(&mut self, words: &[&'static str]) -> bool {
        words.iter().all(|word| self.spaces() && self.token(word))
    }

    fn selector(&mut self) -> Option<Vec<String>> {
        let mut parts = vec![self.identifier()?];
        while let Some(part) = self.selector_part() {
            parts.push(part);
        }
        Some(parts)
    }

    fn selector_part(&mut self) -> Option<String> {
        let start = self.at;
        if self.token(".")
            && let Some(name) = self.identifier()
        {
            return Some(name);
        }
        self.at = start;
        if let Some(key) = self.index() {
            return Some(key);
        }
        self.at = start;
        if self.token(".") {
            let from = self.at;
            if self.digits() {
                return self.text.get(from..self.at).map(str::to_owned);
            }
        }
        self.at = start;
        None
    }

    fn identifier(&mut self) -> Option<String> {
        let start = self.at;
        if !self.class("[a-zA-Z]", |c| c.is_ascii_alphabetic()) {
            return None;
        }
        while self.class("[a-zA-Z0-9_/]", |c| c.is_ascii_alphanumeric() || c == '_' || c == '/') {}
        self.text.get(start..self.at).map(str::to_owned)
    }

    fn index(&mut self) -> Option<String> {
        let start = self.at;
        if self.token("[") {
            self.space();
            match self.string() {
                Some(key) => {
                    self.space();
                    if self.token("]") {
                        return Some(key);
                    }
                    self.problem_at(self.at, "index", "Unclosed index expression");
                }
                None => self.problem_at(self.at, "index", "Invalid index"),
            }
        }
        self.at = start;
        None
    }

    fn value(&mut self) -> Option<String> {
        if let Some(word) = self.selector() {
            return Some(word.join("."));
        }
        self.number().or_else(|| self.string())
    }

    fn number(&mut self) -> Option<String> {
        let start = self.at;
        self.token("-");
        if self.integer_or_float() {
            let end = self.at;
            let fits = self.spaces() || self.end() || self.token(")");
            self.at = end;
            if fits {
                return self.text.get(start..end).map(str::to_owned);
            }
            self.problem_at(end, "number", "Invalid number literal");
        }
        self.at = start;
        None
    }

    fn integer_or_float(&mut self) -> bool {
        if !self.token("0") {
            if !self.class("[1-9]", |c| ('1'..='9').contains(&c)) {
                return false;
            }
            self.digits();
        }
        let whole = self.at;
        if !(self.token(".") && self.digits()) {
            self.at = whole;
        }
        true
    }

    fn digits(&mut self) -> bool {
        let start = self.at;
        while self.class("[0-9]", |c| c.is_ascii_digit()) {}
        self.at > start
    }

    fn string(&mut self) -> Option<String> {
        let start = self.at;
        for quote in ["`", "\""] {
            if !self.token(quote) {
                continue;
            }
            while !self.looking_at(quote) && self.any() {}
            if self.token(quote) {
                let literal = self.text.get(start..self.at).unwrap_or_default();
                return Some(go::unquote(literal).unwrap_or_else(|| {
                    self.problem_at(start, "string", "invalid syntax");
                    String::new()
                }));
            }
            self.problem_at(self.at, "string", "Unterminated string literal");
        }
        self.at = start;
        None
    }

    fn space(&mut self) {
        while self.class(r"[ \t\r\n]", |c| matches!(c, ' ' | '\t' | '\r' | '\n')) {}
    }

    fn spaces(&mut self) -> bool {
        let start = self.at;
        self.space();
        self.at > start
    }

    fn end(&mut self) -> bool {
        let start = self.at;
        self.inverted = !self.inverted;
        let more = self.any();
        self.inverted = !self.inverted;
        self.at = start;
        !more
    }

    fn looking_at(&mut self, token: &'static str) -> bool {
        let start = self.at;
        self.inverted = !self.inverted;
        let found = self.token(token);
        self.inverted = !self.inverted;
        self.at = start;
        found
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn token(&mut self, token: &'static str) -> bool {
        let found = self.rest().starts_with(token);
        self.note(found, || go::quote(token));
        if found {
            self.at += token.len();
        }
        found
    }

    fn class(&mut self, name: &'static str, has: impl Fn(char) -> bool) -> bool {
        let next = self.rest().chars().next().filter(|c| has(*c));
        self.note(next.is_some(), || name.to_owned());
        self.at += next.map_or(0, char::len_utf8);
        next.is_some()
    }

    fn any(&mut self) -> bool {
        let next = self.rest().chars().next();
        self.note(next.is_some(), || ".".to_owned());
        self.at += next.map_or(0, char::len_utf8);
        next.is_some()
    }

    /// Remembers what would have fitted here, if nothing got further.
    fn note(&mut self, found: bool, token: impl FnOnce() -> String) {
        if found != self.inverted || self.at < self.furthest {
            return;
        }
        if self.at > self.furthest {
            self.furthest = self.at;
            self.expected.clear();
        }
        let token = token();
        self.expected.insert(if self.inverted { format!("!{token}") } else { token });
    }

    fn problem_at(&mut self, at: usize, rule: &str, problem: &str) {
        let text = format!("{}: rule {}: {problem}", self.place(at), go::quote(rule));
        if !self.problems.contains(&text) {
            self.problems.push(text);
        }
    }

    /// `line:column (offset)`, columns counted in characters from 1.
    fn place(&self, at: usize) -> String {
        let (mut line, mut column) = (1, 0);
        let shown = self.text.char_indices().map(|(offset, c)| (offset, c == '\n')).chain([(self.text.len(), false)]);
        for (_, newline) in shown.take_while(|(offset, _)| *offset <= at) {
            column += 1;
            if newline {
                (line, column) = (line + 1, 0);
            }
        }
        format!("{line}:{column} ({at})")
    }
}

const TEXTS: Kind = Kind::Map(&Kind::Text);
const LIST: Kind = Kind::List(&Kind::Text);
const WEIGHTS: Kind = Kind::Struct(&[("Passing", Kind::Int), ("Warning", Kind::Int)]);
const ADDRESSES: Kind = Kind::Map(&Kind::Struct(&[("Address", Kind::Text), ("Port", Kind::Int)]));
const CONNECT: Kind = Kind::Struct(&[("Native", Kind::Bool)]);
const PROXY: Kind = Kind::Struct(&[
    ("DestinationServiceName", Kind::Text),
    ("DestinationServiceID", Kind::Text),
    ("LocalServiceAddress", Kind::Text),
    ("LocalServicePort", Kind::Int),
    ("Mode", Kind::Text),
    ("MeshGateway", Kind::Struct(&[("Mode", Kind::Text)])),
]);

/// catalog/nodes.
pub(super) const NODE: Kind = Kind::Struct(&[
    ("ID", Kind::Text),
    ("Node", Kind::Text),
    ("Address", Kind::Text),
    ("Datacenter", Kind::Text),
    ("PeerName", Kind::Text),
    ("TaggedAddresses", TEXTS),
    ("Meta", TEXTS),
]);

/// The service in health/service, catalog/node and agent/services.
pub(super) const SERVICE: Kind = Kind::Struct(&[
    ("Kind", Kind::Text),
    ("ID", Kind::Text),
    ("Service", Kind::Text),
    ("Tags", LIST),
    ("Address", Kind::Text),
    ("TaggedAddresses", ADDRESSES),
    ("Meta", TEXTS),
    ("Port", Kind::Int),
    ("SocketPath", Kind::Text),
    ("Weights", WEIGHTS),
    ("EnableTagOverride", Kind::Bool),
    ("Proxy", PROXY),
    ("Connect", CONNECT),
    ("PeerName", Kind::Text),
]);

/// A row of catalog/service.
pub(super) const SERVICE_ROW: Kind = Kind::Struct(&[
    ("ID", Kind::Text),
    ("Node", Kind::Text),
    ("Address", Kind::Text),
    ("Datacenter", Kind::Text),
    ("TaggedAddresses", TEXTS),
    ("NodeMeta", TEXTS),
    ("ServiceKind", Kind::Text),
    ("ServiceID", Kind::Text),
    ("ServiceName", Kind::Text),
    ("ServiceTags", LIST),
    ("ServiceAddress", Kind::Text),
    ("ServiceTaggedAddresses", ADDRESSES),
    ("ServiceWeights", WEIGHTS),
    ("ServiceMeta", TEXTS),
    ("ServicePort", Kind::Int),
    ("ServiceSocketPath", Kind::Text),
    ("ServiceEnableTagOverride", Kind::Bool),
    ("ServiceProxy", PROXY),
    ("ServiceConnect", CONNECT),
    ("PeerName", Kind::Text),
]);

/// A check, wherever it is listed.
pub(super) const CHECK: Kind = Kind::Struct(&[
    ("Node", Kind::Text),
    ("CheckID", Kind::Text),
    ("Name", Kind::Text),
    ("Status", Kind::Text),
    ("Notes", Kind::Text),
    ("Output", Kind::Text),
    ("ServiceID", Kind::Text),
    ("ServiceName", Kind::Text),
    ("ServiceTags", LIST),
    ("Type", Kind::Text),
    ("Interval", Kind::Text),
    ("Timeout", Kind::Text),
    ("ExposedPort", Kind::Int),
    ("PeerName", Kind::Text),
]);

/// An element of health/service.
pub(super) const HEALTH: Kind = Kind::Struct(&[("Node", NODE), ("Service", SERVICE), ("Checks", Kind::List(&CHECK))]);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row() -> Value {
        json!({
            "Node": {"Node": "n1", "Meta": {"env": "prod", "a key": "x"}, "Address": "127.0.0.1"},
            "Service": {"Service": "web", "Tags": ["v1", "zone-a"], "Meta": null, "Port": 80, "EnableTagOverride": true},
            "Checks": [{"CheckID": "a", "Status": "passing"}, {"CheckID": "b", "Status": "warning"}],
        })
    }

    fn holds(text: &str) -> bool {
        Filter::parse(text, HEALTH).unwrap_or_else(|problem| panic!("{text}: {problem}")).accepts(&row())
    }

    fn refusal(text: &str) -> String {
        let problem = Filter::parse(text, HEALTH).expect_err(text);
        problem.strip_prefix("Failed to create boolean expression evaluator: ").expect("the prefix").to_owned()
    }

    #[test]
    fn compares_what_selectors_lead_to() {
        for yes in [
            "Service.Service == web",
            "Service.Service == `web`",
            "Service.Port == 80",
            "Service.Port==80",
            "Service.EnableTagOverride == true",
            "Node.Meta.env != \"staging\"",
            "Node.Meta[\"a key\"] == x",
            "v1 in Service.Tags",
            "Service.Tags contains `zone-a`",
            "\"v2\" not in Service.Tags",
            "env in Node.Meta",
            "eb in Service.Service",
            "Node.Address matches `^127[.]`",
            "Node.Address not matches `^10[.]`",
            "Service.Meta is empty",
            "Service.Tags is not empty",
            "Checks.Status == warning",
            "Service.SocketPath == \"\"",
        ] {
            assert!(holds(yes), "{yes}");
        }
        for no in ["Service.Port != 80", "Checks.Status == critical", "Service.Tags is empty", "v1 not in Service.Tags"] {
            assert!(!holds(no), "{no}");
        }
    }

    #[test]
    fn not_binds_more_than_and_more_than_or() {
        assert!(holds("Service.Port == 80 or Service.Port == 81 and Service.Port == 82"));
        assert!(!holds("(Service.Port == 80 or Service.Port == 81) and Service.Port == 82"));
        assert!(holds("not Service.Port == 81 and Service.Port == 80"));
        assert!(!holds("not (Service.Port == 81 or Service.Port == 80)"));
        assert!(holds("not not Service.Port == 80"));
    }

    #[test]
    fn an_absent_key_equals_nothing_and_differs_from_all() {
        for yes in ["Node.Meta.none != x", "x not in Node.Meta.none", "Node.Meta.none not matches x"] {
            assert!(holds(yes), "{yes}");
        }
        for no in ["Node.Meta.none == x", "x in Node.Meta.none", "Node.Meta.none matches `.*`", "Service.Meta.none == \"\""] {
            assert!(!holds(no), "{no}");
        }
    }

    #[test]
    fn a_parse_error_names_the_furthest_point_and_what_would_fit() {
        assert_eq!(
            refusal("bad =="),
            r#"1:7 (6): no match found, expected: "-", "0", "\"", "`", [ \t\r\n], [1-9] or [a-zA-Z]"#
        );
        assert_eq!(
            refusal("ServicePort < 30001"),
            r#"1:13 (12): no match found, expected: "!=", "==", "contains", "in", "is", "matches", "not" or [ \t\r\n]"#
        );
        assert_eq!(refusal("x in foo abc"), r#"1:10 (9): no match found, expected: "and", "or", [ \t\r\n] or EOF"#);
        assert_eq!(refusal("a == 3x"), r#"1:7 (6): rule "number": Invalid number literal"#);
        assert_eq!(refusal("a == \"x"), r#"1:8 (7): rule "string": Unterminated string literal"#);
        assert_eq!(refusal("a[b] == 1"), r#"1:3 (2): rule "index": Invalid index"#);
    }

    #[test]
    fn selectors_operators_and_values_must_fit_the_rows() {
        assert_eq!(refusal("Foo == 1"), r#"Selector "Foo" is not valid"#);
        assert_eq!(refusal("Service.Foo.Bar == 1"), r#"Selector "Service.Foo" is not valid"#);
        assert_eq!(refusal("Service.Port matches `x`"), r#"Invalid match operator "Matches" for selector "Service.Port""#);
        assert_eq!(
            refusal("Service.Port == x"),
            r#"Failed to coerce value "x" for selector "Service.Port": strconv.ParseInt: parsing "x": invalid syntax"#
        );
        assert!(refusal("Node.Node matches `(`").starts_with(r#"Failed to compile regular expression "(": "#));
    }

    #[test]
    fn deep_and_long_expressions_end_soon() {
        assert!(refusal(&"(".repeat(4000)).contains("nested too deeply"));
        assert!(refusal(&"not ".repeat(4000)).contains("nested too deeply"));
        assert!(refusal(&"a".repeat(limits::FILTER_OCTETS_MAX + 1)).contains("at most"));
        let chain = vec!["Service.Port == 1"; 400].join(" or ");
        assert!(!holds(&chain));
    }
}
