//! Chunks of random lengths, lost shards of every kind, and the bytes that must never change.

use std::iter::zip;

use bytes::Bytes;
use reed_solomon_simd::engine::{DefaultEngine, Engine, GF_MODULUS, GF_ORDER, NoSimd};
use reed_solomon_simd::rate::{DefaultRateEncoder, RateEncoder};

use dgfs_proto::class::{Class, Shape};
use dgfs_proto::limits::CHUNK_BYTES_MAX;

use super::{ALIGN_BYTES, BLOCK_BYTES, CodingError, FewShards, Layout, POSITIONS, encode, rebuild};
use crate::testing::rng::{Rng, seed};

/// Bytes of a chunk of the usual size.
const CHUNK: u32 = 4 << 20;

fn ec(data: u8, parity: u8) -> Class {
    Class::coded(data, parity).unwrap()
}

fn coded_classes() -> Vec<Class> {
    let coded = |class: &Class| matches!(class.shape(), Shape::Coded { .. });
    (0..=u8::MAX).filter_map(Class::from_byte).filter(coded).collect()
}

fn seeded() -> Rng {
    let seed = seed();
    println!("seed {seed}");
    Rng::new(seed)
}

/// From one byte to `max`, every magnitude as often as another.
fn random_len(rng: &mut Rng, max: u32) -> u32 {
    let magnitude = rng.below(max.ilog2() + 1);
    (1 + rng.below(2 << magnitude)).min(max)
}

/// One chunk and its shards.
struct Coded {
    class: Class,
    chunk: Vec<u8>,
    layout: Layout,
    shards: Vec<Bytes>,
}

impl Coded {
    fn random(class: Class, len: u32, rng: &mut Rng) -> Self {
        let chunk = rng.bytes(len);
        let layout = Layout::of(class, len).unwrap();
        let shards = encode(class, &chunk).unwrap();
        assert_eq!(shards.len(), layout.data() + layout.parity());
        Self { class, chunk, layout, shards }
    }

    /// Bytes `start..start + len` of the shards with these numbers.
    fn range_of(&self, numbers: &[u8], (start, len): (u32, u32)) -> Vec<(u8, Bytes)> {
        let range = start as usize..(start + len) as usize;
        numbers.iter().map(|number| (*number, self.shards[usize::from(*number)].slice(range.clone()))).collect()
    }

    /// The numbers of all shards but those in a bit set.
    fn without(&self, lost: u32) -> Vec<u8> {
        (0..self.class.width() as u8).filter(|shard| lost & 1 << shard == 0).collect()
    }

    fn assert_rebuilt(&self, lost: u32) {
        let whole = (0, self.layout.shard_len());
        let (held, wanted) = (self.without(lost), self.without(!lost));
        let rebuilt = rebuild(self.class, &self.range_of(&held, whole), &wanted).unwrap();
        assert!(rebuilt == self.range_of(&wanted, whole), "{} of {} without {wanted:?}", self.class, self.chunk.len());
    }
}

/// `count` shards of `width`, as a bit set.
fn random_loss(rng: &mut Rng, width: usize, count: usize) -> u32 {
    let mut lost = 0_u32;
    while (lost.count_ones() as usize) < count {
        lost |= 1 << rng.below(width as u32);
    }
    lost
}

/// Numbers in any order.
fn shuffle(rng: &mut Rng, numbers: &mut [u8]) {
    for at in (1..numbers.len()).rev() {
        numbers.swap(at, rng.below(at as u32 + 1) as usize);
    }
}

#[test]
fn data_shards_are_the_chunks_bytes_and_zeros_behind_its_end() {
    let mut rng = seeded();
    for class in [ec(2, 1), ec(4, 2), ec(8, 3), ec(12, 4)] {
        for len in [1, 63, 64, 65, 640, random_len(&mut rng, CHUNK), CHUNK] {
            let coded = Coded::random(class, len, &mut rng);
            let joined = coded.shards[..coded.layout.data()].concat();
            assert!(joined[..len as usize] == coded.chunk);
            assert!(joined[len as usize..].iter().all(|byte| *byte == 0));
            let shard_len = coded.layout.shard_len();
            assert!(coded.shards.iter().all(|shard| shard.len() == shard_len as usize));
            assert!(shard_len.is_multiple_of(ALIGN_BYTES));
            assert!(shard_len - ALIGN_BYTES < len.div_ceil(coded.layout.data() as u32));
        }
    }
}

