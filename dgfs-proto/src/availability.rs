//! How available a class is on servers that were down before: the calculation behind an availability target.
//!
//! Never measures. Pessimistic throughout: a class is as available as the servers with the worst record that could hold it, and
//! a server without a record is believed to be up 99 % of the time until an hour of its own counts as much.
//!
//! Domains are taken to fail independently; a chunk is available when one of its copies, or as many of its shards as hold its
//! data, are (the Poisson binomial distribution, summed exactly).

use alloc::vec;
use alloc::vec::Vec;

use crate::class::{Class, Shape};

/// What an unknown server is believed to have behind it.
const PRIOR_MS: u64 = 3_600_000;
const PRIOR_UP: f64 = 0.99;
/// Classes that a target may choose from.
const CHOICES: [(u8, u8); 10] = [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (2, 1), (4, 2), (8, 3), (3, 2), (6, 3)];

/// What is known of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Servers with the same word here fail together; empty: it fails alone.
    pub domain: &'a str,
    /// Milliseconds since it joined.
    pub known_ms: u64,
    /// Milliseconds of them it was down.
    pub down_ms: u64,
}

/// A class with what it promises on given servers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The class.
    pub class: Class,
    /// The part of the time that its data are readable, from 0 to 1.
    pub availability: f64,
}

/// The part of the time a server is up, judged from its record.
#[must_use]
pub fn of_record(record: &Record<'_>) -> f64 {
    let up = record.known_ms.saturating_sub(record.down_ms) as f64 + PRIOR_MS as f64 * PRIOR_UP;
    up / (record.known_ms as f64 + PRIOR_MS as f64)
}

/// The part of the time that each domain is up: as its worst server. Worst first.
#[must_use]
pub fn of_domains(records: &[Record<'_>]) -> Vec<f64> {
    let mut domains: Vec<(&str, f64)> = Vec::new();
    for record in records {
        let up = of_record(record);
        match domains.iter_mut().find(|(name, _)| !name.is_empty() && *name == record.domain) {
            Some((_, worst)) => *worst = worst.min(up),
            None => domains.push((record.domain, up)),
        }
    }
    let mut up: Vec<f64> = domains.into_iter().map(|(_, up)| up).collect();
    up.sort_by(f64::total_cmp);
    up
}

/// The part of the time that data of a class are readable on domains that are up for these parts, worst first; none with
/// fewer domains than the class is wide.
#[must_use]
pub fn of_class(class: Class, domains: &[f64]) -> Option<f64> {
    let holders = domains.get(..class.width())?;
    let needed = match class.shape() {
        Shape::Replicated(_) => 1,
        Shape::Coded { data, .. } => usize::from(data),
    };
    // ways[n]: the probability that exactly n of the holders looked at so far are up.
    let mut ways = vec![0.0; holders.len() + 1];
    if let Some(none) = ways.first_mut() {
        *none = 1.0;
    }
    for up in holders {
        let mut before = 0.0;
        for way in &mut ways {
            let here = *way;
            *way = here * (1.0 - up) + before * up;
            before = here;
        }
    }
    Some(ways.iter().skip(needed).sum())
}

/// Every class that the domains are enough for, the cheapest first.
#[must_use]
pub fn choices(domains: &[f64]) -> Vec<Choice> {
    let class = |(data, parity): (u8, u8)| {
        if parity == 0 { Class::replicated(data) } else { Class::coded(data, parity) }
    };
    let mut all: Vec<Choice> = CHOICES
        .into_iter()
        .filter_map(|shape| class(shape).ok())
        .filter_map(|class| of_class(class, domains).map(|availability| Choice { class, availability }))
        .collect();
    all.sort_by_key(|choice| (choice.class.overhead_permille(), choice.class.width()));
    all
}

/// The cheapest class that reaches `target`.
///
/// # Errors
/// None does: the best one, if there is any server at all.
pub fn choose(target: f64, domains: &[f64]) -> Result<Choice, Option<Choice>> {
    let all = choices(domains);
    let best = all.iter().copied().max_by(|one, other| one.availability.total_cmp(&other.availability));
    all.into_iter().find(|choice| choice.availability >= target).ok_or(best)
}

#[cfg(test)]
mod tests {
    use super::{Record, choices, choose, of_class, of_domains, of_record};
    use crate::class::Class;

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-12
    }

    #[test]
    fn copies_fail_only_together_and_shards_when_too_few_are_left() {
        let domains = [0.9, 0.99, 0.999];
        assert!(near(of_class(Class::SINGLE, &domains).unwrap(), 0.9));
        assert!(near(of_class(Class::replicated(2).unwrap(), &domains).unwrap(), 1.0 - 0.1 * 0.01));
        let two_of_three = 0.9 * 0.99 * 0.999 + 0.1 * 0.99 * 0.999 + 0.9 * 0.01 * 0.999 + 0.9 * 0.99 * 0.001;
        assert!(near(of_class(Class::coded(2, 1).unwrap(), &domains).unwrap(), two_of_three));
        assert_eq!(of_class(Class::replicated(4).unwrap(), &domains), None);
    }

    #[test]
    fn a_new_server_is_believed_99_percent_and_a_record_of_days_outweighs_that() {
        let new = Record { domain: "", known_ms: 0, down_ms: 0 };
        assert!(near(of_record(&new), 0.99));
        let day = 24 * 3_600_000;
        let good = of_record(&Record { known_ms: 100 * day, ..new.clone() });
        assert!(good > 0.99999 && good < 1.0);
        let bad = of_record(&Record { known_ms: day, down_ms: day / 2, domain: "" });
        assert!(bad < 0.53);
    }

    #[test]
    fn servers_of_one_domain_count_once_and_as_the_worst() {
        let record = |domain, down_ms| Record { domain, known_ms: 1 << 40, down_ms };
        let up = of_domains(&[record("a", 0), record("a", 1 << 39), record("b", 0), record("", 0), record("", 0)]);
        assert_eq!(up.len(), 4);
        assert!(up[0] < 0.51 && up[1] > 0.99);
    }

    #[test]
    fn the_cheapest_class_that_reaches_the_target_is_chosen_or_the_best_is_named() {
        let six = [0.99; 6];
        assert_eq!(choose(0.9, &six).unwrap().class, Class::SINGLE);
        // 4+2 costs 1.5 and reaches 0.99998; 2+1 costs the same, is narrower and reaches 0.9997.
        assert_eq!(choose(0.999, &six).unwrap().class, Class::coded(2, 1).unwrap());
        assert_eq!(choose(0.9999, &six).unwrap().class, Class::coded(4, 2).unwrap());
        assert_eq!(choose(0.999_999, &six).unwrap().class, Class::replicated(3).unwrap());
        let best = choose(0.999_999_999_999_9, &six).unwrap_err().unwrap();
        assert_eq!(best.class, Class::replicated(5).unwrap());
        assert_eq!(choose(0.5, &[]), Err(None));
        assert!(
            choices(&six).windows(2).all(|two| two[0].class.overhead_permille() <= two[1].class.overhead_permille())
        );
    }
}
