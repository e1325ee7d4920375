//! Fills an empty place that nobody who lacks one may enter, by a chain of exchanges.
//!
//! Never changes a layout: it says which steps do. Always: the steps leave every partition's members in domains of
//! their own and give one place to a server that lacks one; no other server has more or fewer places.

use std::collections::VecDeque;

use crate::placement::Layout;

/// One link of a chain: `comer` enters a partition in the place of `leaver`, or in the empty one.
pub(super) struct Step {
    pub(super) at: usize,
    pub(super) leaver: Option<usize>,
    pub(super) comer: usize,
}

/// The cheapest chain into an empty place of partition `at`; none if quotas cannot be met at all.
pub(super) fn chain_into(layout: &Layout, at: usize) -> Option<Vec<Step>> {
    Search::new(layout).run(at)
}

/// A place that is empty, or will be when its leaver goes to where it is wanted: to the gap numbered `wanted_at`.
struct Gap {
    at: usize,
    leaver: Option<usize>,
    wanted_at: usize,
}

/// How a server was reached, which is which of its places it may leave at no further cost.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    Not,
    /// It would be new at the gap: that costs nothing more if it leaves a place where it is new too.
    New,
    /// It would come back to where it was before.
    Back,
}

/// Places of a server that are to be looked at.
enum Places {
    Kept,
    Fresh,
}

/// Breadth first by cost, the number of places that change hands beyond those that have already.
struct Search<'a> {
    layout: &'a Layout,
    gaps: Vec<Gap>,
    /// Servers that leave one of these places for the gap of that number.
    now: VecDeque<(usize, Places, usize)>,
    /// The same, for one change more.
    later: VecDeque<(usize, Places, usize)>,
    /// Partitions that servers of absent domains were asked to enter.
    opened: Vec<bool>,
    reached: Vec<Reached>,
    outlooks: Vec<Outlook>,
    /// Domains whose outlook is not empty.
    promising: Vec<usize>,
}

/// What entering may still bring in a domain.
struct Outlook {
    /// The server that lacks most: it ends a chain.
    lacking: Option<usize>,
    unreached: Vec<usize>,
}

impl<'a> Search<'a> {
    fn new(layout: &'a Layout) -> Self {
        let outlook = |servers: &Vec<usize>| {
            let lacking = servers.iter().copied().filter(|server| layout.room_of(*server) > 0);
            Outlook { lacking: lacking.max_by_key(|server| layout.room_of(*server)), unreached: servers.clone() }
        };
        Self {
            layout,
            gaps: Vec::new(),
            now: VecDeque::new(),
            later: VecDeque::new(),
            opened: vec![false; layout.groups.len()],
            reached: vec![Reached::Not; layout.servers.len()],
            outlooks: layout.domains.iter().map(outlook).collect(),
            promising: (0..layout.domains.len()).collect(),
        }
    }

    /// Ends because a server is reached twice at most and has a bounded number of places.
    fn run(mut self, at: usize) -> Option<Vec<Step>> {
        if let Some(chain) = self.visit(Gap { at, leaver: None, wanted_at: 0 }) {
            return Some(chain);
        }
        loop {
            if self.now.is_empty() {
                std::mem::swap(&mut self.now, &mut self.later);
            }
            let (leaver, places, wanted_at) = self.now.pop_front()?;
            let server = self.layout.servers.get(leaver)?;
            let places = match places {
                Places::Kept => &server.kept,
                Places::Fresh => &server.fresh,
            };
            for at in places {
                if let Some(chain) = self.visit(Gap { at: *at, leaver: Some(leaver), wanted_at }) {
                    return Some(chain);
                }
            }
        }
    }

    /// The chain, if somebody who lacks a place may enter at the gap; else notes who may: servers of the leaver's
    /// domain and, the first time that a partition is looked at, of all domains that it has nobody of.
    fn visit(&mut self, gap: Gap) -> Option<Vec<Step>> {
        let layout = self.layout;
        let group = layout.groups.get(gap.at)?;
        let own = gap.leaver.map(|leaver| layout.domain_of(leaver));
        let first = self.opened.get_mut(gap.at).is_some_and(|opened| !std::mem::replace(opened, true));
        let is_open = |domain: usize| own == Some(domain) || (first && !layout.is_present(group, domain));
        let open: Vec<usize> = match own {
            Some(own) if !first => vec![own],
            Some(_) | None => self.promising.iter().copied().filter(|domain| is_open(*domain)).collect(),
        };
        let outlooks = open.iter().filter_map(|domain| self.outlooks.get(*domain));
        let lacking = outlooks.filter_map(|outlook| outlook.lacking);
        if let Some(last) = lacking.max_by_key(|server| layout.room_of(*server)) {
            return Some(self.trace(&gap, last));
        }
        let number = self.gaps.len();
        for server in group.before.iter().flatten().filter(|server| is_open(layout.domain_of(**server))) {
            if gap.leaver != Some(*server) {
                self.reach(*server, Reached::Back, number);
            }
        }
        for domain in open {
            let unreached = self.outlooks.get_mut(domain).map(|outlook| std::mem::take(&mut outlook.unreached));
            for server in unreached.into_iter().flatten() {
                self.reach(server, Reached::New, number);
            }
        }
        if first {
            let is_empty = |outlook: &Outlook| outlook.lacking.is_none() && outlook.unreached.is_empty();
            self.promising.retain(|domain| !self.outlooks.get(*domain).is_none_or(is_empty));
        }
        self.gaps.push(gap);
        None
    }

    /// Notes a server that may enter at a gap, so that its own places are looked at in turn.
    fn reach(&mut self, server: usize, how: Reached, number: usize) {
        let Some(reached) = self.reached.get_mut(server).filter(|reached| **reached < how) else { return };
        if *reached == Reached::Not {
            self.now.push_back((server, Places::Fresh, number));
        }
        let kept = if how == Reached::Back { &mut self.now } else { &mut self.later };
        kept.push_back((server, Places::Kept, number));
        *reached = how;
    }

    /// The steps from the gap that `comer` enters back to the empty place.
    fn trace(&self, gap: &Gap, comer: usize) -> Vec<Step> {
        let mut steps = vec![Step { at: gap.at, leaver: gap.leaver, comer }];
        let mut gap = gap;
        while let Some((comer, next)) = gap.leaver.zip(self.gaps.get(gap.wanted_at)) {
            steps.push(Step { at: next.at, leaver: next.leaver, comer });
            gap = next;
        }
        steps
    }
}
