//! What a new version consists of: its base's pieces, clipped and cut, and its patches.
//!
//! Never touches a file; plain functions over tables. Always: pieces are sorted
//! and do not overlap, and every one lies inside one run of its source.

use dgfs_proto::chunk::{DataRange, Patch, PatchKind};
use dgfs_proto::compression::Compression;
use dgfs_proto::ids::ChunkVersion;

use crate::record::{Manifest, PIECES_MAX, Piece, Run, Source};

/// Data of dropped ranges that a version may keep alive in its sources before it is rewritten whole:
/// three times its size, and this much more.
const RETAINED_SLACK_BYTES: u64 = 1 << 20;
/// Shortest hole that survives a consolidation of a version with very many small runs.
const GAP_BYTES_MIN: u32 = 4096;

#[derive(Clone, Copy)]
struct Span {
    offset: u32,
    len: u32,
    at: u32,
    source: Source,
}

/// The manifest of `version`, made of `patches` over the first `base_len` bytes of `base`.
/// `None` is no base. Its `crcs` are those of the patches.
pub(crate) fn overlay(version: ChunkVersion, base: Option<(&Manifest, u32)>, patches: &[Patch]) -> Manifest {
    let (runs, crcs) = data_of(patches);
    let own = Source { version, data_len: runs.iter().map(|run| run.len).sum() };
    let mut spans = base.map_or_else(Vec::new, |(base, len)| cut(base, len, patches));
    let mut at = 0;
    for run in &runs {
        spans.push(Span { offset: run.offset, len: run.len, at, source: own });
        at += run.len;
    }
    spans.sort_unstable_by_key(|span| span.offset);
    let (sources, pieces) = number_sources(&spans);
    Manifest { sources, pieces, runs, crcs, compression: Compression::None, frames: Vec::new() }
}

/// The runs of data in a put's body.
pub(crate) fn runs_of(patches: &[Patch]) -> Vec<Run> {
    data_of(patches).0
}

fn data_of(patches: &[Patch]) -> (Vec<Run>, Vec<u32>) {
    let mut runs = Vec::with_capacity(patches.len());
    let mut all = Vec::new();
    for patch in patches {
        match &patch.kind {
            PatchKind::Data { crcs } => {
                runs.push(Run { offset: patch.offset, len: patch.len });
                all.extend_from_slice(crcs);
            }
            PatchKind::Zero => {}
        }
    }
    (runs, all)
}

/// The parts of `base` below `len` that no patch covers.
fn cut(base: &Manifest, len: u32, patches: &[Patch]) -> Vec<Span> {
    let mut spans = Vec::with_capacity(base.pieces.len() + patches.len());
    for piece in &base.pieces {
        let Some(source) = base.sources.get(piece.source as usize) else { continue };
        let end = (piece.offset + piece.len).min(len);
        let mut from = piece.offset;
        let first = patches.partition_point(|patch| patch.offset + patch.len <= from);
        for patch in patches.iter().skip(first) {
            if patch.offset >= end {
                break;
            }
            push_part(&mut spans, piece, *source, (from, patch.offset));
            from = from.max(patch.offset + patch.len);
        }
        push_part(&mut spans, piece, *source, (from, end));
    }
    spans
}

fn push_part(spans: &mut Vec<Span>, piece: &Piece, source: Source, (from, to): (u32, u32)) {
    if from < to {
        spans.push(Span { offset: from, len: to - from, at: piece.at + (from - piece.offset), source });
    }
}

fn number_sources(spans: &[Span]) -> (Vec<Source>, Vec<Piece>) {
    let mut sources: Vec<Source> = spans.iter().map(|span| span.source).collect();
    sources.sort_unstable_by_key(|source| source.version);
    sources.dedup_by_key(|source| source.version);
    let pieces = spans
        .iter()
        .map(|span| Piece {
            offset: span.offset,
            len: span.len,
            at: span.at,
            source: u32::try_from(sources.partition_point(|source| source.version < span.source.version))
                .unwrap_or(u32::MAX),
        })
        .collect();
    (sources, pieces)
}

/// Is the version in too many pieces, or does it keep too many bytes alive that it does not show?
pub(crate) fn wants_consolidation(manifest: &Manifest) -> bool {
    let retained: u64 = manifest.sources.iter().map(|source| u64::from(source.data_len)).sum();
    manifest.pieces.len() > PIECES_MAX || retained > u64::from(manifest.allocated()) * 3 + RETAINED_SLACK_BYTES
}

/// The ranges with data, joined where they touch.
pub(crate) fn ranges(pieces: &[Piece]) -> Vec<DataRange> {
    let mut out: Vec<DataRange> = Vec::new();
    for piece in pieces {
        match out.last_mut() {
            Some(last) if last.offset + last.len == piece.offset => last.len += piece.len,
            Some(_) | None => out.push(DataRange { offset: piece.offset, len: piece.len }),
        }
    }
    out
}

/// The runs a consolidated version is written in: its ranges, with small holes filled
/// while there are too many.
pub(crate) fn consolidated_runs(pieces: &[Piece]) -> Vec<Run> {
    let exact: Vec<Run> = ranges(pieces).iter().map(|range| Run { offset: range.offset, len: range.len }).collect();
    let mut runs = exact;
    let mut gap = GAP_BYTES_MIN;
    while runs.len() > PIECES_MAX / 2 {
        runs = fill_gaps(&runs, gap);
        gap = gap.saturating_mul(2);
    }
    runs
}

fn fill_gaps(runs: &[Run], gap: u32) -> Vec<Run> {
    let mut out: Vec<Run> = Vec::with_capacity(runs.len());
    for run in runs {
        match out.last_mut() {
            Some(last) if run.offset - (last.offset + last.len) < gap => last.len = run.offset + run.len - last.offset,
            Some(_) | None => out.push(*run),
        }
    }
    out
}

/// The manifest of a version whose data all lie in its own record.
pub(crate) fn whole(version: ChunkVersion, runs: Vec<Run>, crcs: Vec<u32>) -> Manifest {
    let data_len = runs.iter().map(|run| run.len).sum();
    let mut at = 0;
    let mut pieces = Vec::with_capacity(runs.len());
    for run in &runs {
        pieces.push(Piece { offset: run.offset, len: run.len, at, source: 0 });
        at += run.len;
    }
    let sources = if runs.is_empty() { Vec::new() } else { vec![Source { version, data_len }] };
    Manifest { sources, pieces, runs, crcs, compression: Compression::None, frames: Vec::new() }
}
