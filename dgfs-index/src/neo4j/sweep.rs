//! Removes what a rebuild did not mark.
//!
//! Never removes what carries the rebuild's epoch. Always: it works in transactions of a thousand nodes, may be stopped
//! anywhere and started again, and only its end takes the note "a sweep is due" away.

use super::link::{Link, LinkError, Statement, Touched};
use super::write::{WriteError, Writer};

/// Longest time for one kind of node: a million strays at a few thousand a second.
const SWEEP_MS_MAX: u64 = 900_000;
/// Longest time for the note.
const NOTE_MS_MAX: u64 = 60_000;

/// Strays first, then nodes that nothing points to any more.
const SWEEPS: [&str; 7] = [
    "MATCH (v:Inode) WHERE v.ep < $epoch CALL { WITH v DETACH DELETE v } IN TRANSACTIONS OF 1000 ROWS",
    "MATCH (v:Unknown) WHERE NOT EXISTS { (v)<--() } CALL { WITH v DETACH DELETE v } IN TRANSACTIONS OF 1000 ROWS",
    "MATCH (t:Tag) WHERE t.ep < $epoch AND NOT EXISTS { (t)<-[:TAGGED|REJECTED]-() } \
     CALL { WITH t DETACH DELETE t } IN TRANSACTIONS OF 1000 ROWS",
    "MATCH (c:Content) WHERE NOT EXISTS { (c)<-[:HAS_CONTENT]-() } \
     CALL { WITH c FOREACH (o IN [(c)-[:SIMILAR_TO]-(o) | o] | SET o.due = true) DETACH DELETE c } \
     IN TRANSACTIONS OF 1000 ROWS",
    // What has fingerprints is due after a rebuild, and its edges are put right then.
    "MATCH (c:Content) WHERE c.prints IS NULL AND EXISTS { (c)-[:SIMILAR_TO]-() } \
     CALL { WITH c MATCH (c)-[x:SIMILAR_TO]-() DELETE x } IN TRANSACTIONS OF 1000 ROWS",
    "MATCH (p) WHERE (p:Person OR p:Place) AND NOT EXISTS { (p)<-[:AUTHORED_BY|TAKEN_AT]-() } \
     CALL { WITH p DELETE p } IN TRANSACTIONS OF 1000 ROWS",
    "MATCH (s:Source) WHERE NOT EXISTS { (s)<-[:DERIVED_FROM]-() } \
     CALL { WITH s DELETE s } IN TRANSACTIONS OF 1000 ROWS",
];
const DONE: &str = "MATCH (a:Applied {id: $volume}) WHERE a.sweep = $epoch SET a.sweep = null";

/// Sweeps what is older than `epoch`, the one in which the rebuild began ([`super::write::Applied::sweep`]); a later writer
/// may end it. Call it when the last batch of the rebuild is written.
///
/// # Errors
/// As [`Writer::apply`]; call it again.
pub async fn sweep(writer: &Writer<'_>, epoch: u64) -> Result<Touched, WriteError> {
    let mut gone = Touched::default();
    for text in SWEEPS {
        gone += run(writer.link(), &Statement::new(text).with("epoch", epoch), SWEEP_MS_MAX).await?;
    }
    let done = Statement::new(DONE).with("volume", writer.volume()).with("epoch", epoch);
    run(writer.link(), &done, NOTE_MS_MAX).await?;
    Ok(gone)
}

async fn run(link: &Link, statement: &Statement, ms_max: u64) -> Result<Touched, LinkError> {
    link.run_alone(statement, ms_max).await
}
