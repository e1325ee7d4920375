//! A mount that answers from a list, for tests.
//!
//! Never guesses: a request that is not the next one expected fails the test.

use std::cell::RefCell;
use std::collections::VecDeque;

use serde_json::Value;

use super::{Ask, refusal};
use crate::cli::Failure;

/// Expected requests with the lines of their answers, in order.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    expected: RefCell<VecDeque<(Value, Vec<Value>)>>,
}

impl Fake {
    pub(crate) fn new(expected: impl IntoIterator<Item = (Value, Vec<Value>)>) -> Self {
        Self { expected: RefCell::new(expected.into_iter().collect()) }
    }

    /// Everything expected was asked.
    pub(crate) fn is_done(&self) -> bool {
        self.expected.borrow().is_empty()
    }
}

impl Ask for Fake {
    fn ask(&self, request: &Value, take: &mut dyn FnMut(Value) -> Result<(), Failure>) -> Result<(), Failure> {
        let next = self.expected.borrow_mut().pop_front();
        let Some((expected, lines)) = next else { panic!("nothing more was expected, and asked was {request}") };
        assert_eq!(*request, expected);
        for line in lines {
            match refusal(&line) {
                Some(failure) => return Err(failure),
                None => take(line)?,
            }
        }
        Ok(())
    }
}
