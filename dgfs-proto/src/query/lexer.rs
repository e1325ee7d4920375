//! Words and signs of an expression.
//!
//! Never knows what a word means. A word comes out as the text of a component: what was quoted in it has become `%XX`, so that the
//! readers of components take it literally; [`Word::place`] leads back to the expression.

use alloc::string::String;
use alloc::vec::Vec;
use core::iter::Peekable;
use core::str::CharIndices;

use super::error::QueryError;
use crate::escape::push_char;

/// A word with what was quoted escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// For each byte of `text`, and for its end, the byte of the expression that it came from. 32 bits hold every place.
    origins: Vec<u32>,
}

impl Word {
    /// Where in the expression the byte `at` of the word came from.
    pub(super) fn place(&self, at: usize) -> usize {
        self.origins.get(at).or_else(|| self.origins.last()).map_or(0, |place| *place as usize)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Open,
    Close,
    And,
    Or,
    Not,
    Word(Word),
    End,
}

/// A token and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub(super) token: Token,
    pub(super) at: usize,
}

/// Gives one token after the other.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, rest: text.char_indices().peekable() }
    }

    /// The next token; `End` again and again at the end.
    pub(super) fn next(&mut self) -> Result<Located, QueryError> {
        while self.rest.next_if(|(_, character)| character.is_whitespace()).is_some() {}
        let at = self.place();
        let token = match self.starts() {
            [] => Token::End,
            [b'(', ..] => self.sign(1, Token::Open),
            [b')', ..] => self.sign(1, Token::Close),
            [b'&', b'&', ..] => self.sign(2, Token::And),
            [b'|', b'|', ..] => self.sign(2, Token::Or),
            [b'-', b'(', ..] => self.sign(1, Token::Not),
            [b'!', ..] => self.sign(1, Token::Not),
            _ => self.word()?,
        };
        Ok(Located { token, at })
    }

    /// The byte at which the rest begins.
    fn place(&mut self) -> usize {
        self.rest.peek().map_or(self.text.len(), |(at, _)| *at)
    }

    fn starts(&mut self) -> &'a [u8] {
        let at = self.place();
        self.text.as_bytes().get(at..).unwrap_or_default()
    }

    fn sign(&mut self, len: usize, token: Token) -> Token {
        for _ in 0..len {
            self.rest.next();
        }
        token
    }

    fn word(&mut self) -> Result<Token, QueryError> {
        let mut word = Word { text: String::new(), origins: Vec::new() };
        let mut plain = true;
        while let Some((at, character)) = self.rest.peek().copied() {
            if character.is_whitespace()
                || matches!(self.starts(), [b'(' | b')', ..] | [b'&', b'&', ..] | [b'|', b'|', ..])
            {
                break;
            }
            self.rest.next();
            if matches!(character, '"' | '\'' | '\\') {
                plain = false;
                self.quoted(at, character, &mut word)?;
            } else {
                word.push(character, at, false);
            }
        }
        word.origins.push(self.place() as u32);
        let keyword = [("and", Token::And), ("or", Token::Or), ("not", Token::Not)];
        let keyword = keyword.into_iter().find(|(name, _)| plain && word.text.eq_ignore_ascii_case(name));
        Ok(keyword.map_or(Token::Word(word), |(_, token)| token))
    }

    /// Reads what `quote` at `open` quotes: one character behind a `\`, or all up to the same sign again. Between `"`, a `\` quotes
    /// `"` and `\` and otherwise stands for itself; between `'` it always does.
    fn quoted(&mut self, open: usize, quote: char, word: &mut Word) -> Result<(), QueryError> {
        if quote == '\\' {
            let next = self.rest.next();
            let (at, character) = next.ok_or_else(|| QueryError::syntax(open, "a character behind \"\\\""))?;
            word.push(character, at, true);
            return Ok(());
        }
        loop {
            let next = self.rest.next();
            let (mut at, mut character) =
                next.ok_or_else(|| QueryError::syntax(open, alloc::format!("the end of what {quote} begins")))?;
            if character == quote {
                return Ok(());
            }
            if quote == '"' && character == '\\' {
                let escaped = self.rest.next_if(|(_, character)| matches!(character, '"' | '\\'));
                (at, character) = escaped.unwrap_or((at, character));
            }
            word.push(character, at, true);
        }
    }
}

impl Word {
    fn push(&mut self, character: char, at: usize, quoted: bool) {
        // Letters and digits mean nothing but themselves; a quoted date or number is still one.
        let escaped = quoted && character.is_ascii() && !character.is_ascii_alphanumeric();
        push_char(&mut self.text, character, escaped);
        self.origins.resize(self.text.len(), at as u32);
    }
}
