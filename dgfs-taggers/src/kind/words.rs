//! Which kind of text a text is.
//!
//! Never reads beyond the bytes it is given and never decodes: ASCII marks tell the formats apart. Bytes that hold a
//! NUL or many control characters are no text, unless they begin with the mark of a UTF.

use super::names;
use super::{Class, PLAIN, Row};

/// Media types outside of `text/` whose content is characters.
pub(super) fn is_textual_mime(mime: &str) -> bool {
    mime.ends_with("+xml")
        || mime.ends_with("+json")
        || matches!(
            mime,
            "application/json"
                | "application/xml"
                | "application/yaml"
                | "application/toml"
                | "application/javascript"
                | "application/x-subrip"
                | "application/rtf"
                | "application/mbox"
                | "message/rfc822"
                | "multipart/related"
        )
}

/// Whether `head` looks like characters: UTF-8 (perhaps cut in the middle of one), UTF-16 with its mark, or an older
/// encoding.
pub(super) fn is_text(head: &[u8]) -> bool {
    if has_utf_mark(head) {
        return true;
    }
    let controls = head.iter().filter(|byte| is_odd_control(**byte)).count();
    if head.contains(&0) {
        return false;
    }
    match std::str::from_utf8(head) {
        Ok(_) => controls * 50 <= head.len(),
        // The last character may go on behind the bytes at hand.
        Err(error) if error.error_len().is_none() => controls * 50 <= head.len(),
        // An older encoding has no control characters of its own, and letters between them.
        Err(_) => controls == 0 && looks_like_letters(head),
    }
}

fn has_utf_mark(head: &[u8]) -> bool {
    head.starts_with(b"\xef\xbb\xbf") || head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff")
}

fn is_odd_control(byte: u8) -> bool {
    matches!(byte, 0x01..=0x06 | 0x0e..=0x1a | 0x1c..=0x1f | 0x7f)
}

/// Random bytes have every value alike; text has gaps or line ends, and few bytes that no encoding uses.
fn looks_like_letters(head: &[u8]) -> bool {
    let high = head.iter().filter(|byte| **byte >= 0x80).count();
    let unused = head.iter().filter(|byte| **byte == 0xff).count();
    let is_short = head.len() < 16;
    let has_gaps = head.iter().any(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t'));
    unused == 0 && (has_gaps || is_short || high * 10 > head.len() * 9)
}

/// The kind of the text that begins with `head`.
pub(super) fn look(head: &[u8], by_name: Option<Row>) -> Row {
    let body = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    if let Some(row) = shebang(body) {
        return row;
    }
    // A programmer's own file may begin with anything; its extension is the better witness.
    if let Some(row) = by_name.filter(|row| row.class == Class::Code) {
        return row;
    }
    if let Some(row) = markup(body, by_name).or_else(|| mail(body)) {
        return row;
    }
    if let Some(row) = by_name.filter(|row| row.kind().is_textual() && !is_proved(row)) {
        return row;
    }
    json(body).unwrap_or(PLAIN)
}

/// Whether the content of this kind always shows what it is, so that a name alone does not make it so.
fn is_proved(row: &Row) -> bool {
    matches!(row.mime, "image/svg+xml" | "application/rtf")
}

fn shebang(body: &[u8]) -> Option<Row> {
    let line = body.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line.get(..256).unwrap_or(line)).ok()?;
    let mut words = line.split_whitespace();
    let program = words.next()?.rsplit('/').next()?;
    // `env -S program` and `env NAME=value program` name it later.
    let program = match program {
        "env" => words.find(|word| !word.starts_with('-') && !word.contains('='))?.rsplit('/').next()?,
        _ => program,
    };
    let lang = match program.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.') {
        "sh" | "bash" | "dash" | "zsh" | "ksh" | "ash" => "shell",
        "python" | "pypy" => "python",
        "node" | "nodejs" | "deno" | "bun" => "javascript",
        "perl" => "perl",
        "ruby" => "ruby",
        "php" => "php",
        "lua" | "luajit" => "lua",
        "awk" | "gawk" | "mawk" => "awk",
        "fish" => "fish",
        "Rscript" => "r",
        "julia" => "julia",
        "tclsh" | "wish" => "tcl",
        "pwsh" => "powershell",
        _ => return Some(Row { class: Class::Code, mime: "text/x-script", ext: "", lang: "" }),
    };
    names::by_lang(lang)
}

