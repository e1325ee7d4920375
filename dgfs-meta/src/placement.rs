//! Who holds what: gives each partition of a class to servers, by weight and apart from one another.
//!
//! Never looks at a clock, at chance or at who is up, and never says when bytes are copied. Always: the answer follows
//! from the arguments alone, in whatever order they come; no two members of a partition share a failure domain; every
//! server has its quota exactly; a server that stays in a partition keeps its place.

mod chain;
mod lots;
#[cfg(test)]
mod tests;

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};

use dgfs_proto::class::Class;
use dgfs_proto::ids::{Partition, ServerId};
use dgfs_proto::map::Labels;

use crate::placement::chain::{Step, chain_into};
use crate::placement::lots::{Dice, Lots, minus_log2, mix};

/// Stands for the partition itself where a lot is no server's.
const NOBODY: ServerId = ServerId(u32::MAX);
/// How often the partitions in which a domain has more than one holder are gone through: an inequality passes from
/// server to server, and a few rounds level what new labels bring about. More would only save single moves.
const SETTLE_ROUNDS_MAX: usize = 8;

/// A server that may be given partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Which.
    pub(crate) id: ServerId,
    /// Its share relative to the others'; with 0 it is given nothing.
    pub(crate) weight: u32,
    /// Where it stands.
    pub(crate) labels: Labels,
}

/// Which servers hold each of so many partitions of `class`, by place. `before` is what holds now: an entry for each partition, or
/// none at first; servers in it that are not candidates lose their places.
///
/// Members of a partition never share a failure domain: the widest of zone, host, disk and server of which the
/// candidates have as many as the class is wide. Servers without a zone share one; a server without a host, or without
/// a disk, is a domain of its own. Hosts of one name are one host, whatever their zones. With fewer servers than the
/// class is wide the lists are shorter, and only then may a server that stays get another place.
///
/// Places go by weight: first to domains, of which none can have more than one of each partition (what is too much for
/// one, the others share), then to the servers of each; in both steps the largest remainders are rounded up.
///
/// At most 1 % and 4 more places change hands than the exact minimum, which the tests compute. The minimum is at least
/// what the servers lack to their quotas when they keep all they may. For equal servers that come and go it is just that
/// or less than 20 % and 16 more; it is above where a server that lacks a place may not enter where one is empty, so that
/// a third must move too. That is so for each place of a server whose new labels put it into a domain with others: the
/// minimum is then twice what the servers lack.
pub(crate) fn assign(
    partitions: u16,
    class: Class,
    before: &[Vec<ServerId>],
    candidates: &[Candidate],
) -> Vec<Vec<ServerId>> {
    let mut layout = Layout::new(usize::from(partitions), class, before, &eligible(candidates));
    layout.keep();
    layout.release();
    layout.fill();
    layout.exchange();
    layout.into_lists()
}

/// Who stands in for a member of a partition that is down: one of `candidates`, which are up, and none of `taken`, the
/// other members and extras (without the one that is down: its domain is free). It shares no zone with them if there is
/// such a server, else no host, else no disk; among those the rendezvous hash decides, by weight, so that the coming
/// and going of others changes the answer only where they are the answer.
pub(crate) fn stand_in(
    class: Class,
    partition: Partition,
    taken: &[&Candidate],
    candidates: &[Candidate],
) -> Option<ServerId> {
    let lots = Lots { class };
    let free = |candidate: &&Candidate| candidate.weight > 0 && taken.iter().all(|other| other.id != candidate.id);
    let free: Vec<&Candidate> = candidates.iter().filter(free).collect();
    Level::WIDEST_FIRST.into_iter().find_map(|level| {
        let apart = |one: &&&Candidate| taken.iter().all(|other| level.domain(one) != level.domain(other));
        let bids = free.iter().filter(apart).map(|one| Bid {
            late: minus_log2(lots.of(usize::from(partition.0), one.id)),
            weight: one.weight,
            id: one.id,
        });
        bids.min_by(Bid::compare).map(|bid| bid.id)
    })
}

