//! What a check found: how bad it is, a sentence, and the command that mends it.
//!
//! Never carries a control character, however odd the words of a peer are: a finding may be printed and its command copied.

use serde::Serialize;

use crate::cli::graph::output::is_hidden;

/// Letters of one word of a finding at most: what a peer tells may be long.
const LETTERS_MAX: usize = 600;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Data or service are at stake.
    Error,
    /// Something is not as it should be.
    Warning,
    /// Looked at, and nothing found.
    Ok,
}

impl Severity {
    /// The word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Ok => "ok",
        }
    }
}

/// One thing that was found, or that a check found nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The check it is from.
    pub(crate) check: &'static str,
    pub(crate) severity: Severity,
    /// What is so.
    pub(crate) sentence: String,
    /// What mends it, or finds its cause; none where nothing was found.
    pub(crate) command: Option<String>,
}

impl Finding {
    /// An error, and what mends it.
    pub(crate) fn error(sentence: impl AsRef<str>, command: impl AsRef<str>) -> Self {
        Self::new(Severity::Error, sentence.as_ref(), Some(command.as_ref()))
    }

    /// A warning, and what mends it.
    pub(crate) fn warning(sentence: impl AsRef<str>, command: impl AsRef<str>) -> Self {
        Self::new(Severity::Warning, sentence.as_ref(), Some(command.as_ref()))
    }

    /// Nothing was found.
    pub(crate) fn ok(sentence: impl AsRef<str>) -> Self {
        Self::new(Severity::Ok, sentence.as_ref(), None)
    }

    /// The same, from this check.
    pub(crate) fn of(mut self, check: &'static str) -> Self {
        self.check = check;
        self
    }

    fn new(severity: Severity, sentence: &str, command: Option<&str>) -> Self {
        Self { check: "", severity, sentence: plain(sentence), command: command.map(plain) }
    }
}

/// `text` without what a terminal would obey, and not longer than anybody reads.
pub(crate) fn plain(text: &str) -> String {
    let mut shown = String::new();
    for letter in text.chars().take(LETTERS_MAX) {
        if is_hidden(letter) { shown.extend(letter.escape_default()) } else { shown.push(letter) }
    }
    if text.chars().nth(LETTERS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// `word` as one word of a shell's command.
pub(crate) fn shell_word(word: &str) -> String {
    let is_safe = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@%+,".contains(letter);
    if !word.is_empty() && word.chars().all(is_safe) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::{Finding, shell_word};

    #[test]
    fn words_of_peers_reach_neither_the_terminal_nor_the_shell() {
        let finding =
            Finding::error("stored \u{1b}[2Jx\u{202e}", format!("dgfs server show {}", shell_word("a; rm 'x'")));
        assert_eq!(finding.sentence, "stored \\u{1b}[2Jx\\u{202e}");
        assert_eq!(finding.command.as_deref(), Some(r"dgfs server show 'a; rm '\''x'\'''"));
        assert_eq!((shell_word("127.0.0.1:7440"), shell_word("")), ("127.0.0.1:7440".to_owned(), "''".to_owned()));
        assert!(Finding::ok("x".repeat(100_000)).sentence.len() < 1000);
    }
}
