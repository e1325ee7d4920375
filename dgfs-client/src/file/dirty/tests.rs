//! Dirty extents against a plain array.

use std::time::Instant;

use bytes::Bytes;

use super::{DirtyChunk, EXTENT_OVERHEAD_BYTES, RUNS_MAX, paste};
use crate::testing::rng::Rng;

const CHUNK: u32 = 4096;

#[derive(Clone)]
struct Model {
    bytes: Vec<Option<u8>>,
}

impl Model {
    fn new() -> Self {
        Self { bytes: vec![None; CHUNK as usize] }
    }

    fn write(&mut self, offset: u32, data: &[u8]) {
        for (at, byte) in data.iter().enumerate() {
            self.bytes[offset as usize + at] = Some(*byte);
        }
    }

    fn over(&self, offset: u32, len: u32) -> Vec<u8> {
        (offset..offset + len).map(|at| self.bytes[at as usize].unwrap_or(0)).collect()
    }

    fn covers(&self, offset: u32, len: u32) -> bool {
        (offset..offset + len).all(|at| self.bytes[at as usize].is_some())
    }
}

fn check(chunk: &DirtyChunk, model: &Model, rng: &mut Rng) {
    let offset = rng.below(CHUNK);
    let len = 1 + rng.below(CHUNK - offset);
    let mut target = vec![0; len as usize];
    for (start, bytes) in chunk.pieces(offset, len) {
        paste(offset, &mut target, start, &bytes);
    }
    assert_eq!(target, model.over(offset, len));
    assert_eq!(chunk.covers(offset, len), model.covers(offset, len));
    let end = model.bytes.iter().rposition(Option::is_some).map_or(0, |at| at as u32 + 1);
    assert_eq!(chunk.end(), end);
    assert_eq!(chunk.is_full(CHUNK), model.covers(0, CHUNK));
}

#[test]
fn extents_read_like_an_array() {
    let seed = crate::testing::rng::seed();
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    for _ in 0..300 {
        let mut chunk = DirtyChunk::new(1, Instant::now());
        let mut model = Model::new();
        for _ in 0..rng.below(60) {
            if rng.below(10) == 0 {
                let len = rng.below(CHUNK);
                chunk.truncate(len);
                model.bytes[len as usize..].fill(None);
            } else {
                let offset = rng.below(CHUNK);
                let len = 1 + rng.below((CHUNK - offset).min(300));
                let data = rng.bytes(len);
                chunk.write(offset, &data, CHUNK);
                model.write(offset, &data);
            }
            check(&chunk, &model, &mut rng);
        }
        let newer = rng.bytes(50);
        let (sealed, rest) = if chunk.is_empty() { continue } else { chunk.seal() };
        let mut again = rest.unwrap_or_else(|| DirtyChunk::new(2, Instant::now()));
        again.write(100, &newer, CHUNK);
        model.write(100, &newer);
        again.put_under(&sealed, CHUNK);
        check(&again, &model, &mut rng);
    }
}

#[test]
fn a_sequential_writer_seals_one_patch() {
    let mut chunk = DirtyChunk::new(1, Instant::now());
    for at in 0..CHUNK / 128 {
        chunk.write(at * 128, &[7; 128], CHUNK);
    }
    assert!(chunk.is_full(CHUNK) && chunk.held() <= u64::from(CHUNK) + EXTENT_OVERHEAD_BYTES);
    let (sealed, rest) = chunk.seal();
    assert!(rest.is_none());
    assert_eq!(sealed.patches, vec![(0, Bytes::from(vec![7; CHUNK as usize]))]);
}

#[test]
fn more_runs_than_a_put_carries_are_left_for_the_next_one() {
    let mut chunk = DirtyChunk::new(1, Instant::now());
    for at in 0..400 {
        chunk.write(at * 10, &[1; 3], CHUNK);
    }
    let (sealed, rest) = chunk.seal();
    assert_eq!(sealed.patches.len(), RUNS_MAX);
    let (second, none) = rest.unwrap().seal();
    assert_eq!(second.patches.len(), 400 - RUNS_MAX);
    assert!(none.is_none());
}

#[test]
fn sealed_adjacent_extents_are_one_patch() {
    let mut chunk = DirtyChunk::new(1, Instant::now());
    chunk.write(100, &[2; 100], CHUNK);
    chunk.write(0, &[1; 50], CHUNK);
    chunk.write(50, &[3; 50], CHUNK);
    let (sealed, _) = chunk.seal();
    assert_eq!(sealed.patches.len(), 1);
    assert_eq!(sealed.end(), 200);
    assert!(sealed.covers(40, 100) && !sealed.covers(150, 51));
}
