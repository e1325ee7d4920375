//! Conjunctive normal form while it is built: AND of ORs of numbered tests.
//!
//! Never larger than a query may be, and never more work than a budget: what would be is refused at once. Clauses keep the order
//! of the text. Only distributing drops anything: repeated literals, clauses that always hold, and clauses that hold whenever a
//! shorter one does.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Atom, Clause, Query, Test};
use crate::limits::{DISTRIBUTION_STEPS_MAX, QUERY_ATOMS_MAX, QUERY_CLAUSES_MAX};

/// A numbered test or its negation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Literal {
    test: u32,
    negated: bool,
}

/// AND of clauses, each an OR of literals.
#[derive(Clone, Debug, Default)]
pub(super) struct Cnf(Vec<Vec<Literal>>);

/// The bound that a formula passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooBig {
    Clauses,
    Atoms,
    Work,
}

/// A clause that distributing made: in the order of the text, and sorted to be compared.
struct Merged {
    literals: Vec<Literal>,
    sorted: Vec<Literal>,
}

impl Merged {
    /// Are all its literals in the other clause? Then the other holds whenever this one does.
    fn is_part_of(&self, other: &Self) -> bool {
        let mut rest = other.sorted.iter();
        self.sorted.iter().all(|literal| rest.any(|next| next == literal))
    }
}

/// The tests of one expression, and how much work is left for it.
#[derive(Debug)]
pub(super) struct Builder {
    numbers: BTreeMap<Test, u32>,
    steps_left: usize,
}

impl Builder {
    pub(super) const fn new() -> Self {
        Self { numbers: BTreeMap::new(), steps_left: DISTRIBUTION_STEPS_MAX }
    }

    /// One clause of one literal. Equal tests get one number.
    pub(super) fn literal(&mut self, test: Test, negated: bool) -> Cnf {
        // One number per test in a text of 64 KiB: 32 bits hold them.
        let next = self.numbers.len() as u32;
        let test = *self.numbers.entry(test).or_insert(next);
        Cnf(alloc::vec![alloc::vec![Literal { test, negated }]])
    }

    /// Both hold.
    pub(super) fn and(&self, mut left: Cnf, right: Cnf) -> Result<Cnf, TooBig> {
        left.0.extend(right.0);
        if left.0.len() > QUERY_CLAUSES_MAX { Err(TooBig::Clauses) } else { Ok(left) }
    }

    /// One holds: each clause of one side with each of the other.
    pub(super) fn or(&mut self, left: Cnf, right: Cnf) -> Result<Cnf, TooBig> {
        // Alternatives as they are written stay as they are written.
        if let ([_], [behind]) = (left.0.as_slice(), right.0.as_slice()) {
            let behind = behind.clone();
            let mut both = left;
            both.0.iter_mut().for_each(|clause| clause.extend(&behind));
            let fits = both.0.iter().all(|clause| clause.len() <= QUERY_ATOMS_MAX);
            return if fits { Ok(both) } else { Err(TooBig::Atoms) };
        }
        let mut out: Vec<Merged> = Vec::new();
        for first in &left.0 {
            for second in &right.0 {
                let Some(merged) = self.merge(first, second)? else { continue };
                self.spend(out.iter().map(|kept| kept.sorted.len() + merged.sorted.len()).sum())?;
                if out.iter().any(|kept| kept.is_part_of(&merged)) {
                    continue;
                }
                if merged.literals.len() > QUERY_ATOMS_MAX {
                    return Err(TooBig::Atoms);
                }
                out.retain(|kept| !merged.is_part_of(kept));
                if out.len() == QUERY_CLAUSES_MAX {
                    return Err(TooBig::Clauses);
                }
                out.push(merged);
            }
        }
        Ok(Cnf(out.into_iter().map(|merged| merged.literals).collect()))
    }

    /// The literals of both, each once; `None` when one of them and its negation are there: then the clause always holds.
    fn merge(&mut self, first: &[Literal], second: &[Literal]) -> Result<Option<Merged>, TooBig> {
        let mut merged: Vec<Literal> = Vec::with_capacity(first.len() + second.len());
        for literal in first.iter().chain(second) {
            self.spend(merged.len() + 1)?;
            if merged.contains(&Literal { negated: !literal.negated, ..*literal }) {
                return Ok(None);
            }
            if !merged.contains(literal) {
                merged.push(*literal);
            }
        }
        let mut sorted = merged.clone();
        sorted.sort_unstable();
        Ok(Some(Merged { literals: merged, sorted }))
    }

    fn spend(&mut self, steps: usize) -> Result<(), TooBig> {
        self.steps_left = self.steps_left.checked_sub(steps).ok_or(TooBig::Work)?;
        Ok(())
    }

    /// The query with the tests themselves.
    pub(super) fn finish(self, cnf: &Cnf) -> Query {
        let tests: BTreeMap<u32, &Test> = self.numbers.iter().map(|(test, number)| (*number, test)).collect();
        let atom = |literal: &Literal| {
            tests.get(&literal.test).map(|test| Atom { negated: literal.negated, test: (*test).clone() })
        };
        let clause = |clause: &Vec<Literal>| Clause { atoms: clause.iter().filter_map(atom).collect() };
        Query { clauses: cnf.0.iter().map(clause).collect() }
    }
}
