//! Canonical texts of a query: an expression, and the components of a path.
//!
//! Never shortens or reorders. Both texts are read as the same query again, in every zone, when the query passes
//! [`Query::check`].

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::entry::Entry;
use super::key::Key;
use super::value::Value;
use super::{Atom, Clause, Query, Test, root};
use crate::escape::{push_char, push_escaped};
use crate::limits::COMPONENT_BYTES_MAX;
use crate::tag::{Tag, key_component, value_component};

/// The query as an expression: `(jpg or png) -draft size>=10M`. Empty for the query without clauses.
#[must_use]
pub fn show_expr(query: &Query) -> String {
    let mut out = String::new();
    for clause in &query.clauses {
        if !out.is_empty() {
            out.push(' ');
        }
        let grouped = clause.atoms.len() > 1 && query.clauses.len() > 1;
        if grouped {
            out.push('(');
        }
        for (at, atom) in clause.atoms.iter().enumerate() {
            if at > 0 {
                out.push_str(" or ");
            }
            out.push_str(&show_atom(atom));
        }
        if grouped {
            out.push(')');
        }
    }
    out
}

/// The query as components below `.tags`. `None` when it has none: an alternative that begins with `@` (such as
/// `@untagged or draft`), or a component past 255 bytes.
#[must_use]
pub fn show_path(query: &Query) -> Option<Vec<String>> {
    let mut out: Vec<String> = Vec::new();
    let mut open_date = false;
    for clause in &query.clauses {
        let mut components = show_clause(clause)?;
        // Behind a year or a month, two digits would narrow it.
        if let Some(first) = components.first_mut()
            && open_date
            && first.len() == 2
            && first.bytes().all(|byte| byte.is_ascii_digit())
        {
            *first = escape_first(first);
        }
        open_date = matches!(clause.atoms.as_slice(), [Atom { test: Test::Date(date), .. }] if date.day().is_none());
        out.append(&mut components);
    }
    Some(out)
}

/// One clause as components: one, but for tests that begin with `@`. `None` as for [`show_path`].
#[must_use]
pub fn show_clause(clause: &Clause) -> Option<Vec<String>> {
    if let [Atom { negated, test }] = clause.atoms.as_slice()
        && let Some(mut components) = root::components(test, Entry::to_component)
    {
        if let Test::Saved(name) = test {
            components.push(escape(name, |character| matches!(character, '%' | ',')));
        }
        if let Some(first) = components.first_mut()
            && *negated
        {
            first.insert(0, '-');
        }
        return fitting(components);
    }
    let mut component = String::new();
    for Atom { negated, test } in &clause.atoms {
        if !component.is_empty() {
            component.push(',');
        }
        if *negated {
            component.push('-');
        }
        component.push_str(&show_base(test, &Spelling::Component)?);
    }
    fitting(alloc::vec![component])
}

fn fitting(components: Vec<String>) -> Option<Vec<String>> {
    components.iter().all(|component| component.len() <= COMPONENT_BYTES_MAX).then_some(components)
}

fn show_atom(atom: &Atom) -> String {
    let sign = if atom.negated { "-" } else { "" };
    let base = show_base(&atom.test, &Spelling::Word).unwrap_or_else(|| show_root(&atom.test));
    String::from(sign) + &base
}

/// A test that begins with `@` as one word.
fn show_root(test: &Test) -> String {
    let entry = |entry: &Entry| entry.escaped(|character| !is_plain(character));
    let mut components = root::components(test, entry).unwrap_or_default();
    if let Test::Saved(name) = test {
        components.push(escape(name, |character| !is_plain(character)));
    }
    components.join("/")
}

/// The two texts differ in how they keep a character from its special meaning.
enum Spelling {
    /// By `%XX`.
    Component,
    /// By quotes.
    Word,
}

/// A test that does not begin with `@`.
fn show_base(test: &Test, spelling: &Spelling) -> Option<String> {
    Some(match test {
        Test::Tag(tag) => spelling.tag(tag),
        Test::Has(key) => spelling.key(key) + "=",
        Test::Compare { key, op, value } => spelling.key(key) + op.sign() + &spelling.value(value),
        Test::Range { key, low, high } => {
            let bound = |bound: &Option<Value>| bound.as_ref().map(|value| spelling.value(value)).unwrap_or_default();
            spelling.key(key) + "=" + &bound(low) + ".." + &bound(high)
        }
        Test::Text(words) => String::from("text:") + &spelling.text(&words.join(" ")),
        Test::Name(glob) => String::from("name:") + &spelling.text(glob.as_str()),
        Test::All
        | Test::Untagged
        | Test::Recent
        | Test::Related { .. }
        | Test::Saved(_)
        | Test::Date(_)
        | Test::File(_) => return None,
    })
}

impl Spelling {
    fn tag(&self, tag: &Tag) -> String {
        match self {
            // A "=" that is not escaped would be read as the comparison of a key.
            Self::Component => key_component(tag.as_str()),
            Self::Word => word(tag.as_str(), Role::Name),
        }
    }

    fn key(&self, key: &Key) -> String {
        match self {
            Self::Component => key_component(key.as_str()),
            Self::Word => word(key.as_str(), Role::Name),
        }
    }

    fn value(&self, value: &Value) -> String {
        let text = value.to_text();
        match (self, value) {
            // These hold nothing that a word reads otherwise, and look better bare.
            (_, Value::Number(_) | Value::Size(_) | Value::Time { .. } | Value::Within(_)) => text,
            (Self::Component, Value::Text(_)) => value_component(&text),
            (Self::Word, Value::Text(_)) => word(&text, Role::Behind),
        }
    }

    fn text(&self, text: &str) -> String {
        match self {
            Self::Component => escape(text, |character| matches!(character, '%' | ',' | '/')),
            Self::Word => word(text, Role::Behind),
        }
    }
}

/// Where in its word a text stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// At the start, where `-` negates and `text:` searches.
    Name,
    /// Behind a sign that has said what it is.
    Behind,
}

/// Characters that mean nothing to an expression nor to a component, but for the first place and for two dots.
const fn is_plain(character: char) -> bool {
    let sign = matches!(character, '_' | '-' | '.' | '+' | '*' | '~' | '#' | '^' | '[' | ']' | '{' | '}' | '$' | ';');
    character.is_ascii_alphanumeric() || sign || (!character.is_ascii() && !character.is_whitespace())
}

/// Quotes `text` when it needs it.
fn word(text: &str, role: Role) -> String {
    let plain = text.chars().all(|character| is_plain(character) || character == ':');
    let name = role == Role::Behind
        || !(text.starts_with(['-', '.'])
            || ["text:", "name:", "not:"].iter().any(|prefix| text.starts_with(prefix))
            || ["and", "or", "not"].iter().any(|keyword| text.eq_ignore_ascii_case(keyword)));
    if plain && name && !text.contains("..") {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('"');
    out
}

fn escape(text: &str, escaped: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        push_char(&mut out, character, escaped(character));
    }
    out
}

/// The same with its first byte, which is ASCII, as `%XX`.
fn escape_first(text: &str) -> String {
    let mut out = String::new();
    let mut bytes = text.bytes();
    if let Some(first) = bytes.next() {
        push_escaped(&mut out, first);
    }
    out.extend(bytes.map(char::from));
    out
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show_expr(self))
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show_atom(self))
    }
}
