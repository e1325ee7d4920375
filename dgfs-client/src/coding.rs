//! Erasure coding of a chunk: its layout in shards, the shards of a chunk, and lost shards out of others.
//!
//! Never decides where a shard lies, and never finds out that a shard's bytes are wrong: whoever reads them checks their sum,
//! for a wrong shard gives wrong bytes without an error. Always: what lies at multiples of 64 bytes is coded independently of
//! the rest, so that a range of a lost shard needs only the same range of others; and parities are a format on disk, the same
//! for ever (a golden test holds them).

use std::iter::zip;

use bytes::Bytes;
use reed_solomon_simd::engine::{DefaultEngine, Engine, GF_MODULUS, GF_ORDER, GfElement, ShardsRefMut, tables};
use reed_solomon_simd::rate::{DefaultRateDecoder, RateDecoder};
use reed_solomon_simd::{DecoderResult, EncoderResult, ReedSolomonEncoder};
use thiserror::Error;

use dgfs_proto::class::{Class, Shape};
use dgfs_proto::limits::{CHUNK_BYTES_MAX, SHARDS_MAX};

/// The library codes blocks of so many bytes, each for itself: the low, then the high halves of 32 field elements of 16 bits.
const ALIGN_BYTES: u32 = 64;
/// Bytes of each shard that are coded at a time: the library works on a copy of all shards, which stays in a processor's cache
/// of 1 MiB. Of 8 to 64 KiB, 32 and 64 were measured best; whole shards are slower and take as much memory again.
const BLOCK_BYTES: usize = 32 << 10;
/// Positions of the field that a code uses at most: one kind of shards lies at 0 and up, the other from the next power of two.
const POSITIONS: usize = 2 * SHARDS_MAX as usize;

const _: () = assert!(POSITIONS.is_power_of_two() && POSITIONS < GF_ORDER);
const _: () = assert!(BLOCK_BYTES.is_multiple_of(ALIGN_BYTES as usize));
const _: () = assert!((CHUNK_BYTES_MAX as u64 + ALIGN_BYTES as u64 * SHARDS_MAX as u64) < u32::MAX as u64);

/// Why shards cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum CodingError {
    /// Copies have no shards.
    #[error("class {class} is not a coded one")]
    NotCoded {
        /// The class given.
        class: Class,
    },
    /// A chunk has 1 to [`CHUNK_BYTES_MAX`] bytes.
    #[error("a chunk of {len} bytes cannot be coded")]
    ChunkLength {
        /// Its bytes.
        len: usize,
    },
    /// As many as the class has data shards are needed.
    #[error("{have} shards are given where {needed} are needed")]
    TooFewShards {
        /// Shards given.
        have: usize,
        /// Shards needed.
        needed: usize,
    },
    /// The ranges given must be equally long, by a multiple of 64 bytes.
    #[error("the {len} bytes of shard {shard} are no multiple of 64 or not as many as those of the others")]
    ShardLength {
        /// The first that does not fit.
        shard: u8,
        /// Its bytes.
        len: usize,
    },
    /// Shards are numbered from 0, data first.
    #[error("class {class} has no shard {shard}")]
    NoSuchShard {
        /// The class given.
        class: Class,
        /// The number given.
        shard: u8,
    },
    /// A shard is given once or wanted once.
    #[error("shard {shard} is named twice")]
    Twice {
        /// Its number.
        shard: u8,
    },
    /// The library found fault with what passed all checks here.
    #[error("code shards of class {class}")]
    Library {
        /// The class given.
        class: Class,
        /// What it said.
        source: reed_solomon_simd::Error,
    },
}

/// How the bytes of one chunk lie in its shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    data: u8,
    parity: u8,
    len: u32,
    shard_len: u32,
}

impl Layout {
    /// For a chunk of `len` bytes of a coded class; none when the class is not coded, or `len` is 0 or more than
    /// [`CHUNK_BYTES_MAX`].
    #[must_use]
    pub fn of(class: Class, len: u32) -> Option<Self> {
        match class.shape() {
            Shape::Coded { data, parity } if (1..=CHUNK_BYTES_MAX).contains(&len) => {
                let shard_len = len.div_ceil(u32::from(data)).next_multiple_of(ALIGN_BYTES);
                Some(Self { data, parity, len, shard_len })
            }
            Shape::Coded { .. } | Shape::Replicated(_) => None,
        }
    }

