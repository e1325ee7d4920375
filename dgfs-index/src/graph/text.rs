//! Full text as the search table wants it: Chinese, Japanese and Korean runs cut into overlapping pairs of characters,
//! because they have no spaces between words.
//!
//! Never stems and never drops a word. Text and questions are cut by the same rule: a run of a question is found
//! wherever the text has those characters one after another.

/// Text kept of one inode; what is behind is not found.
pub(crate) const TEXT_BYTES_MAX: usize = 256 << 10;

fn is_cjk(character: char) -> bool {
    matches!(character,
        '\u{3040}'..='\u{30FF}' // kana
        | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' // ideographs
        | '\u{AC00}'..='\u{D7AF}' // Hangul syllables
        | '\u{20000}'..='\u{3134F}')
}

/// Adds the pairs of a run; its last character alone behind them where `closed`.
fn push_run(run: &[char], closed: bool, cut: &mut String) {
    for pair in run.windows(2) {
        cut.push(' ');
        cut.extend(pair);
    }
    if let Some(last) = run.last().filter(|_| closed || run.len() == 1) {
        cut.push(' ');
        cut.push(*last);
    }
    cut.push(' ');
}

fn cut_runs(text: &str, last_closed: bool) -> String {
    let mut cut = String::with_capacity(text.len() + text.len() / 2);
    let mut run: Vec<char> = Vec::new();
    for character in text.chars() {
        if is_cjk(character) {
            run.push(character);
            continue;
        }
        if !run.is_empty() {
            push_run(&run, true, &mut cut);
            run.clear();
        }
        // The table's own syntax has a meaning for quotes only; they separate words anyway.
        cut.push(if character == '"' || character == '\0' { ' ' } else { character });
    }
    if !run.is_empty() {
        push_run(&run, last_closed, &mut cut);
    }
    cut
}

/// Text as it is stored.
pub(crate) fn cut_text(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    cut_runs(text.get(..end).unwrap_or_default(), true)
}

/// A question for all of `words`, in FTS5's query syntax; `None` when no word has a letter or digit.
pub(crate) fn match_expression(words: &[String]) -> Option<String> {
    let phrases: Vec<String> = words.iter().filter_map(|word| phrase(word)).collect();
    (!phrases.is_empty()).then(|| phrases.join(" AND "))
}

fn phrase(word: &str) -> Option<String> {
    if !word.chars().any(char::is_alphanumeric) {
        return None;
    }
    let mut characters = word.chars();
    // One character alone: whatever pair begins with it. The last of a run stands alone, too.
    let star = if characters.next().is_some_and(is_cjk) && characters.next().is_none() { "*" } else { "" };
    Some(format!("\"{}\"{star}", cut_runs(word, false).trim()))
}

#[cfg(test)]
mod tests {
    use super::{cut_text, match_expression};

    #[test]
    fn runs_are_cut_into_pairs() {
        let words = |text: &str| cut_text(text).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words("a 合肥市 b"), ["a", "合肥", "肥市", "市", "b"]);
        assert_eq!(words("x我y"), ["x", "我", "y"]);
    }

    #[test]
    fn questions_are_cut_as_text_is() {
        let ask = |words: &[&str]| match_expression(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(ask(&["合肥市"]).unwrap(), "\"合肥 肥市\"");
        assert_eq!(ask(&["市"]).unwrap(), "\"市\"*");
        assert_eq!(ask(&["it\"s", "x"]).unwrap(), "\"it s\" AND \"x\"");
        assert_eq!(ask(&["--", "\""]), None);
    }
}
