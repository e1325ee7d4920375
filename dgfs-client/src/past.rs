//! Ends the session of a mount whose process is gone, so that nobody has to wait until it runs out.
//!
//! Never judges whether that process is gone: the caller has to know. Always: only who has the session's key can end it
//! here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use dgfs_proto::ids::SessionId;
use dgfs_proto::meta::{ClientInfo, MetaCall, MetaReply, MetaRequest, SessionRequest};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{Channel, MetaProtocol};

use crate::operation::{Backoff, Op};

/// One try of one call: a server that does not answer must not use up the time for the others.
const TRY: Duration = Duration::from_millis(1500);

/// A session and the proof that it is one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionToken {
    /// Its number.
    pub session: SessionId,
    /// Its secret.
    pub key: u64,
}

/// Ends a session that nobody uses any more, within `patience`. One that has ended already is no error.
///
/// # Errors
/// `Unavailable` when no active metadata server answered in time, or what the server refused it with.
pub async fn end_session(
    metas: &[Arc<dyn Channel<MetaProtocol>>],
    client: ClientInfo,
    token: SessionToken,
    patience: Duration,
) -> Result<(), Status> {
    let op = Op::within(patience, false);
    let mut backoff = Backoff::new();
    loop {
        for channel in metas {
            match end_at(channel.as_ref(), &op, &client, token).await {
                Ok(()) | Err(Status::Stale) => return Ok(()),
                Err(Status::NotActive | Status::Busy | Status::Unavailable) => {}
                Err(status) => return Err(status),
            }
        }
        backoff.pause(&op).await?;
    }
}

/// Takes the session up, which proves that it is ours, and closes it.
async fn end_at(
    channel: &dyn Channel<MetaProtocol>,
    op: &Op,
    client: &ClientInfo,
    token: SessionToken,
) -> Result<(), Status> {
    let SessionToken { session, key } = token;
    let resume = SessionRequest::Open { client: client.clone(), key, resume: Some(session), opens: Vec::new() };
    for request in [resume, SessionRequest::Close] {
        let call = MetaCall { request_id: 0, session: Some(session), request: MetaRequest::Session(request) };
        match channel.call(call, Bytes::new(), Some(op.left(TRY))).await {
            Ok((MetaReply::Session { .. } | MetaReply::Done, _)) => {}
            Ok((MetaReply::Refused(status), _)) => return Err(status),
            Ok(_) => return Err(Status::Malformed),
            Err(_) => return Err(Status::Unavailable),
        }
    }
    Ok(())
}
