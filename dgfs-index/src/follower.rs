//! Follows the change log by long polls, from the seq that was stored last.
//!
//! Never acknowledges an event that is not stored: meta trims the log only
//! behind what the next request names.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tracing::{info, warn};

use dgfs_proto::limits::{CALL_DEADLINE_MS, LOG_PAGE_MAX};
use dgfs_proto::meta::{AdminRequest, MetaCall, MetaReply, MetaRequest};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{Channel, MetaProtocol};
use dgfs_runtime::lifecycle::Shutdown;
use dgfs_runtime::telemetry::fresh_request_id;

use crate::counts::{Counts, CountsFile};

/// The consumer's name at meta.
const CONSUMER: &str = "index";
/// Pause after an error, and between pages, so that events gather.
const PAUSE: Duration = Duration::from_millis(500);

/// Follows until `shutdown`. `meta` are the services of one volume; the active one answers.
pub async fn follow(meta: Vec<Arc<dyn Channel<MetaProtocol>>>, file: CountsFile, shutdown: Shutdown) {
    let mut counts = file.read();
    let mut at = 0;
    info!(seq = counts.seq, "index follows the change log");
    loop {
        let Some(channel) = meta.get(at % meta.len().max(1)) else { return };
        let page = tokio::select! {
            page = read_page(channel.as_ref(), &counts) => page,
            () = shutdown.asked() => return,
        };
        match page {
            Page::Events(events) => {
                for event in &events {
                    counts.add(event);
                }
                if !events.is_empty()
                    && let Err(error) = file.write(&counts)
                {
                    warn!(%error, "index counts could not be stored; trying again");
                    counts = file.read();
                }
            }
            Page::Trimmed(head) => {
                warn!(seq = counts.seq, head, "the log was trimmed behind the index; counting starts anew");
                counts = Counts { seq: head, ..Counts::default() };
            }
            Page::Elsewhere => at += 1,
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = shutdown.asked() => return,
        }
    }
}

enum Page {
    Events(Vec<dgfs_proto::log::Event>),
    /// What was asked for is gone; the log's end.
    Trimmed(u64),
    /// Not the active service, or away: try the next one.
    Elsewhere,
}

async fn read_page(channel: &dyn Channel<MetaProtocol>, counts: &Counts) -> Page {
    let log = |consumer: &str, after, wait| MetaCall {
        request_id: fresh_request_id(),
        session: None,
        request: MetaRequest::Admin(AdminRequest::Log {
            consumer: consumer.to_owned(),
            after,
            limit: LOG_PAGE_MAX,
            wait,
        }),
    };
    let deadline = Some(Duration::from_millis(CALL_DEADLINE_MS));
    match channel.call(log(CONSUMER, counts.seq(), true), Bytes::new(), deadline).await {
        Ok((MetaReply::Log { events, .. }, _)) => Page::Events(events),
        Ok((MetaReply::Refused(Status::Stale), _)) => {
            let status = MetaCall {
                request_id: fresh_request_id(),
                session: None,
                request: MetaRequest::Admin(AdminRequest::Status),
            };
            match channel.call(status, Bytes::new(), deadline).await {
                Ok((MetaReply::Status(status), _)) => Page::Trimmed(status.seq.0),
                Ok(_) | Err(_) => Page::Elsewhere,
            }
        }
        Ok(_) | Err(_) => Page::Elsewhere,
    }
}
