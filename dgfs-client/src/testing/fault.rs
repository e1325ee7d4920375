//! A channel that loses calls or answers, by chance or on command.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use dgfs_runtime::channel::{CallError, Channel, Protocol};

use crate::testing::rng::Rng;

pub(crate) struct Fault<P: Protocol> {
    inner: Arc<dyn Channel<P>>,
    rng: Mutex<Rng>,
    /// One call in so many is lost; 0 loses none.
    pub(crate) one_in: AtomicU32,
    /// Every call is lost.
    pub(crate) down: AtomicBool,
    /// No call is answered.
    pub(crate) stuck: AtomicBool,
}

impl<P: Protocol> Fault<P> {
    pub(crate) fn new(inner: Arc<dyn Channel<P>>, seed: u64) -> Arc<Self> {
        let rng = Mutex::new(Rng::new(seed));
        Arc::new(Self {
            inner,
            rng,
            one_in: AtomicU32::new(0),
            down: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
        })
    }

    /// 0: goes through; 1: the call is lost; 2: the answer is lost.
    fn fate(&self) -> u32 {
        if self.down.load(Ordering::Acquire) {
            return 1;
        }
        let one_in = self.one_in.load(Ordering::Acquire);
        let mut rng = self.rng.lock();
        if one_in > 0 && rng.below(one_in) == 0 { 1 + rng.below(2) } else { 0 }
    }
}

impl<P: Protocol> Channel<P> for Fault<P> {
    fn call(
        &self,
        call: P::Call,
        body: Bytes,
        deadline: Option<Duration>,
    ) -> BoxFuture<'static, Result<(P::Reply, Bytes), CallError>> {
        let lost = || CallError::Unreachable { peer: "fake".to_owned(), reason: "lost on purpose".to_owned() };
        if self.stuck.load(Ordering::Acquire) {
            return Box::pin(futures_util::future::pending());
        }
        let fate = self.fate();
        if fate == 1 {
            let error = lost();
            return Box::pin(async move { Err(error) });
        }
        let answer = self.inner.call(call, body, deadline);
        let error = lost();
        Box::pin(async move { if fate == 2 { answer.await.and(Err(error)) } else { answer.await } })
    }

    fn peer(&self) -> &str {
        "fake"
    }
}