/// What a server offers in a rendezvous: the moment of its first event, were `weight` events to be expected per unit of
/// time. The earliest one wins, which is each server as often as its weight says.
struct Bid {
    late: u64,
    weight: u32,
    id: ServerId,
}

impl Bid {
    /// Compares `late / weight` without dividing.
    fn compare(&self, other: &Self) -> Ordering {
        let ours = u128::from(self.late) * u128::from(other.weight);
        let theirs = u128::from(other.late) * u128::from(self.weight);
        ours.cmp(&theirs).then(self.id.cmp(&other.id))
    }
}

/// A kind of failure domain.
#[derive(Clone, Copy)]
enum Level {
    Zone,
    Host,
    Disk,
    Server,
}

impl Level {
    const WIDEST_FIRST: [Self; 4] = [Self::Zone, Self::Host, Self::Disk, Self::Server];

    /// The name of the domain a server is in; an unlabelled one is named by its only server.
    fn domain(self, candidate: &Candidate) -> (&str, &str, Option<ServerId>) {
        let Labels { zone, host, disk } = &candidate.labels;
        match self {
            Self::Zone => (zone, "", None),
            Self::Host if !host.is_empty() => (host, "", None),
            Self::Disk if !host.is_empty() && !disk.is_empty() => (host, disk, None),
            Self::Host | Self::Disk | Self::Server => ("", "", Some(candidate.id)),
        }
    }
}

/// The candidates that may hold something, each once, by number.
fn eligible(candidates: &[Candidate]) -> Vec<&Candidate> {
    let mut pool: Vec<&Candidate> = candidates.iter().filter(|candidate| candidate.weight > 0).collect();
    let words = |one: &Candidate| [one.labels.zone.clone(), one.labels.host.clone(), one.labels.disk.clone()];
    pool.sort_by_cached_key(|one| (one.id, one.weight, words(one)));
    pool.dedup_by_key(|one| one.id);
    pool
}

/// The failure domains of a pool for a class so wide: the indices of each one's servers.
fn domains(width: usize, pool: &[&Candidate]) -> Vec<Vec<usize>> {
    let mut groups = BTreeMap::new();
    for level in Level::WIDEST_FIRST {
        groups.clear();
        for (at, candidate) in pool.iter().enumerate() {
            groups.entry(level.domain(candidate)).or_insert_with(Vec::new).push(at);
        }
        if groups.len() >= width {
            break;
        }
    }
    groups.into_values().collect()
}

/// Divides `total` by weight (none is 0), at most `cap` to each; there must be room for all of it. Whole numbers: the
/// largest remainders are rounded up, of equal ones the first.
fn shares(total: usize, cap: usize, weights: &[u64]) -> Vec<usize> {
    let mut heaviest: Vec<(u128, usize)> = weights.iter().map(|weight| u128::from(*weight)).zip(0..).collect();
    heaviest.sort_by_key(|(weight, at)| (Reverse(*weight), *at));
    let mut weight_left: u128 = heaviest.iter().map(|(weight, _)| weight).sum();
    let mut left = total;
    let mut given = Vec::with_capacity(weights.len());
    for (weight, at) in heaviest {
        let due = weight * left as u128;
        if due >= weight_left * cap as u128 {
            // More than it can hold, as was every heavier one: the others share the rest.
            given.push((Reverse(0), at, cap));
            left = left.saturating_sub(cap);
            weight_left -= weight;
        } else {
            given.push((Reverse(due % weight_left), at, usize::try_from(due / weight_left).unwrap_or(cap)));
        }
    }
    given.sort_unstable();
    let mut spare = total.saturating_sub(given.iter().map(|(_, _, whole)| whole).sum());
    for (_, _, share) in &mut given {
        if spare > 0 && *share < cap {
            *share += 1;
            spare -= 1;
        }
    }
    given.sort_unstable_by_key(|(_, at, _)| *at);
    given.into_iter().map(|(_, _, share)| share).collect()
}

