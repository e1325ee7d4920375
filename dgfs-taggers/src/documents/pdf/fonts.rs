//! Which characters the codes of a font stand for.
//!
//! Never opens a font program: a font says by its `ToUnicode` map or its encoding what its text means, or its text is
//! left out.

use std::collections::BTreeMap;

use super::file::File;
use super::objects::{Dict, Lexer, Object};

/// Codes of a map.
const CODES_MAX: usize = 70_000;

/// Codes to characters.
#[derive(Clone, Default)]
pub(super) struct Font {
    map: BTreeMap<u32, String>,
    /// Bytes of a code.
    is_wide: bool,
    /// Whether single bytes without an entry mean what they mean in Windows-1252.
    is_simple: bool,
}

impl Font {
    pub(super) fn of(file: &mut File<'_>, dict: &Dict) -> Self {
        let is_wide = dict.get("Subtype").and_then(Object::name) == Some("Type0");
        let mut font = Self { map: BTreeMap::new(), is_wide, is_simple: !is_wide };
        if let Some(Object::Dict(encoding)) = dict.get("Encoding").map(|encoding| file.resolve(encoding))
            && let Some(Object::List(differences)) = encoding.get("Differences").map(|list| file.resolve(list))
        {
            font.add_differences(&differences);
        }
        if let Some(content) = dict.get("ToUnicode").and_then(|map| file.stream(map)) {
            font.add_map(&content);
        }
        font
    }

    /// The text of a shown string.
    pub(super) fn decode(&self, bytes: &[u8]) -> String {
        let mut out = String::new();
        if self.is_wide {
            for pair in bytes.chunks(2) {
                let code = pair.iter().fold(0, |code, byte| code << 8 | u32::from(*byte));
                out.push_str(self.map.get(&code).map_or("", String::as_str));
            }
            return out;
        }
        for byte in bytes {
            match self.map.get(&u32::from(*byte)) {
                Some(text) => out.push_str(text),
                None if self.is_simple => {
                    let (text, _, _) = encoding_rs::WINDOWS_1252.decode(std::slice::from_ref(byte));
                    out.extend(text.chars().filter(|letter| !letter.is_control()));
                }
                None => {}
            }
        }
        out
    }

    /// `[code /name /name code /name …]`: names of glyphs for the codes that follow.
    fn add_differences(&mut self, list: &[Object]) {
        let mut code = 0;
        for item in list.iter().take(CODES_MAX) {
            if let Some(number) = item.index() {
                code = u32::try_from(number).unwrap_or(u32::MAX);
            } else if let Some(name) = item.name() {
                if let Some(text) = glyph(name) {
                    self.map.insert(code, text);
                }
                code = code.saturating_add(1);
            }
        }
    }

    /// The `bfchar` and `bfrange` sections of a CMap.
    fn add_map(&mut self, content: &[u8]) {
        let mut lexer = Lexer::new(content, 0);
        let mut operands: Vec<Object> = Vec::new();
        while let Some(object) = lexer.next() {
            match object {
                Object::Operator(word) => {
                    match word.as_str() {
                        "endbfchar" => self.add_chars(&operands),
                        "endbfrange" => self.add_ranges(&operands),
                        _ => {}
                    }
                    operands.clear();
                }
                other if operands.len() < CODES_MAX => operands.push(other),
                _ => {}
            }
        }
    }

    fn add_chars(&mut self, operands: &[Object]) {
        for pair in operands.chunks(2) {
            if let [Object::String(code), Object::String(text)] = pair {
                self.add(number(code), utf16(text));
            }
        }
    }

