//! The kernel handshake and the threads that take requests.
//!
//! Never mounts or unmounts: it is given the open `/dev/fuse` of a mount.
//! The settings are those measured for this kernel interface; what must not be asked for:
//! WRITEBACK_CACHE (the kernel would own size and mtime), AUTO_INVAL_DATA (throws our pages away), NO_OPEN,
//! HANDLE_KILLPRIV_V2 and SETXATTR_EXT (fuser 0.18.0 does not carry them through).

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use fuser::{Config, InitFlags, KernelConfig, Session, SessionACL};
use tokio::sync::oneshot;

use crate::adapter::notify::KernelForgetter;
use crate::adapter::noting::Noting;
use crate::adapter::{Adapter, AdapterOptions};

/// Bytes of the largest request; what the kernel allows without a sysctl.
const REQUEST_BYTES_MAX: u32 = 1 << 20;
/// Background requests (read-ahead, writes of mapped pages) in flight.
const BACKGROUND_MAX: u16 = 64;
/// From here on the kernel thinks the queue congested.
const CONGESTION: u16 = 48;

/// A mount that answers requests.
pub struct Serving {
    /// Yields when the mount is gone: unmounted by somebody, or its connection failed.
    pub ended: oneshot::Receiver<io::Result<()>>,
}

/// Answers the handshake on `device` and starts the threads.
///
/// # Errors
/// The handshake failed, or a thread could not be started.
pub fn serve(adapter: Adapter, forgetter: &Arc<KernelForgetter>, device: OwnedFd) -> io::Result<Serving> {
    let acl = if adapter.shared.options.all_users { SessionACL::All } else { SessionACL::Owner };
    let mut config = Config::default();
    config.n_threads = Some(std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2)));
    // A clone opens the device again, which an ordinary user in a container may not be allowed to.
    config.clone_fd = OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok();
    config.acl = acl;
    let notices = device.try_clone()?;
    let session = Session::from_fd(Noting(adapter), device, acl, config)?;
    forgetter.attach(session.notifier(), notices)?;
    let forgetter = Arc::clone(forgetter);
    let (send, ended) = oneshot::channel();
    std::thread::Builder::new().name("dgfs-session".to_owned()).spawn(move || {
        let outcome = session.run();
        forgetter.close();
        let _ = send.send(outcome);
    })?;
    Ok(Serving { ended })
}

/// Asks the kernel for what we use.
pub(crate) fn negotiate(config: &mut KernelConfig, options: &AdapterOptions) {
    let mut wanted = vec![
        InitFlags::FUSE_PARALLEL_DIROPS,
        InitFlags::FUSE_DO_READDIRPLUS,
        InitFlags::FUSE_READDIRPLUS_AUTO,
        InitFlags::FUSE_ASYNC_DIO,
        InitFlags::FUSE_ATOMIC_O_TRUNC,
        InitFlags::FUSE_EXPLICIT_INVAL_DATA,
        InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
        InitFlags::FUSE_POSIX_LOCKS,
        InitFlags::FUSE_FLOCK_LOCKS,
        InitFlags::FUSE_DONT_MASK,
        InitFlags::FUSE_POSIX_ACL,
    ];
    if options.cache_symlinks {
        wanted.push(InitFlags::FUSE_CACHE_SYMLINKS);
    }
    for flag in wanted {
        if let Err(missing) = config.add_capabilities(flag) {
            tracing::info!(?missing, "this kernel does not offer a FUSE feature; going on without it");
        }
    }
    // Each setter answers with the nearest value it accepts, which is then taken.
    if let Err(nearest) = config.set_max_write(REQUEST_BYTES_MAX) {
        let _ = config.set_max_write(nearest);
    }
    let _ = config.set_max_background(BACKGROUND_MAX);
    let _ = config.set_congestion_threshold(CONGESTION);
    let _ = config.set_time_granularity(Duration::from_nanos(1));
}
