//! Master files: whatever stands in one, what is wrong is told in a bounded number of words, and the same each time.

use rollcall::dns::{Class, Query, Question, Type};
use rollcall::resolve::zone::{self, Zones};

/// Problems of one file, the word that there are more included, and those of the zone as a whole.
const PROBLEMS_MAX: usize = 64;

pub(crate) fn holds(octets: &[u8]) {
    super::file("example.test.zone", octets, |path| {
        let problems = zone::check(path);
        assert!(problems.len() <= PROBLEMS_MAX, "{} problems", problems.len());
        assert_eq!(zone::check(path), problems);
        let (zones, told) = Zones::load(path.parent().expect("a folder"), None);
        assert!(told.len() >= usize::from(zones.apexes().is_empty()), "nothing is served, and nothing said");
        for apex in zones.apexes() {
            assert!(zones.covers(&apex) && zones.has(&apex));
            for name in [Some(apex.clone()), apex.prefixed([&b"a"[..]])].into_iter().flatten() {
                for qtype in [Type::A, Type::SOA, Type::ANY] {
                    let query = Query::of(Question { name: name.clone(), qtype, qclass: Class::IN });
                    assert!(!zones.kept(&query, 512, &mut Vec::new()), "nothing was prepared");
                }
            }
        }
    });
}
