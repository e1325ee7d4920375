//! Hostile bytes: the decoders refuse them or read a message; never a panic, never much memory.
//!
//! `DGFS_FUZZ_SECONDS` runs it longer, `DGFS_TEST_SEED` repeats a run. Memory is measured by an allocator that notes the largest
//! piece asked for on this thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dgfs_proto::chunk::{ChunkCall, ChunkReply};
use dgfs_proto::codec::{decode, encode};
use dgfs_proto::graph::{GraphCall, GraphReply};
use dgfs_proto::limits::FRAME_HEAD_BYTES_MAX;
use dgfs_proto::meta::{MetaCall, MetaReply};
use dgfs_proto::watch::{WatchCall, WatchReply};

use crate::golden::kept;

/// One piece of memory for a message: what serde gives a list before it has seen its items (1 MiB), doubled, and for each byte
/// of the message at most an item of the largest list.
const PIECE_MAX: usize = 2 << 20;
const PIECE_PER_BYTE: usize = 512;

struct Measured;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it is; noting a number allocates nothing.
unsafe impl GlobalAlloc for Measured {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(layout.size())));
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
        // SAFETY: the caller keeps the promises of `realloc`.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Measured = Measured;

struct Random(u64);

impl Random {
    fn seeded() -> Self {
        let given = std::env::var("DGFS_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = given.unwrap_or_else(now) | 1;
        println!("DGFS_TEST_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as usize % bound
    }

    /// Golden bytes with some damage, or none of them at all.
    fn bytes(&mut self, golden: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = golden[self.below(golden.len())].clone();
        match self.below(8) {
            0 => bytes = (0..self.below(200)).map(|_| self.below(256) as u8).collect(),
            1 => bytes.truncate(self.below(bytes.len() + 1)),
            // The start of one message and the end of another.
            2 => {
                let other = &golden[self.below(golden.len())];
                bytes.truncate(self.below(bytes.len() + 1));
                bytes.extend_from_slice(&other[self.below(other.len() + 1)..]);
            }
            // A length that promises much.
            3 => {
                let at = self.below(bytes.len() + 1);
                bytes.splice(at..at, [0xff, 0xff, 0xff, 0xff, self.below(128) as u8]);
            }
            // A long run of the same: lists of very many small items.
            4 => {
                let (at, byte) = (self.below(bytes.len() + 1), [0, 1, 0x80, 0xff][self.below(4)]);
                let run = vec![byte; self.below(20_000)];
                bytes.splice(at..at, run);
            }
            _ => {
                for _ in 0..1 + self.below(4) {
                    let at = self.below(bytes.len().max(1));
                    let byte = self.below(256) as u8;
                    bytes.get_mut(at).into_iter().for_each(|old| *old = byte);
                }
            }
        }
        bytes
    }
}

fn decode_measured<T: serde::de::DeserializeOwned + serde::Serialize>(bytes: &[u8]) -> bool {
    LARGEST.with(|largest| largest.set(0));
    let decoded = decode::<T>(bytes);
    let largest = LARGEST.with(Cell::get);
    assert!(
        largest <= PIECE_MAX + bytes.len() * PIECE_PER_BYTE,
        "{largest} bytes of memory for {} of {bytes:02x?}",
        bytes.len()
    );
    // What was read can be said again: nothing outside the language of messages gets in.
    decoded.is_ok_and(|message| encode(&message).is_ok())
}

#[test]
fn hostile_bytes_are_refused_without_a_panic_and_without_much_memory() {
    let mut random = Random::seeded();
    let golden: Vec<Vec<u8>> = kept().into_values().collect();
    let seconds = std::env::var("DGFS_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(2);
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut tried, mut read) = (0_u64, 0_u64);
    while Instant::now() < until {
        for _ in 0..100 {
            let bytes = random.bytes(&golden);
            read += u64::from(decode_measured::<MetaCall>(&bytes));
            read += u64::from(decode_measured::<MetaReply>(&bytes));
            read += u64::from(decode_measured::<ChunkCall>(&bytes));
            read += u64::from(decode_measured::<ChunkReply>(&bytes));
            read += u64::from(decode_measured::<GraphCall>(&bytes));
            read += u64::from(decode_measured::<GraphReply>(&bytes));
            read += u64::from(decode_measured::<WatchCall>(&bytes));
            read += u64::from(decode_measured::<WatchReply>(&bytes));
            tried += 1;
        }
    }
    println!("{tried} inputs, {read} of them messages of some kind");
    assert!(read > 0 && read < tried * 6);
}

#[test]
fn a_message_beyond_the_frame_bound_is_refused_unread() {
    let bytes = vec![0; FRAME_HEAD_BYTES_MAX as usize + 1];
    assert!(!decode_measured::<MetaReply>(&bytes));
}
