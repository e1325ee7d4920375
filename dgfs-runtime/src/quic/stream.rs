//! Frames over QUIC streams: the shared stream of small frames in both
//! directions, and streams that carry one frame.
//!
//! Never knows which call a frame belongs to. Always: memory held for a
//! stream is bounded by one frame and one packet.

use bytes::{Bytes, BytesMut};
use quinn::{ReadError, ReadExactError, RecvStream, SendStream, WriteError};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::quic::frame::{Frame, FrameError, FrameHeader, HEADER_BYTES, SMALL_FRAME_BYTES_MAX};

/// Small frames queued for the shared stream; the next sender waits.
pub(crate) const QUEUE_FRAMES_MAX: usize = 1024;
/// Bytes of small frames handed to QUIC at once: several packets, and still a short step.
const BATCH_BYTES: usize = 128 << 10;
/// Small calls go before the bulk bytes (priority 0) that wait on the same connection.
const SHARED_PRIORITY: i32 = 1;
/// Chunks taken from a stream in one step.
const CHUNKS_PER_READ: usize = 16;

/// Why no frame came.
#[derive(Debug, Error)]
pub(crate) enum ReadFault {
    /// The peer broke the protocol.
    #[error("{0}")]
    Malformed(#[from] FrameError),
    /// The stream or the connection ended inside a frame.
    #[error("the stream broke")]
    Broken,
}

impl From<ReadError> for ReadFault {
    fn from(_: ReadError) -> Self {
        Self::Broken
    }
}

/// The header a stream begins with; none when the stream ended before it.
pub(crate) async fn read_header(stream: &mut RecvStream) -> Result<Option<FrameHeader>, ReadFault> {
    let mut bytes = [0; HEADER_BYTES];
    match stream.read_exact(&mut bytes).await {
        Ok(()) => Ok(Some(FrameHeader::decode(&bytes)?)),
        Err(ReadExactError::FinishedEarly(0)) => Ok(None),
        Err(ReadExactError::FinishedEarly(_) | ReadExactError::ReadError(_)) => Err(ReadFault::Broken),
    }
}

/// The rest of the only frame of a stream.
pub(crate) async fn read_only_frame(stream: &mut RecvStream, header: &FrameHeader) -> Result<Frame, ReadFault> {
    let wanted = header.payload_bytes();
    let mut payload = BytesMut::new();
    let mut chunks = [const { Bytes::new() }; CHUNKS_PER_READ];
    loop {
        let Some(count) = stream.read_chunks(&mut chunks).await? else {
            break;
        };
        for chunk in chunks.iter_mut().take(count) {
            let chunk = std::mem::take(chunk);
            if payload.len() + chunk.len() > wanted {
                return Err(FrameError::Trailing.into());
            }
            if payload.is_empty() {
                payload.reserve(wanted);
            }
            payload.extend_from_slice(&chunk);
        }
    }
    if payload.len() < wanted {
        return Err(ReadFault::Broken);
    }
    Ok(Frame::from_payload(header, payload.freeze()))
}

/// Reads the frames of the shared stream.
pub(crate) struct SharedReader {
    stream: RecvStream,
    first: Option<FrameHeader>,
    buffer: BytesMut,
}

impl SharedReader {
    /// A reader of `stream`, whose header `first` was read already (none: nothing was read).
    pub(crate) fn new(stream: RecvStream, first: Option<FrameHeader>) -> Self {
        Self { stream, first, buffer: BytesMut::new() }
    }

    /// The next frame; none when the peer finished the stream. Cancelling it loses no bytes.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, ReadFault> {
        loop {
            if let Some(frame) = self.take_buffered()? {
                return Ok(Some(frame));
            }
            // Reading a chunk is one step: a cancelled wait has taken nothing from the stream.
            match self.stream.read_chunk(BATCH_BYTES, true).await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk.bytes),
                None if self.buffer.is_empty() && self.first.is_none() => return Ok(None),
                None => return Err(ReadFault::Broken),
            }
        }
    }

    fn take_buffered(&mut self) -> Result<Option<Frame>, ReadFault> {
        let header = match self.first {
            Some(header) => header,
            None => {
                let Some(bytes) = self.buffer.first_chunk::<HEADER_BYTES>() else {
                    return Ok(None);
                };
                let header = FrameHeader::decode(bytes)?;
                let _ = self.buffer.split_to(HEADER_BYTES);
                self.first = Some(header);
                header
            }
        };
        let wanted = header.payload_bytes();
        if wanted > SMALL_FRAME_BYTES_MAX {
            return Err(FrameError::TooLongForShared(wanted).into());
        }
        if self.buffer.len() < wanted {
            return Ok(None);
        }
        self.first = None;
        Ok(Some(Frame::from_payload(&header, self.buffer.split_to(wanted).freeze())))
    }
}

/// Sends what comes by `queue` on the shared stream, many frames at a time, until the queue's senders or the stream
/// are gone; returns when the peer has everything.
pub(crate) async fn write_shared(mut stream: SendStream, mut queue: mpsc::Receiver<Frame>) {
    // An error says that the stream is gone, which the first write says as well.
    let _ = stream.set_priority(SHARED_PRIORITY);
    let mut batch = BytesMut::new();
    while let Some(frame) = queue.recv().await {
        append(&mut batch, &frame);
        while batch.len() < BATCH_BYTES {
            match queue.try_recv() {
                Ok(frame) => append(&mut batch, &frame),
                Err(_) => break,
            }
        }
        if stream.write_chunk(batch.split().freeze()).await.is_err() {
            return;
        }
    }
    // An error says that the connection is gone, and whoever waits for replies hears that from the connection.
    if stream.finish().is_ok() {
        let _ = stream.stopped().await;
    }
}

fn append(batch: &mut BytesMut, frame: &Frame) {
    // Senders queue small frames only, so the header exists.
    if let Ok(header) = frame.header() {
        batch.reserve(HEADER_BYTES + header.payload_bytes());
        header.encode(batch);
        batch.extend_from_slice(&frame.head);
        batch.extend_from_slice(&frame.body);
    }
}

/// Why a frame did not go out.
#[derive(Debug, Error)]
pub(crate) enum WriteFault {
    /// It is too long.
    #[error("{0}")]
    Malformed(#[from] FrameError),
    /// The stream or the connection broke.
    #[error("the stream broke")]
    Broken(#[from] WriteError),
}

/// Sends `frame` as the only one of `stream` and finishes it. The body is not copied.
pub(crate) async fn write_only_frame(stream: &mut SendStream, frame: Frame) -> Result<(), WriteFault> {
    let mut start = BytesMut::with_capacity(HEADER_BYTES + frame.head.len());
    frame.header()?.encode(&mut start);
    start.extend_from_slice(&frame.head);
    stream.write_chunk(start.freeze()).await?;
    if !frame.body.is_empty() {
        stream.write_chunk(frame.body).await?;
    }
    // Fails only when the stream was stopped or the connection is gone: the peer wants no more.
    let _ = stream.finish();
    Ok(())
}
