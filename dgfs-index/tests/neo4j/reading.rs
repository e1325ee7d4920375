//! Cypher of a user: it reads, and nothing else.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::time::{Duration, Instant};

use serde_json::{Map, json};

use dgfs_index::neo4j::link::{LinkError, Statement};
use dgfs_index::neo4j::raw::{RawError, RawLimits, query};
use dgfs_index::neo4j::write::Writer;

use crate::server::{Graph, VOLUME, graph};
use crate::writing::{ask, batch, file, root, written};

async fn filled() -> Graph {
    let graph = graph().await;
    let (writer, _) = Writer::claim(&graph.link, VOLUME, 1).await.unwrap();
    written(&writer, &batch(0, 1, vec![root(), file(2, "two"), file(3, "three")])).await;
    graph
}

#[tokio::test]
async fn rows_come_as_json() {
    let graph = filled().await;
    let params = Map::from_iter([("name".to_owned(), json!("two"))]);
    let text = "MATCH p = (d:Dir)-[c:CONTAINS]->(f:File {name: $name}) \
        RETURN f.id AS id, c AS edge, d AS dir, length(p) AS hops, [1, 'x', null, 1.5, true] AS list, {a: 1} AS map, p AS path, \
        date() AS today";
    let answer = query(&graph.link, text, params, RawLimits::default()).await.unwrap();
    assert!(!answer.cut);
    let [row] = answer.rows.as_slice() else { panic!("{answer:?}") };
    assert_eq!(row["id"], json!(2));
    assert_eq!(row["edge"], json!({"type": "CONTAINS", "properties": {"name": "two"}}));
    assert_eq!(row["dir"]["labels"], json!(["Inode", "Dir"]));
    assert_eq!(row["dir"]["properties"]["id"], json!(1));
    assert_eq!((&row["hops"], &row["map"]), (&json!(1), &json!({"a": 1})));
    assert_eq!(row["list"], json!([1, "x", null, 1.5, true]));
    let path = row["path"].as_array().unwrap();
    assert_eq!((path.len(), &path[1]), (3, &row["edge"]));
    assert!(row["today"].as_str().unwrap().contains("toString()"));
}

#[tokio::test]
async fn writes_are_refused_however_they_are_put() {
    let graph = filled().await;
    for text in [
        "CREATE (n:X)",
        "MATCH (f:File) SET f.size = 1 RETURN f",
        "MATCH (f:File) DETACH DELETE f",
        "MATCH (f:File) REMOVE f.size",
        "MATCH (f:File) WITH f MERGE (:X {id: f.id})",
        "UNWIND [1, 2] AS x CREATE (:X {x: x})",
        "MATCH (f:File) CALL { WITH f SET f.size = 1 } IN TRANSACTIONS",
        "MATCH (f:File) CALL { WITH f DETACH DELETE f } IN TRANSACTIONS OF 1 ROWS",
        "LOAD CSV FROM 'file:///etc/passwd' AS row RETURN row",
        "MATCH (f) LOAD CSV FROM 'http://localhost/x' AS row RETURN row",
        "CALL apoc.cypher.doIt('CREATE (n)', {}) YIELD value RETURN value",
        "CALL db.createLabel('X')",
        "CALL dbms.listConfig() YIELD name RETURN name",
        "CREATE INDEX x FOR (n:X) ON (n.x)",
        "DROP INDEX dgfs_file_ext",
        "CREATE USER ada SET PASSWORD 'secret-enough'",
        "SHOW USERS",
        "USE system RETURN 1",
    ] {
        let refused = query(&graph.link, text, Map::new(), RawLimits::default()).await;
        assert!(matches!(refused, Err(RawError::Refused(_))), "{text}: {refused:?}");
    }
    let all = "MATCH (n) WHERE NOT n:Applied RETURN [n.id, n.size] AS row ORDER BY row";
    assert_eq!(ask(&graph.link, all).await, [json!([1, null]), json!([2, 0]), json!([3, 0])]);
}

/// The wall behind the other two: what they let pass, the server still refuses.
#[tokio::test]
async fn the_server_itself_refuses_a_write_in_a_reading_transaction() {
    let graph = filled().await;
    for text in [
        "CREATE (n:X)",
        "MATCH (f:File) CALL { WITH f SET f.size = 1 } IN TRANSACTIONS",
        "CREATE INDEX x FOR (n:X) ON (n.x)",
    ] {
        let refused = match graph.link.read(&Statement::new(text), 60_000).await {
            Ok(mut rows) => rows.next().await.map(drop),
            Err(error) => Err(error),
        };
        assert!(
            matches!(&refused, Err(LinkError::Server { code, .. }) if code.contains("AccessMode")),
            "{text}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn rows_and_time_are_bounded() {
    let graph = filled().await;
    let limits = RawLimits { rows_max: 5, ms_max: 30_000 };
    let answer = query(&graph.link, "UNWIND range(1, 1000000) AS x RETURN x", Map::new(), limits).await.unwrap();
    assert_eq!((answer.rows.len(), answer.cut), (5, true));
    let whole = query(&graph.link, "UNWIND range(1, 5) AS x RETURN x", Map::new(), limits).await.unwrap();
    assert_eq!((whole.rows.len(), whole.cut), (5, false));

    let endless = "UNWIND range(1, 100000) AS a UNWIND range(1, 100000) AS b UNWIND range(1, 100000) AS c \
        RETURN count(a * b * c) AS n";
    let began = Instant::now();
    let limits = RawLimits { rows_max: 5, ms_max: 1_000 };
    let late = query(&graph.link, endless, Map::new(), limits).await;
    assert!(matches!(late, Err(RawError::Link(_))), "{late:?}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    // The link goes on, and the server does not go on with the query.
    let running = "SHOW TRANSACTIONS YIELD currentQuery WHERE currentQuery CONTAINS 'range(1, 100000)' \
        AND NOT currentQuery CONTAINS 'SHOW' RETURN currentQuery AS row";
    let end = Instant::now() + Duration::from_secs(120);
    while !ask(&graph.link, running).await.is_empty() {
        assert!(Instant::now() < end, "the server still runs it");
    }
}

#[tokio::test]
async fn a_mistake_is_told_in_the_servers_words() {
    let graph = filled().await;
    let wrong = query(&graph.link, "MATCH (f:File RETURN f", Map::new(), RawLimits::default()).await.unwrap_err();
    assert!(wrong.to_string().contains("SyntaxError"), "{wrong}");
    let lacking = query(&graph.link, "RETURN $lacking AS x", Map::new(), RawLimits::default()).await.unwrap_err();
    assert!(lacking.to_string().contains("lacking"), "{lacking}");
}