    /// Bytes of every shard. Data shard `i` has the chunk's bytes from `i * shard_len`; behind the chunk's end are zeros.
    #[must_use]
    pub const fn shard_len(&self) -> u32 {
        self.shard_len
    }

    /// Shards that hold the bytes: numbers 0 and up.
    #[must_use]
    pub const fn data(&self) -> usize {
        self.data as usize
    }

    /// Shards that may be lost: the numbers behind.
    #[must_use]
    pub const fn parity(&self) -> usize {
        self.parity as usize
    }

    /// The parts of data shards that a range of the chunk lies in, in order: (shard, first byte in the shard, bytes). What
    /// lies behind the chunk's end is left out.
    #[must_use]
    pub fn parts(&self, offset: u32, len: u32) -> Vec<(u8, u32, u32)> {
        let end = offset.saturating_add(len).min(self.len);
        let part = |shard: u8| {
            let shard_start = u32::from(shard) * self.shard_len;
            let from = offset.max(shard_start);
            let to = end.min(shard_start + self.shard_len);
            (from < to).then(|| (shard, from - shard_start, to - from))
        };
        (0..self.data).filter_map(part).collect()
    }

    /// A range of a shard widened to what [`rebuild`] takes: (first byte, bytes), multiples of 64 within the shard.
    #[must_use]
    pub fn aligned(&self, offset: u32, len: u32) -> (u32, u32) {
        let start = offset.min(self.shard_len) / ALIGN_BYTES * ALIGN_BYTES;
        if len == 0 {
            return (start, 0);
        }
        let end = offset.saturating_add(len).min(self.shard_len).next_multiple_of(ALIGN_BYTES);
        (start, end - start)
    }
}

/// All shards of a chunk, data first, each [`Layout::shard_len`] bytes. The data shards share one buffer, which lives until the
/// last of them is dropped.
///
/// # Errors
/// The class is not coded, or the chunk is empty or longer than [`CHUNK_BYTES_MAX`].
pub fn encode(class: Class, chunk: &[u8]) -> Result<Vec<Bytes>, CodingError> {
    let code = Code::of(class)?;
    let wrong_len = CodingError::ChunkLength { len: chunk.len() };
    let len = u32::try_from(chunk.len()).map_err(|_| wrong_len)?;
    let layout = Layout::of(class, len).ok_or(wrong_len)?;
    let shard_len = layout.shard_len as usize;
    let mut padded = Vec::with_capacity(code.data * shard_len);
    padded.extend_from_slice(chunk);
    padded.resize(code.data * shard_len, 0);
    let mut rest = Bytes::from(padded);
    let data: Vec<(u8, Bytes)> = (0..layout.data).map(|shard| (shard, rest.split_to(shard_len))).collect();
    let parities: Vec<u8> = (layout.data..layout.data + layout.parity).collect();
    let coded = rebuild(class, &data, &parities)?;
    Ok(data.into_iter().chain(coded).map(|(_, bytes)| bytes).collect())
}

/// A range of the shards `wanted`, in that order, from the same range of at least as many others as there are data shards. It
/// starts and ends at multiples of 64 bytes ([`Layout::aligned`]) and may be the whole of the shards. One that starts elsewhere
/// gives wrong bytes, and a range does not say where it starts.
///
/// # Errors
/// The class is not coded, too few shards are given, their lengths do not fit, or a number does not exist or comes twice (a
/// shard that is given cannot be wanted).
pub fn rebuild(class: Class, have: &[(u8, Bytes)], wanted: &[u8]) -> Result<Vec<(u8, Bytes)>, CodingError> {
    let code = Code::of(class)?;
    let len = code.check(have, wanted)?;
    if code.parity == 1
        && let [lost] = wanted
        && usize::from(*lost) < code.data
    {
        return rebuild_as_parity(class, have, *lost);
    }
    let sources = code.choose(have);
    let mut coder = Coder::new(code, &sources, wanted, len.min(BLOCK_BYTES))?;
    let mut rebuilt: Vec<(u8, Vec<u8>)> = wanted.iter().map(|shard| (*shard, Vec::with_capacity(len))).collect();
    for start in (0..len).step_by(BLOCK_BYTES) {
        let end = len.min(start + BLOCK_BYTES);
        let block = sources.iter().filter_map(|(shard, bytes)| Some((*shard, bytes.get(start..end)?)));
        coder.rebuild(&block.collect::<Vec<_>>(), &mut rebuilt)?;
    }
    Ok(rebuilt.into_iter().map(|(shard, bytes)| (shard, Bytes::from(bytes))).collect())
}

