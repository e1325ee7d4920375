//! Reads OpenDocument (ISO/IEC 26300): texts, tables, presentations.
//!
//! Never opens an embedded object. Text comes in the order of the content.

use super::office::Parts;
use super::ooxml::element;
use super::{author, listed_keywords};
use crate::findings::{Findings, LinkKind};
use crate::tagger::TaggerError;
use crate::text::Prose;
use crate::text::html::entities;
use crate::text::html::tags::{Piece, Pieces, Tag};

/// Reads a document's text, and its properties into `out`.
pub(crate) fn read(parts: &mut Parts<'_>, out: &mut Findings) -> Result<Prose, TaggerError> {
    let mut prose = Prose::default();
    if let Some(meta) = parts.read("meta.xml") {
        properties(&meta, &mut prose, out);
    }
    let manifest = parts.read("META-INF/manifest.xml").unwrap_or_default();
    if manifest.contains("encryption-data") {
        out.mark("encrypted", 1.0);
        out.note("the document is encrypted");
        return Ok(prose);
    }
    let content =
        parts.read("content.xml").ok_or_else(|| TaggerError::malformed("OpenDocument", "it has no content.xml"))?;
    text(&content, &mut prose, out);
    Ok(prose)
}

fn properties(meta: &str, prose: &mut Prose, out: &mut Findings) {
    prose.title = element(meta, "dc:title").unwrap_or_default();
    if let Some(name) = element(meta, "meta:initial-creator").or_else(|| element(meta, "dc:creator")) {
        author(&name, out);
    }
    if let Some(list) = element(meta, "meta:keyword") {
        listed_keywords(&list, out);
    }
    for (name, key) in [("meta:creation-date", "created"), ("dc:date", "modified")] {
        if let Some(seconds) = element(meta, name).and_then(|text| crate::dates::parse(&text)) {
            out.time(key, seconds);
        }
    }
    let mut pieces = Pieces::new(meta);
    while let Some(piece) = pieces.next() {
        if let Piece::Open(tag) = piece
            && tag.name == "meta:document-statistic"
            && let Some(pages) = tag.attribute("meta:page-count").and_then(|pages| pages.parse().ok())
        {
            out.number("pages", pages);
        }
    }
}

fn text(content: &str, prose: &mut Prose, out: &mut Findings) {
    let mut pieces = Pieces::new(content);
    // Text stands in paragraphs and headings alone; elsewhere are styles.
    let mut open: usize = 0;
    let mut heading: Option<String> = None;
    while let Some(piece) = pieces.next() {
        match piece {
            Piece::Text(text) if open > 0 => {
                let text = entities::decode(text);
                if let Some(heading) = heading.as_mut().filter(|heading| heading.len() < 1024) {
                    heading.push_str(&text);
                }
                if !prose.push(&text) {
                    return;
                }
            }
            Piece::Text(_) => {}
            Piece::Open(tag) => opened(&tag, &mut open, &mut heading, prose, out),
            Piece::Close(name) if is_paragraph(&name) => {
                open = open.saturating_sub(1);
                if let Some(heading) = heading.take() {
                    prose.heading(&heading);
                }
                prose.end_paragraph();
            }
            Piece::Close(_) => {}
        }
    }
}

fn is_paragraph(name: &str) -> bool {
    matches!(name, "text:p" | "text:h")
}

fn opened(tag: &Tag<'_>, open: &mut usize, heading: &mut Option<String>, prose: &mut Prose, out: &mut Findings) {
    match tag.name.as_str() {
        name if is_paragraph(name) && !tag.closes_itself => {
            *open += 1;
            if name == "text:h" {
                *heading = Some(String::new());
            }
        }
        "text:s" | "text:tab" | "text:line-break" if *open > 0 => {
            prose.push(" ");
        }
        "text:a" | "draw:a" => {
            let target = tag.attribute("xlink:href").unwrap_or_default();
            if !target.starts_with('#') {
                out.link(LinkKind::Hyperlink, &entities::decode(&target));
            }
        }
        _ => {}
    }
}
