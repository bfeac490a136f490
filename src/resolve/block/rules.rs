//! What the lists of a block say together, and how that is gathered while they are read.

use std::collections::HashMap;

use super::names::{Action, Hasher, Lower, Names, Reach, Rule};
use super::networks::{Network, Networks};
use super::rpz::{Effect, Trigger};
use crate::dns::{Name, RData};

/// What the lists of a block say.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) names: Names,
    pub(super) clients: Networks,
    pub(super) addresses: Networks,
    pub(super) data: Data,
}

/// The records that are given, with their TTLs, by the list that says so and when.
pub(super) type Data = HashMap<(u16, Trigger), Vec<(u32, RData)>, foldhash::fast::RandomState>;

/// Rules while they are read. A list's own come behind those of the lists before it.
#[derive(Debug, Default)]
pub(super) struct Rows {
    names: Vec<(u64, Rule)>,
    clients: Vec<(Network, Rule)>,
    addresses: Vec<(Network, Rule)>,
    data: Data,
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.names.len() + self.clients.len() + self.addresses.len() + self.data.len()
    }

    pub(super) fn put_name(&mut self, hasher: &Hasher, name: &Name, rule: Rule) {
        self.names.push((hasher.hash(Lower::of(name.wire()).wire()), rule));
    }

    /// Notes that the names above one are there.
    fn put_above(&mut self, hasher: &Hasher, name: &Name, number: u16) {
        let rule = Rule::new(number, Action::Given, Reach::NOTHING);
        let lower = Lower::of(name.wire());
        self.names.extend(lower.upwards().skip(1).map(|name| (hasher.hash(name), rule)));
    }

    pub(super) fn put(&mut self, hasher: &Hasher, number: u16, trigger: Trigger, Effect { action, data }: Effect) {
        let rule = |reach| Rule::new(number, action, reach);
        match &trigger {
            Trigger::Name(name) => {
                self.put_name(hasher, name, rule(Reach::ITSELF));
                self.put_above(hasher, name, number);
            }
            Trigger::Below(name) => {
                self.put_name(hasher, name, rule(Reach::BELOW));
                self.put_above(hasher, name, number);
            }
            Trigger::Client(network) => self.clients.push((*network, rule(Reach::ITSELF))),
            Trigger::Address(network) => self.addresses.push((*network, rule(Reach::ITSELF))),
        }
        if let Some(data) = data {
            self.data.entry((number, trigger)).or_default().push(data);
        }
    }

    /// Takes over what a list said that was numbered otherwise, up to so many names.
    pub(super) fn take_over(&mut self, rules: &Rules, former: u16, number: u16, room: usize) {
        let own = |rule: Rule| (rule.list() == former).then(|| rule.renumbered(number));
        let of =
            |networks: &Networks| networks.rows().filter_map(|(network, rule)| Some((network, own(rule)?))).collect::<Vec<_>>();
        self.names.extend(rules.names.rows().filter_map(|(hash, rule)| Some((hash, own(rule)?))).take(room));
        self.clients.extend(of(&rules.clients));
        self.addresses.extend(of(&rules.addresses));
        let data = rules.data.iter().filter(|((list, _), _)| *list == former);
        self.data.extend(data.map(|((_, trigger), data)| ((number, trigger.clone()), data.clone())));
    }

    /// How many of each there are.
    pub(super) fn counts(&self) -> [usize; 3] {
        [self.names.len(), self.clients.len(), self.addresses.len()]
    }

    /// Forgets what the last list said, when so many rules were there before it.
    pub(super) fn forget_last(&mut self, number: u16, [names, clients, addresses]: [usize; 3]) {
        self.names.truncate(names);
        self.clients.truncate(clients);
        self.addresses.truncate(addresses);
        self.data.retain(|(list, _), _| *list != number);
    }

    pub(super) fn into_rules(self) -> Rules {
        let Self { names, clients, addresses, data } = self;
        Rules { names: Names::new(names), clients: Networks::new(clients), addresses: Networks::new(addresses), data }
    }
}
