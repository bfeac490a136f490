//! Scenarios as text, with invented time: what is registered, what is asked, what must be said.
//!
//! A scenario is a file in `scenarios/`; one line a step, `#` begins a comment:
//!
//! ```text
//! set domain = "corp"                                  a setting of the discovery domain, as in the configuration
//! node n1 10.0.0.1                                     registers a node
//! instance web-1 of web on n1 at 10.0.1.1:8080 tags v1,primary weights 10/1
//! check c1 of web-1 on n1 critical                     a check of an instance; without `of` of the whole node
//! remove instance web-1 on n1                          likewise `remove node n1`, `remove check c1 on n1`
//! query web.service.consul SRV tcp edns 1232 class CH  asks; all behind the name is optional
//! expect NOERROR aa tc                                 RCODE, and exactly the flags among aa tc ra
//! expect answer web.service.consul 0 A 10.0.1.1        a record, in any order; `answer*` when it may be among others
//! expect answers 3                                     how many; also `authorities`, `additionals`
//! expect edns 1232 | expect no edns | expect forward | expect chase www.example.net A
//! heard www.example.net A 10.9.9.9 ttl 60              what upstream says to the chase; `heard nothing`
//! repeat 200 query web.service.consul A                asks often, for the next line
//! expect first 10.0.1.1 10.0.1.2 evenly                each of these came first, about equally often
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use rollcall::catalog::{
    Catalog, Change, Check, CheckKey, Health, Index, Instance, InstanceKey, Node, NodeKey, Origin, SourceId, Weights,
};
use rollcall::dns::{Class, Edns, Flags, Message, Name, Opcode, Query, Question, RData, Record, Type};
use rollcall::resolve::Room;
use rollcall::resolve::answer::{Chase, Client, Discovery, Settings, Step};

struct World {
    catalog: Catalog,
    settings: String,
    rng: fastrand::Rng,
    said: Option<Said>,
    firsts: BTreeMap<String, u32>,
}

enum Said {
    Message(Box<Message>),
    Chase(Box<Chase>),
    Forward,
}

impl World {
    fn new() -> Self {
        let rng = fastrand::Rng::with_seed(7);
        Self { catalog: Catalog::default(), settings: String::new(), rng, said: None, firsts: BTreeMap::new() }
    }

    fn step(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match &words[..] {
            ["set", ..] => {
                writeln!(self.settings, "{}", line.trim_start_matches("set")).map_err(|error| error.to_string())?;
                Ok(())
            }
            ["node", name, address] => self.change(Change::PutNode(node(name, address))),
            ["instance", id, "of", service, "on", node, "at", address, rest @ ..] => {
                self.change(Change::PutInstance(instance(id, service, node, address, rest)?))
            }
            ["check", id, "of", owner, "on", node, status] => self.change(Change::PutCheck(check(id, owner, node, status)?)),
            ["check", id, "on", node, status] => self.change(Change::PutCheck(check(id, "", node, status)?)),
            ["remove", "node", name] => self.change(Change::RemoveNode(NodeKey::local(name))),
            ["remove", "instance", id, "on", node] => {
                self.change(Change::RemoveInstance(InstanceKey { node: NodeKey::local(node), id: (*id).into() }))
            }
            ["remove", "check", id, "on", node] => {
                self.change(Change::RemoveCheck(CheckKey { node: NodeKey::local(node), id: (*id).into() }))
            }
            ["query", rest @ ..] => self.ask(rest),
            ["repeat", count, "query", rest @ ..] => {
                self.firsts.clear();
                for _ in 0..count.parse::<u32>().map_err(|error| error.to_string())? {
                    self.ask(rest)?;
                    let first = self.message()?.answers.first().map(data).unwrap_or_default();
                    *self.firsts.entry(first).or_default() += 1;
                }
                Ok(())
            }
            ["heard", rest @ ..] => self.hear(rest),
            ["expect", rest @ ..] => self.expect(rest),
            _ => Err("no such step".into()),
        }
    }

    fn change(&mut self, change: Change) -> Result<(), String> {
        let mut edit = self.catalog.edit();
        edit.apply(change).map_err(|error| error.to_string())?;
        self.catalog = edit.finish().0;
        Ok(())
    }

