//! What like contents are found by: a fingerprint of each, and the keys under which those that may be alike meet.
//!
//! Never reads a content and never stores anything. Always: how alike two contents are depends on their fingerprints alone,
//! and is the same from both sides.
//!
//! Texts: MinHash signatures, whose share of equal places estimates the share of common shingles (Broder, "On the
//! resemblance and containment of documents", 1997), met by banding (Leskovec, Rajaraman, Ullman, "Mining of Massive
//! Datasets", chapter 3). Pictures: Hamming distance of perceptual hashes, met by multi-index hashing (Norouzi, Punjani,
//! Fleet, "Fast search in Hamming space with multi-index hashing", 2012). Vectors: cosine, met by looking at all.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::step::ContentHash;

/// Places of a text's signature, as `dgfs-taggers` makes them.
const TEXT_PLACES: usize = 64;
/// Bands of a signature, of [`TEXT_ROWS`] places each. Two texts with the share s of places equal meet in one of them with the
/// probability 1 - (1 - s³)²¹: 0.17 for s = 0.2, 0.75 for 0.4, 0.94 for 0.5, 0.994 for 0.6, 0.9998 for 0.7. It is certain
/// from [`TEXT_CERTAIN`] equal places on. Longer bands (16 of 4) would lose a third of the pairs at s = 0.5; shorter ones
/// (32 of 2) would write half as many keys again, and let texts meet that share a licence's header and nothing else.
const TEXT_BANDS: usize = 21;
/// Places of a band.
const TEXT_ROWS: usize = 3;
/// Texts with so many of 64 places equal always meet: 20 unequal places spoil 20 of 21 bands at most, and the last place is
/// in no band.
pub const TEXT_CERTAIN: usize = 44;
/// Texts with fewer equal places are not called alike: half of all shingles in common, within the estimate's error of an eighth.
pub const TEXT_ALIKE_MIN: usize = 32;
/// Pictures whose hashes differ in more bits are not called alike. Measured with `bench/relations.py` on 28 pictures: scaled,
/// recompressed, brighter, blurred, gray and slightly cut copies differ in 0 to 10 bits (but for two chessboards, whose
/// symmetry leaves most frequencies at nothing), two views of one motorcycle in 4, different pictures in 20 and more.
pub const PICTURE_BITS_MAX: u32 = 10;
/// Parts of a picture's hash that are looked up on their own.
const PICTURE_PARTS: u32 = 4;
/// Bits that may differ within a part when it is looked up. Of [`PICTURE_BITS_MAX`] bits in four parts, one part has at most
/// two: so nothing is missed.
const PICTURE_PART_FLIPS: u32 = 2;
const _: () = assert!(PICTURE_BITS_MAX < PICTURE_PARTS * (PICTURE_PART_FLIPS + 1));
/// Bits in which the hashes of unrelated pictures differ, on average: likeness is counted down to there.
const PICTURE_BITS_UNRELATED: u32 = 32;
/// A hash is the signs of 63 frequencies against their median; where fewer are above it, most are equal (one colour, plain
/// stripes): such pictures would be alike that are not.
const PICTURE_ONES_MIN: u32 = 16;
/// Numbers of a vector at most.
pub const VECTOR_DIMS_MAX: usize = 1024;
/// Vectors of a smaller cosine are not called alike.
const VECTOR_ALIKE_MIN: u16 = 600;

/// What a fingerprint is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PrintKind {
    /// MinHash signature of a text.
    Text,
    /// Perceptual hash of a picture.
    Picture,
    /// A model's vector of unit length; of use between vectors of the same tagger in the same version only.
    Vector,
}

impl PrintKind {
    /// As tables have it.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Text => 1,
            Self::Picture => 2,
            Self::Vector => 3,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Text),
            2 => Some(Self::Picture),
            3 => Some(Self::Vector),
            _ => None,
        }
    }

    /// Who says that two contents are alike by it: the source of the relation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Picture => "picture",
            Self::Vector => "embedding",
        }
    }
}

/// A fingerprint of one content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    kind: PrintKind,
    /// Places, bits or numbers, little-endian.
    value: Vec<u8>,
}

/// Another content that is alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Likeness {
    /// The other content.
    pub content: ContentHash,
    /// By which fingerprint.
    pub kind: PrintKind,
    /// How much: 1 to 1,000.
    pub permille: u16,
}

impl Print {
    /// Of a text; none for a signature of another length than [`TEXT_PLACES`], which nothing could be compared with.
    #[must_use]
    pub fn text(places: &[u32]) -> Option<Self> {
        let value = places.iter().flat_map(|place| place.to_le_bytes()).collect();
        (places.len() == TEXT_PLACES).then_some(Self { kind: PrintKind::Text, value })
    }

    /// Of a picture; none where it has too little shape to be told from others.
    #[must_use]
    pub fn picture(bits: u64) -> Option<Self> {
        // The first bit is the picture's mean, and no shape.
        let enough = (bits & (u64::MAX >> 1)).count_ones() >= PICTURE_ONES_MIN;
        enough.then(|| Self { kind: PrintKind::Picture, value: bits.to_le_bytes().to_vec() })
    }

