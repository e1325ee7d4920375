//! A storage server in memory: versions as bytes with a mask of what was written.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use dgfs_proto::chunk::{ChunkCall, ChunkReply, ChunkRequest, DataRange, PatchKind, Put, VersionId};
use dgfs_proto::limits::{CHECKSUM_BLOCK_BYTES, PATCHES_MAX};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{ChunkProtocol, Handler, Peer};

#[derive(Clone)]
struct Version {
    bytes: Vec<u8>,
    written: Vec<bool>,
}

/// Versions held.
pub(crate) struct FakeStore {
    chunk_bytes: usize,
    versions: Mutex<HashMap<VersionId, Version>>,
    /// Bytes of puts while the store must not answer: to hold writes back.
    pub(crate) full: Mutex<bool>,
}

impl FakeStore {
    pub(crate) fn new(chunk_bytes: u32) -> Arc<Self> {
        Arc::new(Self { chunk_bytes: chunk_bytes as usize, versions: Mutex::default(), full: Mutex::new(false) })
    }

    pub(crate) fn collect(&self, id: VersionId) {
        self.versions.lock().remove(&id);
    }

    fn put(&self, put: &Put, body: &[u8]) -> ChunkReply {
        if *self.full.lock() {
            return ChunkReply::Refused(Status::NoSpace);
        }
        assert!(put.patches.len() <= PATCHES_MAX, "too many patches");
        let mut versions = self.versions.lock();
        let id = VersionId { chunk: put.chunk, version: put.version };
        let mut new = Version { bytes: vec![0; self.chunk_bytes], written: vec![false; self.chunk_bytes] };
        if let Some(base) = put.base {
            let Some(old) = versions.get(&VersionId { chunk: put.chunk, version: base.version }) else {
                return ChunkReply::Refused(Status::NoVersion);
            };
            let keep = base.len as usize;
            new.bytes[..keep].copy_from_slice(&old.bytes[..keep]);
            new.written[..keep].copy_from_slice(&old.written[..keep]);
        }
        let (mut at, mut behind) = (0, 0);
        for patch in &put.patches {
            let (from, to) = (patch.offset as usize, (patch.offset + patch.len) as usize);
            assert!(patch.len > 0 && from >= behind, "patches are empty or overlap");
            behind = to;
            match &patch.kind {
                PatchKind::Data { crcs } => {
                    let bytes = &body[at..at + patch.len as usize];
                    at += patch.len as usize;
                    let expected: Vec<u32> = bytes.chunks(CHECKSUM_BLOCK_BYTES as usize).map(crc32c::crc32c).collect();
                    assert_eq!(crcs, &expected);
                    new.bytes[from..to].copy_from_slice(bytes);
                    new.written[from..to].fill(true);
                }
                PatchKind::Zero => {
                    new.bytes[from..to].fill(0);
                    new.written[from..to].fill(false);
                }
            }
        }
        assert_eq!(at, body.len(), "the body is what the patches say");
        let allocated = new.written.iter().filter(|written| **written).count() as u32;
        if let Some(same) = versions.get(&id) {
            assert_eq!(same.bytes, new.bytes, "a version was put twice with other content");
        }
        versions.insert(id, new);
        ChunkReply::Put { allocated }
    }

    fn extents(&self, id: VersionId) -> ChunkReply {
        let versions = self.versions.lock();
        let Some(version) = versions.get(&id) else { return ChunkReply::Refused(Status::NoVersion) };
        let mut ranges: Vec<DataRange> = Vec::new();
        for (at, _) in version.written.iter().enumerate().filter(|(_, written)| **written) {
            match ranges.last_mut() {
                Some(last) if (last.offset + last.len) as usize == at => last.len += 1,
                _ => ranges.push(DataRange { offset: at as u32, len: 1 }),
            }
        }
        ChunkReply::Extents(ranges)
    }

    fn answer(&self, request: ChunkRequest, body: &[u8]) -> (ChunkReply, Bytes) {
        match request {
            ChunkRequest::Put(put) => (self.put(&put, body), Bytes::new()),
            ChunkRequest::Get { id, offset, len } => match self.versions.lock().get(&id) {
                Some(version) => {
                    let bytes = version.bytes[offset as usize..(offset + len) as usize].to_vec();
                    (ChunkReply::Data { crc: crc32c::crc32c(&bytes) }, Bytes::from(bytes))
                }
                None => (ChunkReply::Refused(Status::NoVersion), Bytes::new()),
            },
            ChunkRequest::Extents(id) => (self.extents(id), Bytes::new()),
            ChunkRequest::Sync => (ChunkReply::Done, Bytes::new()),
            ChunkRequest::Verify(_)
            | ChunkRequest::List { .. }
            | ChunkRequest::Status
            | ChunkRequest::Drop(_)
            | ChunkRequest::Export(_)
            | ChunkRequest::Repair(_)
            | ChunkRequest::Stored(_)
            | ChunkRequest::Uses(_) => (ChunkReply::Refused(Status::NotSupported), Bytes::new()),
        }
    }
}

impl Handler<ChunkProtocol> for FakeStore {
    fn handle(self: Arc<Self>, _: Arc<Peer>, call: ChunkCall, body: Bytes) -> BoxFuture<'static, (ChunkReply, Bytes)> {
        Box::pin(async move { self.answer(call.request, &body) })
    }
}