    fn ask(&mut self, words: &[&str]) -> Result<(), String> {
        let (name, rest) = words.split_first().ok_or("query what?")?;
        let mut question = Question { name: parsed(name)?, qtype: Type::A, qclass: Class::IN };
        let (mut room, mut edns) = (Room::Datagram, None);
        let mut rest = rest.iter();
        while let Some(word) = rest.next() {
            match *word {
                "tcp" => room = Room::Stream,
                "edns" => edns = Some(Edns::new(parsed(rest.next().ok_or("edns of what size?")?)?)),
                "class" => question.qclass = if rest.next() == Some(&"CH") { Class::CH } else { Class::ANY },
                record_type => question.qtype = parsed(record_type)?,
            }
        }
        let flags = Flags { recursion_desired: true, ..Flags::default() };
        let query = Query { id: 1, opcode: Opcode::QUERY, flags, question, edns };
        let settings: Settings = toml::from_str(&self.settings).map_err(|error| error.to_string())?;
        let client = Client { address: [192, 0, 2, 1].into(), room };
        let step = Discovery::new(settings).answer(&self.catalog, &query, client, &mut self.rng, 1_700_000_000);
        self.said = Some(said(step)?);
        Ok(())
    }

    fn hear(&mut self, words: &[&str]) -> Result<(), String> {
        let Some(Said::Chase(chase)) = self.said.take() else { return Err("nothing was asked upstream".into()) };
        let response = match words {
            ["nothing"] => None,
            [owner, rest @ .., "ttl", ttl] => {
                let flags = Flags { recursion_desired: true, ..Flags::default() };
                let query = Query { id: 2, opcode: Opcode::QUERY, flags, question: chase.question().clone(), edns: None };
                let mut message = query.response(rollcall::dns::Rcode::NOERROR);
                let data = match rest {
                    ["A", address] => RData::A(parsed(address)?),
                    ["CNAME", target] => RData::Cname(parsed(target)?),
                    _ => return Err("heard what?".into()),
                };
                message.answers.push(Record::new(parsed(owner)?, parsed(ttl)?, data));
                Some(message)
            }
            _ => return Err("heard what?".into()),
        };
        self.said = Some(said(chase.resume(response))?);
        Ok(())
    }

    fn message(&self) -> Result<&Message, String> {
        match &self.said {
            Some(Said::Message(message)) => Ok(message),
            Some(Said::Chase(chase)) => Err(format!("{:?} is asked upstream", chase.question())),
            Some(Said::Forward) => Err("the query is forwarded".into()),
            None => Err("nothing was asked".into()),
        }
    }

    fn expect(&self, words: &[&str]) -> Result<(), String> {
        match words {
            ["forward"] => matches!(self.said, Some(Said::Forward)).then_some(()).ok_or("it is not forwarded".into()),
            ["chase", name, record_type] => match &self.said {
                Some(Said::Chase(chase)) => {
                    let wanted = Question { name: parsed(name)?, qtype: parsed(record_type)?, qclass: Class::IN };
                    same(&wanted, chase.question())
                }
                _ => Err("nothing is asked upstream".into()),
            },
            ["no", "edns"] => same(&None, &self.message()?.edns),
            ["edns", size] => same(&Some(parsed::<u16>(size)?), &self.message()?.edns.as_ref().map(|edns| edns.udp_size)),
            ["answers", count] => same(&parsed::<usize>(count)?, &self.message()?.answers.len()),
            ["authorities", count] => same(&parsed::<usize>(count)?, &self.message()?.authorities.len()),
            ["additionals", count] => same(&parsed::<usize>(count)?, &self.message()?.additionals.len()),
            ["answer", rest @ ..] => has(&self.message()?.answers, rest),
            ["authority", rest @ ..] => has(&self.message()?.authorities, rest),
            ["additional", rest @ ..] => has(&self.message()?.additionals, rest),
            ["first", wanted @ .., "evenly"] => self.evenly(wanted),
            [rcode, flags @ ..] => {
                let message = self.message()?;
                same(&(*rcode).to_owned(), &message.rcode.to_string())?;
                let set = [
                    ("aa", message.flags.authoritative),
                    ("tc", message.flags.truncated),
                    ("ra", message.flags.recursion_available),
                ];
                let set: Vec<&str> = set.into_iter().filter_map(|(name, set)| set.then_some(name)).collect();
                same(&flags.to_vec(), &set)
            }
            [] => Err("expect what?".into()),
        }
    }

    /// Chi-square, with so much room that a fair shuffle of fixed seed passes and a rotation's neighbour does not.
    fn evenly(&self, wanted: &[&str]) -> Result<(), String> {
        let mut names: Vec<&str> = wanted.to_vec();
        names.sort_unstable();
        same(&names, &self.firsts.keys().map(String::as_str).collect())?;
        let mean = f64::from(self.firsts.values().sum::<u32>()) / names.len() as f64;
        let square: f64 = self.firsts.values().map(|count| (f64::from(*count) - mean).powi(2) / mean).sum();
        let freedom = (names.len() - 1) as f64;
        let most = freedom + 4.0 * (2.0 * freedom).sqrt() + 4.0;
        if square <= most { Ok(()) } else { Err(format!("{:?} is not even: chi-square {square} of {most}", self.firsts)) }
    }
}

