//! The connection to a Neo4j server: statements in, rows out, over Bolt.
//!
//! The only module that names the driver. Never builds Cypher, never retries by itself and never shows the password: it is
//! read from its file when a link is opened and lives in the driver alone. Always: every call ends within a deadline,
//! and a connection on which a call was cut short is not used again.

use std::path::PathBuf;
use std::time::Duration;

use neo4rs::summary::{ResultSummary, Type};
use neo4rs::{BoltMap, BoltType, ConfigBuilder, DetachedRowStream, Graph, Query, Row, Txn};
use serde_json::{Map, Value};
use thiserror::Error;
use tokio::time::timeout;

use self::cells::to_json;
use super::settings::{check_address, check_authority, read_password};

mod cells;

/// Rows that one message asks the server for: enough to hide the round trip, little enough to stay in a few hundred KiB.
const FETCH_ROWS: usize = 1_000;
/// Connections of one link: one writes, one reads, one is spare.
const CONNECTIONS_MAX: usize = 3;
/// The column that our own statements return: the driver gives columns in no order, so they return one list or map.
const COLUMN: &str = "row";

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// `bolt://HOST:PORT`, or `bolt+s://HOST:PORT` over TLS.
    pub address: String,
    /// Who we are there.
    pub user: String,
    /// The file whose first line is the password; read anew whenever a link is opened.
    pub password_file: PathBuf,
    /// PEM file of the authority that signed the server's certificate; none: those that the machine trusts.
    pub ca: Option<PathBuf>,
    /// Longest wait for a connection that is ready for use, in milliseconds.
    pub connect_ms_max: u64,
    /// Longest wait for the answer to one statement, in milliseconds.
    pub answer_ms_max: u64,
}

impl LinkConfig {
    /// A server at `address`, with waits that suit a local network: 5 s to connect, 60 s for an answer.
    #[must_use]
    pub fn new(address: impl Into<String>, user: impl Into<String>, password_file: impl Into<PathBuf>) -> Self {
        Self {
            address: address.into(),
            user: user.into(),
            password_file: password_file.into(),
            ca: None,
            connect_ms_max: 5_000,
            answer_ms_max: 60_000,
        }
    }
}

/// Why a server did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LinkError {
    /// What was configured cannot be used.
    #[error("{0}")]
    Config(String),
    /// The server does not accept the user or the password.
    #[error("Neo4j at {address} refuses the user `{user}` with the password of {}: {said}", password_file.display())]
    Refused {
        /// Which server.
        address: String,
        /// Which user.
        user: String,
        /// Where the password came from.
        password_file: PathBuf,
        /// The server's words.
        said: String,
    },
    /// No connection, or it was lost.
    #[error("no connection to Neo4j at {address}: {said}")]
    Unreachable {
        /// Which server.
        address: String,
        /// What was seen.
        said: String,
    },
    /// No answer in time.
    #[error("Neo4j at {address} did not {step} within {ms} ms")]
    Late {
        /// Which server.
        address: String,
        /// What it was to do.
        step: &'static str,
        /// How long we waited.
        ms: u64,
    },
    /// The server refused a statement.
    #[error("Neo4j answers {code}: {said}")]
    Server {
        /// Neo4j's status code, such as `Neo.ClientError.Statement.SyntaxError`.
        code: String,
        /// The server's words.
        said: String,
    },
    /// What came is not what the protocol promises.
    #[error("the answer of Neo4j at {address} cannot be read: {said}")]
    Answer {
        /// Which server.
        address: String,
        /// What is wrong.
        said: String,
    },
}

impl LinkError {
    /// May the same call succeed later with nothing changed by a person?
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Late { .. } => true,
            Self::Server { code, .. } => code.starts_with("Neo.TransientError."),
            Self::Config(_) | Self::Refused { .. } | Self::Answer { .. } => false,
        }
    }
}

/// Cypher with its parameters. User text belongs in parameters only.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// The Cypher text.
    pub text: String,
    /// What `$name` in it stands for.
    pub params: Map<String, Value>,
}

impl Statement {
    /// A statement without parameters.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), params: Map::new() }
    }

    /// The same with `$name` = `value`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.params.insert(name.to_owned(), value.into());
        self
    }
}

/// What a statement changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Nodes made.
    pub nodes_made: u64,
    /// Nodes deleted.
    pub nodes_gone: u64,
    /// Relationships made.
    pub edges_made: u64,
    /// Relationships deleted.
    pub edges_gone: u64,
}

impl std::ops::AddAssign for Touched {
    fn add_assign(&mut self, other: Self) {
        self.nodes_made += other.nodes_made;
        self.nodes_gone += other.nodes_gone;
        self.edges_made += other.edges_made;
        self.edges_gone += other.edges_gone;
    }
}

/// What kind of statement the server takes a text for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementKind {
    /// It reads only.
    Reads,
    /// It writes, changes the schema, or the server did not say.
    Other,
}

