//! Networks, and what is said of the addresses in them, ready to be searched.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Networks that do not overlap, in order.
#[derive(Debug)]
pub(super) struct Networks(Vec<IpNet>);

impl Networks {
    pub(super) fn new(networks: &[IpNet]) -> Self {
        let mut disjoint = IpNet::aggregate(&networks.to_vec());
        disjoint.sort_unstable_by_key(IpNet::network);
        Self(disjoint)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter()
    }

    pub(super) fn contain(&self, address: IpAddr) -> bool {
        let behind = self.0.partition_point(|network| network.network() <= address);
        behind.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|network| network.contains(&address))
    }
}

/// A value for each address: where the ranges start that have the same, in order. The first of each family starts at zero.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ranges<T> {
    pub(super) v4: Vec<(u32, T)>,
    pub(super) v6: Vec<(u128, T)>,
}

impl<T: Copy + PartialEq> Ranges<T> {
    /// `value` changes at the ends of these networks, and nowhere else.
    pub(super) fn new<'n>(networks: impl Iterator<Item = &'n IpNet>, value: impl Fn(IpAddr) -> T) -> Self {
        let (mut v4, mut v6) = (vec![0], vec![0]);
        for network in networks {
            match network {
                IpNet::V4(network) => {
                    v4.push(network.network().to_bits());
                    v4.extend(network.broadcast().to_bits().checked_add(1));
                }
                IpNet::V6(network) => {
                    v6.push(network.network().to_bits());
                    v6.extend(network.broadcast().to_bits().checked_add(1));
                }
            }
        }
        Self {
            v4: ranges(v4, |bits| value(Ipv4Addr::from_bits(bits).into())),
            v6: ranges(v6, |bits| value(Ipv6Addr::from_bits(bits).into())),
        }
    }

    pub(super) fn get(&self, address: IpAddr) -> Option<T> {
        match address.to_canonical() {
            IpAddr::V4(address) => find(&self.v4, address.to_bits()),
            IpAddr::V6(address) => find(&self.v6, address.to_bits()),
        }
    }
}

fn ranges<A: Ord + Copy, T: PartialEq>(mut starts: Vec<A>, value: impl Fn(A) -> T) -> Vec<(A, T)> {
    starts.sort_unstable();
    let mut ranges: Vec<(A, T)> = starts.into_iter().map(|start| (start, value(start))).collect();
    ranges.dedup_by(|later, earlier| later.1 == earlier.1);
    ranges
}

fn find<A: Ord, T: Copy>(ranges: &[(A, T)], address: A) -> Option<T> {
    let behind = ranges.partition_point(|(start, _)| *start <= address);
    Some(ranges.get(behind.checked_sub(1)?)?.1)
}
