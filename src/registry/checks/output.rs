//! The output of checks, which never grows beyond what its check allows.

/// The last octets of a stream.
#[derive(Debug)]
pub(super) struct Tail {
    octets: Vec<u8>,
    max: usize,
    total: usize,
}

impl Tail {
    pub(super) fn new(max: usize) -> Self {
        Self { octets: Vec::new(), max, total: 0 }
    }

    pub(super) fn push(&mut self, octets: &[u8]) {
        self.total += octets.len();
        let kept = &octets[octets.len().saturating_sub(self.max)..];
        let surplus = (self.octets.len() + kept.len()).saturating_sub(self.max);
        self.octets.drain(..surplus.min(self.octets.len()));
        self.octets.extend_from_slice(kept);
    }

    /// Octets that went through.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.octets).into_owned()
    }

    /// With a line that says so when a part is missing.
    pub(super) fn captured(&self) -> String {
        if self.total > self.max {
            format!("Captured {} of {} bytes\n...\n{}", self.max, self.total, self.text())
        } else {
            self.text()
        }
    }
}

/// What a check's owner sent as its output, cut at `max` octets.
pub fn bounded(output: &str, max: usize) -> String {
    if output.len() <= max {
        return output.to_owned();
    }
    let end = (0..=max).rev().find(|&at| output.is_char_boundary(at)).unwrap_or(0);
    format!("{} ... (captured {max} of {} bytes)", &output[..end], output.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_keeps_the_last_octets() {
        let mut tail = Tail::new(4);
        for part in ["ab", "cd", "e", "", "f"] {
            tail.push(part.as_bytes());
        }
        assert_eq!((tail.text().as_str(), tail.total()), ("cdef", 6));
        tail.push(b"0123456789");
        assert_eq!(tail.captured(), "Captured 4 of 16 bytes\n...\n6789");
        let mut short = Tail::new(9);
        short.push(b"fine");
        assert_eq!(short.captured(), "fine");
    }

    #[test]
    fn what_is_sent_is_cut_between_characters() {
        assert_eq!(bounded("fine", 4), "fine");
        assert_eq!(bounded("aé!", 2), "a ... (captured 2 of 4 bytes)");
    }
}
