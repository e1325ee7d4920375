//! Reads RTF for its text.
//!
//! Never follows an object and never nests deeper than it counts. Groups that hold no text for people (fonts, colours,
//! pictures) are left out.

use super::Prose;

/// Groups within groups that are told apart; deeper ones are read as the last.
const DEPTH_MAX: usize = 1000;
/// Destinations whose content is no text.
const HIDDEN: &[&str] = &[
    "fonttbl",
    "colortbl",
    "stylesheet",
    "info",
    "pict",
    "object",
    "header",
    "footer",
    "themedata",
    "datastore",
    "listtable",
    "listoverridetable",
    "rsidtbl",
    "generator",
    "xmlnstbl",
    "latentstyles",
    "fldinst",
];

/// The text of an RTF file.
pub(crate) fn text_of(rtf: &str) -> Prose {
    let mut prose = Prose::default();
    // For each open group, whether its text is hidden.
    let mut groups: Vec<bool> = vec![false];
    let mut rest = rtf;
    while let Some(letter) = rest.chars().next() {
        let tail = rest.get(letter.len_utf8()..).unwrap_or_default();
        rest = tail;
        let is_hidden = groups.last().copied().unwrap_or(false);
        match letter {
            '{' if groups.len() < DEPTH_MAX => groups.push(is_hidden),
            '}' if groups.len() > 1 => {
                groups.pop();
            }
            '{' | '}' | '\r' | '\n' => {}
            '\\' => rest = control(tail, &mut groups, &mut prose),
            _ if is_hidden => {}
            _ => {
                prose.push(letter.encode_utf8(&mut [0; 4]));
            }
        }
    }
    prose
}

/// Obeys the control word or symbol that `text` begins with; what follows it.
fn control<'a>(text: &'a str, groups: &mut [bool], prose: &mut Prose) -> &'a str {
    let word_len = text.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let is_hidden = groups.last().copied().unwrap_or(false);
    let Some((word, rest)) = text.split_at_checked(word_len) else { return "" };
    if word.is_empty() {
        return symbol(text, groups, prose);
    }
    let number_len = rest.find(|letter: char| !(letter.is_ascii_digit() || letter == '-')).unwrap_or(rest.len());
    let (number, rest) = rest.split_at_checked(number_len).unwrap_or(("", rest));
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    if HIDDEN.contains(&word) {
        hide(groups);
    } else if !is_hidden {
        match word {
            "par" | "sect" | "page" => prose.end_paragraph(),
            "line" | "row" => prose.end_line(),
            "tab" | "cell" => {
                prose.push(" ");
            }
            "u" => return unicode(number, rest, prose),
            _ => {}
        }
    }
    rest
}

fn symbol<'a>(text: &'a str, groups: &mut [bool], prose: &mut Prose) -> &'a str {
    let Some(letter) = text.chars().next() else { return "" };
    let rest = text.get(letter.len_utf8()..).unwrap_or_default();
    let is_hidden = groups.last().copied().unwrap_or(false);
    match letter {
        '*' => hide(groups),
        '\'' => {
            let code = rest.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
            if let Some(code) = code.filter(|_| !is_hidden) {
                // Windows-1252 is what such bytes mean in nearly every file.
                let (letter, _, _) = encoding_rs::WINDOWS_1252.decode(std::slice::from_ref(&code));
                prose.push(&letter);
            }
            return rest.get(2..).unwrap_or_default();
        }
        '~' if !is_hidden => {
            prose.push(" ");
        }
        '\\' | '{' | '}' if !is_hidden => {
            prose.push(letter.encode_utf8(&mut [0; 4]));
        }
        _ => {}
    }
    rest
}

fn hide(groups: &mut [bool]) {
    if let Some(last) = groups.last_mut() {
        *last = true;
    }
}

/// `\uN?`: a character as a signed 16-bit number, then one for readers that know no Unicode.
fn unicode<'a>(number: &str, rest: &'a str, prose: &mut Prose) -> &'a str {
    let code = number.parse::<i32>().ok().map(|code| if code < 0 { code + 65536 } else { code });
    if let Some(letter) = code.and_then(|code| u32::try_from(code).ok()).and_then(char::from_u32) {
        prose.push(letter.encode_utf8(&mut [0; 4]));
    }
    if let Some(byte) = rest.strip_prefix("\\'") {
        return byte.get(2..).unwrap_or_default();
    }
    rest.strip_prefix('?').unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::text_of;

    #[test]
    fn text_is_read_and_tables_are_not() {
        let rtf = r"{\rtf1\ansi{\fonttbl{\f0 Arial;}}{\*\generator x;}\f0 Caf\'e9 \u20013? one\par Two \{three\}}";
        assert_eq!(text_of(rtf).body, "Caf\u{e9} \u{4e2d} one\n\nTwo {three}");
        let deep = "{".repeat(100_000);
        assert_eq!(text_of(&format!("{deep}x")).body, "x");
        assert_eq!(text_of(r"{\rtf1 \'").body, "");
    }
}
