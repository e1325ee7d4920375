//! Reads Markdown: headings, links and the text without its marks.
//!
//! Never renders: a construct that is not understood stays text. Code blocks are text, but no heading is in them.

use super::{Prose, describe, html};
use crate::findings::{Findings, LinkKind, one_line};

/// Lines of the front matter that are looked at.
const FRONT_LINES_MAX: usize = 64;
/// Links looked for in a line: minified tables have thousands in one.
const LINE_LINKS_MAX: usize = 256;

/// Says what a Markdown text says.
pub(crate) fn read(text: &str, out: &mut Findings) {
    let body = front_matter(text, out);
    let prose = prose_of(body, out);
    describe(&prose, out);
}

/// Title, author and tags of a YAML block at the beginning; the text behind it.
fn front_matter<'a>(text: &'a str, out: &mut Findings) -> &'a str {
    let Some(rest) = text.strip_prefix("---\n").or_else(|| text.strip_prefix("---\r\n")) else { return text };
    let Some((block, body)) = rest.split_once("\n---") else { return text };
    if block.lines().count() > FRONT_LINES_MAX {
        return text;
    }
    for line in block.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim().trim_matches(['"', '\'']);
        match key.trim().to_ascii_lowercase().as_str() {
            "title" => out.text_value("title", value),
            "author" | "authors" => {
                out.text_value("author", value.trim_matches(['[', ']']));
                out.link(LinkKind::Author, value.trim_matches(['[', ']']));
            }
            "tags" | "keywords" => {
                for tag in value.trim_matches(['[', ']']).split(',').take(16) {
                    out.mark(&tag.trim().trim_matches(['"', '\'']).to_lowercase(), 0.9);
                }
            }
            _ => {}
        }
    }
    body
}

fn prose_of(body: &str, out: &mut Findings) -> Prose {
    let mut prose = Prose::default();
    let mut fence = None;
    let mut previous = "";
    for line in body.lines() {
        let trimmed = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| trimmed.starts_with(mark));
        if mark.is_some() && (fence.is_none() || fence == mark) {
            fence = if fence.is_none() { mark } else { None };
            previous = "";
            continue;
        }
        if fence.is_some() {
            prose.push(line);
            prose.push("\n");
            continue;
        }
        if let Some(heading) = atx_heading(trimmed) {
            prose.end_paragraph();
            add_heading(&mut prose, heading, out);
        } else if is_underline(trimmed) && !previous.trim().is_empty() {
            add_heading_of_previous(&mut prose, previous);
        } else if let Some(target) = definition(trimmed) {
            out.link(LinkKind::Hyperlink, target);
        } else if trimmed.is_empty() {
            prose.end_paragraph();
        } else {
            let text = inline(trimmed, out);
            prose.push(text.trim_start_matches(['>', '*', '+', '|', ' ']));
            prose.push("\n");
        }
        previous = line;
    }
    prose
}

fn atx_heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    let level = line.len() - text.len();
    let is_heading = (1..=6).contains(&level) && (text.is_empty() || text.starts_with([' ', '\t']));
    is_heading.then(|| text.trim().trim_end_matches('#').trim_end())
}

/// The target of a line `[label]: target`.
fn definition(line: &str) -> Option<&str> {
    let (label, rest) = line.strip_prefix('[')?.split_once("]:")?;
    let is_note = label.starts_with('^');
    rest.split_whitespace().next().filter(|_| !is_note).map(|target| target.trim_matches(['<', '>']))
}

/// `===` or `---` below a line makes that line a heading.
fn is_underline(line: &str) -> bool {
    let line = line.trim_end();
    line.len() >= 3 && (line.bytes().all(|byte| byte == b'=') || line.bytes().all(|byte| byte == b'-'))
}

fn add_heading(prose: &mut Prose, heading: &str, out: &mut Findings) {
    let text = inline(heading, out);
    title_or_heading(prose, &text);
    prose.push(&text);
    prose.end_paragraph();
}

fn add_heading_of_previous(prose: &mut Prose, previous: &str) {
    // Its text stands in the body already, and its links are found.
    let text = inline(previous, &mut Findings::default());
    title_or_heading(prose, &text);
    prose.end_paragraph();
}