#[test]
fn any_shards_lost_of_2_1_and_4_2_are_rebuilt_exactly() {
    let mut rng = seeded();
    for class in [ec(2, 1), ec(4, 2)] {
        for len in [1, random_len(&mut rng, 4096), random_len(&mut rng, CHUNK), CHUNK] {
            let coded = Coded::random(class, len, &mut rng);
            let bearable = |lost: &u32| (lost.count_ones() as usize) <= class.tolerates();
            for lost in (0..1 << class.width()).filter(bearable) {
                coded.assert_rebuilt(lost);
            }
        }
    }
}

#[test]
fn random_shards_lost_of_8_3_are_rebuilt_exactly() {
    let mut rng = seeded();
    let class = ec(8, 3);
    for round in 0..40 {
        let len = if round == 0 { CHUNK } else { random_len(&mut rng, CHUNK / 4) };
        let coded = Coded::random(class, len, &mut rng);
        for count in 1..=class.tolerates() {
            coded.assert_rebuilt(random_loss(&mut rng, class.width(), count));
        }
    }
}

#[test]
fn every_class_gives_back_as_many_lost_shards_as_it_promises() {
    let mut rng = seeded();
    for class in coded_classes() {
        let len = random_len(&mut rng, 2 * BLOCK_BYTES as u32);
        let coded = Coded::random(class, len, &mut rng);
        for _ in 0..4 {
            coded.assert_rebuilt(random_loss(&mut rng, class.width(), class.tolerates()));
        }
        // All data that can be lost at once, and all parities.
        coded.assert_rebuilt((1 << class.tolerates().min(coded.layout.data())) - 1);
        coded.assert_rebuilt(((1 << class.tolerates()) - 1) << coded.layout.data());
    }
}

#[test]
fn shards_come_in_the_order_wanted_whatever_the_order_given() {
    let mut rng = seeded();
    let coded = Coded::random(ec(8, 3), 100_000, &mut rng);
    for _ in 0..20 {
        let mut numbers = coded.without(0);
        shuffle(&mut rng, &mut numbers);
        let (wanted, held) = numbers.split_at(1 + rng.below(3) as usize);
        let whole = (0, coded.layout.shard_len());
        let rebuilt = rebuild(coded.class, &coded.range_of(held, whole), wanted).unwrap();
        assert!(rebuilt == coded.range_of(wanted, whole), "{wanted:?} from {held:?}");
    }
}

#[test]
fn parts_cover_a_range_exactly_and_in_order() {
    let mut rng = seeded();
    for class in [ec(2, 1), ec(4, 2), ec(8, 3), ec(15, 1)] {
        for _ in 0..50 {
            let len = random_len(&mut rng, 1 << 16);
            let coded = Coded::random(class, len, &mut rng);
            let (offset, wanted) = (rng.below(len + 2), rng.below(len + 2));
            let mut read = Vec::new();
            for (shard, start, part) in coded.layout.parts(offset, wanted) {
                assert!(usize::from(shard) < coded.layout.data() && part > 0);
                read.extend_from_slice(&coded.range_of(&[shard], (start, part))[0].1);
            }
            let start = offset.min(len) as usize;
            assert!(read == coded.chunk[start..(start + wanted as usize).min(len as usize)]);
        }
    }
}

#[test]
fn parts_of_a_range_say_where_its_bytes_lie() {
    let layout = Layout::of(ec(4, 2), 1000).unwrap();
    assert_eq!((layout.shard_len(), layout.data(), layout.parity()), (256, 4, 2));
    assert_eq!(layout.parts(0, 1000), [(0, 0, 256), (1, 0, 256), (2, 0, 256), (3, 0, 232)]);
    assert_eq!(layout.parts(250, 10), [(0, 250, 6), (1, 0, 4)]);
    assert_eq!(layout.parts(768, u32::MAX), [(3, 0, 232)]);
    assert_eq!(layout.parts(5, 0), []);
    assert_eq!(layout.parts(1000, 1), []);
    assert_eq!(layout.parts(u32::MAX, u32::MAX), []);
}

#[test]
fn an_aligned_range_holds_the_range_and_stays_in_the_shard() {
    let layout = Layout::of(ec(4, 2), 1000).unwrap();
    assert_eq!(layout.aligned(0, 256), (0, 256));
    assert_eq!(layout.aligned(63, 2), (0, 128));
    assert_eq!(layout.aligned(64, 64), (64, 64));
    assert_eq!(layout.aligned(255, 1), (192, 64));
    assert_eq!(layout.aligned(200, u32::MAX), (192, 64));
    assert_eq!(layout.aligned(70, 0), (64, 0));
    assert_eq!(layout.aligned(u32::MAX, u32::MAX), (256, 0));
}

