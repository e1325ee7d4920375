//! Source code: its language, its length, and what it imports.
//!
//! Never compiles or expands anything. Names in code are no keywords of a text, so it gets none; it can be searched.

use super::{imports, index_only};
use crate::findings::Findings;
use crate::kind::Kind;

/// Says what source code says.
pub(crate) fn describe(source: &str, kind: &Kind, out: &mut Findings) {
    if let Some(lang) = &kind.lang {
        out.text_value("lang", lang);
        imports::of(source, lang, out);
    }
    // A file of four MiB has fewer lines than a number can count exactly.
    out.number("lines", u32::try_from(source.lines().count()).map_or(f64::INFINITY, f64::from));
    index_only(source, out);
}
