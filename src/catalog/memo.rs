//! What readers make of a service, kept beside it for as long as it stays as it is.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use smallvec::SmallVec;

use super::Index;

/// An answer about a service's healthy instances, or what it is quickly made of.
#[derive(Debug)]
pub struct Prepared {
    /// For whose settings it was made.
    pub maker: u64,
    /// The state of the nodes it was made of: [`super::Catalog::nodes_index`].
    pub nodes: Index,
    /// In its maker's own form; `None` when nothing can be prepared.
    pub octets: Option<Octets>,
}

/// Octets, of which so many stand where the rest does: among a million services each step aside costs a memory access, and
/// most services have a few instances.
pub type Octets = SmallVec<[u8; 40]>;

/// Places for [`Prepared`] answers, one for each kind that their maker has. They are made empty with each new state of a
/// service; copies of them are empty, too.
#[derive(Debug, Default)]
pub struct Memo([ArcSwapOption<Prepared>; Memo::KINDS]);

impl Memo {
    pub const KINDS: usize = 3;

    /// `None` for a kind that there is not.
    pub fn get(&self, kind: usize) -> Option<arc_swap::Guard<Option<Arc<Prepared>>>> {
        Some(self.0.get(kind)?.load())
    }

    pub fn set(&self, kind: usize, prepared: Prepared) {
        if let Some(place) = self.0.get(kind) {
            place.store(Some(Arc::new(prepared)));
        }
    }
}

impl Clone for Memo {
    fn clone(&self) -> Self {
        Self::default()
    }
}
