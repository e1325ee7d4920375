//! Tests of values: sizes, times, texts and the values of tags.
//!
//! Never puts a value into the text; each becomes a parameter. Always: an expression is true or false, and a file without
//! the value passes no test of it, `!=` included.

use serde_json::{Map, Value as Json, json};

use dgfs_proto::attr::Timestamp;
use dgfs_proto::query::value::Number;
use dgfs_proto::query::{Compare, Key, Value};
use dgfs_runtime::clock::utc_seconds_text;

use super::FindError;
use crate::query::compare::date_of;

/// Writes tests of values for one statement.
pub(super) struct Values<'a> {
    pub(super) now_us: i64,
    pub(super) params: &'a mut Map<String, Json>,
}

/// Microseconds since 1970, cut to what fits.
pub(super) fn micros(time: Timestamp) -> i64 {
    time.secs.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos / 1_000))
}

/// So many seconds before `now_us`.
pub(super) fn ago(now_us: i64, secs: u64) -> i64 {
    now_us.saturating_sub(i64::try_from(secs).unwrap_or(i64::MAX).saturating_mul(1_000_000))
}

/// Where a key's values are.
enum Place<'a> {
    /// A property of the file.
    Property(&'static str),
    /// What it is: its label, and its class.
    Kind,
    /// The hash, on a node of its own.
    Hash,
    /// On the edges to a tag.
    Edge(&'a str),
}

fn place(key: &Key) -> Place<'_> {
    match key {
        Key::Size => Place::Property("f.size"),
        Key::Mtime => Place::Property("f.mtime"),
        Key::Ctime => Place::Property("f.ctime"),
        Key::Btime => Place::Property("f.btime"),
        Key::Taken => Place::Property("f.taken"),
        Key::Type => Place::Kind,
        Key::Ext => Place::Property("f.ext"),
        Key::Mime => Place::Property("f.mime"),
        Key::Lang => Place::Property("f.lang"),
        Key::Owner => Place::Property("f.uid"),
        Key::Group => Place::Property("f.gid"),
        Key::Nlink => Place::Property("f.nlink"),
        Key::Hash => Place::Hash,
        Key::Other(key) => Place::Edge(key.as_str()),
    }
}

