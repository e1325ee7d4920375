//! `graph query`: Cypher of a user, for reading only.
//!
//! Never lets a statement write, change the schema, reach a file or another server, or run without end. Three walls, each
//! enough for most: the words are looked at first, then the server says what kind of statement it is, and it runs in a
//! transaction that the server itself keeps to reading. Always: rows and time are bounded.

use serde_json::{Map, Value};
use thiserror::Error;

use super::link::{AnswerRow, Link, LinkError, Statement, StatementKind};

/// Most rows of one answer.
pub const ROWS_MAX: usize = 10_000;
/// Longest time of one query, in milliseconds.
pub const QUERY_MS_MAX: u64 = 30_000;
/// Longest text of a query, in bytes.
pub const TEXT_MAX: usize = 64 * 1024;

/// The clauses that a query may begin with.
const FIRST_WORDS: [&str; 6] = ["MATCH", "OPTIONAL", "WITH", "UNWIND", "RETURN", "CALL"];
/// Procedures that only look at the graph. Any other may be a plug-in's and do anything, whatever it claims.
const PROCEDURES: [&str; 6] = [
    "db.labels",
    "db.relationshiptypes",
    "db.propertykeys",
    "db.schema.visualization",
    "db.schema.nodetypeproperties",
    "db.schema.reltypeproperties",
];

/// Rows and time that a query may take; both are cut to [`ROWS_MAX`] and [`QUERY_MS_MAX`].
#[derive(Clone, Copy, Debug)]
pub struct RawLimits {
    /// Most rows.
    pub rows_max: usize,
    /// Longest time, in milliseconds.
    pub ms_max: u64,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self { rows_max: ROWS_MAX, ms_max: QUERY_MS_MAX }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct RawAnswer {
    /// The rows, each an object of column name to value.
    pub rows: Vec<AnswerRow>,
    /// There were more.
    pub cut: bool,
}

/// Why a query has no answer.
#[derive(Debug, Error)]
pub enum RawError {
    /// It is not one that may run here.
    #[error("this query is refused: {0}")]
    Refused(String),
    /// The server.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Runs `text`; `params` are the values of its `$names`.
///
/// # Errors
/// [`RawError::Refused`] for everything that is not plain reading; [`RawError::Link`] with the server's words otherwise.
pub async fn query(
    link: &Link,
    text: &str,
    params: Map<String, Value>,
    limits: RawLimits,
) -> Result<RawAnswer, RawError> {
    look_at_words(text).map_err(RawError::Refused)?;
    let ms_max = limits.ms_max.min(QUERY_MS_MAX);
    let rows_max = limits.rows_max.min(ROWS_MAX);
    let statement = Statement { text: text.to_owned(), params };
    if link.explain(&statement, ms_max).await? != StatementKind::Reads {
        return Err(RawError::Refused("Neo4j does not take it for a query that only reads".to_owned()));
    }
    let mut rows = link.read(&statement, ms_max).await?;
    let mut answer = RawAnswer { rows: Vec::new(), cut: false };
    while let Some(row) = rows.next().await? {
        if answer.rows.len() == rows_max {
            answer.cut = true;
            break;
        }
        answer.rows.push(row);
    }
    Ok(answer)
}

/// What the server would take for reading although it is not: files, other servers, procedures.
fn look_at_words(text: &str) -> Result<(), String> {
    if text.len() > TEXT_MAX {
        return Err(format!("it has {} bytes; at most {TEXT_MAX} are expected", text.len()));
    }
    // Neo4j replaces \uXXXX before it reads anything else, so a word could be hidden from us.
    if text.contains("\\u") || text.contains("\\U") {
        return Err("it holds \\u; write the character itself".to_owned());
    }
    let words = words(text)?;
    let first = words.first().map(|word| word.to_ascii_uppercase()).unwrap_or_default();
    if !FIRST_WORDS.contains(&first.as_str()) {
        return Err(format!("it begins with `{first}`; expected is one of {}", FIRST_WORDS.join(", ")));
    }
    for (at, word) in words.iter().enumerate() {
        let next = words.get(at + 1).map(String::as_str).unwrap_or_default();
        if word.eq_ignore_ascii_case("LOAD") && next.eq_ignore_ascii_case("CSV") {
            return Err("LOAD CSV would read files or other servers".to_owned());
        }
        if word.eq_ignore_ascii_case("CALL") && !is_property(&words, at) {
            check_call(words.get(at + 1..).unwrap_or_default())?;
        }
    }
    Ok(())
}

fn check_call(after: &[String]) -> Result<(), String> {
    // A subquery, or a variable of that name.
    if !after.first().is_some_and(|word| is_name_part(word)) {
        return Ok(());
    }
    let name: String = after.iter().take_while(|word| is_name_part(word)).map(String::as_str).collect();
    let name = name.to_ascii_lowercase();
    // The name ends where YIELD or a clause begins, since words are apart there; dots glue, letters do not.
    if PROCEDURES.iter().any(|known| name == *known || starts_with_call(after, known)) {
        return Ok(());
    }
    Err(format!("the procedure `{name}` may do more than read the graph"))
}

/// Is the word behind a dot that no number is before? (`1.` could be a number, and `CALL` a clause.)
fn is_property(words: &[String], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).and_then(|at| words.get(at));
    let number = before(2).is_some_and(|word| word.starts_with(|c: char| c.is_numeric()));
    before(1).is_some_and(|word| word == ".") && !number
}

/// Does `after` begin with the dotted name `known`, and not go on with a dot?
fn starts_with_call(after: &[String], known: &str) -> bool {
    let parts: Vec<&str> = known.split('.').collect();
    let mut words = after.iter();
    for (at, part) in parts.iter().enumerate() {
        if at > 0 && words.next().map(String::as_str) != Some(".") {
            return false;
        }
        if !words.next().is_some_and(|word| word.eq_ignore_ascii_case(part)) {
            return false;
        }
    }
    words.next().map(String::as_str) != Some(".")
}

fn is_name_part(word: &str) -> bool {
    word == "." || word.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// Words and single signs of `text`, without comments and strings. A name in backticks is one word without them, so that
/// quoting hides nothing.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\'' | '"' => skip_string(&mut rest, c)?,
            '`' => all.push(quoted_name(&mut rest)?),
            '/' if rest.peek() == Some(&'/') => while rest.next_if(|c| *c != '\n' && *c != '\r').is_some() {},
            '/' if rest.peek() == Some(&'*') => skip_comment(&mut rest)?,
            c if c.is_alphanumeric() || c == '_' => {
                let mut word = String::from(c);
                while let Some(c) = rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    word.push(c);
                }
                all.push(word);
            }
            c if c.is_whitespace() => {}
            c => all.push(String::from(c)),
        }
    }
    Ok(all)
}