/// A server while places are given out.
struct Server {
    id: ServerId,
    domain: usize,
    /// Places it shall have.
    quota: usize,
    /// Partitions of which it is a member and was before.
    kept: Vec<usize>,
    /// Partitions of which it is a new member.
    fresh: Vec<usize>,
}

impl Server {
    fn held(&self) -> usize {
        self.kept.len() + self.fresh.len()
    }

    /// Places it lacks.
    fn room(&self) -> usize {
        self.quota.saturating_sub(self.held())
    }
}

/// The members of a partition while places are given out.
#[derive(Default)]
struct Group {
    /// Who held it, by place; none where that is no candidate.
    before: Vec<Option<usize>>,
    members: Vec<usize>,
}

/// A half-made assignment. Servers, domains and partitions go by their indices.
struct Layout {
    lots: Lots,
    /// Members that each partition shall have.
    width: usize,
    domains: Vec<Vec<usize>>,
    servers: Vec<Server>,
    groups: Vec<Group>,
}

impl Layout {
    fn new(partitions: usize, class: Class, before: &[Vec<ServerId>], pool: &[&Candidate]) -> Self {
        let domains = domains(class.width(), pool);
        let width = class.width().min(domains.len());
        let numbers: BTreeMap<ServerId, usize> = pool.iter().map(|one| one.id).zip(0..).collect();
        let group = |held: &Vec<ServerId>| Group {
            // What stands behind the class's last place is no place.
            before: held.iter().take(class.width()).map(|id| numbers.get(id).copied()).collect(),
            members: Vec::with_capacity(width),
        };
        let mut groups: Vec<Group> = before.iter().take(partitions).map(group).collect();
        groups.resize_with(partitions, Group::default);
        let servers = servers(width, partitions, &domains, pool);
        Self { lots: Lots { class }, width, domains, servers, groups }
    }

    /// Keeps the members there are, one of each domain. Partitions that leave no choice come first: by then it is known
    /// who lacks most.
    fn keep(&mut self) {
        let (clear, contested): (Vec<usize>, Vec<usize>) = (0..self.groups.len()).partition(|at| self.is_clear(*at));
        for at in clear.iter().chain(&contested) {
            while let Some(server) = self.neediest(*at) {
                self.admit(*at, server);
            }
        }
        for _ in 0..SETTLE_ROUNDS_MAX {
            let mut settled = true;
            for at in &contested {
                settled &= !self.settle(*at);
            }
            if settled {
                break;
            }
        }
    }

    /// No two who held the partition share a domain.
    fn is_clear(&self, at: usize) -> bool {
        let Some(group) = self.groups.get(at) else { return true };
        let known = group.before.iter().flatten();
        let apart: BTreeSet<usize> = known.clone().map(|server| self.domain_of(*server)).collect();
        apart.len() == known.count()
    }

    /// Of the servers that may stay in a partition, the one that lacks most or has least too much; of equal ones the
    /// first.
    fn neediest(&self, at: usize) -> Option<usize> {
        let group = self.groups.get(at).filter(|group| self.empty_in(group) > 0)?;
        let stays = group.before.iter().flatten().copied();
        let stays = stays.filter(|server| !self.is_present(group, self.domain_of(*server)));
        stays.rev().max_by_key(|server| self.need_of(*server))
    }

    /// Lets one who held a partition have the place of another one of its domain, who needs it less; is there such a
    /// pair?
    fn settle(&mut self, at: usize) -> bool {
        let Some(group) = self.groups.get(at) else { return false };
        let pair = group.before.iter().flatten().find_map(|comer| {
            let related = |member: &&usize| self.domain_of(**member) == self.domain_of(*comer);
            let leaver = *group.members.iter().find(related)?;
            // For a difference of one they would change places for ever.
            (self.need_of(*comer) > self.need_of(leaver) + 1).then_some((leaver, *comer))
        });
        if let Some((leaver, comer)) = pair {
            self.dismiss(at, leaver);
            self.admit(at, comer);
        }
        pair.is_some()
    }