impl Values<'_> {
    fn param(&mut self, value: Json) -> String {
        let name = format!("p{}", self.params.len());
        let used = format!("${name}");
        self.params.insert(name, value);
        used
    }

    /// The tag that is spelled `key=value`.
    pub(super) fn spelled(&mut self, key: &str, value: &str) -> String {
        let number = Number::parse(value).map(Value::Number);
        let value = number.unwrap_or_else(|| Value::Text(value.to_owned()));
        let test = self.edge_test(Compare::Equal, &value);
        self.edge(&key.to_lowercase(), &test)
    }

    /// Has the file any value of `key`?
    pub(super) fn has(&mut self, key: &Key) -> String {
        match place(key) {
            Place::Kind => "true".to_owned(),
            Place::Property(property) => format!("{property} IS NOT NULL"),
            Place::Hash => "EXISTS { MATCH (f)-[:HAS_CONTENT]->() }".to_owned(),
            Place::Edge(key) => self.edge(key, "x.val <> ''"),
        }
    }

    pub(super) fn compare(&mut self, key: &Key, op: Compare, value: &Value) -> Result<String, FindError> {
        Ok(match (place(key), value) {
            (Place::Kind, value) => self.kind_test(op, &value.to_text().to_lowercase()),
            // A class of contents stands for all of them.
            (Place::Property("f.mime"), Value::Text(class)) if op == Compare::Equal && !class.contains('/') => {
                let class = self.param(json!(format!("{}/", class.to_lowercase())));
                format!("coalesce(f.mime STARTS WITH {class}, false)")
            }
            (Place::Property("f.ext"), Value::Text(ext)) if op == Compare::Equal => self.ext_test(&ext.to_lowercase()),
            (Place::Edge(key), value) => {
                let test = self.edge_test(op, value);
                self.edge(key, &test)
            }
            (Place::Hash, value) => {
                let hash = self.param(json!(value.to_text().to_lowercase()));
                let sign = cypher(op);
                format!("EXISTS {{ MATCH (f)-[:HAS_CONTENT]->(c) WHERE c.hash {sign} {hash} }}")
            }
            (Place::Property("f.uid" | "f.gid"), Value::Text(_)) => {
                let why = "it knows owners and groups by number only";
                return Err(FindError::Query(why.to_owned()));
            }
            (Place::Property(property), Value::Text(text)) => {
                let text = self.param(json!(text.to_lowercase()));
                format!("coalesce({property} {} {text}, false)", cypher(op))
            }
            (Place::Property(property), Value::Number(number)) => {
                let number = self.param(json!(number.get()));
                format!("coalesce({property} {} {number}, false)", cypher(op))
            }
            (Place::Property(property), Value::Size(size)) => {
                let size = self.param(json!(i64::try_from(*size).unwrap_or(i64::MAX)));
                format!("coalesce({property} {} {size}, false)", cypher(op))
            }
            (Place::Property(property), Value::Time { from, until }) => {
                let (from, until) = (self.param(json!(micros(*from))), self.param(json!(micros(*until))));
                format!("coalesce({}, false)", time_test(property, op, &from, &until))
            }
            (Place::Property(property), Value::Within(secs)) => {
                let since = self.param(json!(ago(self.now_us, *secs)));
                let sign = match op {
                    Compare::Equal | Compare::Less | Compare::AtMost => ">=",
                    Compare::Differs | Compare::Greater | Compare::AtLeast => "<",
                };
                format!("coalesce({property} {sign} {since}, false)")
            }
        })
    }

    /// An inode is of its kind and of the class of its content.
    fn kind_test(&mut self, op: Compare, value: &str) -> String {
        let class = self.param(json!(value));
        let sign = cypher(op);
        let of_class = format!("coalesce(f.class {sign} {class}, false)");
        let other = op == Compare::Differs;
        let label = match (value, other) {
            ("file", false) => "f:File",
            ("directory", false) => "f:Dir",
            ("file", true) => "f:Dir",
            ("directory", true) => "f:File",
            ("symlink" | "fifo" | "socket" | "device", true) => "f:File OR f:Dir",
            // No kind is called so, and everything is of some kind.
            (_, true) => "true",
            (_, false) => return of_class,
        };
        format!("({label} OR {of_class})")
    }

    /// One of its names has this extension: the property holds one of them only.
    fn ext_test(&mut self, ext: &str) -> String {
        if !ext.chars().all(char::is_alphanumeric) {
            return "false".to_owned();
        }
        let (letters, end) = (self.param(json!(ext.chars().count() + 1)), self.param(json!(format!(".{ext}"))));
        let named = "EXISTS { MATCH ()-[c:CONTAINS]->(f) WHERE c.raw IS NULL";
        format!("{named} AND toLower(c.name) ENDS WITH {end} AND size(c.name) > {letters} }}")
    }

    pub(super) fn range(&mut self, key: &Key, low: Option<&Value>, high: Option<&Value>) -> Result<String, FindError> {
        let bounds = [(low, Compare::AtLeast), (high, Compare::AtMost)];
        let given = bounds.into_iter().filter_map(|(value, op)| Some((value?, op)));
        if let Place::Edge(key) = place(key) {
            // Both bounds hold for one value, not each for another one.
            let tests: Vec<String> = given.map(|(value, op)| self.edge_test(op, value)).collect();
            return Ok(self.edge(key, &tests.join(" AND ")));
        }
        let mut tests = Vec::new();
        for (value, op) in given {
            tests.push(match value {
                Value::Within(_) => self.age_bound(key, op, value)?,
                Value::Number(_) | Value::Size(_) | Value::Time { .. } | Value::Text(_) => {
                    self.compare(key, op, value)?
                }
            });
        }
        Ok(format!("({})", tests.join(" AND ")))
    }

    /// `2w..4w`: at least two weeks old, at most four.
    fn age_bound(&mut self, key: &Key, op: Compare, value: &Value) -> Result<String, FindError> {
        match (op, value, place(key)) {
            (Compare::AtLeast, Value::Within(secs), Place::Property(property)) => {
                let since = self.param(json!(ago(self.now_us, *secs)));
                Ok(format!("coalesce({property} <= {since}, false)"))
            }
            (op, value, _) => self.compare(key, op, value),
        }
    }

    /// An edge to the tag `key` that passes `test`, which speaks of `x`.
    fn edge(&mut self, key: &str, test: &str) -> String {
        let key = self.param(json!(key));
        format!("EXISTS {{ MATCH (f)-[x:TAGGED]->(:Tag {{key: {key}}}) WHERE {test} }}")
    }

    fn edge_test(&mut self, op: Compare, value: &Value) -> String {
        let date = date_of(value);
        let (property, value) = match value {
            Value::Number(number) => ("x.num", self.param(json!(number.get()))),
            // Of other keys there are no sizes, times and ages; as texts they find nothing they should not.
            Value::Text(_) | Value::Size(_) | Value::Time { .. } | Value::Within(_) => {
                ("toLower(x.str)", self.param(json!(value.to_text().to_lowercase())))
            }
        };
        let plain = match op {
            // A value of the other type is another value.
            Compare::Differs => format!("x.val <> '' AND coalesce({property} <> {value}, true)"),
            op => format!("{property} {} {value}", cypher(op)),
        };
        let Some(Value::Time { from, until }) = date else { return plain };
        // Dates sort as their texts do.
        let (from, until) = (self.param(json!(written(from.secs))), self.param(json!(written(until.secs))));
        let of_times = time_test("toUpper(x.str)", op, &from, &until);
        format!("CASE WHEN x.str =~ '[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}.*' THEN {of_times} ELSE {plain} END")
    }
}

/// A time as taggers write it; midnight as the date alone, which is no later than any way to write that day.
fn written(secs: i64) -> String {
    let time = utc_seconds_text(secs);
    time.strip_suffix("T00:00:00Z").map_or_else(|| time.clone(), str::to_owned)
}

fn time_test(property: &str, op: Compare, from: &str, until: &str) -> String {
    match op {
        Compare::Equal => format!("{property} >= {from} AND {property} < {until}"),
        Compare::Differs => format!("({property} < {from} OR {property} >= {until})"),
        Compare::Less => format!("{property} < {from}"),
        Compare::AtMost => format!("{property} < {until}"),
        Compare::Greater => format!("{property} >= {until}"),
        Compare::AtLeast => format!("{property} >= {from}"),
    }
}

const fn cypher(op: Compare) -> &'static str {
    match op {
        Compare::Equal => "=",
        Compare::Differs => "<>",
        Compare::Less => "<",
        Compare::AtMost => "<=",
        Compare::Greater => ">",
        Compare::AtLeast => ">=",
    }
}