/// A way to one server. Connections are made when they are needed.
pub struct Link {
    graph: Graph,
    config: LinkConfig,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Link {
    /// Prepares the way; nothing is sent yet.
    ///
    /// # Errors
    /// [`LinkError::Config`]: the address, the password file or the authority's file cannot be used.
    pub fn open(config: &LinkConfig) -> Result<Self, LinkError> {
        check_address(&config.address)?;
        let password = read_password(&config.password_file)?;
        let mut builder = ConfigBuilder::default()
            .uri(config.address.as_str())
            .user(config.user.as_str())
            .password(password)
            .fetch_size(FETCH_ROWS)
            .max_connections(CONNECTIONS_MAX)
            .connection_timeout(Duration::from_millis(config.answer_ms_max));
        if let Some(ca) = &config.ca {
            check_authority(ca)?;
            builder = builder.with_client_certificate(ca);
        }
        let graph = builder
            .build()
            .and_then(Graph::connect)
            .map_err(|error| LinkError::Config(format!("the address {} cannot be used: {error}", config.address)))?;
        Ok(Self { graph, config: config.clone() })
    }

    /// The address, for messages.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.config.address
    }

    /// Begins a transaction; it is rolled back unless [`Work::commit`] is called.
    ///
    /// # Errors
    /// No connection in time, or the server refuses us.
    pub async fn begin(&self) -> Result<Work<'_>, LinkError> {
        let begun = self.in_time(self.config.connect_ms_max, "begin a transaction", self.graph.start_txn()).await?;
        Ok(Work { txn: begun, link: self })
    }

    /// Runs one statement outside a transaction of ours: schema commands and `CALL {…} IN TRANSACTIONS` demand that.
    ///
    /// # Errors
    /// Any of [`LinkError`]. What it did before an error stays done.
    pub async fn run_alone(&self, statement: &Statement, ms_max: u64) -> Result<Touched, LinkError> {
        let query = self.query(statement)?;
        let summary = self.in_time(ms_max, "run a statement", self.graph.run(query)).await?;
        Ok(touched(&summary))
    }

    /// Runs one statement that may only read: the server itself refuses a write in it.
    ///
    /// # Errors
    /// Any of [`LinkError`], at the first row or later.
    pub async fn read(&self, statement: &Statement, ms_max: u64) -> Result<Rows<'_>, LinkError> {
        // The server stops a statement whose reader gave up, so a hopeless query does not burn on.
        let limit = i64::try_from(ms_max).unwrap_or(i64::MAX);
        let query = self.query(statement)?.extra("tx_timeout", limit);
        let stream = self.in_time(ms_max, "answer a query", self.graph.execute_read(query)).await?;
        Ok(Rows { stream, link: self, ms_max })
    }

    /// The column `row` of all rows of a reading statement, at most `rows_max`; a longer answer is cut there.
    ///
    /// # Errors
    /// As [`Self::read`]; [`LinkError::Answer`] when there is no such column.
    pub async fn column(&self, statement: &Statement, rows_max: usize) -> Result<Vec<Value>, LinkError> {
        let mut rows = self.read(statement, self.config.answer_ms_max).await?;
        let mut all = Vec::new();
        while all.len() < rows_max {
            let Some(mut row) = rows.next().await? else { break };
            let Some(cell) = row.remove(COLUMN) else {
                return Err(self.answer(format!("a row has no column `{COLUMN}`")));
            };
            all.push(cell);
        }
        Ok(all)
    }

    /// What the server takes `statement` for, without running it.
    ///
    /// # Errors
    /// Any of [`LinkError`]; a syntax error is [`LinkError::Server`].
    pub async fn explain(&self, statement: &Statement, ms_max: u64) -> Result<StatementKind, LinkError> {
        let explained = Statement { text: format!("EXPLAIN {}", statement.text), params: statement.params.clone() };
        let query = self.query(&explained)?;
        let finished = async { self.graph.execute_read(query).await?.finish().await };
        let summary = self.in_time(ms_max, "explain a query", finished).await?;
        Ok(match summary.query_type() {
            Type::Read => StatementKind::Reads,
            Type::Write | Type::ReadWrite | Type::SchemaOnly | Type::Unknown => StatementKind::Other,
        })
    }

    fn query(&self, statement: &Statement) -> Result<Query, LinkError> {
        let params = BoltType::try_from(Value::Object(statement.params.clone()))
            .map_err(|error| self.answer(format!("a parameter cannot be sent: {error}")))?;
        let map = match params {
            BoltType::Map(map) => map,
            _ => BoltMap::default(),
        };
        Ok(Query::new(statement.text.clone()).with_params(map))
    }

    async fn in_time<T>(
        &self,
        ms: u64,
        step: &'static str,
        call: impl Future<Output = Result<T, neo4rs::Error>>,
    ) -> Result<T, LinkError> {
        match timeout(Duration::from_millis(ms), call).await {
            Ok(done) => done.map_err(|error| self.translate(error)),
            Err(_elapsed) => Err(LinkError::Late { address: self.config.address.clone(), step, ms }),
        }
    }

    fn answer(&self, said: String) -> LinkError {
        LinkError::Answer { address: self.config.address.clone(), said }
    }

    fn translate(&self, error: neo4rs::Error) -> LinkError {
        let address = self.config.address.clone();
        match error {
            neo4rs::Error::Neo4j(error) => {
                LinkError::Server { code: error.code().to_owned(), said: error.message().to_owned() }
            }
            // The driver says so of every refused greeting; only these words are about who we are.
            neo4rs::Error::AuthenticationError(said)
                if said.contains("nauthorized") || said.contains("uthentication") || said.contains("redentials") =>
            {
                LinkError::Refused {
                    address,
                    user: self.config.user.clone(),
                    password_file: self.config.password_file.clone(),
                    said,
                }
            }
            neo4rs::Error::AuthenticationError(said) => LinkError::Unreachable { address, said },
            neo4rs::Error::IOError { detail } => LinkError::Unreachable { address, said: detail.to_string() },
            neo4rs::Error::ConnectionError
            | neo4rs::Error::ConnectionTimedOut
            | neo4rs::Error::IncompleteBoltExchange
            | neo4rs::Error::ConnectionClosed(_)
            | neo4rs::Error::Ignored(_)
            | neo4rs::Error::RequestIgnoredError
            | neo4rs::Error::ServerUnavailableError(_) => LinkError::Unreachable { address, said: error.to_string() },
            // The driver's enum may grow; what we do not know is not retried blindly.
            other => LinkError::Answer { address, said: other.to_string() },
        }
    }
}