    /// Takes places away from servers that have too many; last where nobody could come instead.
    fn release(&mut self) {
        let lacking = (0..).zip(&self.domains).filter(|(_, servers)| self.room_in(servers) > 0);
        let lacking: BTreeSet<usize> = lacking.map(|(domain, _)| domain).collect();
        for number in 0..self.servers.len() {
            let Some(server) = self.servers.get_mut(number) else { continue };
            let excess = server.held().saturating_sub(server.quota);
            if excess == 0 {
                continue;
            }
            let id = server.id;
            let mut kept = std::mem::take(&mut server.kept);
            kept.sort_by_cached_key(|at| (self.crowding(*at, number, &lacking), self.lots.of(*at, id)));
            for at in kept.drain(..excess) {
                if let Some(group) = self.groups.get_mut(at) {
                    group.members.retain(|member| *member != number);
                }
            }
            if let Some(server) = self.servers.get_mut(number) {
                server.kept = kept;
            }
        }
    }

    /// How little a partition should lose `leaver` too: by the places that are empty already, and far more if no
    /// further one could be filled from a domain that lacks something.
    fn crowding(&self, at: usize, leaver: usize, lacking: &BTreeSet<usize>) -> usize {
        let Some(group) = self.groups.get(at) else { return 0 };
        let others = group.members.iter().filter(|member| **member != leaver);
        let present = others.filter(|member| lacking.contains(&self.domain_of(**member))).count();
        let empty = self.empty_in(group);
        if empty + present < lacking.len() { empty } else { self.width + empty }
    }

    /// Gives empty places to servers that lack some and may enter, by chances in proportion to what they lack.
    fn fill(&mut self) {
        let mut rooms: Vec<usize> = self.domains.iter().map(|domain| self.room_in(domain)).collect();
        let mut order: Vec<(usize, usize)> = self.groups.iter().map(|group| self.empty_in(group)).zip(0..).collect();
        order.retain(|(empty, _)| *empty > 0);
        // Who has many empty places needs many domains that lack something.
        order.sort_by_cached_key(|(empty, at)| (Reverse(*empty), self.lots.of(*at, NOBODY)));
        for (empty, at) in order {
            let mut dice = Dice(self.lots.of(at, NOBODY));
            for domain in dice.draw(empty, self.open_domains(at, &rooms)) {
                let related = self.domains.get(domain).into_iter().flatten();
                let wants = related.map(|server| (*server, self.room_of(*server))).collect();
                for server in dice.draw(1, wants) {
                    self.admit(at, server);
                    if let Some(room) = rooms.get_mut(domain) {
                        *room -= 1;
                    }
                }
            }
        }
    }

    /// Domains that lack something and are absent from the partition, with what they lack.
    fn open_domains(&self, at: usize, rooms: &[usize]) -> Vec<(usize, usize)> {
        let Some(group) = self.groups.get(at) else { return Vec::new() };
        let present: Vec<usize> = group.members.iter().map(|member| self.domain_of(*member)).collect();
        let rooms = rooms.iter().copied().enumerate();
        rooms.filter(|(domain, room)| *room > 0 && !present.contains(domain)).collect()
    }

    /// Fills what is still empty. There is a chain into each such place as long as quotas can be met, which is how they
    /// are made: the difference between this layout and one that meets them consists of such chains.
    fn exchange(&mut self) {
        for at in 0..self.groups.len() {
            while self.groups.get(at).is_some_and(|group| self.empty_in(group) > 0) {
                let Some(chain) = chain_into(self, at) else { break };
                for Step { at, leaver, comer } in chain {
                    if let Some(leaver) = leaver {
                        self.dismiss(at, leaver);
                    }
                    self.admit(at, comer);
                }
            }
        }
    }

