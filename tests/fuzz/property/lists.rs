//! Block lists and response policy zones: whatever stands in a file, it is read to its end in every form, what is said of it is
//! bounded, and what is said of a name can be written and read.

use std::net::Ipv4Addr;
use std::time::Instant;

use rollcall::dns::{Class, Edns, Message, Name, Query, Question, Rcode, Record, Type};
use rollcall::limits::PROBLEMS_PER_FILE_MAX;
use rollcall::resolve::Room;
use rollcall::resolve::answer::Client;
use rollcall::resolve::block::{Blocks, Config, Form};

pub(crate) fn holds(octets: &[u8]) {
    let _ = names(octets);
}

/// Says how many names a list has, read in all forms.
pub(crate) fn names(octets: &[u8]) -> usize {
    super::file("list", octets, |path| {
        let mut most = 0;
        for form in [Form::Auto, Form::Hosts, Form::Domains, Form::Rpz] {
            let config = Config { lists: vec![path.to_owned()], form, ..Config::default() };
            let (blocks, problems) = Blocks::load(&[config], None, Instant::now());
            assert!(problems.len() <= PROBLEMS_PER_FILE_MAX + 2, "{} problems", problems.len());
            assert!(blocks.reload(Instant::now()).is_none(), "nothing has changed");
            most = most.max(blocks.lists().map(|(_, names, _)| names).sum());
            for name in ["x.ads.example", "data.example", "a.wild.example", "garden.example", "tcp.example", "."] {
                judged(&blocks, name);
            }
        }
        most
    })
}

/// What is said of a name can be written and read.
fn judged(blocks: &Blocks, name: &str) {
    let name: Name = name.parse().expect("a name");
    for qtype in [Type::A, Type::TXT, Type::ANY] {
        let question = Question { name: name.clone(), qtype, qclass: Class::IN };
        let query = Query { edns: Some(Edns::new(1232)), ..Query::of(question) };
        let client = Client { address: Ipv4Addr::new(127, 0, 0, 1).into(), room: Room::Datagram };
        let mut answer = query.response(Rcode::NOERROR);
        answer.answers.push(Record::address(name.clone(), 60, [192, 0, 2, 1].into()));
        let answer = answer.compose(true);
        let verdict = blocks.judge(&query.question, client).or_else(|| blocks.judge_answer(&query.question, client, &answer));
        if let Some(message) = verdict.and_then(|verdict| verdict.message(&query)) {
            assert_eq!(Message::parse(&message.compose(true)), Ok(message));
        }
    }
}
