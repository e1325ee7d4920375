//! Reads what a Redis server says about itself and gives it our functions.
//!
//! Never judges (`checks` does). Always true: no connection is used before the
//! server behind it was found safe, also after the server was restarted.

use std::collections::HashMap;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use tracing::warn;

use super::checks::{RedisDurability, ServerFacts};
use super::link::LinkError;

/// The functions; their names carry the version, so an older dgfs may use the same server.
const LIBRARY: &str = include_str!("library.lua");

/// Looks at every new connection of an engine.
pub(super) struct Inspector {
    durability: RedisDurability,
    /// How a person reaches the server: `redis-cli -h host -p port`.
    cli: String,
    facts: Mutex<ServerFacts>,
    warned: Mutex<Vec<String>>,
}

impl Inspector {
    pub(super) fn new(durability: RedisDurability, cli: String) -> Self {
        Self { durability, cli, facts: Mutex::default(), warned: Mutex::default() }
    }

    pub(super) fn facts(&self) -> ServerFacts {
        self.facts.lock().clone()
    }

    /// What could not be checked, in sentences.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.warned.lock().clone()
    }

    /// How a person reaches the server.
    pub(super) fn cli(&self) -> &str {
        &self.cli
    }

    pub(super) async fn inspect(&self, connection: &mut MultiplexedConnection) -> Result<(), LinkError> {
        let (facts, _) = read_facts(connection).await?;
        let warnings = facts.judge(self.durability, &self.cli).map_err(LinkError::Unsafe)?;
        self.load_library(connection).await?;
        self.warn_once(warnings);
        *self.facts.lock() = facts;
        Ok(())
    }

    async fn load_library(&self, connection: &mut MultiplexedConnection) -> Result<(), LinkError> {
        let mut load = redis::cmd("FUNCTION");
        load.arg("LOAD").arg("REPLACE").arg(LIBRARY);
        load.exec_async(connection).await.map_err(LinkError::Redis)
    }

    fn warn_once(&self, warnings: Vec<String>) {
        let mut warned = self.warned.lock();
        for warning in &warnings {
            if !warned.contains(warning) {
                warn!("{warning}");
            }
        }
        *warned = warnings;
    }
}

/// What the server says of itself, and the whole text of its INFO.
pub(super) async fn read_facts(connection: &mut MultiplexedConnection) -> Result<(ServerFacts, String), LinkError> {
    let info: String = redis::cmd("INFO").query_async(connection).await.map_err(LinkError::Redis)?;
    let mut facts = ServerFacts::from_info(&info);
    let mut ask = redis::cmd("CONFIG");
    ask.arg("GET").arg("maxmemory-policy").arg("appendonly").arg("appendfsync");
    let config: Result<HashMap<String, String>, _> = ask.query_async(connection).await;
    match config {
        Ok(config) => facts.learn_config(&config),
        Err(error) if error.is_io_error() => return Err(LinkError::Redis(error)),
        // Forbidden or renamed: INFO has to do.
        Err(_) => {}
    }
    Ok((facts, info))
}