    fn admit(&mut self, at: usize, number: usize) {
        if let (Some(group), Some(server)) = (self.groups.get_mut(at), self.servers.get_mut(number)) {
            group.members.push(number);
            let places = if group.before.contains(&Some(number)) { &mut server.kept } else { &mut server.fresh };
            places.push(at);
        }
    }

    fn dismiss(&mut self, at: usize, number: usize) {
        if let (Some(group), Some(server)) = (self.groups.get_mut(at), self.servers.get_mut(number)) {
            group.members.retain(|member| *member != number);
            let places = if group.before.contains(&Some(number)) { &mut server.kept } else { &mut server.fresh };
            places.retain(|place| *place != at);
        }
    }

    fn empty_in(&self, group: &Group) -> usize {
        self.width.saturating_sub(group.members.len())
    }

    fn is_present(&self, group: &Group, domain: usize) -> bool {
        group.members.iter().any(|member| self.domain_of(*member) == domain)
    }

    fn domain_of(&self, server: usize) -> usize {
        self.servers.get(server).map_or(usize::MAX, |server| server.domain)
    }

    fn room_of(&self, server: usize) -> usize {
        self.servers.get(server).map_or(0, Server::room)
    }

    fn room_in(&self, domain: &[usize]) -> usize {
        domain.iter().map(|server| self.room_of(*server)).sum()
    }

    /// What a server lacks, or has too much; counted from a server that has every partition and should have none.
    fn need_of(&self, server: usize) -> usize {
        self.servers.get(server).map_or(0, |server| (server.quota + self.groups.len()).saturating_sub(server.held()))
    }

    /// The members, at the places they had; new ones at those left over, by lot, so that no server is first everywhere.
    fn into_lists(self) -> Vec<Vec<ServerId>> {
        let id_of = |server: usize| self.servers.get(server).map(|server| server.id);
        let list = |(at, group): (usize, &Group)| {
            let mut new = group.members.clone();
            let mut places = group.before.clone();
            places.resize(self.width, None);
            for place in &mut places {
                match new.iter().position(|member| Some(*member) == *place) {
                    Some(stays) => drop(new.swap_remove(stays)),
                    None => *place = None,
                }
            }
            // Mixed once more: by the same lots places are taken away, which would then be mostly first ones.
            new.sort_by_cached_key(|server| id_of(*server).map(|id| mix(self.lots.of(at, id))));
            let mut new = new.into_iter();
            places.into_iter().filter_map(|place| place.or_else(|| new.next()).and_then(id_of)).collect()
        };
        (0..).zip(&self.groups).map(list).collect()
    }
}

/// The servers of a pool with their quotas: the places by domain, then each domain's by server.
fn servers(width: usize, partitions: usize, domains: &[Vec<usize>], pool: &[&Candidate]) -> Vec<Server> {
    let server = |one: &&Candidate| Server { id: one.id, domain: 0, quota: 0, kept: Vec::new(), fresh: Vec::new() };
    let mut servers: Vec<Server> = pool.iter().map(server).collect();
    let weight = |at: &usize| pool.get(*at).map_or(0, |one| u64::from(one.weight));
    let weights: Vec<Vec<u64>> = domains.iter().map(|domain| domain.iter().map(weight).collect()).collect();
    let sums: Vec<u64> = weights.iter().map(|weights| weights.iter().sum()).collect();
    let totals = shares(width * partitions, partitions, &sums);
    for (number, ((domain, weights), total)) in domains.iter().zip(&weights).zip(totals).enumerate() {
        for (at, quota) in domain.iter().zip(shares(total, total, weights)) {
            if let Some(server) = servers.get_mut(*at) {
                (server.domain, server.quota) = (number, quota);
            }
        }
    }
    servers
}