fn title_or_heading(prose: &mut Prose, text: &str) {
    if prose.title.is_empty() {
        prose.title = one_line(text);
    }
    prose.heading(text);
}

/// The text of a line without emphasis and link targets, which become links.
fn inline(line: &str, out: &mut Findings) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    for _ in 0..LINE_LINKS_MAX {
        let Some((before, label, target, behind)) = next_link(rest) else { break };
        match before.strip_suffix('!') {
            // The words for a picture are the picture's, and most are badges.
            Some(before) => text.push_str(before),
            None => {
                text.push_str(before);
                text.push_str(label);
            }
        }
        out.link(LinkKind::Hyperlink, target);
        rest = behind;
    }
    bare_urls(rest, out);
    text.push_str(rest);
    text.retain(|letter| !matches!(letter, '*' | '`'));
    // `Vec<u8>` is no tag.
    let has_tags = ["</", "/>", "<img", "<br", "<p", "<a "].iter().any(|mark| text.contains(mark));
    let text = if has_tags { without_tags(&text) } else { text };
    html::entities::decode(&text).into_owned()
}

/// A line without the HTML that Markdown allows, pictures and addresses in it included.
fn without_tags(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut pieces = html::tags::Pieces::new(line);
    while let Some(piece) = pieces.next() {
        if let html::tags::Piece::Text(piece) = piece {
            text.push_str(piece);
        }
    }
    text
}

/// The first `[label](target)`.
fn next_link(text: &str) -> Option<(&str, &str, &str, &str)> {
    let middle = text.find("](")?;
    let (head, tail) = text.split_at_checked(middle)?;
    let (before, label) = head.rsplit_once('[')?;
    let (inside, behind) = tail.strip_prefix("](")?.split_once(')')?;
    let target = inside.split_whitespace().next().unwrap_or_default().trim_matches(['<', '>']);
    Some((before, label, target, behind))
}

/// Adds what begins with `http://` or `https://`.
pub(crate) fn bare_urls(text: &str, out: &mut Findings) {
    let mut rest = text;
    for _ in 0..LINE_LINKS_MAX {
        let Some(start) = rest.find("http") else { return };
        let Some(tail) = rest.get(start..) else { return };
        let len =
            tail.find(|letter: char| letter.is_whitespace() || matches!(letter, '<' | '>' | '"' | '\'' | ')' | ']'));
        let Some((url, behind)) = tail.split_at_checked(len.unwrap_or(tail.len())) else { return };
        let is_url = ["http://", "https://"].iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme));
        if is_url {
            out.link(LinkKind::Hyperlink, url.trim_end_matches(['.', ',', ';', ':', '!', '?']));
        }
        rest = if url.is_empty() { behind.get(4..).unwrap_or_default() } else { behind };
    }
}

#[cfg(test)]
mod tests {
    use super::read;
    use crate::findings::Findings;

    #[test]
    fn headings_links_and_front_matter_are_read() {
        let text = "---\ntitle: \"The plan\"\nauthor: Ada\ntags: [Storage, graph]\n---\n# Plan of *work*\n\nSee [the \
            page](https://example.org/a) and ![picture](b.png), or https://example.org/c.\n\nNext\n----\n\n```\n# no \
            heading\n```\n";
        let mut out = Findings::default();
        read(text, &mut out);
        let targets: Vec<_> = out.links.iter().map(|link| link.target.as_str()).collect();
        assert_eq!(targets, ["Ada", "https://example.org/a", "b.png", "https://example.org/c"]);
        assert_eq!(out.text_of("title"), Some("The plan"));
        assert!(out.marks.iter().any(|mark| mark.tag == "storage"));
        assert!(out.text.starts_with("Plan of work\n\nSee the page and ,"), "{}", out.text);
        assert!(out.text.contains("# no heading"));
    }

    #[test]
    fn broken_marks_stay_text() {
        for text in ["[a](", "](x)", "[[[[", "---\n", "---\ntitle: x", "# ", "#######", "https://", "http"] {
            let mut out = Findings::default();
            read(text, &mut out);
            assert!(out.links.is_empty(), "{text}: {:?}", out.links);
        }
    }
}