type Rest<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn skip_string(rest: &mut Rest<'_>, quote: char) -> Result<(), String> {
    while let Some(c) = rest.next() {
        if c == '\\' {
            rest.next();
        } else if c == quote {
            return Ok(());
        }
    }
    Err(format!("a string that begins with {quote} has no end"))
}

fn quoted_name(rest: &mut Rest<'_>) -> Result<String, String> {
    let mut name = String::new();
    while let Some(c) = rest.next() {
        if c != '`' {
            name.push(c);
        } else if rest.next_if_eq(&'`').is_some() {
            name.push('`');
        } else {
            return Ok(name);
        }
    }
    Err("a name that begins with a backtick has no end".to_owned())
}

fn skip_comment(rest: &mut Rest<'_>) -> Result<(), String> {
    rest.next();
    let mut star = false;
    for c in rest.by_ref() {
        if star && c == '/' {
            return Ok(());
        }
        star = c == '*';
    }
    Err("a comment that begins with /* has no end".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{TEXT_MAX, look_at_words};

    fn refused(text: &str) -> String {
        look_at_words(text).unwrap_err()
    }

    #[test]
    fn plain_reading_passes() {
        for text in [
            "MATCH (f:File) WHERE f.name = 'LOAD CSV' RETURN f // CALL apoc.x()",
            "match (t:Tag {key: \"it's /* not a comment\"}) return t.name",
            "MATCH (f) CALL { WITH f MATCH (f)-->(g) RETURN count(g) AS n } RETURN n",
            "CALL db.labels() YIELD label RETURN label",
            "CALL db.labels",
            "/* first */ UNWIND [1, 2] AS x RETURN x / 2",
            "MATCH (f) WHERE f.call = 1 RETURN f",
        ] {
            assert_eq!(look_at_words(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn other_first_words_are_refused() {
        for text in [
            "CREATE (n)",
            "MERGE (n)",
            "USE system MATCH (n) RETURN n",
            "SHOW USERS",
            "EXPLAIN MATCH (n) RETURN n",
            "PROFILE MATCH (n) RETURN n",
            "CYPHER 5 MATCH (n) RETURN n",
            "TERMINATE TRANSACTION 'x'",
            "LOAD CSV FROM 'x' AS r RETURN r",
            "",
            ";",
            "FOREACH (x IN [1] | CREATE (n))",
        ] {
            assert!(refused(text).contains("begins with"), "{text}");
        }
    }

    #[test]
    fn files_and_procedures_are_refused_however_they_are_spelled() {
        assert!(refused("MATCH (n) LOAD/**/csv FROM 'file:///etc/passwd' AS r RETURN r").contains("LOAD CSV"));
        assert!(refused("MATCH (n) RETURN n UNION LOA\\u0044 CSV FROM 'x' AS n RETURN n").contains("\\u"));
        assert!(refused("CALL apoc.load.json('http://x')").contains("apoc.load.json"));
        assert!(
            refused("MATCH (n) CALL `apoc`.`cypher`.doIt('x', {}) YIELD value RETURN n").contains("apoc.cypher.doit")
        );
        assert!(refused("CALL dbms.listConfig()").contains("dbms.listconfig"));
        assert!(refused("CALL db.labels.more()").contains("db.labels.more"));
        assert!(refused("CALL db.index.fulltext.drop('x')").contains("db.index"));
    }

    #[test]
    fn a_number_before_a_dot_hides_no_call() {
        assert!(refused("WITH 1 AS x WHERE x > 1.CALL apoc.x() RETURN x").contains("apoc.x"));
    }

    #[test]
    fn texts_without_an_end_and_long_ones_are_refused() {
        assert!(refused("MATCH (n) RETURN 'x").contains("no end"));
        assert!(refused("MATCH (`n RETURN 1").contains("no end"));
        assert!(refused("MATCH (n) /* RETURN n").contains("no end"));
        assert!(refused(&" ".repeat(TEXT_MAX + 1)).contains("65537 bytes"));
    }
}
