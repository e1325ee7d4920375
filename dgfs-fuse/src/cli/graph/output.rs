//! What the commands print.
//!
//! Never changes a name on its way into a pipe or a file; on a terminal, what would move the cursor or colour the screen is
//! quoted, as ls(1) does.

use std::fmt::Write as _;
use std::io::Write;

use serde_json::{Map, Value, json};

use crate::cli::Failure;
use crate::cli::graph::refused;

/// Where it goes.
pub(crate) struct Output<'a> {
    to: &'a mut dyn Write,
    is_terminal: bool,
}

impl<'a> Output<'a> {
    pub(crate) fn new(to: &'a mut dyn Write, is_terminal: bool) -> Self {
        Self { to, is_terminal }
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.to.write_all(bytes).map_err(|error| refused(format!("write to the standard output: {error}")))
    }

    /// A line of our own words.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.raw(line.as_bytes())?;
        self.raw(b"\n")
    }

    /// A line that ends in a name.
    pub(crate) fn named(&mut self, before: &str, name: &[u8]) -> Result<(), Failure> {
        self.raw(before.as_bytes())?;
        self.name(name)?;
        self.raw(b"\n")
    }

    /// A name within a line.
    pub(crate) fn name(&mut self, name: &[u8]) -> Result<(), Failure> {
        if self.is_terminal { self.raw(quoted(name).as_bytes()) } else { self.raw(name) }
    }

    /// A name that ends with a NUL.
    pub(crate) fn zero(&mut self, name: &[u8]) -> Result<(), Failure> {
        self.raw(name)?;
        self.raw(&[0])
    }

    /// A JSON object as a line.
    pub(crate) fn json(&mut self, value: &Value) -> Result<(), Failure> {
        self.line(&value.to_string())
    }

    /// What was printed reaches its reader now.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.to.flush().map_err(|error| refused(format!("write to the standard output: {error}")))
    }
}

/// A name for a terminal: as it is where every character can be seen, else `$'…'`, which shells read as the name.
pub(crate) fn quoted(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text) if !text.chars().any(is_hidden) => return text.to_owned(),
        Ok(_) | Err(_) => {}
    }
    let mut out = String::from("$'");
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\'' | '\\' => out.extend(['\\', character]),
                _ if is_hidden(character) => push_bytes(&mut out, character.encode_utf8(&mut [0; 4]).as_bytes()),
                _ => out.push(character),
            }
        }
        push_bytes(&mut out, chunk.invalid());
    }
    out.push('\'');
    out
}

fn push_bytes(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string cannot fail. Three octal digits: a hexadecimal escape would swallow a digit behind it.
        let _ = write!(out, "\\{byte:03o}");
    }
}

/// Is nothing to see, and may be an order to the terminal, or turns the direction of what follows.
pub(crate) fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `4.2 MiB`; below a KiB as it is.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64 / 1024.0;
    let mut units = UNITS.into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        // What would be shown as 1024.0 is one of the next.
        if amount < 1023.95 {
            break;
        }
        amount /= 1024.0;
        unit = next;
    }
    format!("{amount:.1} {unit}")
}

/// A text of a line.
pub(crate) fn text<'a>(line: &'a Value, key: &str) -> &'a str {
    line.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A number of a line.
pub(crate) fn number(line: &Value, key: &str) -> u64 {
    line.get(key).and_then(Value::as_u64).unwrap_or(0)
}

/// The list under a key of a line.
pub(crate) fn items<'a>(line: &'a Value, key: &str) -> &'a [Value] {
    line.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Bytes of a line: as text, or where that would lose something in hexadecimal beside it. None where there are none.
pub(crate) fn bytes(line: &Value, key: &str) -> Option<Vec<u8>> {
    if let Some(hex) = line.get(format!("{key}-hex")).and_then(Value::as_str) {
        return unhex(hex);
    }
    line.get(key).and_then(Value::as_str).map(|text| text.as_bytes().to_vec())
}

/// Puts bytes into a line, as [`bytes`] reads them.
pub(crate) fn insert_bytes(line: &mut Map<String, Value>, key: &str, bytes: &[u8]) {
    let _ = line.insert(key.to_owned(), json!(String::from_utf8_lossy(bytes)));
    if std::str::from_utf8(bytes).is_err() {
        let mut hex = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        let _ = line.insert(format!("{key}-hex"), json!(hex));
    }
}

/// The bytes of hexadecimal digits; none for anything else.
pub(crate) fn unhex(hex: &str) -> Option<Vec<u8>> {
    if !hex.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    hex.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
pub(crate) mod testing {
    //! Output that a test reads.

    use super::Output;
    use crate::cli::Failure;

    /// What a command printed, and what it said.
    pub(crate) fn printed<T>(
        command: impl FnOnce(&mut Output<'_>) -> Result<T, Failure>,
    ) -> (String, Result<T, Failure>) {
        let mut bytes = Vec::new();
        let ended = command(&mut Output::new(&mut bytes, false));
        (String::from_utf8_lossy(&bytes).into_owned(), ended)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Output, bytes, bytes_text, quoted, unhex};

    #[test]
    fn names_are_quoted_for_a_terminal_only() {
        let name = b"a\x1b[31m\n\xff'z";
        let mut bytes = Vec::new();
        Output::new(&mut bytes, true).named("", name).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), "$'a\\033[31m\\n\\377\\'z'\n");
        let mut bytes = Vec::new();
        Output::new(&mut bytes, false).named("x ", name).unwrap();
        assert_eq!(bytes, [b"x ", &name[..], b"\n"].concat());
        assert_eq!(quoted("plain ü 海".as_bytes()), "plain ü 海");
        assert_eq!(quoted("a\u{202e}b".as_bytes()), "$'a\\342\\200\\256b'");
    }

    #[test]
    fn bytes_of_any_kind_come_back_from_a_line() {
        assert_eq!(bytes(&json!({ "path": "a/b" }), "path"), Some(b"a/b".to_vec()));
        assert_eq!(bytes(&json!({ "path": "a\u{fffd}", "path-hex": "61ff" }), "path"), Some(vec![b'a', 0xff]));
        assert_eq!(bytes(&json!({}), "path"), None);
        for wrong in ["6", "6g", "+6", "é"] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_are_short_and_never_1024_of_anything() {
        let table =
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), ((1 << 20) - 1, "1.0 MiB"), (u64::MAX, "16.0 EiB")];
        for (amount, text) in table {
            assert_eq!(bytes_text(amount), text);
        }
    }
}
