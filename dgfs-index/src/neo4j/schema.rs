//! Constraints and indexes of the graph: made where they are missing, and waited for.
//!
//! Never drops or changes what is there. Always: after [`ensure`] every key that batches look up has a unique index that
//! is online, so a batch costs what its rows cost.

use serde_json::Value;

use super::link::{Link, LinkError, Statement};

/// Longest wait for one schema command: on a database that is full already, an index is built first.
const COMMAND_MS_MAX: u64 = 60_000;
/// Longest wait for all indexes to be online.
const ONLINE_S_MAX: u64 = 300;
/// More indexes than a database has.
const INDEXES_MAX: usize = 1_000;

/// Name, label and property of each unique constraint.
const CONSTRAINTS: [(&str, &str, &str); 9] = [
    ("dgfs_inode_id", "Inode", "id"),
    ("dgfs_file_id", "File", "id"),
    ("dgfs_dir_id", "Dir", "id"),
    ("dgfs_tag_key", "Tag", "key"),
    ("dgfs_content_hash", "Content", "hash"),
    ("dgfs_person_key", "Person", "key"),
    ("dgfs_place_key", "Place", "key"),
    ("dgfs_source_key", "Source", "key"),
    ("dgfs_applied_id", "Applied", "id"),
];
/// Name, label and property of each range index.
const INDEXES: [(&str, &str, &str); 8] = [
    ("dgfs_file_name", "File", "name"),
    ("dgfs_file_mtime", "File", "mtime"),
    ("dgfs_file_size", "File", "size"),
    ("dgfs_file_ext", "File", "ext"),
    ("dgfs_file_taken", "File", "taken"),
    ("dgfs_file_mime", "File", "mime"),
    ("dgfs_inode_ep", "Inode", "ep"),
    ("dgfs_content_due", "Content", "due"),
];
/// The index of tag values, over relationships.
const VALUES: &str = "dgfs_tagged_value";
/// The index of names, over relationships.
const NAMES: &str = "dgfs_contains_name";

/// Makes what is missing and waits until all of it is online.
///
/// # Errors
/// Any of [`LinkError`]: no right to change the schema, data that breaks a constraint, or an index that is not online in
/// time.
pub async fn ensure(link: &Link) -> Result<(), LinkError> {
    if missing(link).await?.is_empty() {
        return Ok(());
    }
    for text in commands() {
        link.run_alone(&Statement::new(text), COMMAND_MS_MAX).await?;
    }
    let wait = Statement::new("CALL db.awaitIndexes($seconds)").with("seconds", ONLINE_S_MAX);
    link.run_alone(&wait, ONLINE_S_MAX * 1_000).await?;
    Ok(())
}

/// Names of constraints and indexes that are missing or not online.
///
/// # Errors
/// Any of [`LinkError`].
pub async fn missing(link: &Link) -> Result<Vec<String>, LinkError> {
    let show = Statement::new("SHOW INDEXES YIELD name, state WHERE state = 'ONLINE' RETURN name AS row");
    let there = link.column(&show, INDEXES_MAX).await?;
    let has = |name: &str| there.iter().any(|row| row.as_str() == Some(name));
    Ok(names().filter(|name| !has(name)).map(str::to_owned).collect())
}

fn names() -> impl Iterator<Item = &'static str> {
    CONSTRAINTS.iter().chain(&INDEXES).map(|(name, _, _)| *name).chain([VALUES, NAMES])
}

fn commands() -> Vec<String> {
    let mut all = Vec::new();
    for (name, label, property) in CONSTRAINTS {
        all.push(format!("CREATE CONSTRAINT {name} IF NOT EXISTS FOR (n:{label}) REQUIRE n.{property} IS UNIQUE"));
    }
    for (name, label, property) in INDEXES {
        all.push(format!("CREATE INDEX {name} IF NOT EXISTS FOR (n:{label}) ON (n.{property})"));
    }
    all.push(format!("CREATE INDEX {VALUES} IF NOT EXISTS FOR ()-[r:TAGGED]-() ON (r.k, r.num)"));
    all.push(format!("CREATE INDEX {NAMES} IF NOT EXISTS FOR ()-[r:CONTAINS]-() ON (r.name)"));
    all
}

/// The edition and version that the server reports.
///
/// # Errors
/// Any of [`LinkError`].
pub async fn server_version(link: &Link) -> Result<String, LinkError> {
    let ask = Statement::new(
        "CALL dbms.components() YIELD name, versions, edition RETURN name + ' ' + versions[0] + ' ' + edition AS row",
    );
    let rows = link.column(&ask, 1).await?;
    Ok(rows.first().and_then(Value::as_str).unwrap_or("unknown").to_owned())
}
