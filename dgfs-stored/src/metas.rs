//! The metadata services: one is active, and is asked first.
//!
//! Never repeats a request to the same one. Always: one that is silent is passed over after [`CALL`], and not asked first again
//! while another answers, so that heartbeats stay in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dgfs_proto::meta::{MetaCall, MetaReply, MetaRequest};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{Channel, MetaProtocol};
use dgfs_runtime::trace::request_id;

/// How long one call may take: less than a server may be silent.
const CALL: Duration = Duration::from_secs(4);

/// Channels to all of them, and which was active last.
pub(crate) struct Metas {
    channels: Vec<Arc<dyn Channel<MetaProtocol>>>,
    active: AtomicUsize,
}

impl Metas {
    pub(crate) fn new(channels: Vec<Arc<dyn Channel<MetaProtocol>>>) -> Self {
        Self { channels, active: AtomicUsize::new(0) }
    }

    /// What the active one answers (also a refusal), and who that is.
    ///
    /// # Errors
    /// None is active: what the last one said.
    pub(crate) async fn ask(&self, request: MetaRequest) -> Result<(MetaReply, &str), String> {
        let mut last = "no metadata server is named in the configuration".to_owned();
        let first = self.active.load(Ordering::Relaxed);
        for at in 0..self.channels.len() {
            let at = (first + at) % self.channels.len();
            let Some(channel) = self.channels.get(at) else { continue };
            let call = MetaCall { request_id: request_id(), session: None, request: request.clone() };
            match channel.call(call, Bytes::new(), Some(CALL)).await {
                Ok((MetaReply::Refused(status @ Status::NotActive), _)) => {
                    last = format!("{} refused: {status}", channel.peer());
                }
                Ok((reply, _)) => {
                    self.active.store(at, Ordering::Relaxed);
                    return Ok((reply, channel.peer()));
                }
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    }
}
