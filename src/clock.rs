//! What time is it for the world outside? Decisions do not ask, and are told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long ago 1970 began; nothing where the clock is before that.
pub(crate) fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