    /// Of anything that a model reads: brought to unit length. None for no numbers, more than [`VECTOR_DIMS_MAX`], numbers
    /// that are not finite, and nothing but zeros.
    #[must_use]
    pub fn vector(numbers: &[f32]) -> Option<Self> {
        let length = numbers.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt();
        if numbers.len() > VECTOR_DIMS_MAX || !length.is_finite() || length <= f64::from(f32::MIN_POSITIVE) {
            return None;
        }
        let unit = numbers.iter().flat_map(|number| ((f64::from(*number) / length) as f32).to_le_bytes());
        Some(Self { kind: PrintKind::Vector, value: unit.collect() })
    }

    /// As tables have it.
    pub(crate) fn stored(kind: PrintKind, value: Vec<u8>) -> Option<Self> {
        let lawful = match kind {
            PrintKind::Text => value.len() == TEXT_PLACES * 4,
            PrintKind::Picture => value.len() == 8,
            PrintKind::Vector => value.len().is_multiple_of(4) && (1..=VECTOR_DIMS_MAX * 4).contains(&value.len()),
        };
        lawful.then_some(Self { kind, value })
    }

    /// What it is made of.
    #[must_use]
    pub fn kind(&self) -> PrintKind {
        self.kind
    }

    /// Its bytes.
    pub(crate) fn value(&self) -> &[u8] {
        &self.value
    }

    fn words(&self) -> impl Iterator<Item = [u8; 4]> + '_ {
        self.value.chunks_exact(4).filter_map(|word| word.try_into().ok())
    }

    fn bits(&self) -> u64 {
        self.value.as_slice().try_into().map_or(0, u64::from_le_bytes)
    }

    /// The keys that it is kept under; none for a vector.
    pub(crate) fn keys(&self) -> Vec<i64> {
        match self.kind {
            PrintKind::Text => {
                let bands = self.value.chunks_exact(TEXT_ROWS * 4).take(TEXT_BANDS);
                (0_u8..).zip(bands).map(|(band, places)| key(self.kind, band, places)).collect()
            }
            PrintKind::Picture => {
                parts(self.bits()).map(|(at, part)| key(self.kind, at, &part.to_le_bytes())).collect()
            }
            PrintKind::Vector => Vec::new(),
        }
    }

    /// The keys that whatever is alike may be kept under: at most 548.
    pub(crate) fn keys_alike(&self) -> Vec<i64> {
        if self.kind != PrintKind::Picture {
            return self.keys();
        }
        let near = |part: u16| {
            let one = (0..16).map(move |bit| part ^ 1 << bit);
            let two = (0..16).flat_map(move |bit| (0..bit).map(move |other| part ^ 1 << bit ^ 1 << other));
            std::iter::once(part).chain(one).chain(two)
        };
        let keys = parts(self.bits()).flat_map(|(at, part)| near(part).map(move |part| (at, part)));
        keys.map(|(at, part)| key(self.kind, at, &part.to_le_bytes())).collect()
    }

    /// How alike the contents of two fingerprints are: 1 to 1,000; none where they are not called alike.
    #[must_use]
    pub fn permille(&self, other: &Self) -> Option<u16> {
        if self.kind != other.kind || self.value.len() != other.value.len() {
            return None;
        }
        match self.kind {
            PrintKind::Text => {
                let equal = self.words().zip(other.words()).filter(|(one, two)| one == two).count();
                (equal >= TEXT_ALIKE_MIN).then(|| share(equal as f64 / TEXT_PLACES as f64))
            }
            PrintKind::Picture => {
                let bits = (self.bits() ^ other.bits()).count_ones();
                (bits <= PICTURE_BITS_MAX).then(|| share(1.0 - f64::from(bits) / f64::from(PICTURE_BITS_UNRELATED)))
            }
            PrintKind::Vector => {
                let pairs = self.words().zip(other.words());
                let cosine: f64 = pairs
                    .map(|(one, two)| f64::from(f32::from_le_bytes(one)) * f64::from(f32::from_le_bytes(two)))
                    .sum();
                Some(share(cosine)).filter(|permille| *permille >= VECTOR_ALIKE_MIN)
            }
        }
    }

    /// Bits in which two pictures differ.
    pub(crate) fn picture_permille(bits: u32) -> u16 {
        share(1.0 - f64::from(bits) / f64::from(PICTURE_BITS_UNRELATED))
    }
}

fn share(of_one: f64) -> u16 {
    // A cast of what is no number gives 0.
    (of_one.clamp(0.0, 1.0) * 1000.0).round() as u16
}

fn parts(bits: u64) -> impl Iterator<Item = (u8, u16)> {
    (0_u8..).zip(
        bits.to_le_bytes()
            .chunks_exact(2)
            .filter_map(|part| part.try_into().ok())
            .map(u16::from_le_bytes)
            .collect::<Vec<_>>(),
    )
}

/// A key is 64 bits of a hash: two that collide let fingerprints meet that are then found not to be alike.
fn key(kind: PrintKind, at: u8, bytes: &[u8]) -> i64 {
    let mut text = vec![kind.code(), at];
    text.extend(bytes);
    xxh3_64(&text).cast_signed()
}

#[cfg(test)]
mod tests;
