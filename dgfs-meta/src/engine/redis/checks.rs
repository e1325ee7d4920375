//! Whether a Redis server is safe for a volume, and the command that mends it when not.
//!
//! Never opens a connection: judges facts that were read. Always true: a server is
//! accepted only when it cannot evict rows and keeps the log that the durability level needs.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use crate::engine::EngineError;

/// Oldest server with Functions.
const MAJOR_MIN: u32 = 7;

/// What an answered commit has gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisDurability {
    /// Synced to the server's disk.
    Always,
    /// In the server's memory and log; synced within a second.
    Everysec,
    /// As `Everysec`, and received by so many replicas.
    Replicas(u32),
}

impl FromStr for RedisDurability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let replicas = || text.strip_prefix("replicas=")?.parse().ok().filter(|count| *count > 0);
        match text {
            "always" => Ok(Self::Always),
            "everysec" => Ok(Self::Everysec),
            _ => replicas().map(Self::Replicas).ok_or_else(|| {
                format!("{text:?} is not a durability level: give always, everysec or replicas=N (N at least 1)")
            }),
        }
    }
}

impl fmt::Display for RedisDurability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Everysec => f.write_str("everysec"),
            Self::Replicas(count) => write!(f, "replicas={count}"),
        }
    }
}

/// What a server says about itself. `None`: it would not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerFacts {
    /// `Redis` or `Valkey`.
    pub(super) product: &'static str,
    /// For people.
    pub(super) version: String,
    /// Has `WAITAOF`.
    pub(super) waits_for_log: bool,
    too_old: bool,
    replica_of: Option<String>,
    replicas: u32,
    appendonly: Option<bool>,
    eviction: Option<String>,
    appendfsync: Option<String>,
}

impl ServerFacts {
    /// Reads the text of `INFO everything`.
    pub(super) fn from_info(info: &str) -> Self {
        let fields: HashMap<&str, &str> = info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
        let text = |name: &str| fields.get(name).map(|value| (*value).to_owned());
        let redis = text("redis_version").unwrap_or_default();
        let valkey = text("valkey_version");
        let (major, minor) = major_minor(&redis);
        let replica = fields.get("role") == Some(&"slave");
        Self {
            product: if valkey.is_some() { "Valkey" } else { "Redis" },
            version: valkey.unwrap_or_else(|| redis.clone()),
            waits_for_log: (major, minor) >= (7, 2),
            too_old: major < MAJOR_MIN,
            replica_of: replica.then(|| {
                format!("{}:{}", text("master_host").unwrap_or_default(), text("master_port").unwrap_or_default())
            }),
            replicas: text("connected_slaves").and_then(|count| count.parse().ok()).unwrap_or(0),
            appendonly: text("aof_enabled").map(|enabled| enabled == "1"),
            eviction: text("maxmemory_policy"),
            appendfsync: None,
        }
    }

    /// Adds the answer of `CONFIG GET`.
    pub(super) fn learn_config(&mut self, config: &HashMap<String, String>) {
        if let Some(value) = config.get("appendonly") {
            self.appendonly = Some(value == "yes");
        }
        if let Some(value) = config.get("maxmemory-policy") {
            self.eviction = Some(value.clone());
        }
        self.appendfsync = config.get("appendfsync").cloned();
    }

    /// It keeps a log of what is written; `None`: it would not say.
    pub(super) const fn keeps_log(&self) -> Option<bool> {
        self.appendonly
    }

    /// It follows another server.
    pub(super) const fn is_replica(&self) -> bool {
        self.replica_of.is_some()
    }

