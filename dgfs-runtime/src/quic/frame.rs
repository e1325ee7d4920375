//! One message on the wire: a fixed header, a head (an encoded call or
//! reply), a body (bulk bytes). Drawn in `docs/FORMATS.md`, section Frames.
//!
//! Never opens a stream and never decodes a head. Always: a length is checked
//! against its bound before a byte is allocated for it.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use dgfs_proto::limits::{FRAME_BODY_BYTES_MAX, FRAME_HEAD_BYTES_MAX, SMALL_BODY_BYTES_MAX};

/// Bytes of a header.
pub(crate) const HEADER_BYTES: usize = 24;
/// First two bytes of every frame.
const MAGIC: [u8; 2] = *b"DG";
/// Head and body of a frame on the shared stream: a longer one would hold up the small calls behind it.
pub(crate) const SMALL_FRAME_BYTES_MAX: usize = 2 * SMALL_BODY_BYTES_MAX;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// A call on the shared stream.
    Call,
    /// A call on a stream of its own; the reply comes on the same stream.
    BulkCall,
    /// A reply, on the shared stream or on a stream of its own.
    Reply,
    /// No reply will come; the head is a sentence why, trying again may help.
    Failed,
    /// No reply will come; the head is a sentence why, trying again does not help.
    Refused,
}

impl FrameKind {
    const fn code(self) -> u8 {
        match self {
            Self::Call => 1,
            Self::BulkCall => 2,
            Self::Reply => 3,
            Self::Failed => 4,
            Self::Refused => 5,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Call),
            2 => Some(Self::BulkCall),
            3 => Some(Self::Reply),
            4 => Some(Self::Failed),
            5 => Some(Self::Refused),
            _ => None,
        }
    }
}

/// Why bytes are no frame. The connection they came on is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum FrameError {
    #[error("the bytes do not begin with a frame header")]
    Magic,
    #[error("frame kind {0} is unknown")]
    Kind(u8),
    #[error("a head of {0} bytes is longer than {FRAME_HEAD_BYTES_MAX}")]
    HeadTooLong(u32),
    #[error("a body of {0} bytes is longer than {FRAME_BODY_BYTES_MAX}")]
    BodyTooLong(u32),
    #[error("a frame of {0} bytes on the shared stream is longer than {SMALL_FRAME_BYTES_MAX}")]
    TooLongForShared(usize),
    #[error("a frame of this kind does not belong here")]
    Misplaced,
    #[error("the head is not a message of the protocol")]
    Head,
    #[error("bytes follow the only frame of a stream")]
    Trailing,
}

/// A frame's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) kind: FrameKind,
    pub(crate) head_bytes: u32,
    pub(crate) body_bytes: u32,
    /// How long the caller waits, in milliseconds; 0: as long as the connection lives.
    pub(crate) deadline_ms: u32,
    /// Pairs a reply with its call.
    pub(crate) number: u64,
}

impl FrameHeader {
    /// Reads a header.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let [m0, m1, kind, _, h0, h1, h2, h3, b0, b1, b2, b3, d0, d1, d2, d3, number @ ..] = *bytes;
        if [m0, m1] != MAGIC {
            return Err(FrameError::Magic);
        }
        let header = Self {
            kind: FrameKind::from_code(kind).ok_or(FrameError::Kind(kind))?,
            head_bytes: u32::from_le_bytes([h0, h1, h2, h3]),
            body_bytes: u32::from_le_bytes([b0, b1, b2, b3]),
            deadline_ms: u32::from_le_bytes([d0, d1, d2, d3]),
            number: u64::from_le_bytes(number),
        };
        if header.head_bytes > FRAME_HEAD_BYTES_MAX {
            return Err(FrameError::HeadTooLong(header.head_bytes));
        }
        if header.body_bytes > FRAME_BODY_BYTES_MAX {
            return Err(FrameError::BodyTooLong(header.body_bytes));
        }
        Ok(header)
    }

    /// Writes a header.
    pub(crate) fn encode(&self, to: &mut BytesMut) {
        to.put_slice(&MAGIC);
        to.put_u8(self.kind.code());
        to.put_u8(0);
        to.put_u32_le(self.head_bytes);
        to.put_u32_le(self.body_bytes);
        to.put_u32_le(self.deadline_ms);
        to.put_u64_le(self.number);
    }

    /// Head and body; at most 17 MiB by the bounds checked in [`Self::decode`].
    pub(crate) const fn payload_bytes(&self) -> usize {
        self.head_bytes as usize + self.body_bytes as usize
    }
}

/// A whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: FrameKind,
    pub(crate) deadline_ms: u32,
    pub(crate) number: u64,
    pub(crate) head: Bytes,
    pub(crate) body: Bytes,
}

impl Frame {
    /// A frame that ends call `number` without a reply.
    pub(crate) fn without_reply(kind: FrameKind, number: u64, sentence: &str) -> Self {
        let head = Bytes::copy_from_slice(sentence.as_bytes());
        Self { kind, deadline_ms: 0, number, head, body: Bytes::new() }
    }

    /// The frame that `header` announced, cut out of its `payload`.
    pub(crate) fn from_payload(header: &FrameHeader, mut payload: Bytes) -> Self {
        let head = payload.split_to(payload.len().min(header.head_bytes as usize));
        Self { kind: header.kind, deadline_ms: header.deadline_ms, number: header.number, head, body: payload }
    }

    /// Its header, or why it cannot be sent.
    pub(crate) fn header(&self) -> Result<FrameHeader, FrameError> {
        let head_bytes = u32::try_from(self.head.len()).unwrap_or(u32::MAX);
        let body_bytes = u32::try_from(self.body.len()).unwrap_or(u32::MAX);
        if head_bytes > FRAME_HEAD_BYTES_MAX {
            return Err(FrameError::HeadTooLong(head_bytes));
        }
        if body_bytes > FRAME_BODY_BYTES_MAX {
            return Err(FrameError::BodyTooLong(body_bytes));
        }
        Ok(FrameHeader { kind: self.kind, head_bytes, body_bytes, deadline_ms: self.deadline_ms, number: self.number })
    }

    /// May it travel on the shared stream?
    pub(crate) fn is_small(&self) -> bool {
        self.head.len() + self.body.len() <= SMALL_FRAME_BYTES_MAX && self.body.len() <= SMALL_BODY_BYTES_MAX
    }
}

#[cfg(test)]
mod tests;
