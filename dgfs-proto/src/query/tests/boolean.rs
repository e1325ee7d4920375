//! Normal forms against plain logic: an expression and its query agree on every assignment of truth to their tests.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use proptest::prelude::{Just, Strategy, prop_assert_eq, prop_oneof, proptest};

use super::read;
use crate::query::{Query, QueryErrorKind, Test};

const TAGS: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Clone, Debug)]
enum Formula {
    Tag(usize),
    Not(Box<Formula>),
    And(Box<Formula>, Box<Formula>),
    Or(Box<Formula>, Box<Formula>),
}

impl Formula {
    fn holds(&self, truth: u32) -> bool {
        match self {
            Self::Tag(tag) => truth >> tag & 1 == 1,
            Self::Not(inner) => !inner.holds(truth),
            Self::And(left, right) => left.holds(truth) && right.holds(truth),
            Self::Or(left, right) => left.holds(truth) || right.holds(truth),
        }
    }

    /// The expression; `style` picks among the spellings of each sign.
    fn text(&self, style: usize) -> String {
        match self {
            Self::Tag(tag) => TAGS[*tag].into(),
            Self::Not(inner) => {
                let inner = inner.text(style + 1);
                match style % 3 {
                    0 => format!("not ({inner})"),
                    1 => format!("!({inner})"),
                    _ => format!("-({inner})"),
                }
            }
            Self::And(left, right) => {
                let sign = [" ", " and ", "&&"][style % 3];
                format!("({}{sign}({}))", left.text(style + 1), right.text(style + 2))
            }
            Self::Or(left, right) => {
                let sign = [" or ", "||", " OR "][style % 3];
                format!("({}{sign}{})", left.text(style + 2), right.text(style + 1))
            }
        }
    }
}

fn passes(query: &Query, truth: u32) -> bool {
    query.clauses.iter().all(|clause| {
        clause.atoms.iter().any(|atom| {
            let Test::Tag(tag) = &atom.test else { panic!("{atom} is no tag") };
            let tag = TAGS.iter().position(|name| *name == tag.as_str()).unwrap();
            (truth >> tag & 1 == 1) != atom.negated
        })
    })
}

fn formula() -> impl Strategy<Value = Formula> {
    (0..TAGS.len()).prop_map(Formula::Tag).prop_recursive(5, 24, 2, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            inner.prop_map(|inner| Formula::Not(Box::new(inner))),
            pair.clone().prop_map(|(left, right)| Formula::And(Box::new(left), Box::new(right))),
            pair.prop_map(|(left, right)| Formula::Or(Box::new(left), Box::new(right))),
        ]
    })
}

proptest! {
    #[test]
    fn a_normal_form_says_what_its_expression_says(formula in formula(), style in prop_oneof![Just(0_usize), Just(1), Just(2)]) {
        let text = formula.text(style);
        match read(&text) {
            Ok(query) => {
                for truth in 0..1 << TAGS.len() {
                    prop_assert_eq!(passes(&query, truth), formula.holds(truth), "{} as {} at {:05b}", text, query, truth);
                }
                prop_assert_eq!(query.check(), Ok(()));
            }
            Err(error) => prop_assert_eq!(error.kind, QueryErrorKind::TooBig, "{}: {}", text, error),
        }
    }
}

#[test]
fn most_small_expressions_are_not_too_big() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let refused =
        (0..500).filter(|_| read(&formula().new_tree(&mut runner).unwrap().current().text(0)).is_err()).count();
    assert!(refused < 25, "{refused} of 500");
}
