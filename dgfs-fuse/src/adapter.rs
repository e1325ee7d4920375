//! Translates between the kernel and [`Vfs`]: one method for each request.
//!
//! Holds no file-system meaning. `fuser` is named only here and below, so that another transport can take its place.
//! Always true: each request is answered exactly once, no kernel thread waits for a peer, and a panic
//! in one request is EIO for that request alone.
//!
//! Reading order: [`session`] (the handshake and the threads) → `filesystem` and `requests` (requests) → `tags` (the virtual ones) → `dispatch`
//! (who polls a future) → `respond` and `translate` (words).

mod atime;
mod directory;
mod dispatch;
mod files;
mod filesystem;
pub mod notify;
mod noting;
mod requests;
mod respond;
pub mod session;
mod tags;
mod translate;
mod writes;

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use tokio::runtime::Handle as Runtime;
use tokio::sync::OwnedRwLockReadGuard;

use dgfs_client::vfs::{CacheTtl, Handle, OpenFlags, Vfs};
use dgfs_proto::attr::{Attr, Timestamp};
use dgfs_proto::ids::Ino;
use dgfs_proto::meta::{SetAttr, SetTime};
use dgfs_proto::status::Status;

use crate::adapter::atime::AtimeGates;
use crate::adapter::dispatch::{Bound, Dispatcher};
use crate::adapter::files::{Executing, LockedInodes, OpenDirectory, OpenFile, Table};
use crate::adapter::notify::KernelForgetter;
use crate::errno::Errno;
use crate::locks::family::Families;
use crate::locks::watch::LockWatch;
use crate::metrics::{MountMetrics, Op};

/// relatime renews an access time that is older than this even if nothing changed.
const ATIME_AGE: i64 = 24 * 3600;

/// Who moves access times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtimePolicy {
    /// The first read of an open moves it when it is not newer than the last change, or a day old.
    #[default]
    Relative,
    /// Nobody (`noatime`, read-only mounts).
    Never,
}

/// Answers questions about a mount that no file-system call asks, as extended attributes named `dgfs.*`. They are never listed.
pub trait Inspect: Send + Sync + 'static {
    /// The value of `name` (such as `dgfs.info`) on `ino` for a user, JSON unless said otherwise; `NoXattr` for a name that is none, `AccessDenied`
    /// where this user may not know.
    fn inspect(&self, uid: u32, ino: Ino, name: &[u8]) -> BoxFuture<'static, Result<Vec<u8>, Status>>;
}

/// How a mount behaves towards the kernel.
#[derive(Clone, Default)]
pub struct AdapterOptions {
    /// Access times.
    pub atime: AtimePolicy,
    /// The kernel may keep symlink targets: only where nobody else can replace a link.
    pub cache_symlinks: bool,
    /// Requests of all users are answered (`allow_other`), not only of the one who mounted.
    pub all_users: bool,
    /// Who answers `dgfs.*` attributes.
    pub inspector: Option<Arc<dyn Inspect>>,
}

/// The kernel's view of one [`Vfs`].
pub struct Adapter {
    shared: Arc<Shared>,
    dispatch: Dispatcher,
    watch: LockWatch,
}

/// What replies and futures need.
pub(crate) struct Shared {
    pub(crate) vfs: Arc<Vfs>,
    pub(crate) barrier: Arc<RwLock<()>>,
    pub(crate) files: Table<OpenFile>,
    pub(crate) directories: Table<OpenDirectory>,
    pub(crate) locked: LockedInodes,
    pub(crate) renewals: AtimeGates,
    pub(crate) executing: Executing,
    pub(crate) families: Families,
    pub(crate) options: AdapterOptions,
    pub(crate) metrics: Arc<MountMetrics>,
    pub(crate) forgetter: Arc<KernelForgetter>,
    /// Of the kernel's pages.
    pub(crate) page_bytes: u64,
}

impl Adapter {
    /// An adapter for `vfs`, whose waiting requests move to `runtime`.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn new(
        vfs: Arc<Vfs>,
        runtime: Runtime,
        forgetter: &Arc<KernelForgetter>,
        options: AdapterOptions,
        metrics: Arc<MountMetrics>,
    ) -> io::Result<Self> {
        let (cancelling, spawner) = (Arc::clone(&vfs), runtime.clone());
        let watch = LockWatch::start(Box::new(move |ticket| {
            let vfs = Arc::clone(&cancelling);
            spawner.spawn(async move { vfs.cancel_lock(ticket).await });
        }))?;
        let shared = Shared {
            vfs,
            barrier: forgetter.barrier(),
            files: Table::default(),
            directories: Table::default(),
            locked: LockedInodes::default(),
            renewals: AtimeGates::default(),
            executing: Executing::default(),
            families: Families::default(),
            options,
            metrics: Arc::clone(&metrics),
            forgetter: Arc::clone(forgetter),
            page_bytes: writes::page_bytes(),
        };
        Ok(Self { shared: Arc::new(shared), dispatch: Dispatcher::new(runtime, metrics), watch })
    }

    /// Moves the access time after a read, if relatime asks for it. The reply of the read was sent already; the renewal began before.
    fn touch(&self, ino: Ino, renewal: OwnedRwLockReadGuard<()>) {
        let vfs = Arc::clone(&self.shared.vfs);
        self.dispatch.run(Op::Atime, Bound::Counted, async move {
            // A failure is no news: the read itself succeeded, and the next open tries again.
            if let Ok(seen) = vfs.getattr(ino).await
                && atime_due(&seen.attr, now())
            {
                let set = SetAttr { atime: Some(SetTime::Relatime), ..SetAttr::default() };
                let _ = vfs.setattr(ino, set).await;
            }
            drop(renewal);
            None
        });
    }
}

impl Shared {
    /// A reply names an inode, with this time to believe its attributes. Where nobody else is mounted nothing is recalled.
    pub(crate) fn note_named(&self, attr: &Attr, ttl: CacheTtl) {
        if !ttl.attr.is_zero() && self.vfs.is_shared() {
            self.forgetter.named(attr.ino);
        }
    }

    /// Do reads through a handle opened with these flags move atime?
    fn wants_atime(&self, raw_flags: i32) -> bool {
        self.options.atime == AtimePolicy::Relative && raw_flags & libc::O_NOATIME == 0
    }

    /// Moves the access time of a file the kernel holds pages of: it may read those without asking. It does not know then
    /// that the time moved, so it is told.
    fn renew_atime(self: &Arc<Self>, ino: Ino) {
        let Some(renewal) = self.renewals.renew(ino) else { return };
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let set = SetAttr { atime: Some(SetTime::Relatime), ..SetAttr::default() };
            // A failure is no news: the next open tries again.
            if shared.vfs.setattr(ino, set).await.is_ok() {
                shared.forgetter.refresh_attributes(ino);
            }
            drop(renewal);
        });
    }

    /// The handle of an open file whose O_APPEND is `append`.
    async fn handle_for(&self, file: &OpenFile, append: bool) -> Result<Handle, Errno> {
        if file.append == append {
            return Ok(file.handle);
        }
        let flags = OpenFlags { write: true, append, ..OpenFlags::default() };
        let open = || async { self.vfs.open(file.ino, flags).await.map(|opened| opened.handle) };
        Ok(*file.twin.get_or_try_init(open).await?)
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp { secs: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() }
}

/// relatime's rule, as Linux has it.
fn atime_due(attr: &Attr, now: Timestamp) -> bool {
    attr.atime <= attr.mtime || attr.atime <= attr.ctime || now.secs.saturating_sub(attr.atime.secs) >= ATIME_AGE
}