/// A degraded read asks the other shards only for the range it lacks.
#[test]
fn an_aligned_range_is_rebuilt_to_the_same_bytes_as_whole_shards() {
    let mut rng = seeded();
    for class in [ec(2, 1), ec(4, 2), ec(8, 3), ec(4, 3), ec(13, 3)] {
        for _ in 0..12 {
            let len = random_len(&mut rng, CHUNK / 4);
            let coded = Coded::random(class, len, &mut rng);
            let offset = rng.below(coded.layout.shard_len());
            let wanted_len = 1 + rng.below(coded.layout.shard_len() - offset);
            let range = coded.layout.aligned(offset, wanted_len);
            assert!(range.0 <= offset && offset + wanted_len <= range.0 + range.1);
            let lost = random_loss(&mut rng, class.width(), class.tolerates());
            let (held, wanted) = (coded.without(lost), coded.without(!lost));
            let rebuilt = rebuild(class, &coded.range_of(&held, range), &wanted).unwrap();
            assert!(rebuilt == coded.range_of(&wanted, range), "{class} {range:?} of {len} without {wanted:?}");
        }
    }
}

/// What `aligned` is for.
#[test]
fn a_range_that_starts_elsewhere_than_at_64_bytes_would_be_rebuilt_wrong() {
    let mut rng = seeded();
    let coded = Coded::random(ec(4, 2), 4096, &mut rng);
    let range = (32, 64);
    let rebuilt = rebuild(coded.class, &coded.range_of(&[1, 2, 3, 4], range), &[0]).unwrap();
    assert!(rebuilt != coded.range_of(&[0], range));
}

/// The library codes whole shards at once here and blocks of them there.
#[test]
fn parities_are_those_of_the_library_over_whole_shards_with_and_without_vector_instructions() {
    let mut rng = seeded();
    for class in [ec(2, 1), ec(4, 2), ec(8, 3), ec(4, 3)] {
        let coded = Coded::random(class, BLOCK_BYTES as u32 * 20 + 77, &mut rng);
        let (data, parities) = coded.shards.split_at(coded.layout.data());
        assert!(reed_solomon_simd::encode(data.len(), parities.len(), data).unwrap() == parities, "{class}");
        let shard_len = coded.layout.shard_len() as usize;
        let mut plain = DefaultRateEncoder::new(data.len(), parities.len(), shard_len, NoSimd::new(), None).unwrap();
        data.iter().for_each(|shard| plain.add_original_shard(shard).unwrap());
        assert!(plain.encode().unwrap().recovery_iter().eq(parities), "{class}");
    }
}

#[test]
fn the_short_step_of_decoding_gives_the_same_as_the_librarys() {
    let mut rng = seeded();
    for round in 0..20 {
        let near = 1 + rng.below(POSITIONS as u32) as usize;
        // The decoder's two habits, and what it never does: marks here and there behind the positions of a chunk.
        let (every, size) = [(None, near), (Some(1), GF_ORDER), (Some(7), GF_ORDER)][round % 3];
        let mut marks = Box::new([0; GF_ORDER]);
        marks[..near].iter_mut().for_each(|mark| *mark = rng.below(2) as u16);
        let far = |at: usize| u16::from(every.is_some_and(|every| at.is_multiple_of(every)));
        marks[near..].iter_mut().enumerate().for_each(|(at, mark)| *mark = far(at));
        let mut whole = marks.clone();
        FewShards::eval_poly(&mut marks, size);
        DefaultEngine::eval_poly(&mut whole, size);
        // Logarithms 0 and 65535 are the same.
        let same = |(mine, theirs): (&u16, &u16)| mine % GF_MODULUS == theirs % GF_MODULUS;
        assert!(zip(&marks[..POSITIONS], &whole[..POSITIONS]).all(same), "{near} {every:?}");
    }
}

#[test]
fn what_is_no_coded_chunk_is_refused() {
    let copies = Class::replicated(3).unwrap();
    assert_eq!(Layout::of(copies, 1), None);
    assert_eq!(encode(copies, b"abc"), Err(CodingError::NotCoded { class: copies }));
    assert_eq!(rebuild(copies, &[], &[]), Err(CodingError::NotCoded { class: copies }));
    for len in [0, CHUNK_BYTES_MAX + 1] {
        assert_eq!(Layout::of(ec(2, 1), len), None);
        let refused = encode(ec(2, 1), &vec![0; len as usize]);
        assert_eq!(refused, Err(CodingError::ChunkLength { len: len as usize }));
    }
    assert_eq!(Layout::of(ec(2, 1), CHUNK_BYTES_MAX).map(|layout| layout.shard_len()), Some(CHUNK_BYTES_MAX / 2));
}

