//! How much is too much? Every bound, its unit and its reason.

/// Deleted keys that are remembered for watchers of a key prefix. A deletion costs about 100 octets; 65,536 of them
/// stay below 10 MB.
pub const KV_TOMBSTONES_MAX: usize = 65_536;