fn said(step: Step) -> Result<Said, String> {
    Ok(match step {
        Step::Reply(message) => {
            // What is said must be sayable.
            let octets = message.compose(true);
            let read = Message::parse(&octets).map_err(|error| error.to_string())?;
            same(&*message, &read)?;
            Said::Message(message)
        }
        Step::Chase(chase) => Said::Chase(chase),
        Step::Forward => Said::Forward,
    })
}

fn same<T: PartialEq + std::fmt::Debug>(wanted: &T, got: &T) -> Result<(), String> {
    if wanted == got { Ok(()) } else { Err(format!("wanted {wanted:?}\n     got {got:?}")) }
}

fn has(records: &[Record], words: &[&str]) -> Result<(), String> {
    let line = |record: &Record| {
        format!("{} {} {} {}", record.owner.to_string().trim_end_matches('.'), record.ttl, record.record_type(), data(record))
    };
    let wanted = words.join(" ");
    let lines: Vec<String> = records.iter().map(line).collect();
    if lines.contains(&wanted) { Ok(()) } else { Err(format!("wanted {wanted}\n     got {lines:#?}")) }
}

fn data(record: &Record) -> String {
    let name = |name: &Name| name.to_string().trim_end_matches('.').to_owned();
    match &record.data {
        RData::A(address) => address.to_string(),
        RData::Aaaa(address) => address.to_string(),
        RData::Ns(target) | RData::Cname(target) | RData::Ptr(target) => name(target),
        RData::Srv(srv) => format!("{} {} {} {}", srv.priority, srv.weight, srv.port, name(&srv.target)),
        RData::Soa(soa) => format!("{} {} minimum {}", name(&soa.mname), name(&soa.rname), soa.minimum),
        RData::Txt(strings) => strings.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect::<Vec<_>>().join("|"),
        other => format!("{other:?}"),
    }
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{text}: {error}"))
}

fn node(name: &str, address: &str) -> Node {
    Node {
        source: SourceId::LOCAL,
        name: name.into(),
        id: "".into(),
        datacenter: "dc1".into(),
        address: address.into(),
        tagged_addresses: None,
        meta: None,
        create_index: Index(0),
        modify_index: Index(0),
    }
}

fn instance(id: &str, service: &str, node: &str, address: &str, rest: &[&str]) -> Result<Instance, String> {
    let (host, port) = address.rsplit_once(':').ok_or("expected ADDRESS:PORT")?;
    let (mut tags, mut weights) = (Vec::new(), Weights::default());
    for pair in rest.chunks(2) {
        match pair {
            ["tags", list] => tags = list.split(',').map(Into::into).collect(),
            ["weights", list] => {
                let (passing, warning) = list.split_once('/').ok_or("expected PASSING/WARNING")?;
                weights = Weights { passing: parsed(passing)?, warning: parsed(warning)? };
            }
            _ => return Err(format!("what is {pair:?} of an instance?")),
        }
    }
    Ok(Instance {
        source: SourceId::LOCAL,
        node: node.into(),
        id: id.into(),
        service: service.into(),
        tags: tags.into(),
        address: host.trim_matches(['[', ']', '-']).into(),
        port: parsed(port)?,
        weights,
        enable_tag_override: false,
        extra: None,
        origin: Origin::Catalog,
        create_index: Index(0),
        modify_index: Index(0),
    })
}

fn check(id: &str, owner: &str, node: &str, status: &str) -> Result<Check, String> {
    Ok(Check {
        source: SourceId::LOCAL,
        node: node.into(),
        id: id.into(),
        name: id.into(),
        status: status.parse::<Health>().map_err(|()| format!("{status} is no health"))?,
        notes: "".into(),
        output: "".into(),
        service_id: owner.into(),
        service_name: "".into(),
        service_tags: Default::default(),
        kind: "".into(),
        interval: "".into(),
        timeout: "".into(),
        exposed_port: 0,
        definition: None,
        agent: false,
        create_index: Index(0),
        modify_index: Index(0),
    })
}

#[test]
fn every_scenario_plays_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replay/scenarios");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let mut failures = Vec::new();
    for path in files {
        let mut world = World::new();
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let step = line.split(" #").next().unwrap_or_default().trim();
            if step.is_empty() || step.starts_with('#') {
                continue;
            }
            if let Err(error) = world.step(step) {
                failures.push(format!("{}:{}: {step}\n  {error}", path.display(), number + 1));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
