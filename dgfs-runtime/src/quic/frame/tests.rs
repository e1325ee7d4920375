//! Promises of the header.

use bytes::{Bytes, BytesMut};

use super::{Frame, FrameError, FrameHeader, FrameKind, HEADER_BYTES};

fn bytes_of(header: &FrameHeader) -> [u8; HEADER_BYTES] {
    let mut bytes = BytesMut::new();
    header.encode(&mut bytes);
    bytes.as_ref().try_into().unwrap()
}

/// The bytes drawn in `docs/FORMATS.md`.
#[test]
fn a_header_has_the_documented_bytes() {
    let header = FrameHeader {
        kind: FrameKind::BulkCall,
        head_bytes: 0x0003_0201,
        body_bytes: 0x0006_0504,
        deadline_ms: 0x0c0b_0a09,
        number: 0x1817_1615_1413_1211,
    };
    let bytes =
        [b'D', b'G', 2, 0, 1, 2, 3, 0, 4, 5, 6, 0, 9, 10, 11, 12, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18];
    assert_eq!(bytes_of(&header), bytes);
    assert_eq!(FrameHeader::decode(&bytes), Ok(header));
}

#[test]
fn every_kind_survives_the_round_trip() {
    use FrameKind::{BulkCall, Call, Failed, Refused, Reply};
    for kind in [Call, BulkCall, Reply, Failed, Refused] {
        let header = FrameHeader { kind, head_bytes: 1, body_bytes: 2, deadline_ms: 3, number: 4 };
        assert_eq!(FrameHeader::decode(&bytes_of(&header)), Ok(header));
    }
}

#[test]
fn lengths_beyond_the_bounds_are_refused_before_anything_is_allocated() {
    let header =
        FrameHeader { kind: FrameKind::Call, head_bytes: (1 << 20) + 1, body_bytes: 0, deadline_ms: 0, number: 0 };
    assert_eq!(FrameHeader::decode(&bytes_of(&header)), Err(FrameError::HeadTooLong((1 << 20) + 1)));
    let header = FrameHeader { head_bytes: 0, body_bytes: (16 << 20) + 1, ..header };
    assert_eq!(FrameHeader::decode(&bytes_of(&header)), Err(FrameError::BodyTooLong((16 << 20) + 1)));
}

#[test]
fn a_payload_is_cut_into_head_and_body() {
    let header = FrameHeader { kind: FrameKind::Reply, head_bytes: 3, body_bytes: 2, deadline_ms: 0, number: 9 };
    let frame = Frame::from_payload(&header, Bytes::from_static(b"abcde"));
    assert_eq!((frame.head.as_ref(), frame.body.as_ref(), frame.number), (&b"abc"[..], &b"de"[..], 9));
}