/// The lost data shard of a class with one parity, five times faster than decoded: there each shard is the XOR of all others,
/// so that it is the parity of the others, too.
fn rebuild_as_parity(class: Class, others: &[(u8, Bytes)], lost: u8) -> Result<Vec<(u8, Bytes)>, CodingError> {
    let as_data: Vec<(u8, Bytes)> = zip(0.., others.iter().map(|(_, bytes)| bytes.clone())).collect();
    let rebuilt = rebuild(class, &as_data, &[as_data.len() as u8])?;
    Ok(rebuilt.into_iter().map(|(_, bytes)| (lost, bytes)).collect())
}

/// A coded class.
#[derive(Clone, Copy)]
struct Code {
    class: Class,
    data: usize,
    parity: usize,
}

impl Code {
    fn of(class: Class) -> Result<Self, CodingError> {
        match class.shape() {
            Shape::Coded { data, parity } => Ok(Self { class, data: usize::from(data), parity: usize::from(parity) }),
            Shape::Replicated(_) => Err(CodingError::NotCoded { class }),
        }
    }

    /// The bytes that each of the shards given has.
    fn check(self, have: &[(u8, Bytes)], wanted: &[u8]) -> Result<usize, CodingError> {
        let mut named = 0_u32;
        for shard in have.iter().map(|(shard, _)| *shard).chain(wanted.iter().copied()) {
            if usize::from(shard) >= self.data + self.parity {
                return Err(CodingError::NoSuchShard { class: self.class, shard });
            }
            if named & 1 << shard != 0 {
                return Err(CodingError::Twice { shard });
            }
            named |= 1 << shard;
        }
        let len = have.first().map_or(0, |(_, bytes)| bytes.len());
        for (shard, bytes) in have {
            if bytes.len() != len || len == 0 || !len.is_multiple_of(ALIGN_BYTES as usize) {
                return Err(CodingError::ShardLength { shard: *shard, len: bytes.len() });
            }
        }
        if have.len() < self.data { Err(self.too_few(have.len())) } else { Ok(len) }
    }

    /// As many as are needed, data shards first: what is there need not be computed.
    fn choose(self, have: &[(u8, Bytes)]) -> Vec<(usize, &[u8])> {
        let mut sources: Vec<(usize, &[u8])> =
            have.iter().map(|(shard, bytes)| (usize::from(*shard), bytes.as_ref())).collect();
        sources.sort_unstable_by_key(|(shard, _)| *shard);
        sources.truncate(self.data);
        sources
    }

    /// Restores the lost data shards of a block.
    fn decode<'a>(
        self,
        decoder: &'a mut DefaultRateDecoder<FewShards>,
        block: &[(usize, &[u8])],
    ) -> Result<DecoderResult<'a>, CodingError> {
        let block_len = block.first().map_or(0, |(_, bytes)| bytes.len());
        decoder.reset(self.data, self.parity, block_len).map_err(self.refused())?;
        for (shard, bytes) in block {
            match shard.checked_sub(self.data) {
                Some(parity) => decoder.add_recovery_shard(parity, bytes),
                None => decoder.add_original_shard(*shard, bytes),
            }
            .map_err(self.refused())?;
        }
        decoder.decode().map_err(self.refused())
    }

    /// Makes all parity shards of a block.
    fn encode<'a, 'b>(
        self,
        encoder: &'a mut ReedSolomonEncoder,
        data: impl Fn(usize) -> Option<&'b [u8]>,
    ) -> Result<EncoderResult<'a>, CodingError> {
        let block_len = data(0).map_or(0, <[u8]>::len);
        encoder.reset(self.data, self.parity, block_len).map_err(self.refused())?;
        for shard in 0..self.data {
            let bytes = data(shard).ok_or(self.too_few(shard))?;
            encoder.add_original_shard(bytes).map_err(self.refused())?;
        }
        encoder.encode().map_err(self.refused())
    }

    fn too_few(self, have: usize) -> CodingError {
        CodingError::TooFewShards { have, needed: self.data }
    }

    fn refused(self) -> impl Fn(reed_solomon_simd::Error) -> CodingError {
        move |source| CodingError::Library { class: self.class, source }
    }
}

