//! That two inodes have to do with one another, in one respect.
//!
//! Never decides who may hear of it. Always: however many reasons there are, the strongest one decides first.

use std::borrow::Cow;
use std::collections::HashMap;

use dgfs_proto::query::Relation;

use crate::graph::columns::Doc;
use crate::query::evaluate::Scores;

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tie {
    /// The other inode.
    pub(crate) doc: Doc,
    /// What it is to the first one.
    pub(crate) relation: Relation,
    /// How strongly, among its like: 0 to 1,000.
    pub(crate) permille: u16,
    /// `user`, a tagger, or what it was computed from.
    pub(crate) source: Cow<'static, str>,
}

impl Tie {
    pub(crate) fn new(doc: Doc, relation: Relation, permille: u16, source: &'static str) -> Self {
        Self { doc, relation, permille: permille.min(1000), source: Cow::Borrowed(source) }
    }

    /// What this reason is worth beside those of other kinds: 0 to 1,000. What people say is certain; equal content nearly,
    /// since files without meaning are often equal; guesses by names and by words come last.
    pub(crate) fn worth(&self) -> u16 {
        let of_kind: u32 = match (&*self.source, self.relation) {
            ("user", _) => 1000,
            (_, Relation::SameContent) => 980,
            (_, Relation::Derived | Relation::Sources) => 950,
            (_, Relation::Versions) => 900,
            ("keywords", _) => 600,
            (_, Relation::LinksTo | Relation::LinkedFrom | Relation::Similar) => 850,
            (_, Relation::Related) => 700,
            (_, Relation::Tags | Relation::Authors) => 500,
        };
        u16::try_from(of_kind * u32::from(self.permille) / 1000).unwrap_or(1000)
    }
}

/// Each inode with the strongest of its reasons.
pub(crate) fn strongest(ties: &[Tie]) -> Scores {
    let mut scores = Scores::new();
    for tie in ties {
        let known = scores.entry(tie.doc).or_default();
        *known = tie.permille.max(*known);
    }
    scores
}

/// Each inode with all of its reasons taken together, as if each were the chance that it is right and none knew of the others
/// ("noisy or": Pearl, "Probabilistic Reasoning in Intelligent Systems", 1988, section 4.3): never less than the strongest
/// alone, and never more than certain.
pub(crate) fn together(ties: &[Tie]) -> Scores {
    let mut doubts: HashMap<Doc, f64> = HashMap::new();
    for tie in ties {
        *doubts.entry(tie.doc).or_insert(1.0) *= 1.0 - f64::from(tie.worth()) / 1000.0;
    }
    // Rounded, since the order of factors shows in the last digits.
    doubts.into_iter().map(|(doc, doubt)| (doc, ((1.0 - doubt) * 1000.0).round() as u16)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Tie, strongest, together};
    use dgfs_proto::query::Relation;

    #[test]
    fn the_strongest_reason_decides_and_further_ones_add_to_it() {
        let ties = [
            Tie::new(1, Relation::SameContent, 1000, "content"),
            Tie::new(2, Relation::Similar, 800, "text"),
            Tie::new(3, Relation::Similar, 800, "text"),
            Tie::new(3, Relation::Versions, 700, "names"),
            Tie::new(4, Relation::Similar, 1000, "keywords"),
            Tie::new(5, Relation::Related, 1000, "user"),
        ];
        let scores = together(&ties);
        let mut order: Vec<u32> = scores.keys().copied().collect();
        order.sort_by_key(|doc| std::cmp::Reverse(scores[doc]));
        assert_eq!(order, [5, 1, 3, 2, 4]);
        assert_eq!((scores[&5], scores[&1], scores[&2], scores[&4]), (1000, 980, 680, 600));
        assert_eq!(strongest(&ties)[&3], 800);
    }
}
