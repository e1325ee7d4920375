//! One connection to the Redis server that comes back by itself.
//!
//! Never repeats a call: whoever calls decides. Always true: a call ends within its
//! deadline, and after an error of the connection the next call gets a new one.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};
use tokio::sync::Mutex;

use super::inspect::Inspector;
use crate::engine::EngineError;

/// No call takes longer, connecting included.
pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(5);
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// Calls queued inside the connection; more wait.
const QUEUE_CALLS_MAX: usize = 1024;

/// A connection and the recipe for the next one. Shared by all callers: Redis answers in order.
pub(super) struct Link {
    client: Client,
    inspector: Arc<Inspector>,
    current: Mutex<Slot>,
}

struct Slot {
    generation: u64,
    connection: Option<MultiplexedConnection>,
}

impl Link {
    pub(super) fn new(client: Client, inspector: Arc<Inspector>) -> Self {
        Self { client, inspector, current: Mutex::new(Slot { generation: 0, connection: None }) }
    }

    /// Sends the commands as one packet and answers what each of them said, or the first error.
    pub(super) async fn call(&self, commands: &Pipeline) -> Result<Vec<Value>, LinkError> {
        let mut used = None;
        let outcome = tokio::time::timeout(CALL_DEADLINE, async {
            let (generation, mut connection) = self.connection().await?;
            used = Some(generation);
            commands.query_async(&mut connection).await.map_err(LinkError::Redis)
        })
        .await;
        let error = match outcome {
            Ok(Ok(answers)) => return Ok(answers),
            Ok(Err(error)) => error,
            Err(_) => LinkError::Deadline,
        };
        if let Some(generation) = used
            && error.ends_connection()
        {
            self.forget(generation).await;
        }
        Err(error)
    }

    /// Makes sure that the server is there, safe and has our functions.
    pub(super) async fn inspect_again(&self) -> Result<(), LinkError> {
        let work = async {
            self.current.lock().await.connection = None;
            self.connection().await
        };
        match tokio::time::timeout(CALL_DEADLINE, work).await {
            Ok(outcome) => outcome.map(|_| ()),
            Err(_) => Err(LinkError::Deadline),
        }
    }

    /// The connection there is, or a new and inspected one; callers wait for one attempt.
    async fn connection(&self) -> Result<(u64, MultiplexedConnection), LinkError> {
        let mut slot = self.current.lock().await;
        if let Some(connection) = &slot.connection {
            return Ok((slot.generation, connection.clone()));
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_DEADLINE))
            .set_response_timeout(Some(CALL_DEADLINE))
            .set_pipeline_buffer_size(QUEUE_CALLS_MAX);
        let mut connection =
            self.client.get_multiplexed_async_connection_with_config(&config).await.map_err(LinkError::Redis)?;
        self.inspector.inspect(&mut connection).await?;
        slot.generation += 1;
        slot.connection = Some(connection.clone());
        Ok((slot.generation, connection))
    }

    async fn forget(&self, generation: u64) {
        let mut slot = self.current.lock().await;
        if slot.generation == generation {
            slot.connection = None;
        }
    }
}

/// Why a call gave no answer.
#[derive(Debug)]
pub(super) enum LinkError {
    Redis(RedisError),
    Deadline,
    /// The server answers, but is not safe to use.
    Unsafe(EngineError),
}

impl LinkError {
    /// Redis forgot our functions (or never had them).
    pub(super) fn wants_library(&self) -> bool {
        matches!(self, Self::Redis(error) if error.to_string().contains("Function not found"))
    }

    fn ends_connection(&self) -> bool {
        match self {
            Self::Deadline => true,
            Self::Unsafe(_) => false,
            // A server that became a replica may have a new address behind the same name.
            Self::Redis(error) => {
                error.is_unrecoverable_error()
                    || error.is_timeout()
                    || error.is_io_error()
                    || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
            }
        }
    }

    /// The sentence for the caller; `server` names the address without its password.
    pub(super) fn explain(&self, server: &str) -> EngineError {
        let error = match self {
            Self::Redis(error) => error,
            Self::Unsafe(error) => return error.clone(),
            Self::Deadline => {
                return EngineError::Unavailable(format!(
                    "Redis at {server} did not answer within {} seconds",
                    CALL_DEADLINE.as_secs()
                ));
            }
        };
        let text = error.to_string();
        let code = error.code().unwrap_or_default();
        if is_password_error(error, code, &text) {
            return EngineError::Refused(format!(
                "Redis at {server} does not take the password ({text}): put the right one into the address, redis://user:password@host:port"
            ));
        }
        match (error.kind(), code) {
            (ErrorKind::Server(ServerErrorKind::NoPerm), _) | (_, "NOPERM") => EngineError::Refused(format!(
                "Redis at {server} forbids this user what DGFS needs ({text}): \
                 allow it with ACL SETUSER <user> ~dgfs:* +@all -@dangerous +info +config|get"
            )),
            (ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::CrossSlot), _) => {
                EngineError::Refused(format!(
                    "Redis at {server} is part of a Redis Cluster ({text}): give a server outside of a cluster"
                ))
            }
            (_, "OOM") => EngineError::NoSpace,
            (_, "MISCONF") if text.contains("space") => EngineError::NoSpace,
            (_, "WRONGTYPE") => EngineError::Damaged(format!(
                "a key of the volume in Redis at {server} is not a sorted set: something else writes to dgfs: keys ({text})"
            )),
            (ErrorKind::InvalidClientConfig, _) => {
                EngineError::Refused(format!("the Redis address is not usable: {text}"))
            }
            _ if text.contains("WRONGTYPE") => EngineError::Damaged(format!(
                "a key of the volume in Redis at {server} is of a foreign type: something else writes to dgfs: keys ({text})"
            )),
            _ if text.contains("OOM command not allowed") => EngineError::NoSpace,
            _ if text.contains("DB index is out of range") => EngineError::Refused(format!(
                "Redis at {server} has no database of the number in the address ({text}): \
                 take a smaller one, redis://host:port/0, or raise `databases` in redis.conf"
            )),
            (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => EngineError::Unavailable(format!(
                "Redis at {server} has become a read-only replica: dgfs waits for a primary at this address"
            )),
            _ => EngineError::Unavailable(format!("Redis at {server}: {text}")),
        }
    }
}

fn is_password_error(error: &RedisError, code: &str, text: &str) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || matches!(code, "NOAUTH" | "WRONGPASS")
        || text.contains("NOAUTH")
        || text.contains("WRONGPASS")
}
