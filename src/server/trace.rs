//! What became of one query, told in its own answer to who asks for that on this host: `rollcall query` does.

use serde_json::json;

use super::setup::Setup;
use super::tally::Source;
use crate::dns::{Query, add_option, option};
use crate::resolve::answer::Client;
use crate::upstream::Try;

impl Setup {
    /// Says in an answer who had it and which upstreams were tried for it, as JSON in an option of its own, to who sent that
    /// option from this host, as far as there is room.
    pub(super) fn tell(&self, query: &Query, client: Client, source: Source, tries: &[Try], answer: &mut Vec<u8>) {
        let is_wanted = query.edns.as_ref().is_some_and(|edns| edns.option(option::TRACE).is_some());
        if !is_wanted || !client.address.to_canonical().is_loopback() {
            return;
        }
        let is_of_others = matches!(source, Source::Cache | Source::Stale | Source::Forwarded | Source::Failed);
        let route = is_of_others.then(|| self.forwarder.route_of(&query.question)).flatten();
        let room = client.room.octets(query.payload_size());
        // The first tries say most of why it took so long.
        for told in (0..=tries.len()).rev() {
            let (told, more) = tries.split_at(told);
            let told = json!({
                "source": source.name(), "view": self.view(), "route": route, "tries": told, "more_tries": more.len(),
            });
            let told = told.to_string();
            if answer.len() + 4 + told.len() <= room {
                add_option(answer, option::TRACE, told.as_bytes());
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::dns::{Class, Edns, EdnsOption, Message, Question, Rcode, Type};
    use crate::resolve::Room;
    use crate::resolve::answer::Settings;
    use crate::upstream::{self, Forwarder};

    #[tokio::test]
    async fn who_asks_from_this_host_is_told() {
        let forwarder = Forwarder::new(&upstream::Config::default(), None, &[]).await.0;
        let setup = Setup::before(forwarder, Settings::default());
        let question = Question { name: "www.example.net".parse().unwrap(), qtype: Type::A, qclass: Class::IN };
        let asks = |trace: bool| {
            let options = if trace { vec![EdnsOption { code: option::TRACE, data: [].into() }] } else { Vec::new() };
            Query { edns: Some(Edns { options, ..Edns::new(1232) }), ..Query::of(question.clone()) }
        };
        let told = |client: &str, trace: bool, size: usize| {
            let client = Client { address: client.parse::<IpAddr>().unwrap(), room: Room::Datagram };
            let mut message = asks(trace).response(Rcode::NOERROR);
            message.edns =
                Some(Edns { options: vec![EdnsOption { code: 65_001, data: vec![0; size].into() }], ..Edns::new(1232) });
            let mut answer = message.compose(true);
            setup.tell(&asks(trace), client, Source::Forwarded, &[], &mut answer);
            let edns = Message::parse(&answer).unwrap().edns.unwrap();
            edns.option(option::TRACE).map(|option| String::from_utf8_lossy(&option.data).into_owned())
        };
        let text = r#"{"more_tries":0,"route":"default","source":"forwarded","tries":[],"view":null}"#;
        assert_eq!(told("127.0.0.1", true, 0).as_deref(), Some(text));
        assert_eq!(told("::ffff:127.0.0.1", true, 0).as_deref(), Some(text));
        assert_eq!(told("127.0.0.1", false, 0), None, "who has not asked for it");
        assert_eq!(told("192.0.2.1", true, 0), None, "who is elsewhere");
        assert_eq!(told("127.0.0.1", true, 1_150), None, "nor is anything cut for it");
    }
}
