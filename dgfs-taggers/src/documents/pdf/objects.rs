//! The syntax of PDF: numbers, strings, names, lists, dictionaries, references, operators.
//!
//! Never nests deeper than [`DEPTH_MAX`] and never keeps a list longer than [`ITEMS_MAX`]: what is beyond is left out.

use std::collections::BTreeMap;

/// Lists within lists. Real files have ten.
const DEPTH_MAX: usize = 32;
/// Items of a list or a dictionary.
const ITEMS_MAX: usize = 100_000;
/// Bytes of a string that are kept.
const STRING_BYTES_MAX: usize = 64 << 10;
/// Bytes of a name or an operator at most.
const WORD_BYTES_MAX: usize = 256;

/// A dictionary.
pub(super) type Dict = BTreeMap<String, Object>;

/// A value. A stream is its dictionary with the place of its bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Object {
    Null,
    Bool(bool),
    Number(f64),
    String(Vec<u8>),
    Name(String),
    List(Vec<Self>),
    Dict(Dict),
    /// The number of an object.
    Reference(u32),
    /// A word of the content language.
    Operator(String),
}

impl Object {
    /// A text string: UTF-16 with a mark, UTF-8 with a mark, or PDFDocEncoding, which is nearly Windows-1252.
    pub(super) fn text(&self) -> Option<String> {
        let Self::String(bytes) = self else { return None };
        let encoding = match bytes.get(..2) {
            Some(b"\xfe\xff") => encoding_rs::UTF_16BE,
            Some(b"\xff\xfe") => encoding_rs::UTF_16LE,
            _ if bytes.starts_with(b"\xef\xbb\xbf") => encoding_rs::UTF_8,
            _ => encoding_rs::WINDOWS_1252,
        };
        let (text, _, _) = encoding.decode(bytes);
        let text = text.trim_matches(['\u{feff}', '\0', ' ', '\n', '\r', '\t']);
        (!text.is_empty()).then(|| text.to_owned())
    }

    pub(super) fn number(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    /// A whole number of at least 0.
    pub(super) fn index(&self) -> Option<usize> {
        let number = self.number()?;
        // Above 2^53 a float is no longer exact, and no file is so large.
        ((0.0..9e15).contains(&number) && number.fract() == 0.0).then_some(number as usize)
    }

    pub(super) fn name(&self) -> Option<&str> {
        if let Self::Name(name) = self { Some(name) } else { None }
    }

    pub(super) fn reference(&self) -> Option<u32> {
        if let Self::Reference(number) = self { Some(*number) } else { None }
    }
}

/// Reads objects one after another.
pub(super) struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Bytes read so far, from the beginning of the input.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Goes on behind `len` more bytes.
    pub(super) fn skip(&mut self, len: usize) {
        self.at = self.at.saturating_add(len).min(self.bytes.len());
    }

