//! `%XX`: how a component of a path carries the bytes that it cannot hold.
//!
//! Never decides which bytes those are: each kind of component says it. What is undone is bytes, perhaps not UTF-8.

use alloc::string::String;
use alloc::vec::Vec;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// A `%` at this byte without two hexadecimal digits behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadEscape {
    pub(crate) at: usize,
}

/// Undoes every `%XX`; upper and lower case digits are the same.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, BadEscape> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let [high, low, after @ ..] = after else { return Err(BadEscape { at: text.len() - rest.len() }) };
        match (digit(*high), digit(*low)) {
            (Some(high), Some(low)) => bytes.push(high << 4 | low),
            (Some(_) | None, _) => return Err(BadEscape { at: text.len() - rest.len() }),
        }
        rest = after;
    }
    Ok(bytes)
}

fn digit(character: u8) -> Option<u8> {
    char::from(character).to_digit(16).map(|digit| digit as u8)
}

/// Appends one byte as `%XX`.
pub(crate) fn push_escaped(out: &mut String, byte: u8) {
    out.push('%');
    for digit in [byte >> 4, byte & 15] {
        out.push(HEX.get(usize::from(digit)).map_or('0', |digit| char::from(*digit)));
    }
}

/// Appends one character, with `%XX` for each of its bytes when `escaped`.
pub(crate) fn push_char(out: &mut String, character: char, escaped: bool) {
    if escaped {
        for byte in character.encode_utf8(&mut [0; 4]).bytes() {
            push_escaped(out, byte);
        }
    } else {
        out.push(character);
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::{BadEscape, push_char, push_escaped, unescape};

    #[test]
    fn every_byte_survives() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut text = String::new();
        bytes.iter().for_each(|byte| push_escaped(&mut text, *byte));
        assert_eq!(unescape(&text), Ok(bytes.clone()));
        assert_eq!(unescape(&text.to_lowercase()), Ok(bytes));
        let mut text = String::from("a");
        push_char(&mut text, 'é', true);
        push_char(&mut text, 'é', false);
        assert_eq!(text, "a%C3%A9é");
    }

    #[test]
    fn half_an_escape_is_refused_with_its_place() {
        for (text, at) in [("%", 0), ("ab%", 2), ("a%4", 1), ("%41%4g", 3), ("50%é", 2)] {
            assert_eq!(unescape(text), Err(BadEscape { at }), "{text}");
        }
    }
}
