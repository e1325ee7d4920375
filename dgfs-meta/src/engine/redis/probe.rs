//! How a Redis server is, asked on a connection of its own.
//!
//! Never in the way of a call, and never refuses: a server that is not safe is described, too. Always: an answer or an error
//! within [`DEADLINE`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client};
use tokio::sync::Mutex;

use super::checks::{RedisDurability, ServerFacts};
use super::inspect::{Inspector, read_facts};
use super::link::LinkError;
use crate::engine::EngineHealth;

/// Less than the pause between two looks.
const DEADLINE: Duration = Duration::from_secs(2);

/// The connection, and what the server is judged by.
pub(super) struct Probe {
    client: Client,
    durability: RedisDurability,
    inspector: Arc<Inspector>,
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl Probe {
    pub(super) fn new(client: Client, (durability, inspector): (RedisDurability, Arc<Inspector>)) -> Self {
        Self { client, durability, inspector, connection: Mutex::new(None) }
    }

    pub(super) async fn ask(&self) -> Result<EngineHealth, LinkError> {
        let mut slot = self.connection.lock().await;
        let asked = async {
            let mut connection = match slot.take() {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let answer = read_facts(&mut connection).await?;
            *slot = Some(connection);
            Ok(answer)
        };
        match tokio::time::timeout(DEADLINE, asked).await {
            Ok(Ok((facts, info))) => Ok(health(&info, &facts, (self.durability, self.inspector.cli()))),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(LinkError::Deadline),
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, LinkError> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(DEADLINE)).set_response_timeout(Some(DEADLINE));
        self.client.get_multiplexed_async_connection_with_config(&config).await.map_err(LinkError::Redis)
    }
}

/// Reads the text of `INFO`; `facts` are what is known by CONFIG, too.
fn health(info: &str, facts: &ServerFacts, (durability, cli): (RedisDurability, &str)) -> EngineHealth {
    let fields: HashMap<&str, &str> = info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
    let number = |name: &str| fields.get(name).and_then(|text| text.parse::<u64>().ok());
    let well = |name: &str| fields.get(name).map(|text| *text == "ok");
    let end = number("master_repl_offset").unwrap_or(0);
    let replicas = number("connected_slaves").unwrap_or(0);
    let lag = |(name, words): (&&str, &&str)| {
        let is_replica = name.strip_prefix("slave").is_some_and(|number| number.parse::<u32>().is_ok());
        let offset = words.split(',').find_map(|word| word.strip_prefix("offset="))?.parse::<u64>().ok()?;
        is_replica.then(|| end.saturating_sub(offset))
    };
    EngineHealth {
        used_bytes: number("used_memory"),
        max_bytes: number("maxmemory"),
        log_enabled: facts.keeps_log(),
        log_written: well("aof_last_write_status"),
        snapshot_saved: well("rdb_last_bgsave_status"),
        is_primary: !facts.is_replica(),
        replicas,
        replica_lag_bytes: fields.iter().filter_map(lag).max().unwrap_or(0),
        evicted_keys: number("evicted_keys").unwrap_or(0),
        not_durable: facts.judge(durability, cli).err().map(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::{RedisDurability, ServerFacts, health};

    fn of(info: &str, durability: RedisDurability) -> super::EngineHealth {
        health(info, &ServerFacts::from_info(info), (durability, "redis-cli"))
    }

    const GOOD: &str = "redis_version:7.0.15\r\nrole:master\r\naof_enabled:1\r\nmaxmemory_policy:noeviction\r\n\
        used_memory:1000\r\nmaxmemory:0\r\naof_last_write_status:ok\r\nrdb_last_bgsave_status:err\r\nevicted_keys:3\r\n\
        connected_slaves:2\r\nmaster_repl_offset:500\r\nslave0:ip=a,port=1,state=online,offset=490,lag=0\r\n\
        slave1:ip=b,port=1,state=online,offset=400,lag=1\r\nslave_expires_tracked_keys:9\r\n";

    #[test]
    fn memory_log_snapshot_and_the_last_replica_are_told() {
        let health = of(GOOD, RedisDurability::Replicas(2));
        assert_eq!((health.used_bytes, health.max_bytes), (Some(1000), Some(0)));
        assert_eq!(
            (health.log_enabled, health.log_written, health.snapshot_saved),
            (Some(true), Some(true), Some(false))
        );
        assert_eq!((health.is_primary, health.replicas, health.replica_lag_bytes), (true, 2, 100));
        assert_eq!((health.evicted_keys, health.not_durable), (3, None));
    }

    #[test]
    fn settings_that_do_not_fit_the_level_are_told_with_the_command() {
        let without = of(&GOOD.replace("aof_enabled:1", "aof_enabled:0"), RedisDurability::Everysec);
        assert_eq!(without.log_enabled, Some(false));
        assert!(without.not_durable.is_some_and(|why| why.contains("CONFIG SET appendonly yes")));
        assert!(of(GOOD, RedisDurability::Replicas(3)).not_durable.is_some());
    }

    #[test]
    fn a_server_that_says_nothing_is_unknown_and_not_durable() {
        let silent = of("", RedisDurability::Always);
        assert_eq!((silent.used_bytes, silent.log_enabled, silent.log_written), (None, None, None));
        assert!(silent.not_durable.is_some());
    }
}
