//! The requests, as JSON objects: which of them it is, its first key says.
//!
//! Never looks anything up. Every refusal names the key and what was expected there.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use dgfs_proto::status::Status;

use super::AskError;

/// An inode: its number, `~id`, or a path, seen from the directory that has the `.tags` (an absolute one begins with the mount
/// point).
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Which {
    /// By number.
    Number(u64),
    /// By `~id` or path.
    Text(String),
}

/// Only `true`: the value of a key that needs none.
#[derive(Debug, Deserialize)]
#[serde(try_from = "bool")]
pub(crate) struct Yes;

impl TryFrom<bool> for Yes {
    type Error = &'static str;

    fn try_from(on: bool) -> Result<Self, Self::Error> {
        if on { Ok(Self) } else { Err("expected true") }
    }
}

macro_rules! requests {
    ($($variant:ident $key:literal { $($(#[$attribute:meta])* $field:ident: $kind:ty),+ $(,)? }),+ $(,)?) => {
        $(
            #[doc = concat!("`", $key, "`")]
            #[derive(Debug, Deserialize)]
            #[serde(deny_unknown_fields, rename_all = "kebab-case")]
            pub(crate) struct $variant {
                $($(#[$attribute])* pub(crate) $field: $kind),+
            }
        )+

        /// A request.
        #[derive(Debug)]
        pub(crate) enum Request {
            $(#[doc = concat!("`", $key, "`")] $variant($variant)),+
        }

        /// What a request may be, for the sentence of a refusal.
        const KEYS: &[&str] = &[$($key),+];

        fn of_key(key: &str, object: Map<String, Value>) -> Result<Request, AskError> {
            match key {
                $($key => Ok(Request::$variant(fields(key, object)?)),)+
                _ => Err(unknown()),
            }
        }
    };
}

requests! {
    Find "find" {
        find: String,
        #[serde(default)] limit: Option<u32>,
        #[serde(default)] after: Option<u64>,
        #[serde(default)] utc_offset_secs: i32,
    },
    Count "count" { count: String, #[serde(default)] utc_offset_secs: i32 },
    Facets "facets" {
        facets: String,
        #[serde(default)] prefix: String,
        #[serde(default)] limit: Option<u32>,
        #[serde(default)] utc_offset_secs: i32,
    },
    Explain "explain" { explain: String, #[serde(default)] utc_offset_secs: i32 },
    Tags "tags" { tags: Option<String>, #[serde(default)] limit: Option<u32> },
    Saved "saved" { saved: Yes },
    Related "related" { related: Which, #[serde(default)] limit: Option<u32> },
    Duplicates "duplicates" { duplicates: Yes, #[serde(default)] limit: Option<u32> },
    Marks "marks" { marks: Which },
    Progress "status" { status: Yes },
    Wait "wait" { wait: Yes },
    Watch "watch" {
        watch: Option<String>,
        #[serde(default)] after: Option<u64>,
        #[serde(default)] utc_offset_secs: i32,
    },
    Rebuild "rebuild" { rebuild: Yes },
    Check "check" { check: Yes },
    Cypher "cypher" { cypher: String },
    Tagger "tagger" { tagger: TaggerWord },
    Tag "tag" { tag: TagWords },
    TagsCommand "tags-command" { tags_command: CommandWord },
    Relate "relate" { relate: RelateWords },
    Save "save" {
        save: String,
        expression: Option<String>,
        #[serde(default)] replace: bool,
        #[serde(default)] utc_offset_secs: i32,
    },
}

impl Request {
    /// Does it change anything, be it only the index?
    pub(crate) const fn changes(&self) -> bool {
        match self {
            Self::Find(_)
            | Self::Count(_)
            | Self::Facets(_)
            | Self::Explain(_)
            | Self::Tags(_)
            | Self::Saved(_)
            | Self::Related(_)
            | Self::Duplicates(_)
            | Self::Marks(_)
            | Self::Progress(_)
            | Self::Wait(_)
            | Self::Watch(_)
            | Self::Check(_)
            | Self::Cypher(_)
            | Self::Tagger(Tagger { tagger: TaggerWord::List }) => false,
            Self::Rebuild(_)
            | Self::Tagger(_)
            | Self::Tag(_)
            | Self::TagsCommand(_)
            | Self::Relate(_)
            | Self::Save(_) => true,
        }
    }
}

/// What of taggers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum TaggerWord {
    /// All of them.
    List,
    /// Takes no new jobs.
    Pause,
    /// Takes jobs again.
    Resume,
    /// Looks at a file once more.
    Run {
        /// None: all.
        #[serde(default)]
        tagger: Option<String>,
        /// At which.
        of: Which,
    },
}

/// Tags of inodes.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TagWords {
    pub(crate) inos: Vec<Which>,
    pub(crate) paths: Vec<String>,
    pub(crate) add: Vec<String>,
    pub(crate) remove: Vec<String>,
    pub(crate) veto: Vec<String>,
    pub(crate) unveto: Vec<String>,
    pub(crate) exclusive: bool,
}

/// Changes of the catalogue.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum CommandWord {
    /// A tag that nobody carries yet.
    Make(String),
    /// Another name.
    Rename { from: String, to: String },
    /// One of two.
    Merge { from: String, into: String },
    /// A further name, or (`tag` is null) no more.
    Alias { alias: String, tag: Option<String> },
    /// Who carries the first carries the second.
    Imply {
        tag: String,
        implied: String,
        #[serde(default = "yes")]
        on: bool,
    },
    /// It ends; `unused`: only if nobody carries it.
    Delete {
        tag: String,
        #[serde(default = "yes")]
        unused: bool,
    },
}

/// A relation made by hand.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RelateWords {
    pub(crate) from: Which,
    pub(crate) relation: String,
    pub(crate) to: Which,
    #[serde(default = "yes")]
    pub(crate) on: bool,
}

const fn yes() -> bool {
    true
}

fn unknown() -> AskError {
    AskError::new(Status::Invalid, format!("expected an object with exactly one of the keys {}", KEYS.join(", ")))
}

fn fields<T: DeserializeOwned>(key: &str, object: Map<String, Value>) -> Result<T, AskError> {
    serde_json::from_value(Value::Object(object))
        .map_err(|error| AskError::new(Status::Invalid, format!("in the request \"{key}\": {error}")))
}

/// Reads a request.
pub(crate) fn read(bytes: &[u8]) -> Result<Request, AskError> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        let mut refusal = AskError::new(Status::Invalid, format!("not JSON: {error}"));
        refusal.at = Some(offset(bytes, error.line(), error.column()));
        refusal.expected = Some("one JSON object, such as {\"find\": \"beach\"}".to_owned());
        refusal
    })?;
    let Value::Object(object) = value else { return Err(unknown()) };
    let mut known = KEYS.iter().filter(|key| object.contains_key(**key));
    match (known.next(), known.next()) {
        (Some(key), None) => of_key(key, object),
        (None | Some(_), _) => Err(unknown()),
    }
}

/// The byte at a line and column, both counted from 1.
fn offset(bytes: &[u8], line: usize, column: usize) -> usize {
    let before: usize =
        bytes.split(|byte| *byte == b'\n').take(line.saturating_sub(1)).map(|line| line.len() + 1).sum();
    (before + column.saturating_sub(1)).min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::{Request, read};

    #[test]
    fn every_request_is_read() {
        let requests = [
            r#"{"find": "a b"}"#,
            r#"{"find": "", "limit": 3, "after": 7, "utc-offset-secs": 3600}"#,
            r#"{"count": "a"}"#,
            r#"{"facets": "a", "prefix": "b", "limit": 5}"#,
            r#"{"explain": "a"}"#,
            r#"{"tags": null}"#,
            r#"{"saved": true}"#,
            r#"{"related": "a/b"}"#,
            r#"{"duplicates": true, "limit": 2}"#,
            r#"{"marks": 17}"#,
            r#"{"status": true}"#,
            r#"{"wait": true}"#,
            r#"{"watch": null, "after": 9}"#,
            r#"{"rebuild": true}"#,
            r#"{"check": true}"#,
            r#"{"cypher": "MATCH (n) RETURN n"}"#,
            r#"{"tagger": "list"}"#,
            r#"{"tagger": {"run": {"of": "~5"}}}"#,
            r#"{"tag": {"paths": ["a"], "inos": [1, "~5"], "add": ["x"], "remove": ["y"], "veto": ["z"]}}"#,
            r#"{"tags-command": {"make": "x"}}"#,
            r#"{"tags-command": {"alias": {"alias": "x", "tag": null}}}"#,
            r#"{"tags-command": {"delete": {"tag": "x"}}}"#,
            r#"{"relate": {"from": "a", "relation": "links-to", "to": "b"}}"#,
            r#"{"save": "n", "expression": null}"#,
            r#"{"save": "n", "expression": "x", "replace": true}"#,
        ];
        for request in requests {
            assert!(read(request.as_bytes()).is_ok(), "{request}: {:?}", read(request.as_bytes()).err());
        }
        assert!(matches!(read(br#"{"find": "x"}"#), Ok(Request::Find(find)) if find.find == "x"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let table = [
            ("", "not JSON", Some(0)),
            ("{\n\"find\" \"x\"}", "not JSON", Some(9)),
            ("[]", "exactly one of the keys find, count", None),
            ("{}", "exactly one of the keys", None),
            (r#"{"find": "a", "count": "b"}"#, "exactly one of the keys", None),
            (r#"{"status": false}"#, "in the request \"status\": expected true", None),
            (r#"{"find": 5}"#, "in the request \"find\"", None),
            (r#"{"find": "a", "limits": 5}"#, "unknown field `limits`", None),
            (r#"{"tag": {"adds": []}}"#, "unknown field `adds`", None),
            (r#"{"tags-command": {"burn": "x"}}"#, "unknown variant `burn`", None),
            (r#"{"find": "a", "limit": -1}"#, "in the request \"find\"", None),
        ];
        for (request, sentence, at) in table {
            let error = read(request.as_bytes()).unwrap_err();
            assert!(error.sentence.contains(sentence), "{request}: {}", error.sentence);
            assert_eq!(error.at, at, "{request}");
        }
        let deep = "[".repeat(60_000);
        assert!(read(deep.as_bytes()).is_err());
    }
}
