//! Expressions: the query language of the command line and of the API.
//!
//! ```text
//! expression = both *( ("or" | "||") both )
//! both       = single *( ["and" | "&&"] single )
//! single     = ("not" | "!") single | "-(" expression ")" | "(" expression ")" | word
//! word       = atom *( "," atom )           ; as in a component of a path; "," is OR and binds tightest
//! ```
//! A word is what stands between white space and parentheses; `"…"`, `'…'` and `\` quote. Never takes exponential time or memory:
//! negations go down to the tests while the text is read, and what grows past a query's bounds is refused as soon as it does.

use super::atom::{Piece, parse_base};
use super::cnf::{Builder, Cnf, TooBig};
use super::error::{QueryError, QueryErrorKind};
use super::lexer::{Lexer, Located, Token, Word};
use super::{Context, Query, Test, root};
use crate::limits::{EXPRESSION_BYTES_MAX, PARENTHESES_DEPTH_MAX};

/// Reads an expression. White space alone is the query that every file passes.
///
/// # Errors
/// Where and what was expected; `TooBig` when its normal form passes 32 clauses or 64 alternatives in one, `TooLong` past 64 KiB.
pub fn parse_expr(text: &str, context: &Context) -> Result<Query, QueryError> {
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(QueryError::new(QueryErrorKind::TooLong, EXPRESSION_BYTES_MAX, "an expression of at most 64 KiB"));
    }
    let mut lexer = Lexer::new(text);
    let next = lexer.next()?;
    if next.token == Token::End {
        return Ok(Query::default());
    }
    let mut parser = Parser { lexer, next, context, builder: Builder::new() };
    let cnf = parser.expression(Polarity::AsIs, 0)?;
    match parser.next.token {
        Token::End => Ok(parser.builder.finish(&cnf)),
        Token::Close => Err(QueryError::syntax(parser.next.at, "the end, or an opening \"(\" before this \")\"")),
        Token::Open | Token::And | Token::Or | Token::Not | Token::Word(_) => {
            Err(QueryError::syntax(parser.next.at, "the end"))
        }
    }
}

/// Whether what is read stands under an odd number of negations.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Polarity {
    AsIs,
    Negated,
}

impl Polarity {
    const fn flipped(self) -> Self {
        match self {
            Self::AsIs => Self::Negated,
            Self::Negated => Self::AsIs,
        }
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    next: Located,
    context: &'a Context,
    builder: Builder,
}

impl Parser<'_> {
    fn advance(&mut self) -> Result<Located, QueryError> {
        let next = self.lexer.next()?;
        Ok(core::mem::replace(&mut self.next, next))
    }

    fn expression(&mut self, polarity: Polarity, depth: usize) -> Result<Cnf, QueryError> {
        let mut all = self.both(polarity, depth)?;
        while self.next.token == Token::Or {
            let at = self.advance()?.at;
            let more = self.both(polarity, depth)?;
            all = self.either_of(polarity, all, more).map_err(|bound| too_big(at, bound))?;
        }
        Ok(all)
    }

    fn both(&mut self, polarity: Polarity, depth: usize) -> Result<Cnf, QueryError> {
        let mut all = self.single(polarity, depth)?;
        loop {
            let at = self.next.at;
            match self.next.token {
                Token::And => drop(self.advance()?),
                Token::Open | Token::Not | Token::Word(_) => {}
                Token::Or | Token::Close | Token::End => return Ok(all),
            }
            let more = self.single(polarity, depth)?;
            // NOT (a AND b) is (NOT a) OR (NOT b).
            all = self.either_of(polarity.flipped(), all, more).map_err(|bound| too_big(at, bound))?;
        }
    }

    /// OR as it stands, AND under a negation.
    fn either_of(&mut self, polarity: Polarity, left: Cnf, right: Cnf) -> Result<Cnf, TooBig> {
        match polarity {
            Polarity::AsIs => self.builder.or(left, right),
            Polarity::Negated => self.builder.and(left, right),
        }
    }

    fn single(&mut self, mut polarity: Polarity, depth: usize) -> Result<Cnf, QueryError> {
        while self.next.token == Token::Not {
            polarity = polarity.flipped();
            self.advance()?;
        }
        let Located { token, at } = self.advance()?;
        match token {
            Token::Open if depth == PARENTHESES_DEPTH_MAX => {
                let expected = alloc::format!("at most {PARENTHESES_DEPTH_MAX} parentheses inside each other");
                Err(QueryError::new(QueryErrorKind::TooBig, at, expected))
            }
            Token::Open => {
                let inner = self.expression(polarity, depth + 1)?;
                if self.next.token != Token::Close {
                    return Err(QueryError::syntax(self.next.at, "a closing \")\""));
                }
                self.advance()?;
                Ok(inner)
            }
            Token::Word(word) => self.word(&word, at, polarity),
            Token::Close | Token::And | Token::Or | Token::Not | Token::End => {
                Err(QueryError::syntax(at, "a test, such as a tag or key=value, or \"(\""))
            }
        }
    }

    fn word(&mut self, word: &Word, at: usize, polarity: Polarity) -> Result<Cnf, QueryError> {
        let mut all: Option<Cnf> = None;
        for piece in Piece::new(&word.text).split(',') {
            let (negated, base) = piece.negation();
            let test = self.test(base).map_err(|mut error| {
                error.at = word.place(error.at);
                error
            })?;
            let literal = self.builder.literal(test, negated != (polarity == Polarity::Negated));
            all = Some(match all {
                None => literal,
                Some(all) => {
                    self.either_of(polarity, all, literal).map_err(|bound| too_big(word.place(piece.at), bound))?
                }
            });
        }
        all.ok_or_else(|| QueryError::syntax(at, "a word"))
    }

    fn test(&self, base: Piece<'_>) -> Result<Test, QueryError> {
        if base.text.starts_with('@') {
            return root::parse_word(base);
        }
        let test = parse_base(base, self.context)?;
        match (&test, base.text.find('/')) {
            // Somebody pasted a path: two components are no tag with a slash in it.
            (Test::Tag(_), Some(slash)) => Err(QueryError::syntax(
                base.at + slash,
                "a space for AND, or a quoted \"/\" for a tag with a slash in it",
            )),
            (_, _) => Ok(test),
        }
    }
}

fn too_big(at: usize, bound: TooBig) -> QueryError {
    match bound {
        TooBig::Clauses => QueryError::too_many_clauses(at),
        TooBig::Atoms => QueryError::too_many_atoms(at),
        TooBig::Work => QueryError::new(
            QueryErrorKind::TooBig,
            at,
            "a simpler expression: as an AND of ORs, this one takes too much work to write down",
        ),
    }
}
