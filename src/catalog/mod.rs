//! What is known now? Nodes, service instances and their checks, key/value entries and coordinates, in one
//! immutable [`Catalog`] whose [`Index`] only grows.
//!
//! Readers hold an `Arc<Catalog>` (a *snapshot*) and never wait. There is one writer: it takes an [`Edit`] of the
//! newest catalog, applies [`Change`]s, and publishes what [`Edit::finish`] gives. All tables are persistent trees
//! ([`Tree`]), so an edit costs as much as it changes, whatever the catalog's size.
//!
//! Nothing here knows a socket, a clock or a file. Start with [`Catalog`], then [`Edit`].

mod edit;
mod memo;
mod restore;
mod row;
mod snapshot;
mod tree;
mod trie;

pub use edit::{Change, Edit, Refused, Touched};
pub use memo::{Memo, Prepared};
pub use restore::{Restore, Rows};
pub use row::{
    Address, Check, CheckKey, Coordinate, Extra, Health, Instance, InstanceKey, KvEntry, NamedPort, Node, NodeKey, Origin,
    ServiceAddress, SourceId, Weights,
};
pub use snapshot::{Catalog, Index, InstanceEntry, Instances, NodeEntry, Service, Tables};
pub use tree::Tree;
pub use trie::{AHEAD, HashTrie};
