//! The query language answered by Neo4j: a [`Query`] becomes one Cypher statement.
//!
//! Never puts a word of the user into Cypher text: all of them are parameters. Never answers full text, saved queries and
//! names of owners, which Neo4j does not have; it says so. Always: a statement starts at the rarest tag (or the one file,
//! or the related file) that must hold, tests the rest from the file's side, where there are some ten edges, and returns
//! inodes in ascending order.

use serde_json::{Map, Value as Json, json};
use thiserror::Error;

use dgfs_proto::ids::Ino;
use dgfs_proto::query::{Atom, Clause, Entry, Query, Relation, Test};

use super::link::{Link, LinkError, Statement};

mod pattern;
pub mod resolve;
mod values;

use self::resolve::ResolvedTags;
use self::values::Values;

/// Most inodes of one page.
pub const PAGE_MAX: usize = 10_000;
/// A tag with more files than this says little: two files that share it need not be related.
const RARE_TAG_FILES_MAX: u64 = 100;
/// What is no directory.
const NO_DIRECTORY: &str = "NOT f:Dir";
/// What a relation counts as among the starting points: its degree is not known, and it is usually small.
const RELATION_DEGREE: u64 = 1_000;

/// Why a query has no answer here.
#[derive(Debug, Error)]
pub enum FindError {
    /// What Neo4j has no answer to.
    #[error("this query cannot be answered by Neo4j: {0}")]
    Query(String),
    /// The server.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// What a query is compiled for, beside its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Now, microseconds since 1970: ages count from it.
    pub now_us: i64,
    /// Of dates: seconds east of UTC.
    pub utc_offset_secs: i32,
    /// How many seconds ago is `@recent`.
    pub recent_secs: u64,
}

/// Which part of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Inodes above this one.
    pub after: u64,
    /// At most so many; cut to [`PAGE_MAX`].
    pub limit: usize,
}

/// Inodes that pass `query`, ascending.
///
/// # Errors
/// [`FindError`].
pub async fn find(link: &Link, query: &Query, moment: Moment, page: Page) -> Result<Vec<u64>, FindError> {
    query.check().map_err(|error| FindError::Query(error.to_string()))?;
    let tags = resolve::resolve(link, query).await?;
    let statement = compile(query, &tags, moment, page)?;
    let rows = link.column(&statement, PAGE_MAX).await?;
    Ok(rows.iter().filter_map(Json::as_u64).collect())
}

/// The statement that [`find`] runs: column `row` holds inodes.
///
/// # Errors
/// [`FindError::Query`]: full text, a saved query, an entry or owner by name.
pub fn compile(query: &Query, tags: &ResolvedTags, moment: Moment, page: Page) -> Result<Statement, FindError> {
    let mut compiler = Compiler { tags, moment, params: Map::new() };
    let anchor = compiler.anchor(query);
    let mut tests = vec!["NOT f:Unknown".to_owned()];
    // The root has no name, and nothing finds it.
    let after = compiler.param(json!(page.after.max(Ino::ROOT.get())));
    tests.push(format!("f.id > {after}"));
    for (at, clause) in query.clauses.iter().enumerate() {
        if anchor.clause != Some(at) {
            tests.push(compiler.clause(clause)?);
        }
    }
    let only_negated = query.clauses.iter().flat_map(|clause| &clause.atoms).all(|atom| atom.negated);
    if only_negated {
        // What a question says nothing positive about is meant of files.
        tests.push(NO_DIRECTORY.to_owned());
    }
    let limit = compiler.param(json!(page.limit.min(PAGE_MAX)));
    let tests = tests.join(" AND ");
    let text = format!("{} WHERE {tests} RETURN f.id AS row ORDER BY f.id LIMIT {limit}", anchor.text);
    Ok(Statement { text, params: compiler.params })
}

/// Where a statement starts.
struct Anchor {
    text: String,
    /// The clause that needs no test any more.
    clause: Option<usize>,
}

struct Compiler<'a> {
    tags: &'a ResolvedTags,
    moment: Moment,
    params: Map<String, Json>,
}

