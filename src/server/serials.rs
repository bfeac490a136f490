//! What our SOA record says is its serial: Unix time, by a clock that never goes back, not when the host's clock is set back
//! and not over a restart (RFC 1982, 3.2).

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::clock::unix_time;
use crate::file;
use crate::problem::Problem;

/// In the data directory: seconds that no serial was above.
const FILE: &str = "serial";
/// Octets that it has at most.
const FILE_OCTETS_MAX: u64 = 64;

/// Serials from a time on.
#[derive(Debug, Clone, Copy)]
pub struct Serials {
    first: u64,
    since: Instant,
}

impl Default for Serials {
    fn default() -> Self {
        Self::after(0, unix_time().as_secs(), Instant::now())
    }
}

impl Serials {
    /// Those from now on, none of them below what a former run has `promised`. `clock` is Unix time in seconds.
    fn after(promised: u64, clock: u64, now: Instant) -> Self {
        Self { first: clock.max(promised), since: now }
    }

    /// Those of a server whose data are in this folder.
    pub fn restore(folder: &Path) -> Self {
        let text = file::read_text(&folder.join(FILE), FILE_OCTETS_MAX).unwrap_or_default();
        // More than 32 bits are no serial.
        let promised = text.trim().parse::<u32>().map_or(0, u64::from);
        Self::after(promised, unix_time().as_secs(), Instant::now())
    }

    /// The serial of this time.
    pub(super) fn at(&self, now: Instant) -> u64 {
        self.first + now.saturating_duration_since(self.since).as_secs()
    }

    /// Promises in this folder that for so long no serial is above what is written there. Takes as long as the disk does.
    pub fn promise(&self, folder: &Path, ahead: Duration) -> Result<(), Problem> {
        let file = folder.join(FILE);
        let promised = self.at(Instant::now()).saturating_add(ahead.as_secs());
        file::replace(&file, |out| writeln!(out, "{promised}")).map_err(|error| {
            let problem = Problem::new(format!("cannot keep the serial of our zone over a restart: {error}")).in_file(file);
            problem.hint("see whether the disk is full or the folder may be written").warning()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn rfc1982_3_2_a_serial_goes_back_with_no_clock() {
        let folder = tempfile::tempdir().unwrap();
        let (clock, begun) = (1_800_000_000, Instant::now());
        let serials = Serials::after(0, clock, begun);
        let at = |serials: &Serials, seconds| serials.at(begun + Duration::from_secs(seconds));
        assert_eq!((at(&serials, 0), at(&serials, 7)), (clock, clock + 7), "whatever the host's clock does meanwhile");
        serials.promise(folder.path(), Duration::from_secs(600)).unwrap();
        let promised: u64 = fs::read_to_string(folder.path().join(FILE)).unwrap().trim().parse().unwrap();
        assert!(promised >= clock + 600);
        // The clock was a day ahead, or is one behind.
        assert_eq!(at(&Serials::after(promised, clock - 86_400, begun), 1), promised + 1);
        assert_eq!(at(&Serials::after(promised, clock + 86_400, begun), 1), clock + 86_401);
        // From a file that is none nothing follows.
        for text in ["", "nonsense", "-7", "99999999999999999999"] {
            fs::write(folder.path().join(FILE), text).unwrap();
            assert!(Serials::restore(folder.path()).first <= unix_time().as_secs(), "{text}");
        }
        fs::write(folder.path().join(FILE), "4000000000\n").unwrap();
        assert_eq!(Serials::restore(folder.path()).first, 4_000_000_000);
        assert!(serials.promise(&folder.path().join("nowhere"), Duration::ZERO).is_err());
    }
}
