//! Runs one request's future: once on the kernel thread, the rest on the runtime.
//!
//! Never interprets a request. Always true: the future owns the reply, so a reply
//! is sent exactly once; a future that panics drops it, which answers EIO.
//! Bounded: at most [`WAITING_MAX`] futures wait at once; then the kernel thread
//! stops taking requests until one ends (they end by their own deadlines).

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use futures_util::FutureExt as _;
use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;

use dgfs_runtime::instruments;
use dgfs_runtime::telemetry::fresh_request_id;
use dgfs_runtime::trace::{Stage, Trace, follow};

use crate::adapter::Shared;
use crate::adapter::noting::asker;
use crate::adapter::respond::Respond;
use crate::errno::Errno;
use crate::metrics::{MountMetrics, Op};

/// Requests that may wait at once. The kernel sends 64 in the background and one for each blocked thread.
const WAITING_MAX: usize = 4096;

/// Runs futures of requests.
pub(crate) struct Dispatcher {
    runtime: Handle,
    gate: Arc<Gate>,
    metrics: Arc<MountMetrics>,
}

/// Does a waiting request count against the bound?
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Yes.
    Counted,
    /// No: it is bounded elsewhere (lock waits) or ends what others wait for.
    Free,
}

impl Dispatcher {
    pub(crate) fn new(runtime: Handle, metrics: Arc<MountMetrics>) -> Self {
        Self { runtime, gate: Arc::new(Gate::default()), metrics }
    }

    /// The runtime futures move to.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Answers `reply` with what `work` yields.
    pub(crate) fn serve<T, R, F>(&self, op: Op, shared: &Arc<Shared>, reply: R, work: F)
    where
        R: Respond<T>,
        F: Future<Output = Result<T, Errno>> + Send + 'static,
        T: Send,
    {
        let shared = Arc::clone(shared);
        self.run(op, Bound::Counted, async move {
            match work.await {
                Ok(value) => {
                    reply.accept(value, &shared);
                    None
                }
                Err(errno) => {
                    reply.refuse(errno);
                    Some(errno)
                }
            }
        });
    }

    /// Runs a future that sends its own reply; it yields the refusal, for the metrics.
    pub(crate) fn run<F>(&self, op: Op, bound: Bound, work: F)
    where
        F: Future<Output = Option<Errno>> + Send + 'static,
    {
        let (trace, asker) = (Trace::begin(fresh_request_id()), asker());
        let (metrics, watched) = (Arc::clone(&self.metrics), Arc::clone(&trace));
        let mut future: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(follow(Arc::clone(&trace), async move {
            let refused = work.await;
            match refused {
                Some(errno) if errno.is_fault() => tracing::warn!(op = op.label(), %errno, "request failed"),
                Some(errno) => tracing::debug!(op = op.label(), %errno, ino = asker.ino, "request refused"),
                None => {}
            }
            metrics.ended(op, (&*watched, asker), refused);
        }));
        let entered = self.runtime.enter();
        let mut context = Context::from_waker(Waker::noop());
        let first = std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
        drop(entered);
        match first {
            Ok(Poll::Ready(())) => {}
            Ok(Poll::Pending) => self.spawn((op, bound), trace, future),
            Err(_) => panicked(&self.metrics, op),
        }
    }

    fn spawn(&self, (op, bound): (Op, Bound), trace: Arc<Trace>, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let metrics = Arc::clone(&self.metrics);
        metrics.waiting.inc();
        // A lock may be waited for as long as it takes: that says nothing of the mount.
        let waiting = (op != Op::WaitLock && instruments::are_on()).then(|| metrics.oldest.enter());
        let permit = (bound == Bound::Counted).then(|| Gate::enter(&self.gate, &trace));
        self.runtime.spawn(async move {
            let _waiting = waiting;
            if AssertUnwindSafe(future).catch_unwind().await.is_err() {
                panicked(&metrics, op);
            }
            metrics.waiting.dec();
            drop(permit);
        });
    }
}

fn panicked(metrics: &MountMetrics, op: Op) {
    metrics.panics.inc();
    tracing::error!(op = op.label(), "a request panicked and was answered with EIO; please report this");
}

/// Counts waiting futures; full, it holds the caller.
#[derive(Default)]
struct Gate {
    inside: Mutex<usize>,
    left: Condvar,
}

struct Permit(Arc<Gate>);

impl Gate {
    fn enter(gate: &Arc<Self>, trace: &Trace) -> Permit {
        let mut inside = gate.inside.lock();
        if *inside >= WAITING_MAX {
            let began = Instant::now();
            while *inside >= WAITING_MAX {
                gate.left.wait(&mut inside);
            }
            trace.add(Stage::Queue, began.elapsed());
        }
        *inside += 1;
        Permit(Arc::clone(gate))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.0.inside.lock() -= 1;
        self.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use dgfs_runtime::metrics::MetricSet;

    use super::{Bound, Dispatcher};
    use crate::metrics::{MountMetrics, Op};

    fn dispatcher(runtime: &tokio::runtime::Runtime) -> Dispatcher {
        Dispatcher::new(runtime.handle().clone(), MountMetrics::new(&MetricSet::new()))
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    #[test]
    fn a_ready_answer_is_given_on_the_calling_thread() {
        let runtime = runtime();
        let (send, receive) = mpsc::channel();
        dispatcher(&runtime).run(Op::GetAttr, Bound::Counted, async move {
            send.send(std::thread::current().id()).unwrap();
            None
        });
        assert_eq!(receive.try_recv().unwrap(), std::thread::current().id());
    }

    #[test]
    fn a_waiting_answer_moves_to_the_runtime_and_is_given_once() {
        let runtime = runtime();
        let (send, receive) = mpsc::channel();
        let (open, gate) = tokio::sync::oneshot::channel::<()>();
        let dispatcher = dispatcher(&runtime);
        dispatcher.run(Op::Read, Bound::Counted, async move {
            gate.await.unwrap();
            send.send(std::thread::current().id()).unwrap();
            None
        });
        assert!(receive.try_recv().is_err());
        open.send(()).unwrap();
        assert_ne!(receive.recv().unwrap(), std::thread::current().id());
        assert!(receive.recv().is_err(), "the future is gone after its one answer");
    }

    #[test]
    fn a_panic_drops_the_reply_and_is_counted() {
        let runtime = runtime();
        let dispatcher = dispatcher(&runtime);
        let (reply, dropped) = mpsc::channel::<()>();
        dispatcher.run(Op::Write, Bound::Counted, async move {
            let _reply = reply;
            panic!("on purpose");
        });
        assert!(dropped.recv().is_err());
        assert_eq!(dispatcher.metrics.panics.get(), 1);

        let (reply, dropped) = mpsc::channel::<()>();
        dispatcher.run(Op::Write, Bound::Counted, async move {
            let _reply = reply;
            tokio::task::yield_now().await;
            panic!("on purpose, later");
        });
        assert!(dropped.recv().is_err());
    }
}