impl Compiler<'_> {
    /// A new parameter with its `$`.
    fn param(&mut self, value: Json) -> String {
        let name = format!("p{}", self.params.len());
        let used = format!("${name}");
        self.params.insert(name, value);
        used
    }

    /// The start that promises the fewest files.
    fn anchor(&mut self, query: &Query) -> Anchor {
        let costs = query.clauses.iter().enumerate().filter_map(|(at, clause)| Some((self.cost(clause)?, at)));
        let best = costs.min().and_then(|(_, at)| Some((at, query.clauses.get(at)?)));
        let Some((at, clause)) = best else { return Anchor { text: "MATCH (f:Inode)".to_owned(), clause: None } };
        let text = match clause.atoms.first().map(|atom| &atom.test) {
            Some(Test::File(ino)) => format!("MATCH (f:Inode {{id: {}}})", self.param(json!(ino.get()))),
            Some(Test::Related { of: Entry::Ino(ino), relation }) => {
                let of = self.param(json!(ino.get()));
                let hop = hop(*relation).unwrap_or_default();
                format!("MATCH (o:Inode {{id: {of}}}) MATCH {hop} WHERE f <> o WITH DISTINCT f")
            }
            _ => {
                let keys = self.keys(clause);
                let keys = self.param(keys);
                format!("MATCH (t:Tag)<-[x:TAGGED]-(f:Inode) WHERE t.key IN {keys} AND x.val = '' WITH DISTINCT f")
            }
        };
        Anchor { text, clause: Some(at) }
    }

    /// How many files a start at this clause would visit; none when one cannot start there.
    fn cost(&self, clause: &Clause) -> Option<u64> {
        if let [Atom { negated: false, test }] = clause.atoms.as_slice() {
            match test {
                Test::File(_) => return Some(0),
                Test::Related { of: Entry::Ino(_), relation } if hop(*relation).is_some() => {
                    return Some(RELATION_DEGREE);
                }
                _ => {}
            }
        }
        let degree = |atom: &Atom| match &atom.test {
            Test::Tag(tag) if !atom.negated && tag.key_value().is_none() => {
                Some(self.tags.get(&tag.fold()).map_or(0, |tag| tag.degree))
            }
            _ => None,
        };
        clause.atoms.iter().map(degree).sum()
    }

    /// Keys of all tags that pass a clause of tags.
    fn keys(&self, clause: &Clause) -> Json {
        let tags = clause.atoms.iter().filter_map(|atom| match &atom.test {
            Test::Tag(tag) => Some(self.keys_of(tag.fold())),
            _ => None,
        });
        json!(tags.flatten().collect::<Vec<_>>())
    }

    fn keys_of(&self, folded: String) -> Vec<String> {
        match self.tags.get(&folded) {
            Some(resolved) => resolved.keys.clone(),
            None => vec![folded],
        }
    }

    fn clause(&mut self, clause: &Clause) -> Result<String, FindError> {
        let mut any = Vec::new();
        for atom in &clause.atoms {
            let test = self.test(&atom.test)?;
            any.push(if atom.negated { format!("NOT {test}") } else { test });
        }
        Ok(format!("({})", any.join(" OR ")))
    }

    /// An expression that is true or false, never null: a negation of null would be null.
    fn test(&mut self, test: &Test) -> Result<String, FindError> {
        Ok(match test {
            Test::Tag(tag) => match tag.key_value() {
                Some((key, value)) => self.values().spelled(key, value),
                None => {
                    let keys = self.param(json!(self.keys_of(tag.fold())));
                    format!("EXISTS {{ MATCH (f)-[x:TAGGED]->(t:Tag) WHERE t.key IN {keys} AND x.val = '' }}")
                }
            },
            Test::Has(key) => self.values().has(key),
            Test::Compare { key, op, value } => self.values().compare(key, *op, value)?,
            Test::Range { key, low, high } => self.values().range(key, low.as_ref(), high.as_ref())?,
            Test::Text(_) => return Err(unanswered("full text is kept by the embedded index only")),
            Test::Saved(_) => return Err(unanswered("put what the saved query says in its place")),
            Test::Name(glob) => {
                let regex = self.param(json!(pattern::regex(glob)));
                format!("EXISTS {{ MATCH ()-[c:CONTAINS]->(f) WHERE c.name =~ {regex} }}")
            }
            Test::Related { of: Entry::Ino(ino), relation } => {
                let of = self.param(json!(ino.get()));
                related(&of, *relation)
            }
            Test::Related { of: Entry::Name(_), .. } => {
                return Err(unanswered("put the inode of the named file in its place"));
            }
            Test::All => NO_DIRECTORY.to_owned(),
            Test::Untagged => {
                format!("({NO_DIRECTORY} AND NOT EXISTS {{ MATCH (f)-[:TAGGED {{src: 'user'}}]->() }})")
            }
            Test::Recent => {
                let since = values::ago(self.moment.now_us, self.moment.recent_secs);
                format!("({NO_DIRECTORY} AND coalesce(f.mtime >= {}, false))", self.param(json!(since)))
            }
            Test::Date(date) => {
                let (from, until) = date.span(self.moment.utc_offset_secs);
                let (from, until) = (self.param(json!(values::micros(from))), self.param(json!(values::micros(until))));
                let moment = "coalesce(f.taken, f.mtime)";
                format!("({NO_DIRECTORY} AND coalesce({moment} >= {from} AND {moment} < {until}, false))")
            }
            Test::File(ino) => format!("f.id = {}", self.param(json!(ino.get()))),
        })
    }

    fn values(&mut self) -> Values<'_> {
        Values { now_us: self.moment.now_us, params: &mut self.params }
    }
}

