//! Calls that are answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;

use crate::channel::{CallError, Channel, Role};
use crate::quic::channel::QuicChannel;
use crate::quic::server::QuicServer;
use crate::quic::tests::support::{Ask, PATIENCE, Pair, Say, TestHandler, TestProtocol, identity};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_call_is_answered() {
    let pair = Pair::new();
    assert_eq!(pair.ask(Ask::Echo(5), &b"abc"[..]).await, Ok((Say::Echo(5), Bytes::from_static(b"abc"))));
}
