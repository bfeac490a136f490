//! Writing messages.

use std::collections::HashMap;

use super::Name;

/// Writes a message's octets, with name compression (RFC 1035, 4.1.4).
#[derive(Debug, Default)]
pub struct Composer {
    octets: Vec<u8>,
    /// Name suffixes already written, by their octets as they stand there: a pointer must not change a name's case.
    suffixes: HashMap<Box<[u8]>, u16, foldhash::fast::RandomState>,
    compress: bool,
}

impl Composer {
    pub fn new(compress: bool) -> Self {
        Self { octets: Vec::with_capacity(512), suffixes: HashMap::default(), compress }
    }

    pub fn into_octets(self) -> Vec<u8> {
        self.octets
    }

    pub(super) fn octets(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }

    pub(super) fn u16(&mut self, number: u16) {
        self.octets(&number.to_be_bytes());
    }

    pub(super) fn u32(&mut self, number: u32) {
        self.octets(&number.to_be_bytes());
    }

    /// Writes a name; `pointable` says whether the place allows a pointer in it (RFC 3597, 4).
    pub(super) fn name(&mut self, name: &Name, pointable: bool) {
        if !self.compress {
            return self.octets(name.wire());
        }
        let mut rest = name.wire();
        let mut pointing = None;
        while let [length, tail @ ..] = rest
            && *length != 0
        {
            if let Some(&offset) = self.suffixes.get(rest) {
                if pointable {
                    pointing = Some(offset);
                    break;
                }
            } else if let Ok(offset @ ..0x4000) = u16::try_from(self.octets.len()) {
                self.suffixes.insert(rest.into(), offset);
            }
            let end = usize::from(*length) + 1;
            self.octets.extend_from_slice(&rest[..end]);
            rest = &tail[end - 1..];
        }
        match pointing {
            Some(offset) => self.u16(0xc000 | offset),
            None => self.octets.push(0),
        }
    }

    /// Writes what `write` writes, behind its length in two octets.
    pub(super) fn length_prefixed(&mut self, write: impl FnOnce(&mut Self)) {
        let at = self.octets.len();
        self.u16(0);
        write(self);
        let length = u16::try_from(self.octets.len() - at - 2).unwrap_or(u16::MAX);
        self.octets[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }
}
