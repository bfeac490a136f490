//! How much is too much? Every bound, its unit and its reason.

/// Deleted keys that are remembered for watchers of a key prefix. A deletion costs about 100 octets; 65,536 of them
/// stay below 10 MB.
pub const KV_TOMBSTONES_MAX: usize = 65_536;

/// Upstream questions that one question about the discovery domain may cost: one for each name outside the domain that
/// instances have for an address.
pub const CHASES_MAX: usize = 16;