/// A transaction.
pub struct Work<'a> {
    txn: Txn,
    link: &'a Link,
}

impl std::fmt::Debug for Work<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").field("link", &self.link).finish_non_exhaustive()
    }
}

impl Work<'_> {
    /// Runs a statement whose rows nobody needs.
    ///
    /// # Errors
    /// Any of [`LinkError`]; the transaction is then of no more use.
    pub async fn run(&mut self, statement: &Statement) -> Result<Touched, LinkError> {
        let query = self.link.query(statement)?;
        let ms = self.link.config.answer_ms_max;
        let summary = self.link.in_time(ms, "run a statement", self.txn.run(query)).await?;
        Ok(touched(&summary))
    }

    /// Runs a statement and returns the column `row` of its first row.
    ///
    /// # Errors
    /// Any of [`LinkError`]; the transaction is then of no more use.
    pub async fn first(&mut self, statement: &Statement) -> Result<Option<Value>, LinkError> {
        let query = self.link.query(statement)?;
        let ms = self.link.config.answer_ms_max;
        let call = async {
            let mut stream = self.txn.execute(query).await?;
            let row = stream.next(&mut self.txn).await?;
            // The statement has to run to its end before the next one.
            stream.finish(&mut self.txn).await?;
            Ok(row)
        };
        let row = self.link.in_time(ms, "run a statement", call).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(read_row(&row).map_err(|said| self.link.answer(said))?.remove(COLUMN))
    }

    /// Commits. After an error nobody knows whether it did: ask for the seq that was written with it.
    ///
    /// # Errors
    /// Any of [`LinkError`].
    pub async fn commit(self) -> Result<(), LinkError> {
        let ms = self.link.config.answer_ms_max;
        self.link.in_time(ms, "commit", self.txn.commit()).await.map(drop)
    }

    /// Undoes what the transaction did.
    ///
    /// # Errors
    /// Any of [`LinkError`]; the server undoes it all the same when the connection ends.
    pub async fn rollback(self) -> Result<(), LinkError> {
        let ms = self.link.config.connect_ms_max;
        self.link.in_time(ms, "roll back", self.txn.rollback()).await
    }
}

/// One row of an answer: column name to value, nodes and relationships as objects.
pub type AnswerRow = Map<String, Value>;

/// The rows of an answer as they come.
pub struct Rows<'a> {
    stream: DetachedRowStream,
    link: &'a Link,
    ms_max: u64,
}

impl std::fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("link", &self.link).finish_non_exhaustive()
    }
}

impl Rows<'_> {
    /// The next row; none at the end.
    ///
    /// # Errors
    /// Any of [`LinkError`].
    pub async fn next(&mut self) -> Result<Option<AnswerRow>, LinkError> {
        let row = self.link.in_time(self.ms_max, "send a row", self.stream.next()).await?;
        row.map(|row| read_row(&row).map_err(|said| self.link.answer(said))).transpose()
    }
}

fn read_row(row: &Row) -> Result<AnswerRow, String> {
    let mut cells = AnswerRow::new();
    for key in row.keys() {
        let cell: BoltType = row.get(&key.value).map_err(|error| format!("column `{}`: {error}", key.value))?;
        cells.insert(key.value.clone(), to_json(cell, 0)?);
    }
    Ok(cells)
}

fn touched(summary: &ResultSummary) -> Touched {
    let stats = summary.stats();
    Touched {
        nodes_made: stats.nodes_created,
        nodes_gone: stats.nodes_deleted,
        edges_made: stats.relationships_created,
        edges_gone: stats.relationships_deleted,
    }
}