fn markup(body: &[u8], by_name: Option<Row>) -> Option<Row> {
    if !body.starts_with(b"<") {
        return None;
    }
    let start = body.get(..1024).unwrap_or(body).to_ascii_lowercase();
    let has = |word: &[u8]| start.windows(word.len()).any(|bytes| bytes == word);
    if start.starts_with(b"<?php") {
        return names::by_lang("php");
    }
    if has(b"<svg") && (start.starts_with(b"<svg") || start.starts_with(b"<?xml") || start.starts_with(b"<!")) {
        return names::by_ext("svg");
    }
    if start.starts_with(b"<!doctype html") || has(b"<html") {
        return names::by_ext("html");
    }
    if has(b"<rss") || has(b"<feed") {
        return names::by_ext("rss");
    }
    if has(b"<gpx") {
        return names::by_ext("gpx");
    }
    if has(b"<kml") {
        return names::by_ext("kml");
    }
    if has(b"<fictionbook") {
        return names::by_ext("fb2");
    }
    if start.starts_with(b"<?xml") {
        return by_name.filter(|row| row.lang == "xml").or_else(|| names::by_ext("xml"));
    }
    const PARTS: &[&[u8]] = &[b"<head>", b"<body", b"<div", b"<p>", b"<h1", b"<table", b"<title>"];
    PARTS.iter().any(|part| start.starts_with(part)).then(|| names::by_ext("html")).flatten()
}

/// A mail begins with header fields, at least two of which every mail has.
fn mail(body: &[u8]) -> Option<Row> {
    const FIELDS: &[&[u8]] =
        &[b"from:", b"to:", b"subject:", b"date:", b"received:", b"message-id:", b"return-path:", b"mime-version:"];
    let (row, body) = match body.strip_prefix(b"From ") {
        Some(rest) if rest.contains(&b'\n') => (names::by_ext("mbox"), after_line(body)),
        Some(_) | None => (names::by_ext("eml"), body),
    };
    let mut seen = 0;
    for line in body.split(|byte| *byte == b'\n').take(64) {
        if line.trim_ascii().is_empty() {
            break;
        }
        let is_folded = line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t'));
        let name_len = line.iter().position(|byte| *byte == b':').map_or(0, |at| at + 1);
        let name = line.get(..name_len.min(40)).unwrap_or_default().to_ascii_lowercase();
        if !is_folded && (name.is_empty() || name.contains(&b' ')) {
            return None;
        }
        seen += usize::from(FIELDS.contains(&name.as_slice()));
    }
    if seen >= 3 { row } else { None }
}

fn after_line(body: &[u8]) -> &[u8] {
    body.iter().position(|byte| *byte == b'\n').and_then(|at| body.get(at + 1..)).unwrap_or_default()
}

/// An object or a list whose first member looks like one.
fn json(body: &[u8]) -> Option<Row> {
    let (open, rest) = body.split_first()?;
    let next = rest.trim_ascii_start().first()?;
    let fits = match open {
        b'{' => matches!(next, b'"' | b'}'),
        b'[' => matches!(next, b'{' | b'[' | b'"' | b']' | b'0'..=b'9' | b'-'),
        _ => false,
    };
    // "[1] A reference" is prose: a list goes on with a comma or an end after its first number.
    let is_prose = *open == b'[' && rest.iter().find(|byte| !byte.is_ascii_digit()) == Some(&b']');
    if fits && !is_prose { names::by_ext("json") } else { None }
}
