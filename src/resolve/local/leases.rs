//! Lease files of dnsmasq: which addresses it has given to whom, and until when. Not the decision what is answered of them.

use std::net::IpAddr;
use std::path::Path;

use super::hosts::{Wrong, tell};
use crate::dns::Name;
use crate::problem::Problem;

/// One lease that has a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) name: Name,
    pub(super) address: IpAddr,
    /// When it ends, in seconds since 1970.
    pub(super) until: Option<u64>,
}

/// Reads all lines, `END HARDWARE ADDRESS NAME CLIENT-ID` each, with 0 for a lease without an end and `*` for one without a
/// name; those of IPv6 have an identity in the place of the hardware address, and stand behind a line with the server's
/// `duid`. A line that is none costs itself.
pub(super) fn leases(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Vec<Lease> {
    let (mut leases, mut wrong) = (Vec::new(), Vec::new());
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let words: Vec<&str> = line.split_ascii_whitespace().take(4).collect();
        match words[..] {
            [] | ["duid", _] => {}
            _ => match lease(&words) {
                Ok(lease) => leases.extend(lease),
                Err(expected) => {
                    let line = line.trim_end();
                    let wrong_line: Wrong = (
                        start..start + line.len(),
                        format!("expected {expected}, got {line:?}; this lease is left out"),
                        "a line is `END HARDWARE ADDRESS NAME CLIENT-ID`, as dnsmasq writes it",
                    );
                    wrong.push(wrong_line);
                }
            },
        }
    }
    tell(path, text, wrong, "is this a lease file of dnsmasq? Its dhcp-leasefile= says where that is", problems);
    leases
}

/// Reads the words of one line; none when the lease has no name.
fn lease(words: &[&str]) -> Result<Option<Lease>, &'static str> {
    let [end, _, address, name] = words else { return Err("four words at least") };
    let end: u64 = end.parse().map_err(|_| "the end of the lease in seconds since 1970")?;
    let address: IpAddr = address.parse().map_err(|_| "an IPv4 or IPv6 address as the third word")?;
    if *name == "*" {
        return Ok(None);
    }
    let name = name.parse::<Name>().ok().filter(|parsed| !parsed.is_root() && name.is_ascii());
    let name = name.ok_or("a host name as the fourth word")?;
    Ok(Some(Lease { name, address, until: Some(end).filter(|end| *end > 0) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<String>, Vec<Problem>) {
        let mut problems = Vec::new();
        let leases = leases(Path::new("leases"), text, &mut problems);
        let told = |Lease { name, address, until }| format!("{name} {address} {until:?}");
        (leases.into_iter().map(told).collect(), problems)
    }

    #[test]
    fn leases_of_both_families_are_read() {
        let text = "1790000000 02:00:00:00:00:01 192.0.2.50 laptop 01:02:00:00:00:00:01\n0 02:00:00:00:00:02 192.0.2.51 printer *\n\
                    1790000000 02:00:00:00:00:03 192.0.2.52 * *\nduid 00:01:00:01:30:00\n\
                    1790000001 T1234 2001:db8::50 laptop 00:01:00:01:30:01\n";
        let (leases, problems) = read(text);
        assert_eq!(problems, []);
        assert_eq!(
            leases,
            ["laptop. 192.0.2.50 Some(1790000000)", "printer. 192.0.2.51 None", "laptop. 2001:db8::50 Some(1790000001)"]
        );
    }

    #[test]
    fn bad_lines_are_told_with_their_place_and_the_others_load() {
        let text =
            "soon a 192.0.2.1 x *\n1 a 192.0.2 x *\n1 a 192.0.2.1\n1 a 192.0.2.1 a..b *\n1 a 192.0.2.1 good *\n-1 a ::1 x *";
        let (leases, problems) = read(text);
        assert_eq!(leases, ["good. 192.0.2.1 Some(1)"]);
        let lines: Vec<_> = problems.iter().map(|problem| problem.place.as_ref().map(|place| place.line)).collect();
        assert_eq!(lines, [1, 2, 3, 4, 6].map(Some), "{problems:?}");
        assert!(problems[1].message.contains("third word") && problems[3].message.contains("host name"), "{problems:?}");
        let (leases, problems) = read(&"what is this\n".repeat(10_000));
        assert!(leases.is_empty() && problems.len() < 40, "{}", problems.len());
    }
}