/// The library's working space, used for one block of the shards after the other.
struct Coder {
    code: Code,
    /// For lost data shards.
    decoder: Option<DefaultRateDecoder<FewShards>>,
    /// For wanted parity shards, out of all data shards.
    encoder: Option<ReedSolomonEncoder>,
}

impl Coder {
    fn new(code: Code, sources: &[(usize, &[u8])], wanted: &[u8], block_len: usize) -> Result<Self, CodingError> {
        let decodes = !wanted.is_empty() && sources.iter().any(|(shard, _)| *shard >= code.data);
        let encodes = wanted.iter().any(|shard| usize::from(*shard) >= code.data);
        let decoder = decodes
            .then(|| DefaultRateDecoder::new(code.data, code.parity, block_len, FewShards(DefaultEngine::new()), None));
        let encoder = encodes.then(|| ReedSolomonEncoder::new(code.data, code.parity, block_len));
        Ok(Self {
            code,
            decoder: decoder.transpose().map_err(code.refused())?,
            encoder: encoder.transpose().map_err(code.refused())?,
        })
    }

    /// Appends one block of every wanted shard to what was rebuilt of it.
    fn rebuild(&mut self, block: &[(usize, &[u8])], rebuilt: &mut [(u8, Vec<u8>)]) -> Result<(), CodingError> {
        let code = self.code;
        let decoded = self.decoder.as_mut().map(|decoder| code.decode(decoder, block)).transpose()?;
        let data = |shard: usize| match block.iter().find(|(given, _)| *given == shard) {
            Some((_, bytes)) => Some(*bytes),
            None => decoded.as_ref()?.restored_original(shard),
        };
        let encoded = self.encoder.as_mut().map(|encoder| code.encode(encoder, data)).transpose()?;
        for (shard, bytes) in rebuilt {
            let found = match usize::from(*shard).checked_sub(code.data) {
                Some(parity) => encoded.as_ref().and_then(|encoded| encoded.recovery(parity)),
                None => data(usize::from(*shard)),
            };
            // All are there, as `Coder::new` looked at what is wanted; a short shard must not pass if not.
            bytes.extend_from_slice(found.ok_or(code.too_few(block.len()))?);
        }
        Ok(())
    }
}

/// The library's engine, but for one step of decoding: the library takes it for all 65 536 positions of the field, in 0.16 ms
/// and more whatever the shards' length, where a 4 KiB range is decoded in 0.01 ms; a code has at most [`POSITIONS`].
struct FewShards(DefaultEngine);

impl Engine for FewShards {
    fn fft(&self, data: &mut ShardsRefMut<'_>, pos: usize, size: usize, truncated_size: usize, skew_delta: usize) {
        self.0.fft(data, pos, size, truncated_size, skew_delta);
    }

    fn ifft(&self, data: &mut ShardsRefMut<'_>, pos: usize, size: usize, truncated_size: usize, skew_delta: usize) {
        self.0.ifft(data, pos, size, truncated_size, skew_delta);
    }

    fn mul(&self, x: &mut [[u8; 64]], log_m: GfElement) {
        self.0.mul(x, log_m);
    }

    /// Turns the marks of erased positions (1, else 0) into each position's logarithm of the product of its differences from
    /// all erased ones. Only the first [`POSITIONS`] are turned: the decoder looks at no others. Behind them it marks all or
    /// none, and both count nothing: the product of all elements is 1, and so is that of the first (a power of two of them,
    /// counted in a Cantor basis), hence that of the rest.
    fn eval_poly(erasures: &mut [GfElement; GF_ORDER], truncated_size: usize) {
        let Some((near, far)) = erasures.split_first_chunk_mut::<POSITIONS>() else { return };
        if truncated_size > POSITIONS && far.contains(&0) {
            return DefaultEngine::eval_poly(erasures, truncated_size);
        }
        let log = &tables::get_exp_log().log;
        let marks = *near;
        for (position, value) in near.iter_mut().enumerate() {
            // The difference of two positions is their XOR; that of a position from itself, 0, does not count.
            let others = marks.iter().enumerate().filter(|(other, mark)| **mark != 0 && *other != position);
            let logs = others.filter_map(|(other, _)| log.get(position ^ other));
            *value = (logs.map(|log| u32::from(*log)).sum::<u32>() % u32::from(GF_MODULUS)) as GfElement;
        }
    }
}

#[cfg(test)]
mod tests;
