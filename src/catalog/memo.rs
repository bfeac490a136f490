//! What readers make of a service, kept beside it for as long as it stays as it is.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::Index;

/// Addresses of a service's healthy instances, as resource records ready to be copied into an answer.
#[derive(Debug)]
pub struct Prepared {
    /// For whose settings they were made.
    pub maker: u64,
    /// The state of the nodes they were made of: [`super::Catalog::nodes_index`].
    pub nodes: Index,
    /// Records of 16 octets; `None` when the answer is not as plain as that.
    pub a: Option<Box<[u8]>>,
    /// Records of 28 octets.
    pub aaaa: Option<Box<[u8]>>,
}

/// A place for [`Prepared`] records. It is made empty with each new state of a service; a copy of it is empty, too.
#[derive(Debug, Default)]
pub struct Memo(ArcSwapOption<Prepared>);

impl Memo {
    pub fn get(&self) -> arc_swap::Guard<Option<Arc<Prepared>>> {
        self.0.load()
    }

    pub fn set(&self, prepared: Prepared) {
        self.0.store(Some(Arc::new(prepared)));
    }
}

impl Clone for Memo {
    fn clone(&self) -> Self {
        Self::default()
    }
}