    /// Accepts the server, with warnings for what could not be checked.
    ///
    /// # Errors
    /// `Refused` with the command that mends it; `Unavailable` while replicas are missing.
    pub(super) fn judge(&self, durability: RedisDurability, cli: &str) -> Result<Vec<String>, EngineError> {
        let refuse = |sentence: String| Err(EngineError::Refused(sentence));
        if self.too_old {
            return refuse(format!(
                "{} {} found; DGFS needs {MAJOR_MIN} or newer: install a newer Redis, or Valkey",
                self.product, self.version
            ));
        }
        if let Some(primary) = &self.replica_of {
            return refuse(format!(
                "this Redis is a read-only replica of {primary}: give the address of the primary, or promote this one with: {cli} REPLICAOF NO ONE"
            ));
        }
        if let Some(policy) = self.eviction.as_deref().filter(|policy| *policy != "noeviction") {
            return refuse(format!(
                "this Redis may evict rows when its memory is full (maxmemory-policy {policy}), which would destroy the volume. \
                 Mend it with: {cli} CONFIG SET maxmemory-policy noeviction && {cli} CONFIG REWRITE"
            ));
        }
        if self.appendonly == Some(false) {
            return refuse(format!(
                "this Redis keeps no log (appendonly no), so a restart would lose the volume. \
                 Mend it with: {cli} CONFIG SET appendonly yes && {cli} CONFIG REWRITE"
            ));
        }
        self.judge_sync(durability, cli)?;
        if let RedisDurability::Replicas(wanted) = durability
            && self.replicas < wanted
        {
            return Err(EngineError::Unavailable(format!(
                "Redis has {} of the {wanted} replicas that the level {durability} needs: start them (REPLICAOF), or choose another level",
                self.replicas
            )));
        }
        Ok(self.warnings(durability))
    }

    fn judge_sync(&self, durability: RedisDurability, cli: &str) -> Result<(), EngineError> {
        let Some(found) = self.appendfsync.as_deref() else {
            return Ok(());
        };
        let (fits, needed) = match durability {
            RedisDurability::Always => (found == "always", "always"),
            // More than asked is fine.
            RedisDurability::Everysec | RedisDurability::Replicas(_) => (found != "no", "everysec"),
        };
        if fits {
            return Ok(());
        }
        Err(EngineError::Refused(format!(
            "the durability level is {durability}, but this Redis has appendfsync {found}. \
             Mend it with: {cli} CONFIG SET appendfsync {needed} && {cli} CONFIG REWRITE"
        )))
    }

    fn warnings(&self, durability: RedisDurability) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.appendfsync.is_none() {
            let needed = if durability == RedisDurability::Always { "always" } else { "everysec" };
            warnings.push(format!(
                "Redis does not let DGFS read its CONFIG: make sure that appendfsync is {needed}, or allow CONFIG GET to this user"
            ));
        }
        if self.eviction.is_none() || self.appendonly.is_none() {
            warnings.push(
                "Redis does not tell its INFO: make sure that appendonly is yes and maxmemory-policy is noeviction"
                    .to_owned(),
            );
        }
        if durability != RedisDurability::Always && !self.waits_for_log {
            warnings.push(format!(
                "{} {} has no WAITAOF (7.2 has): with the level {durability} a fsync is true up to one second late",
                self.product, self.version
            ));
        }
        warnings
    }
}

fn major_minor(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::{RedisDurability, ServerFacts};
    use crate::engine::EngineError;

    fn refusal(info: &str) -> String {
        match ServerFacts::from_info(info).judge(RedisDurability::Everysec, "redis-cli") {
            Err(EngineError::Refused(sentence)) => sentence,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn redis_6_is_refused_with_both_versions_named() {
        let sentence = refusal("# Server\r\nredis_version:6.2.14\r\nrole:master\r\n");
        assert_eq!(sentence, "Redis 6.2.14 found; DGFS needs 7 or newer: install a newer Redis, or Valkey");
    }

    #[test]
    fn an_info_without_a_version_is_refused() {
        assert!(refusal("").contains("DGFS needs 7 or newer"));
    }

    #[test]
    fn valkey_is_accepted_and_named() {
        let info = "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\nrole:master\r\naof_enabled:1\r\nmaxmemory_policy:noeviction\r\n";
        let facts = ServerFacts::from_info(info);
        assert_eq!((facts.product, facts.version.as_str(), facts.waits_for_log), ("Valkey", "8.1.1", true));
        assert!(facts.judge(RedisDurability::Everysec, "redis-cli").is_ok());
    }

    #[test]
    fn levels_are_read_as_they_are_written() {
        for level in [RedisDurability::Always, RedisDurability::Everysec, RedisDurability::Replicas(2)] {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        assert!("replicas=0".parse::<RedisDurability>().is_err());
        assert!("sometimes".parse::<RedisDurability>().is_err());
    }
}