    /// The next object; `None` at the end.
    pub(super) fn next(&mut self) -> Option<Object> {
        self.object(DEPTH_MAX)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn skip_gaps(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b'%' => {
                    self.at +=
                        self.rest().iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(self.rest().len())
                }
                _ if is_gap(byte) => self.at += 1,
                _ => return,
            }
        }
    }

    fn object(&mut self, depth_left: usize) -> Option<Object> {
        self.skip_gaps();
        let byte = self.peek()?;
        match byte {
            b'/' => {
                self.at += 1;
                Some(Object::Name(self.name()))
            }
            b'(' => Some(Object::String(self.literal())),
            b'<' if self.rest().starts_with(b"<<") => {
                self.at += 2;
                Some(self.dict(depth_left))
            }
            b'<' => Some(Object::String(self.hex())),
            b'[' => {
                self.at += 1;
                Some(Object::List(self.items(depth_left, b"]")))
            }
            b'+' | b'-' | b'.' | b'0'..=b'9' => Some(self.number_or_reference()),
            b']' | b'>' | b'}' | b'{' | b')' => {
                self.at += 1;
                Some(Object::Null)
            }
            _ => Some(self.word()),
        }
    }

    fn dict(&mut self, depth_left: usize) -> Object {
        let items = self.items(depth_left, b">>");
        let mut dict = Dict::new();
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            if let Object::Name(key) = key {
                dict.insert(key, value);
            }
        }
        Object::Dict(dict)
    }

    /// Objects up to `end`. Too deep a list is read as an empty one, whose items follow.
    fn items(&mut self, depth_left: usize, end: &[u8]) -> Vec<Object> {
        let mut items = Vec::new();
        if depth_left == 0 {
            return items;
        }
        while items.len() < ITEMS_MAX {
            self.skip_gaps();
            if self.rest().starts_with(end) {
                self.at += end.len();
                break;
            }
            // A missing end must not swallow what follows the object.
            if self.rest().starts_with(b"endobj") || self.rest().starts_with(b"stream") {
                break;
            }
            let Some(item) = self.object(depth_left - 1) else { break };
            items.push(item);
        }
        items
    }

    fn word_len(&self) -> usize {
        let rest = self.rest();
        let len = rest.iter().position(|byte| is_gap(*byte) || is_delimiter(*byte)).unwrap_or(rest.len());
        len.min(WORD_BYTES_MAX)
    }

    fn name(&mut self) -> String {
        let len = self.word_len();
        let raw = self.rest().get(..len).unwrap_or_default();
        self.at += len;
        let mut name = Vec::with_capacity(len);
        let mut rest = raw;
        while let Some((&first, tail)) = rest.split_first() {
            let code = tail.get(..2).and_then(hex_byte).filter(|_| first == b'#');
            name.push(code.unwrap_or(first));
            rest = if code.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
        }
        String::from_utf8_lossy(&name).into_owned()
    }

    fn word(&mut self) -> Object {
        let len = self.word_len().max(1);
        let word = self.rest().get(..len).unwrap_or_default();
        self.at += len;
        match word {
            b"true" => Object::Bool(true),
            b"false" => Object::Bool(false),
            b"null" => Object::Null,
            _ => Object::Operator(String::from_utf8_lossy(word).into_owned()),
        }
    }

    fn number_or_reference(&mut self) -> Object {
        let number = self.number();
        let start = self.at;
        let is_id = number >= 0.0 && number.fract() == 0.0 && number <= f64::from(u32::MAX);
        if is_id && self.is_reference_tail() {
            return Object::Reference(number as u32);
        }
        self.at = start;
        Object::Number(number)
    }

    /// ` GENERATION R` behind a number.
    fn is_reference_tail(&mut self) -> bool {
        self.skip_gaps();
        let digits = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=5).contains(&digits) {
            return false;
        }
        self.at += digits;
        self.skip_gaps();
        let is_reference = self.peek() == Some(b'R')
            && self.bytes.get(self.at + 1).is_none_or(|byte| is_gap(*byte) || is_delimiter(*byte));
        self.at += usize::from(is_reference);
        is_reference
    }

    fn number(&mut self) -> f64 {
        let rest = self.rest();
        let len = rest.iter().position(|byte| !matches!(byte, b'+' | b'-' | b'.' | b'0'..=b'9')).unwrap_or(rest.len());
        self.at += len.max(1);
        let text = std::str::from_utf8(rest.get(..len.min(40)).unwrap_or_default()).unwrap_or_default();
        text.parse().unwrap_or(0.0)
    }

    /// `(text)` with escapes and balanced parentheses.
    fn literal(&mut self) -> Vec<u8> {
        self.at += 1;
        let mut open = 1;
        let mut out = Vec::new();
        while let Some(byte) = self.peek() {
            self.at += 1;
            let kept = match byte {
                b'\\' => self.escape(),
                b'(' => {
                    open += 1;
                    Some(byte)
                }
                b')' => {
                    open -= 1;
                    if open == 0 {
                        break;
                    }
                    Some(byte)
                }
                _ => Some(byte),
            };
            if out.len() < STRING_BYTES_MAX {
                out.extend(kept);
            }
        }
        out
    }

    fn escape(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b'n' => Some(b'\n'),
            b'r' => Some(b'\r'),
            b't' => Some(b'\t'),
            b'b' | b'f' => Some(b' '),
            b'\r' => {
                self.at += usize::from(self.peek() == Some(b'\n'));
                None
            }
            b'\n' => None,
            b'0'..=b'7' => {
                let mut code = u32::from(byte - b'0');
                for _ in 0..2 {
                    let Some(digit) = self.peek().filter(|digit| (b'0'..=b'7').contains(digit)) else { break };
                    code = code * 8 + u32::from(digit - b'0');
                    self.at += 1;
                }
                Some((code & 0xff) as u8)
            }
            other => Some(other),
        }
    }

    fn hex(&mut self) -> Vec<u8> {
        self.at += 1;
        let mut digits = Vec::new();
        while let Some(byte) = self.peek() {
            self.at += 1;
            if byte == b'>' {
                break;
            }
            if byte.is_ascii_hexdigit() && digits.len() < 2 * STRING_BYTES_MAX {
                digits.push(byte);
            }
        }
        if digits.len() % 2 == 1 {
            digits.push(b'0');
        }
        digits.chunks(2).filter_map(hex_byte).collect()
    }
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

pub(super) fn is_gap(byte: u8) -> bool {
    matches!(byte, 0 | 9 | 10 | 12 | 13 | 32)
}

fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b'(' | b')' | b'<' | b'>' | b'[' | b']' | b'{' | b'}' | b'/' | b'%')
}
