//! Who has the answer to a question? The order in which that is asked, for queries, for what an alias leads to, and for
//! who wants it explained.

use fastrand::Rng;

use super::answers::{error, identity};
use super::setup::Setup;
use crate::catalog::Catalog;
use crate::dns::{ExtendedError, Message, Query, Rcode};
use crate::resolve::answer::{Client, Step};
use crate::resolve::block::Verdict;
use crate::resolve::route::Way;

/// Who has the answer, with the answer itself where nobody has to be waited for.
pub(super) enum Holder<'a> {
    /// A hosts file or a `[[record]]` has exactly this name; the answer may be an alias that leads on.
    Local(Message),
    /// It stands for another name, to which this alias leads.
    Rewritten(Message),
    Zone,
    /// It is in the discovery domain, or the reverse name of what is; never [`Step::Forward`].
    Discovery(Step),
    /// A block list has something to say of it.
    Blocked(Verdict<'a>),
    /// A route answers by itself.
    Route(Message),
    /// Names like this never leave the host.
    Special(Message),
    /// Whoever would have it is not asked.
    Nobody(Message),
    /// What is kept of upstreams' answers, or they themselves.
    Upstreams,
}

impl Setup {
    /// `now` is Unix time in seconds, which never goes back: the serial of our SOA record.
    pub(super) fn holder(&self, catalog: &Catalog, query: &Query, client: Client, rng: &mut Rng, now: u64) -> Holder<'_> {
        let name = &query.question.name;
        let (consul, is_ours) = (self.is_consul(), self.is_ours(name));
        if !consul {
            if let Some(message) = identity(query, self.nsid.as_deref()) {
                return Holder::Special(message);
            }
            if let Some(message) = self.local.answer(query) {
                return Holder::Local(message);
            }
            if let Some(message) = self.rewrites.answer(query) {
                return Holder::Rewritten(message);
            }
            // A zone within the discovery domain has only the names that stand in it.
            if self.zones.covers(name) && (!is_ours || self.zones.has(name)) {
                return Holder::Zone;
            }
        }
        if self.discovery.may_know(name) {
            match self.discovery.answer(catalog, query, client, rng, now) {
                Step::Forward if is_ours && !consul => {
                    let reason = (ExtendedError::Prohibited, "nobody else is asked about names of this domain");
                    return Holder::Nobody(error(query, Rcode::REFUSED, Some(reason)));
                }
                Step::Forward => {}
                step => return Holder::Discovery(step),
            }
        }
        match self.blocks.judge(&query.question, client) {
            Some(verdict) => Holder::Blocked(verdict),
            None => self.elsewhere(query),
        }
    }

    /// Who has what is neither known here nor blocked.
    pub(super) fn elsewhere(&self, query: &Query) -> Holder<'_> {
        let (name, consul) = (&query.question.name, self.is_consul());
        let way = self.forwarder.way(&query.question);
        if let Way::Here(here) = &way {
            return Holder::Route(self.local.answer_here(query, here, self.parents.contains(name)));
        }
        if !consul
            && way == Way::None
            && let Some(message) = self.local.special(query)
        {
            return Holder::Special(message);
        }
        if !self.forwarder.has_upstreams() && matches!(way, Way::None | Way::Group(0)) {
            let reason = (ExtendedError::Prohibited, "this server has nobody to ask about other names");
            return Holder::Nobody(error(query, Rcode::REFUSED, (!consul).then_some(reason)));
        }
        Holder::Upstreams
    }
}
