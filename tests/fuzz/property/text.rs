//! Short texts that people write: names, types, times, upstreams, records, lines of hosts files and of resolv.conf. The first
//! octet says which.

use std::net::SocketAddr;
use std::path::Path;

use rollcall::dns::{Class, Message, Name, Query, Question, Type};
use rollcall::duration;
use rollcall::resolve::local::{Config, Local, RecordConfig};
use rollcall::upstream::{Upstream, system};

pub(crate) fn holds(octets: &[u8]) {
    let Some((kind, rest)) = octets.split_first() else { return };
    let lossy = String::from_utf8_lossy(rest);
    match kind % 8 {
        0 => name(&lossy),
        1 => {
            if let Ok(read) = lossy.parse::<Type>() {
                assert_eq!(read.to_string().parse(), Ok(read));
            }
        }
        2 => {
            if let Ok(time) = duration::parse(&lossy) {
                assert_eq!(duration::parse(&duration::write(time)), Ok(time), "{lossy:?}");
            }
        }
        3 => upstream(&lossy),
        4 => record(&lossy),
        5 => hosts(rest),
        6 => resolv_conf(rest),
        _ => {
            let _ = duration::parse_nanoseconds(&lossy);
        }
    }
}

fn name(text: &str) {
    let Ok(name) = text.parse::<Name>() else { return };
    assert!(name.wire().len() <= 255);
    let written = name.to_string();
    let again: Name = written.parse().expect("what was written is read");
    assert_eq!(again.wire(), name.wire(), "{written}");
    assert_eq!(Name::parse(name.wire(), 0).expect("it is a name on the wire").0.wire(), name.wire());
    assert!(name.parent().is_none_or(|parent| name.is_within(&parent)));
}

fn upstream(text: &str) {
    let Ok(upstream) = text.parse::<Upstream>() else { return };
    let written = upstream.to_string();
    let again: Upstream = written.parse().unwrap_or_else(|error| panic!("{text:?} is written as {written:?}: {error}"));
    assert_eq!(again.to_string(), written, "{text:?}");
    let _ = (upstream.server_name(), upstream.authority(), upstream.is_pinned_only());
}

/// `TYPE DATA`: what is taken is answered, in a message that can be read.
fn record(text: &str) {
    let (record_type, value) = text.split_once(' ').unwrap_or((text, ""));
    let name: Name = "a.example".parse().expect("a name");
    let config = RecordConfig { name: name.clone(), record_type: record_type.into(), value: value.into(), ttl: Some(5) };
    let Ok(data) = config.data() else { return };
    let (local, problems) = Local::load(&Config { hosts: Vec::new(), record: vec![config], ..Config::default() }, None, 0);
    assert_eq!(problems, [], "{text:?}");
    let query = Query::of(Question { name, qtype: data.record_type(), qclass: Class::IN });
    let answer = local.answer(&query).expect("it is known");
    let composed = answer.compose(true);
    assert!(composed.len() > Message::MAX || Message::parse(&composed) == Ok(answer), "{text:?}");
}

fn hosts(octets: &[u8]) {
    super::file("hosts", octets, |path| {
        let config = Config { hosts: vec![path.to_owned()], hosts_domain: "corp.test".parse().ok(), ..Config::default() };
        // A lease file is no hosts file, and nothing breaks of being read as one.
        let leased = Config { hosts: Vec::new(), leases: vec![path.to_owned()], ..config.clone() };
        let (leased, told) = Local::load(&leased, None, 0);
        assert!(told.len() <= 32, "{} problems", told.len());
        let _ = leased.reload(0);
        let (local, problems) = Local::load(&config, None, 0);
        assert!(problems.len() <= 32, "{} problems", problems.len());
        for name in local.names() {
            let query = Query::of(Question { name: name.clone(), qtype: Type::A, qclass: Class::IN });
            let answer = local.answer(&query).expect("it is known");
            let composed = answer.compose(true);
            assert!(composed.len() > Message::MAX || Message::parse(&composed) == Ok(answer));
        }
    });
}

fn resolv_conf(octets: &[u8]) {
    super::file("resolv.conf", octets, |path| {
        let own: SocketAddr = "127.0.0.1:53".parse().expect("an address");
        if let Ok(servers) = system::upstreams(path, Path::new("/nonexistent"), &[own]) {
            assert!(!servers.is_empty() && !servers.contains(&own), "{servers:?}");
        }
    });
}
