//! Messages to bytes and back: postcard, bounded.
//!
//! A frame on the wire is a head (one encoded message) and a body (raw bytes,
//! for chunk data); `dgfs-runtime` puts lengths and call numbers around them.

use alloc::vec::Vec;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::limits::FRAME_HEAD_BYTES_MAX;

/// A message that could not be encoded or decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CodecError {
    /// Longer than [`FRAME_HEAD_BYTES_MAX`].
    #[error("message of more than {FRAME_HEAD_BYTES_MAX} bytes")]
    TooLong,
    /// Not a message of this type.
    #[error("bytes are not a message of this type")]
    Malformed,
}

/// Encodes one message.
///
/// # Errors
/// `TooLong` when the bytes pass the frame bound.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = postcard::to_allocvec(message).map_err(|_| CodecError::Malformed)?;
    if bytes.len() > FRAME_HEAD_BYTES_MAX as usize { Err(CodecError::TooLong) } else { Ok(bytes) }
}

/// Decodes one message; bytes left over are an error.
///
/// # Errors
/// `TooLong` past the frame bound, `Malformed` for everything else.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > FRAME_HEAD_BYTES_MAX as usize {
        return Err(CodecError::TooLong);
    }
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok(_) | Err(_) => Err(CodecError::Malformed),
    }
}
