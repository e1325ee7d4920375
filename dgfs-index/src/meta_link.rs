//! Calls of the metadata services of one volume.
//!
//! Never repeats a call: it remembers which service answered last, and the next call goes to another one when that did not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use dgfs_proto::graph::{Catalogue, GraphNode};
use dgfs_proto::ids::{Ino, Seq, TagId};
use dgfs_proto::limits::{CALL_DEADLINE_MS, LIST_MAX, LOG_PAGE_MAX};
use dgfs_proto::log::Event;
use dgfs_proto::meta::{AdminRequest, MetaCall, MetaReply, MetaRequest, VolumeInfo};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{Channel, MetaProtocol};
use dgfs_runtime::trace::request_id;

/// Behind the end of every log.
const BEHIND_ALL: Seq = Seq(u64::MAX - 1);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// What was asked for is gone from the log.
    Trimmed,
    /// No service answered, or none is active.
    Away,
}

/// A page of the log.
pub(crate) struct LogPage {
    pub(crate) events: Vec<Event>,
    pub(crate) head: Seq,
}

/// See the module.
pub struct MetaLink {
    channels: Vec<Arc<dyn Channel<MetaProtocol>>>,
    at: AtomicUsize,
    consumer: String,
}

impl MetaLink {
    /// Reaches the services of one volume, whose log is followed under the name `consumer`.
    #[must_use]
    pub fn new(channels: Vec<Arc<dyn Channel<MetaProtocol>>>, consumer: &str) -> Arc<Self> {
        Arc::new(Self { channels, at: AtomicUsize::new(0), consumer: consumer.to_owned() })
    }

    async fn ask(&self, request: AdminRequest) -> Result<MetaReply, Silence> {
        self.ask_for(MetaRequest::Admin(request)).await
    }

    async fn ask_for(&self, request: MetaRequest) -> Result<MetaReply, Silence> {
        let at = self.at.load(Ordering::Acquire);
        let channel = self.channels.get(at % self.channels.len().max(1)).ok_or(Silence::Away)?;
        let call = MetaCall { request_id: request_id(), session: None, request };
        let deadline = Some(Duration::from_millis(CALL_DEADLINE_MS));
        match channel.call(call, Bytes::new(), deadline).await {
            Ok((MetaReply::Refused(Status::Stale), _)) => Err(Silence::Trimmed),
            Ok((MetaReply::Refused(_), _)) | Err(_) => {
                // Somebody else may have gone on to the next one already.
                let _ = self.at.compare_exchange(at, at.wrapping_add(1), Ordering::AcqRel, Ordering::Acquire);
                Err(Silence::Away)
            }
            Ok((reply, _)) => Ok(reply),
        }
    }

    async fn log(&self, consumer: &str, after: Seq, wait: bool) -> Result<LogPage, Silence> {
        let request = AdminRequest::Log { consumer: consumer.to_owned(), after, limit: LOG_PAGE_MAX, wait };
        match self.ask(request).await? {
            MetaReply::Log { events, head } => Ok(LogPage { events, head }),
            _ => Err(Silence::Away),
        }
    }

    /// Events behind `after`, which the log keeps from now on.
    pub(crate) async fn log_kept(&self, after: Seq) -> Result<LogPage, Silence> {
        self.log(&self.consumer, after, false).await
    }

    /// Events behind `after`, as soon as there are some; none after a few seconds.
    pub(crate) async fn log_next(&self, after: Seq) -> Result<LogPage, Silence> {
        self.log("", after, true).await
    }

    /// The seq of the last event.
    pub(crate) async fn head(&self) -> Result<Seq, Silence> {
        Ok(self.log("", BEHIND_ALL, false).await?.head)
    }

    /// Which volume it is.
    pub(crate) async fn volume(&self) -> Result<VolumeInfo, Silence> {
        match self.ask_for(MetaRequest::Volume).await? {
            MetaReply::Volume(volume) => Ok(volume),
            _ => Err(Silence::Away),
        }
    }

    /// Inodes behind `after`, with all that the graph keeps of them.
    pub(crate) async fn nodes(&self, after: Option<Ino>, limit: usize) -> Result<Vec<GraphNode>, Silence> {
        let limit = u32::try_from(limit.clamp(1, LIST_MAX)).unwrap_or(1);
        match self.ask(AdminRequest::Graph { after, limit }).await? {
            MetaReply::Graph(nodes) => Ok(nodes),
            _ => Err(Silence::Away),
        }
    }

    /// Tags behind `after`.
    pub(crate) async fn catalogue(&self, after: Option<TagId>) -> Result<Catalogue, Silence> {
        match self.ask(AdminRequest::Catalogue { after, limit: LIST_MAX as u32 }).await? {
            MetaReply::Catalogue(catalogue) => Ok(catalogue),
            _ => Err(Silence::Away),
        }
    }
}
