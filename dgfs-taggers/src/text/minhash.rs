//! MinHash of a text: the share of equal places of two fingerprints estimates the share of common word shingles.
//!
//! Never depends on the machine or the run: the hash functions are fixed. After Broder, "On the resemblance and
//! containment of documents" (1997); k = [`PLACES`] places, shingles of [`SHINGLE_WORDS`] words.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Places of a fingerprint (Broder's k): the estimate's standard error is 1/sqrt(64), an eighth.
pub(crate) const PLACES: usize = 64;
/// Words of a shingle: four tell copies and versions from texts on the same matter.
const SHINGLE_WORDS: usize = 4;
/// Words looked at: a text of a thousand pages. Fixed, so that the fingerprint is a function of the text.
const WORDS_MAX: usize = 100_000;
/// Characters of a Chinese or Japanese text count as words, since nothing stands between its words.
const IDEOGRAPHS: std::ops::RangeInclusive<char> = '\u{3040}'..='\u{9fff}';
/// Seed of the shingles' hash. Changing it makes old fingerprints incomparable: then the taggers' versions change.
const SEED: u64 = 0x6467_6673_7467_3031;
/// A text with fewer shingles says too little.
const SHINGLES_MIN: usize = 4;

/// The fingerprint, or `None` for a text too short to have one.
pub(crate) fn of(text: &str) -> Option<Vec<u32>> {
    let mut window: [u64; SHINGLE_WORDS] = [0; SHINGLE_WORDS];
    let mut places = [u32::MAX; PLACES];
    let mut shingles = 0;
    for (at, word) in words(text).take(WORDS_MAX).enumerate() {
        window.rotate_left(1);
        if let Some(last) = window.last_mut() {
            *last = word;
        }
        if at + 1 < SHINGLE_WORDS {
            continue;
        }
        shingles += 1;
        let shingle = window.iter().fold(SEED, |hash, word| mix(hash ^ word));
        for (place, lowest) in (1_u64..).zip(&mut places) {
            // Each place has a hash function of its own: another odd multiplier before the mixing.
            let hash = mix(shingle.wrapping_mul(place.wrapping_mul(2) | 1));
            *lowest = (*lowest).min(u32::try_from(hash >> 32).unwrap_or(u32::MAX));
        }
    }
    (shingles >= SHINGLES_MIN).then(|| places.to_vec())
}

/// Hashes of the text's words, case and punctuation left out.
fn words(text: &str) -> impl Iterator<Item = u64> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.find(char::is_alphanumeric)?;
        let tail = rest.get(start..)?;
        let first = tail.chars().next()?;
        let len = if IDEOGRAPHS.contains(&first) {
            first.len_utf8()
        } else {
            tail.find(|letter: char| !letter.is_alphanumeric() || IDEOGRAPHS.contains(&letter)).unwrap_or(tail.len())
        };
        let (word, behind) = tail.split_at_checked(len)?;
        rest = behind;
        Some(xxh3_64_with_seed(word.to_lowercase().as_bytes(), SEED))
    })
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::{PLACES, of};

    fn likeness(one: &str, two: &str) -> f64 {
        let (one, two) = (of(one).unwrap(), of(two).unwrap());
        one.iter().zip(&two).filter(|(one, two)| one == two).count() as f64 / PLACES as f64
    }

    #[test]
    fn like_texts_have_like_fingerprints() {
        let words = |range: std::ops::Range<u32>| range.map(|at| format!("word{at} ")).collect::<String>();
        let whole = words(0..1000);
        assert_eq!(likeness(&whole, &whole.to_uppercase()), 1.0, "case does not count");
        let near = likeness(&whole, &words(100..1000));
        assert!((0.7..=1.0).contains(&near), "nine tenths in common: {near}");
        assert!(likeness(&whole, &words(5000..6000)) < 0.1);
        assert_eq!(of("three words only"), None);
    }

    /// A fingerprint is stored: another value for the same text would make every stored one useless.
    #[test]
    fn a_fingerprint_never_changes() {
        let print = of("the quick brown fox jumps over the lazy dog and runs").unwrap();
        assert_eq!(&print[..3], GOLDEN);
    }

    const GOLDEN: &[u32] = &[377_022_591, 662_974_089, 313_419_454];
}