    fn add_ranges(&mut self, operands: &[Object]) {
        for triple in operands.chunks(3) {
            let [Object::String(first), Object::String(last), target] = triple else { continue };
            let (first, last) = (number(first), number(last));
            let codes = first..=last.min(first.saturating_add(0xffff));
            match target {
                Object::String(text) => {
                    // The last unit counts up with the code.
                    let start = number(text);
                    for (code, step) in codes.zip(0_u32..) {
                        let text = if text.len() <= 2 {
                            char::from_u32(start.saturating_add(step)).map(String::from).unwrap_or_default()
                        } else {
                            utf16(&start.saturating_add(step).to_be_bytes())
                        };
                        if !self.add(code, text) {
                            break;
                        }
                    }
                }
                Object::List(texts) => {
                    for (code, text) in codes.zip(texts) {
                        if let Object::String(text) = text {
                            self.add(code, utf16(text));
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn add(&mut self, code: u32, text: String) -> bool {
        let has_room = self.map.len() < CODES_MAX;
        if has_room {
            self.map.insert(code, text);
        }
        has_room
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |value, byte| value << 8 | u32::from(*byte))
}

fn utf16(bytes: &[u8]) -> String {
    let bytes = bytes.get(..64).unwrap_or(bytes);
    let (text, _) = encoding_rs::UTF_16BE.decode_without_bom_handling(bytes);
    text.chars().filter(|letter| *letter != '\0' && *letter != '\u{fffd}').collect()
}

/// The text of a glyph's name: a letter, `uniXXXX`, `uXXXX`, or one of the names that occur in text.
fn glyph(name: &str) -> Option<String> {
    let base = name.split('.').next().unwrap_or(name);
    if base.chars().count() == 1 {
        return Some(base.to_owned());
    }
    if let Some(hex) =
        base.strip_prefix("uni").or_else(|| base.strip_prefix('u')).filter(|hex| (4..=6).contains(&hex.len()))
        && let Some(letter) = u32::from_str_radix(hex, 16).ok().and_then(char::from_u32)
    {
        return Some(letter.to_string());
    }
    NAMES.iter().find(|(known, _)| *known == base).map(|(_, text)| (*text).to_owned())
}

/// Glyph names that occur in text, from the Adobe Glyph List.
#[rustfmt::skip]
const NAMES: &[(&str, &str)] = &[
    ("space", " "), ("hyphen", "-"), ("period", "."), ("comma", ","), ("colon", ":"), ("semicolon", ";"),
    ("parenleft", "("), ("parenright", ")"), ("bracketleft", "["), ("bracketright", "]"), ("slash", "/"),
    ("quoteright", "'"), ("quoteleft", "'"), ("quotedblleft", "\""), ("quotedblright", "\""), ("quotesingle", "'"),
    ("quotedbl", "\""), ("endash", "-"), ("emdash", "-"), ("fi", "fi"), ("fl", "fl"), ("ff", "ff"), ("ffi", "ffi"),
    ("ffl", "ffl"), ("zero", "0"), ("one", "1"), ("two", "2"), ("three", "3"), ("four", "4"), ("five", "5"),
    ("six", "6"), ("seven", "7"), ("eight", "8"), ("nine", "9"), ("percent", "%"), ("ampersand", "&"),
    ("plus", "+"), ("equal", "="), ("question", "?"), ("exclam", "!"), ("at", "@"), ("numbersign", "#"),
    ("underscore", "_"), ("adieresis", "\u{e4}"), ("odieresis", "\u{f6}"), ("udieresis", "\u{fc}"),
    ("Adieresis", "\u{c4}"), ("Odieresis", "\u{d6}"), ("Udieresis", "\u{dc}"), ("germandbls", "\u{df}"),
    ("eacute", "\u{e9}"), ("egrave", "\u{e8}"), ("agrave", "\u{e0}"), ("aacute", "\u{e1}"), ("ccedilla", "\u{e7}"),
    ("ntilde", "\u{f1}"), ("oacute", "\u{f3}"), ("iacute", "\u{ed}"), ("uacute", "\u{fa}"),
    ("ecircumflex", "\u{ea}"), ("dotlessi", "\u{131}"), ("bullet", "\u{2022}"), ("ellipsis", "\u{2026}"),
];
