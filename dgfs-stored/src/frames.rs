//! Data of a record, compressed frame by frame.
//!
//! Never judges whether bytes are right: their checksums do, which count the bytes as they were. Always: a frame that does not
//! become smaller is kept as it is, so that no record is larger than it would be without.

use dgfs_proto::compression::Compression;
use dgfs_proto::limits::CHECKSUM_BLOCK_BYTES;

use crate::record::Run;

/// Bytes of a run that are compressed together: what a short read has to unpack at most. Frames count from the run's start, so
/// that each holds whole checksum blocks.
pub(crate) const FRAME_BYTES: u32 = 4 * CHECKSUM_BLOCK_BYTES;
/// Level of Zstandard: its default, which larger levels better by little.
const ZSTD_LEVEL: i32 = 3;

/// Frames of so many bytes of a run.
pub(crate) const fn frames_of(len: u32) -> u32 {
    len.div_ceil(FRAME_BYTES)
}

/// Data of runs as they lie on the disk.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) compression: Compression,
    /// Bytes of each frame on the disk.
    pub(crate) frames: Vec<u32>,
    pub(crate) data: Vec<u8>,
}

/// Compresses the data of `runs`, joined.
pub(crate) fn pack(compression: Compression, runs: &[Run], data: &[u8]) -> Packed {
    let mut packed = Packed { compression, frames: Vec::new(), data: Vec::with_capacity(data.len() / 2) };
    let mut packer = Packer::of(compression);
    let mut rest = data;
    for run in runs {
        let Some((own, behind)) = rest.split_at_checked(run.len as usize) else { break };
        rest = behind;
        for frame in own.chunks(FRAME_BYTES as usize) {
            let smaller = packer.pack(frame).unwrap_or(frame);
            packed.data.extend_from_slice(smaller);
            packed.frames.push(u32::try_from(smaller.len()).unwrap_or(u32::MAX));
        }
    }
    packed
}

/// Fills `out` with the bytes of a frame; false when `bytes` are no frame of that length.
pub(crate) fn unpack(compression: Compression, bytes: &[u8], out: &mut [u8]) -> bool {
    if bytes.len() == out.len() {
        out.copy_from_slice(bytes);
        return true;
    }
    let unpacked = match compression {
        Compression::None => None,
        Compression::Lz4 => lz4_flex::block::decompress_into(bytes, out).ok(),
        Compression::Zstd => zstd::bulk::decompress_to_buffer(bytes, out).ok(),
    };
    unpacked == Some(out.len())
}

/// Compresses frames, with room for one.
struct Packer {
    how: How,
    room: Vec<u8>,
}

enum How {
    Not,
    Lz4,
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Packer {
    fn of(compression: Compression) -> Self {
        let how = match compression {
            Compression::None => How::Not,
            Compression::Lz4 => How::Lz4,
            // Without memory for its tables the data are kept as they are.
            Compression::Zstd => zstd::bulk::Compressor::new(ZSTD_LEVEL).map_or(How::Not, How::Zstd),
        };
        let room = match &how {
            How::Not => 0,
            How::Lz4 => lz4_flex::block::get_maximum_output_size(FRAME_BYTES as usize),
            How::Zstd(_) => zstd::zstd_safe::compress_bound(FRAME_BYTES as usize),
        };
        Self { how, room: vec![0; room] }
    }

    /// The frame, if it is smaller then.
    fn pack(&mut self, frame: &[u8]) -> Option<&[u8]> {
        let len = match &mut self.how {
            How::Not => None,
            How::Lz4 => lz4_flex::block::compress_into(frame, &mut self.room).ok(),
            How::Zstd(compressor) => compressor.compress_to_buffer(frame, &mut self.room[..]).ok(),
        };
        self.room.get(..len?).filter(|smaller| smaller.len() < frame.len())
    }
}

#[cfg(test)]
mod tests {
    use super::{Compression, FRAME_BYTES, Run, frames_of, pack, unpack};

    fn text(len: usize) -> Vec<u8> {
        b"a line of text that comes again and again\n".iter().copied().cycle().take(len).collect()
    }

    fn unpacked(compression: Compression, runs: &[Run], frames: &[u32], mut packed: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut lens = frames.iter();
        for run in runs {
            let mut left = run.len;
            while left > 0 {
                let (len, raw) = (*lens.next().unwrap() as usize, left.min(FRAME_BYTES));
                let mut frame = vec![0; raw as usize];
                assert!(unpack(compression, &packed[..len], &mut frame));
                out.extend(frame);
                packed = &packed[len..];
                left -= raw;
            }
        }
        assert!(packed.is_empty() && lens.next().is_none());
        out
    }

    #[test]
    fn what_was_packed_is_unpacked_and_noise_does_not_grow() {
        let mut noise = vec![0; 100_000];
        dgfs_runtime::random::fill(&mut noise).unwrap();
        for compression in Compression::ALL {
            for data in [text(100_000), noise.clone(), text(1)] {
                let (first, rest) = (data.len() / 3, data.len() - data.len() / 3);
                let lens = [first, rest].into_iter().filter(|len| *len > 0);
                let runs: Vec<Run> = lens.map(|len| Run { offset: 0, len: len as u32 }).collect();
                let packed = pack(compression, &runs, &data);
                assert_eq!(packed.frames.len() as u32, runs.iter().map(|run| frames_of(run.len)).sum::<u32>());
                assert!(packed.data.len() <= data.len());
                assert_eq!(unpacked(compression, &runs, &packed.frames, &packed.data), data);
            }
        }
        let runs = [Run { offset: 0, len: 100_000 }];
        assert!(pack(Compression::Lz4, &runs, &text(100_000)).data.len() < 5000);
        assert!(pack(Compression::Zstd, &runs, &text(100_000)).data.len() < 5000);
    }

    #[test]
    fn damaged_frames_are_refused_or_give_other_bytes_of_the_same_length() {
        for compression in [Compression::Lz4, Compression::Zstd] {
            let packed = pack(compression, &[Run { offset: 0, len: 60_000 }], &text(60_000));
            let mut out = vec![0; 60_000];
            for at in 0..packed.data.len() {
                let mut damaged = packed.data.clone();
                damaged[at] ^= 0x55;
                let _ = unpack(compression, &damaged, &mut out);
                assert!(!unpack(compression, &packed.data[..at], &mut out));
            }
            assert!(!unpack(compression, &packed.data, &mut vec![0; 59_999]));
        }
    }
}
