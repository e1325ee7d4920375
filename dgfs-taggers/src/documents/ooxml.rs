//! Reads Office Open XML (ECMA-376): Word, Excel and PowerPoint since 2007.
//!
//! Never opens a macro or an embedded object. Text comes in the order of the parts.

use super::office::Parts;
use super::{author, listed_keywords};
use crate::findings::{Findings, LinkKind};
use crate::kind::Kind;
use crate::tagger::TaggerError;
use crate::text::Prose;
use crate::text::html::entities;
use crate::text::html::tags::{Piece, Pieces, Tag};

/// Slides or sheets that are read.
const PARTS_MAX: usize = 1000;

/// Reads a document's text, and its properties into `out`.
pub(crate) fn read(parts: &mut Parts<'_>, kind: &Kind, out: &mut Findings) -> Result<Prose, TaggerError> {
    let mut prose = Prose::default();
    if let Some(core) = parts.read("docProps/core.xml") {
        core_properties(&core, &mut prose, out);
    }
    match kind.ext.as_str() {
        "docx" => {
            let document = parts.read("word/document.xml");
            let document = document.ok_or_else(|| TaggerError::malformed("DOCX", "it has no word/document.xml"))?;
            paragraphs(&document, &mut prose);
            links(parts, "word/_rels/document.xml.rels", out);
            if let Some(pages) = parts.read("docProps/app.xml").and_then(|app| element(&app, "pages")?.parse().ok()) {
                out.number("pages", pages);
            }
        }
        "pptx" => slides(parts, &mut prose, out),
        _ => sheets(parts, &mut prose, out),
    }
    Ok(prose)
}

fn core_properties(xml: &str, prose: &mut Prose, out: &mut Findings) {
    prose.title = element(xml, "dc:title").unwrap_or_default();
    if let Some(name) = element(xml, "dc:creator") {
        author(&name, out);
    }
    if let Some(list) = element(xml, "cp:keywords") {
        listed_keywords(&list, out);
    }
    for (name, key) in [("dcterms:created", "created"), ("dcterms:modified", "modified")] {
        if let Some(seconds) = element(xml, name).and_then(|text| crate::dates::parse(&text)) {
            out.time(key, seconds);
        }
    }
    if let Some(text) = element(xml, "dc:description") {
        out.text_value("description", &text);
    }
}

/// The text directly behind the first opening tag of this name (in lower case).
pub(crate) fn element(xml: &str, name: &str) -> Option<String> {
    let mut pieces = Pieces::new(xml);
    while let Some(piece) = pieces.next() {
        if let Piece::Open(tag) = piece
            && tag.name == name
            && !tag.closes_itself
        {
            let Some(Piece::Text(text)) = pieces.next() else { return None };
            let text = entities::decode(text).trim().to_owned();
            return (!text.is_empty()).then_some(text);
        }
    }
    None
}

/// Text runs `t` in paragraphs `p`, whatever their namespace; a paragraph in a heading's style is a heading.
fn paragraphs(xml: &str, prose: &mut Prose) {
    let mut pieces = Pieces::new(xml);
    let mut is_text = false;
    let mut is_heading = false;
    let mut heading = String::new();
    while let Some(piece) = pieces.next() {
        match piece {
            Piece::Text(text) if is_text => {
                let text = entities::decode(text);
                if is_heading && heading.len() < crate::findings::STRING_BYTES_MAX {
                    heading.push_str(&text);
                }
                if !prose.push(&text) {
                    return;
                }
            }
            Piece::Text(_) => {}
            Piece::Open(tag) => match local(&tag.name) {
                "t" => is_text = !tag.closes_itself,
                "tab" | "br" | "cr" => {
                    prose.push(" ");
                }
                "pstyle" => is_heading = is_heading_style(&tag),
                "ph" => {
                    is_heading = tag.attribute("type").is_some_and(|kind| kind.to_ascii_lowercase().contains("title"))
                }
                "tc" | "c" => {
                    prose.push(" ");
                }
                _ => {}
            },
            Piece::Close(name) => match local(&name) {
                "t" => is_text = false,
                "p" => {
                    prose.heading(&std::mem::take(&mut heading));
                    prose.end_paragraph();
                    // A slide's title is one shape; a style lasts one paragraph.
                    is_heading = is_heading && name.starts_with("a:");
                }
                "sp" => is_heading = false,
                "si" | "row" => prose.end_line(),
                _ => {}
            },
        }
    }
}

fn is_heading_style(tag: &Tag<'_>) -> bool {
    // Word stores the English name in every language, or only the level.
    let style = tag.attribute("w:val").unwrap_or_default().to_ascii_lowercase();
    style.starts_with("heading")
        || style == "title"
        || (style.len() == 1 && style.starts_with(|c: char| c.is_ascii_digit()))
}

fn local(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

fn slides(parts: &mut Parts<'_>, prose: &mut Prose, out: &mut Findings) {
    let names = parts.numbered("ppt/slides/slide", ".xml");
    out.number("pages", names.len() as f64);
    for name in names.iter().take(PARTS_MAX) {
        let Some(slide) = parts.read(name) else { continue };
        paragraphs(&slide, prose);
        if let Some(file) = name.strip_prefix("ppt/slides/") {
            links(parts, &format!("ppt/slides/_rels/{file}.rels"), out);
        }
    }
}

/// A workbook's text lies in one table of strings; numbers are no words.
fn sheets(parts: &mut Parts<'_>, prose: &mut Prose, out: &mut Findings) {
    if let Some(workbook) = parts.read("xl/workbook.xml") {
        let mut pieces = Pieces::new(&workbook);
        while let Some(piece) = pieces.next() {
            if let Piece::Open(tag) = piece
                && local(&tag.name) == "sheet"
                && let Some(name) = tag.attribute("name")
            {
                prose.heading(&entities::decode(&name));
            }
        }
        out.number("pages", prose.headings.len() as f64);
        for name in prose.headings.clone() {
            prose.push(&name);
            prose.end_line();
        }
    }
    if let Some(strings) = parts.read("xl/sharedStrings.xml") {
        paragraphs(&strings, prose);
    }
    for name in parts.numbered("xl/worksheets/sheet", ".xml").iter().take(PARTS_MAX) {
        if let Some(file) = name.strip_prefix("xl/worksheets/") {
            links(parts, &format!("xl/worksheets/_rels/{file}.rels"), out);
        }
        // Other writers than Excel put the strings into the cells.
        if let Some(sheet) = parts.read(name).filter(|sheet| sheet.contains("inlineStr")) {
            paragraphs(&sheet, prose);
        }
    }
}

/// The hyperlinks among the relations of a part.
fn links(parts: &mut Parts<'_>, name: &str, out: &mut Findings) {
    let Some(relations) = parts.read(name) else { return };
    let mut pieces = Pieces::new(&relations);
    while let Some(piece) = pieces.next() {
        let Piece::Open(tag) = piece else { continue };
        let is_link = tag.attribute("type").is_some_and(|kind| kind.ends_with("/hyperlink"));
        if let Some(target) = tag.attribute("target").filter(|_| is_link) {
            out.link(LinkKind::Hyperlink, &entities::decode(&target));
        }
    }
}
