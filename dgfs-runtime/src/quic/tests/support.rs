//! A small protocol, its handler, and a cluster of two to try it with.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::channel::{CallError, Channel, Handler, Peer, Protocol, Role};
use crate::pki::{ClusterAuthority, Identity};
use crate::quic::channel::QuicChannel;
use crate::quic::server::QuicServer;

/// A call hangs at most so long before a test fails.
pub(crate) const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Answers the same number and body.
    Echo(u64),
    /// Answers a body of so many bytes.
    Fill(u32),
    /// Answers a head of so many bytes.
    LongHead(u32),
    /// Answers when the test opens the gate.
    Park,
    /// Panics.
    Panic,
    /// Who is asking?
    WhoAmI,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Say {
    Echo(u64),
    Filled,
    LongHead(Vec<u8>),
    Unparked,
    You { role: String, address: String },
}

pub(crate) struct TestProtocol;

impl Protocol for TestProtocol {
    type Call = Ask;
    type Reply = Say;
    const NAME: &'static str = "dgfs-test/1";
}

pub(crate) struct NewerProtocol;

impl Protocol for NewerProtocol {
    type Call = Ask;
    type Reply = Say;
    const NAME: &'static str = "dgfs-test/2";
}

pub(crate) struct TestHandler {
    pub(crate) gate: Semaphore,
    pub(crate) parked: AtomicUsize,
    pub(crate) finished: AtomicUsize,
}

impl TestHandler {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { gate: Semaphore::new(0), parked: AtomicUsize::new(0), finished: AtomicUsize::new(0) })
    }

    async fn answer(&self, peer: &Peer, ask: Ask, body: Bytes) -> (Say, Bytes) {
        match ask {
            Ask::Echo(number) => (Say::Echo(number), body),
            Ask::Fill(bytes) => (Say::Filled, Bytes::from(vec![7; bytes as usize])),
            Ask::LongHead(bytes) => (Say::LongHead(vec![9; bytes as usize]), Bytes::new()),
            Ask::Park => {
                self.parked.fetch_add(1, Ordering::SeqCst);
                self.gate.acquire().await.unwrap().forget();
                (Say::Unparked, Bytes::new())
            }
            Ask::Panic => panic!("asked to"),
            Ask::WhoAmI => {
                let (role, address) = (peer.role.name().to_owned(), peer.address.clone());
                (Say::You { role, address }, Bytes::new())
            }
        }
    }
}

impl<P: Protocol<Call = Ask, Reply = Say>> Handler<P> for TestHandler {
    fn handle(self: Arc<Self>, peer: Arc<Peer>, call: Ask, body: Bytes) -> BoxFuture<'static, (Say, Bytes)> {
        Box::pin(async move {
            let answer = self.answer(&peer, call, body).await;
            self.finished.fetch_add(1, Ordering::SeqCst);
            answer
        })
    }
}

/// A directory that is removed at the end of the test.
pub(crate) struct TestDirectory(pub(crate) PathBuf);

impl TestDirectory {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dgfs-runtime-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn authority() -> ClusterAuthority {
    let directory = TestDirectory::new();
    ClusterAuthority::create(&directory.0).unwrap()
}

pub(crate) fn identity(authority: &ClusterAuthority, role: Role) -> Identity {
    authority.issue(role, &format!("{}-1", role.name()), &[], 1).unwrap()
}

pub(crate) fn anywhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// A server with the test handler and a channel to it.
pub(crate) struct Pair {
    pub(crate) authority: ClusterAuthority,
    pub(crate) server: QuicServer,
    pub(crate) address: SocketAddr,
    pub(crate) handler: Arc<TestHandler>,
    pub(crate) channel: Arc<QuicChannel<TestProtocol>>,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self::with(authority())
    }

    pub(crate) fn with(authority: ClusterAuthority) -> Self {
        let handler = TestHandler::new();
        let server = QuicServer::bind(anywhere(), &identity(&authority, Role::Stored)).unwrap();
        server.serve::<TestProtocol>(handler.clone(), &[Role::Client, Role::Index]).unwrap();
        let address = server.local_address().unwrap();
        let client = identity(&authority, Role::Client);
        let channel = Arc::new(QuicChannel::new(address.to_string(), &client, Role::Stored).unwrap());
        Self { authority, server, address, handler, channel }
    }

    pub(crate) async fn ask(&self, ask: Ask, body: impl Into<Bytes>) -> Result<(Say, Bytes), CallError> {
        self.channel.call(ask, body.into(), PATIENCE).await
    }

    /// Waits until so many calls are parked in the handler.
    pub(crate) async fn parked(&self, count: usize) {
        while self.handler.parked.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    }
}
