//! Expressions and tags as people write them on a command line.
//!
//! Never asks a mount: what is malformed is refused before, with the place.

use dgfs_proto::query::{Context, Query, QueryError, expr};
use dgfs_proto::tag::{Tag, parse_csv};

use crate::cli::Failure;
use crate::cli::graph::{local, misused};

/// A checked expression, and the zone that its times are of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expression {
    /// As it was written.
    pub(crate) text: String,
    /// Seconds east of UTC.
    pub(crate) utc_offset_secs: i32,
}

impl Expression {
    /// The expression that `words`, joined by blanks, are.
    pub(crate) fn new(words: &[String]) -> Result<Self, Failure> {
        let text = words.join(" ");
        let utc_offset_secs = local::utc_offset_secs();
        let checked: Result<Query, QueryError> = expr::parse_expr(&text, &Context { utc_offset_secs });
        match checked {
            Ok(_) => Ok(Self { text, utc_offset_secs }),
            Err(error) => Err(malformed(&text, &error)),
        }
    }
}

/// The sentence, and the place drawn under the expression.
fn malformed(text: &str, error: &QueryError) -> Failure {
    misused(format!("not an expression: expected {}\n{}", error.expected, error.caret(text)))
}

/// One tag.
pub(crate) fn tag(text: &str) -> Result<Tag, Failure> {
    Tag::parse(text).map_err(|error| misused(format!("\"{text}\" is not a tag: {error}")))
}

/// The tags of a comma list, at least one.
pub(crate) fn tags(text: &str) -> Result<Vec<Tag>, Failure> {
    let tags = tags_or_none(text)?;
    if tags.is_empty() {
        return Err(misused("expected a tag, or several parted by commas"));
    }
    Ok(tags)
}

/// The tags of a comma list, perhaps none.
pub(crate) fn tags_or_none(text: &str) -> Result<Vec<Tag>, Failure> {
    // One by one, so that a refusal names the tag.
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let _ = tag(item)?;
    }
    parse_csv(text.as_bytes()).map_err(misused)
}

#[cfg(test)]
mod tests {
    use super::{Expression, tag, tags, tags_or_none};

    #[test]
    fn words_are_joined_and_checked_here() {
        let words = ["beach".to_owned(), "size=10M..".to_owned(), "or x".to_owned()];
        assert_eq!(Expression::new(&words).unwrap().text, "beach size=10M.. or x");
    }

    #[test]
    fn a_malformed_expression_is_drawn_with_its_place() {
        let failure = Expression::new(&["beach and (sun".to_owned()]).unwrap_err();
        assert_eq!(failure.code, 2);
        let lines: Vec<_> = failure.sentence.lines().collect();
        assert!(lines[0].starts_with("not an expression: expected "), "{}", failure.sentence);
        assert_eq!(lines[1], "beach and (sun");
        assert_eq!(lines[2], "              ^");
    }

    #[test]
    fn tags_are_a_comma_list_of_which_the_wrong_one_is_named() {
        let names: Vec<_> = tags("beach, place:cn ,year=2020,Beach").unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["beach", "place:cn", "year=2020"]);
        assert!(tags_or_none("").unwrap().is_empty() && tags(" , ").is_err());
        let sentence = tags("ok,a::b").unwrap_err().sentence;
        assert!(sentence.starts_with("\"a::b\" is not a tag: "), "{sentence}");
        assert_eq!(tag("a,b").unwrap_err().code, 2);
    }
}
