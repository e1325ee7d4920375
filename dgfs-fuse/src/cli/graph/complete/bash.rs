//! Lines of bash, which parts words where we do not: at ":", "=" and "@".
//!
//! Never runs anything: quotes are read, and nothing is expanded.

/// Where bash begins a word, besides blanks (its `COMP_WORDBREAKS`).
const BREAKS: [char; 9] = [':', '=', '@', '<', '>', ';', '|', '&', '('];

/// The words of a line; the last one is that under the cursor, empty after a blank.
pub(super) fn words(line: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let (mut quote, mut escaped) = (None::<char>, false);
    for character in line.chars() {
        match (quote, character) {
            _ if escaped => {
                escaped = false;
                word.get_or_insert_default().push(character);
            }
            (None | Some('"'), '\\') => escaped = true,
            (Some(open), _) if open == character => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                let _ = word.get_or_insert_default();
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            (_, _) => word.get_or_insert_default().push(character),
        }
    }
    words.push(word.unwrap_or_default());
    words
}

/// Candidates as bash puts them in: without what it takes for words before.
pub(super) fn trimmed(word: &str, candidates: Vec<String>) -> Vec<String> {
    let kept = word.rfind(BREAKS).map_or(0, |at| at + 1);
    let head = word.get(..kept).unwrap_or_default();
    candidates.iter().filter_map(|candidate| candidate.strip_prefix(head)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::{trimmed, words};

    #[test]
    fn quotes_and_blanks_part_words() {
        assert_eq!(words("dgfs find  'a b' c\\ d \"e\\\"f\""), ["dgfs", "find", "a b", "c d", "e\"f"]);
        assert_eq!(words("dgfs find "), ["dgfs", "find", ""]);
        assert_eq!(words("dgfs find '"), ["dgfs", "find", ""]);
        assert_eq!(words("dgfs find 'a b"), ["dgfs", "find", "a b"]);
        assert_eq!(words(""), [""]);
    }

    #[test]
    fn what_bash_takes_for_earlier_words_is_left_out() {
        let all = || vec!["place:cn:hefei".to_owned(), "Place:cn:x".to_owned()];
        assert_eq!(trimmed("place:cn:h", all()), ["hefei"]);
        assert_eq!(trimmed("pl", all()), all());
        assert_eq!(trimmed("year=20", vec!["year=2020".to_owned()]), ["2020"]);
    }
}