#[test]
fn shards_that_do_not_fit_are_refused() {
    let class = ec(4, 2);
    let of = |lens: [usize; 4]| zip(0_u8.., lens).map(|(shard, len)| (shard, vec![7; len].into())).collect::<Vec<_>>();
    let refused = |have: &[(u8, Bytes)], wanted: &[u8]| rebuild(class, have, wanted).unwrap_err();
    let have = of([64; 4]);
    assert_eq!(refused(&have[..3], &[5]), CodingError::TooFewShards { have: 3, needed: 4 });
    assert_eq!(refused(&[], &[5]), CodingError::TooFewShards { have: 0, needed: 4 });
    assert_eq!(refused(&of([64, 64, 128, 64]), &[5]), CodingError::ShardLength { shard: 2, len: 128 });
    assert_eq!(refused(&of([65; 4]), &[5]), CodingError::ShardLength { shard: 0, len: 65 });
    assert_eq!(refused(&of([32; 4]), &[5]), CodingError::ShardLength { shard: 0, len: 32 });
    assert_eq!(refused(&of([0; 4]), &[5]), CodingError::ShardLength { shard: 0, len: 0 });
    assert_eq!(refused(&have, &[6]), CodingError::NoSuchShard { class, shard: 6 });
    assert_eq!(refused(&[(255, have[0].1.clone())], &[]), CodingError::NoSuchShard { class, shard: 255 });
    assert_eq!(refused(&have, &[5, 4, 5]), CodingError::Twice { shard: 5 });
    assert_eq!(refused(&have, &[2]), CodingError::Twice { shard: 2 });
    assert_eq!(refused(&[&have[..], &have[3..]].concat(), &[5]), CodingError::Twice { shard: 3 });
    assert_eq!(rebuild(class, &have, &[]), Ok(vec![]));
}

#[test]
fn no_input_makes_it_panic() {
    let mut rng = seeded();
    let any = |rng: &mut Rng| rng.next() as u32 >> rng.below(32);
    for _ in 0..3000 {
        let class = loop {
            if let Some(class) = Class::from_byte(rng.next() as u8) {
                break class;
            }
        };
        if let Some(layout) = Layout::of(class, any(&mut rng)) {
            let (start, len) = layout.aligned(any(&mut rng), any(&mut rng));
            assert!(start + len <= layout.shard_len());
            let parts = layout.parts(any(&mut rng), any(&mut rng));
            assert!(parts.iter().all(|(_, start, len)| start + len <= layout.shard_len()));
        }
        let width = class.width() as u32 + 1;
        let mut numbers: Vec<u8> = (0..rng.below(width + 2) as u8).collect();
        shuffle(&mut rng, &mut numbers);
        let usual = 64 * (1 + rng.below(3));
        let len = |rng: &mut Rng| if rng.below(30) == 0 { rng.below(300) } else { usual };
        let have: Vec<(u8, Bytes)> = numbers
            .split_off(numbers.len().min(rng.below(4) as usize))
            .into_iter()
            .map(|shard| (shard, vec![shard; len(&mut rng) as usize].into()))
            .collect();
        if let Ok(rebuilt) = rebuild(class, &have, &numbers) {
            assert!(rebuilt.iter().all(|(_, bytes)| bytes.len() == have[0].1.len()));
        }
    }
}

/// Parities that were stored years ago must give back lost shards: if this fails after an upgrade of the library, the upgrade
/// is what must not be.
#[test]
fn parities_never_change() {
    let chunk: Vec<u8> = (0..300_007_u32).map(|at| (at.wrapping_mul(0x9E37_79B1) >> 11) as u8).collect();
    assert_eq!(crc32c::crc32c(&chunk), 0xF04C_5424);
    let golden: [(Class, &[u32]); 5] = [
        (ec(2, 1), &[0x73D6_C18C]),
        (ec(4, 2), &[0x9746_FD83, 0x29A2_4236]),
        (ec(8, 3), &[0x023A_9547, 0x1D6F_76F9, 0xA8DA_4B26]),
        (ec(12, 4), &[0xA97B_C5CC, 0xC9E0_96B2, 0x6C29_6AFC, 0x8F91_727B]),
        // More parities than half of the data: the library's other way.
        (ec(4, 3), &[0xC3E2_AB81, 0xEBED_6304, 0x5BFD_72AE]),
    ];
    for (class, expected) in golden {
        let shards = encode(class, &chunk).unwrap();
        let data = shards.len() - expected.len();
        let sums: Vec<u32> = shards[data..].iter().map(|shard| crc32c::crc32c(shard)).collect();
        assert_eq!(sums, expected, "{class}");
    }
}
