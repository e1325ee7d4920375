//! Numbers that look random and follow from a class, a partition and a server.
//!
//! Never differs between two machines or two runs: whole numbers only, and no state but the caller's.

use dgfs_proto::class::Class;
use dgfs_proto::ids::ServerId;
use dgfs_proto::limits::PARTITIONS;

/// The step of SplitMix64 (Steele, Lea, Flood 2014): odd and without pattern.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Numbers that look random and follow from a class, a partition and a server.
#[derive(Clone, Copy)]
pub(super) struct Lots {
    pub(super) class: Class,
}

impl Lots {
    /// The lot of a server in the partition numbered `at`.
    pub(super) fn of(self, at: usize, server: ServerId) -> u64 {
        let partition = at as u64 % u64::from(PARTITIONS);
        mix(u64::from(self.class.to_byte()) << 48 | partition << 32 | u64::from(server.0))
    }
}

/// A sequence of numbers that look random (SplitMix64), from its first state on.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// A number below `end`; 0 if there is none.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(GAMMA);
        let scaled = u128::from(mix(self.0)) * end as u128;
        usize::try_from(scaled >> 64).unwrap_or(0)
    }

    /// Draws `count` of the items, none twice, each with a chance in proportion to what it wants; surely where that is
    /// more than its share. So who wants a place in every partition that is left gets it.
    pub(super) fn draw(&mut self, count: usize, mut wants: Vec<(usize, usize)>) -> Vec<usize> {
        for end in (1..wants.len()).rev() {
            wants.swap(end, self.below(end + 1));
        }
        let mut total: usize = wants.iter().map(|(_, want)| want).sum();
        let mut drawn = Vec::with_capacity(count);
        let sure =
            |(_, want): &(usize, usize), drawn: usize, total: usize| want * (count - drawn) >= total && *want > 0;
        while let Some(at) = wants.iter().position(|want| drawn.len() < count && sure(want, drawn.len(), total)) {
            let (item, want) = wants.swap_remove(at);
            drawn.push(item);
            total -= want;
        }
        // Systematic sampling: all wants in a row, of which every `total / left`-th point is drawn.
        let left = count - drawn.len();
        let (mut point, mut passed) = (self.below(total), 0);
        for (item, want) in wants {
            passed += want * left;
            if passed > point {
                drawn.push(item);
                point += total;
            }
        }
        drawn
    }
}

/// SplitMix64's finaliser: one to one, and neighbours look unlike.
pub(super) const fn mix(number: u64) -> u64 {
    let mut x = number.wrapping_add(1).wrapping_mul(GAMMA);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Minus the binary logarithm of `lot / 2^64`, with 32 binary places. In whole numbers: `f64::ln` may differ from one
/// machine to the next.
pub(super) fn minus_log2(lot: u64) -> u64 {
    let lot = lot | 1;
    let zeros = lot.leading_zeros();
    let mut mantissa = u128::from(lot << zeros);
    let mut log: u64 = 0;
    for _ in 0..32 {
        // Squaring doubles the logarithm: what it has before the point is the next digit.
        mantissa = (mantissa * mantissa) >> 63;
        log <<= 1;
        if mantissa >> 64 != 0 {
            mantissa >>= 1;
            log |= 1;
        }
    }
    (u64::from(zeros + 1) << 32) - log
}