/// The pattern of a relation that is one: from `o`, the other file, to `f`.
fn hop(relation: Relation) -> Option<&'static str> {
    Some(match relation {
        // Tags that people gave, with the same value.
        Relation::Tags => "(o)-[x:TAGGED {src: 'user'}]->()<-[:TAGGED {src: 'user', val: x.val}]-(f:Inode)",
        Relation::Similar => "(o)-[:SIMILAR_TO]-(f:Inode)",
        Relation::SameContent => "(o)-[:HAS_CONTENT]->()<-[:HAS_CONTENT]-(f:Inode)",
        Relation::LinksTo => "(o)-[:LINKS_TO]->(f:Inode)",
        Relation::LinkedFrom => "(o)<-[:LINKS_TO]-(f:Inode)",
        Relation::Derived => "(o)<-[:DERIVED_FROM]-(f:Inode)",
        Relation::Sources => "(o)-[:DERIVED_FROM]->(f:Inode)",
        Relation::Versions => "(o)-[:VERSION_OF]-(f:Inode)",
        Relation::Authors => "(o)-[:AUTHORED_BY]->()<-[:AUTHORED_BY]-(f:Inode)",
        Relation::Related => return None,
    })
}

fn related(of: &str, relation: Relation) -> String {
    let exists = |pattern: &str| format!("EXISTS {{ MATCH (o:Inode {{id: {of}}}) MATCH {pattern} WHERE f <> o }}");
    if let Some(pattern) = hop(relation) {
        return exists(&pattern.replace("(f:Inode)", "(f)"));
    }
    let joined = [
        "(o)-[:LINKS_TO|DERIVED_FROM|VERSION_OF|SIMILAR_TO|RELATED_TO]-(f)",
        "(o)-[:HAS_CONTENT|AUTHORED_BY]->()<-[:HAS_CONTENT|AUTHORED_BY]-(f)",
    ];
    let rare = format!(
        "COUNT {{ MATCH (o:Inode {{id: {of}}})-[:TAGGED]->(t:Tag) MATCH (t)<-[:TAGGED]-(f) \
         WHERE f <> o AND COUNT {{ (t)<-[:TAGGED]-() }} <= {RARE_TAG_FILES_MAX} RETURN DISTINCT t }} >= 2"
    );
    format!("({} OR {rare})", joined.map(exists).join(" OR "))
}

fn unanswered(why: &str) -> FindError {
    FindError::Query(why.to_owned())
}

#[cfg(test)]
mod tests;
