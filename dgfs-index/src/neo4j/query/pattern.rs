//! Globs as the regular expressions of Neo4j (Java's).
//!
//! Never lets a glob choose how long a match takes: behind each `*` the first place that fits is final, as in a glob it
//! may be, so nothing is tried twice. Always: what a glob quotes, the expression quotes.

use std::iter::Peekable;
use std::str::Chars;

use dgfs_proto::query::Glob;

/// The expression for names that match `glob`, in whole and whatever their case.
///
/// Case is Java's, which for a handful of letters (such as the dotted İ) is not the simple folding of the embedded index;
/// of a name that is no UTF-8 it sees the replacement characters.
pub(super) fn regex(glob: &Glob) -> String {
    let mut runs = vec![String::new()];
    let mut rest = glob.as_str().chars().peekable();
    while let Some(character) = rest.next() {
        if character == '*' {
            runs.push(String::new());
            continue;
        }
        let Some(run) = runs.last_mut() else { break };
        match character {
            '?' => run.push('.'),
            '[' => push_class(run, &mut rest),
            '\\' => push_literal(run, rest.next().unwrap_or('\\')),
            plain => push_literal(run, plain),
        }
    }
    let last = runs.len() - 1;
    // (?s): a dot takes a line's end too. (?iu): case by Unicode.
    let mut regex = String::from("(?siu)");
    for (at, run) in runs.iter().enumerate() {
        if at == 0 {
            regex.push_str(run);
        } else if at == last {
            regex.push_str(".*");
            regex.push_str(run);
        } else if !run.is_empty() {
            regex.push_str("(?>.*?");
            regex.push_str(run);
            regex.push(')');
        }
    }
    regex
}

/// The reader of globs has checked the form; a class without its end cannot come here and would end with the text.
fn push_class(run: &mut String, rest: &mut Peekable<Chars<'_>>) {
    run.push('[');
    if rest.next_if_eq(&'!').is_some() {
        run.push('^');
    }
    let mut first = true;
    while let Some(character) = rest.next() {
        let low = match character {
            ']' if !first => break,
            '\\' => rest.next().unwrap_or('\\'),
            plain => plain,
        };
        first = false;
        push_literal(run, low);
        if rest.next_if_eq(&'-').is_none() {
            continue;
        }
        match rest.next() {
            None => break,
            Some(']') => {
                push_literal(run, '-');
                break;
            }
            Some(high) => {
                run.push('-');
                push_literal(run, if high == '\\' { rest.next().unwrap_or('\\') } else { high });
            }
        }
    }
    run.push(']');
}

/// In Java a backslash before an ASCII sign makes it plain; before a letter it would make it special.
fn push_literal(run: &mut String, character: char) {
    if character.is_ascii() && !character.is_ascii_alphanumeric() {
        run.push('\\');
    }
    run.push(character);
}

#[cfg(test)]
mod tests {
    use dgfs_proto::query::Glob;

    use super::regex;

    fn of(glob: &str) -> String {
        regex(&Glob::parse(glob).unwrap())
    }

    #[test]
    fn globs_become_expressions_that_do_not_go_back() {
        for (glob, expected) in [
            ("plain", "plain"),
            ("*.mp4", ".*\\.mp4"),
            ("a?c", "a.c"),
            ("a*b*c", "a(?>.*?b).*c"),
            ("*a**b*", "(?>.*?a)(?>.*?b).*"),
            ("[a-z]", "[a-z]"),
            ("[!]x]", "[^\\]x]"),
            ("[^&&a-]", "[\\^\\&\\&a\\-]"),
            ("[\\]-a]", "[\\]-a]"),
            ("\\*(x)|", "\\*\\(x\\)\\|"),
            ("鲸*", "鲸.*"),
        ] {
            assert_eq!(of(glob), format!("(?siu){expected}"), "{glob}");
        }
    }
}
