//! What the placement promises, held against small cases and random clusters. A random test names its seed when it
//! fails.

use std::collections::{BTreeMap, BTreeSet};

use dgfs_proto::class::Class;
use dgfs_proto::ids::{Partition, ServerId};
use dgfs_proto::limits::PARTITIONS;
use dgfs_proto::map::Labels;

use super::lots::minus_log2;
use super::{Candidate, stand_in};

/// Of as many partitions as a cluster has.
fn assign(class: Class, before: &[Vec<ServerId>], candidates: &[Candidate]) -> Vec<Vec<ServerId>> {
    super::assign(PARTITIONS, class, before, candidates)
}

const ALL: usize = PARTITIONS as usize;
const CLASSES: [&str; 8] = ["r1", "r2", "r3", "r5", "ec:2+1", "ec:4+2", "ec:8+3", "ec:12+4"];
/// More servers than this are not held against the exact minimum: it takes too long to find.
const EXACT_SERVERS_MAX: usize = 24;

type Lists = Vec<Vec<ServerId>>;
type Domains = BTreeMap<ServerId, String>;

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % end as u64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }
}

fn class(word: &str) -> Class {
    word.parse().unwrap()
}

fn server(id: u32, weight: u32, [zone, host, disk]: [&str; 3]) -> Candidate {
    let labels = Labels { zone: zone.to_owned(), host: host.to_owned(), disk: disk.to_owned() };
    Candidate { id: ServerId(id), weight, labels }
}

/// Servers 1 to `count` without labels.
fn equals(count: u32) -> Vec<Candidate> {
    (1..=count).map(|id| server(id, 100, ["", "", ""])).collect()
}

/// Servers 1 to `count`, in turn in each of so many zones.
fn in_zones(zones: u32, count: u32) -> Vec<Candidate> {
    (1..=count).map(|id| server(id, 100, [&format!("zone {}", id % zones), &format!("host {id}"), ""])).collect()
}

/// A cluster to which things happen.
struct World {
    rng: Rng,
    class: Class,
    pool: Vec<Candidate>,
    next: u32,
    /// Kinds of weights, zones and hosts that occur.
    weights: usize,
    zones: usize,
    hosts: usize,
}

impl World {
    fn new(seed: u64, servers_max: usize) -> Self {
        let mut rng = Rng(seed);
        let class = class(CLASSES[rng.below(CLASSES.len())]);
        let (weights, zones, hosts) = (rng.below(3), [1, 3, 8][rng.below(3)], 4 + 4 * rng.below(4));
        let mut world = Self { rng, class, pool: Vec::new(), next: 1, weights, zones, hosts };
        let servers = 1 + world.rng.below(servers_max);
        world.join(servers);
        world
    }

    fn labels(&mut self) -> Labels {
        let mut word = |kind: &str, kinds: usize| match self.rng.below(kinds + 1) {
            0 => String::new(),
            number => format!("{kind} {number}"),
        };
        Labels { zone: word("zone", self.zones), host: word("host", self.hosts), disk: word("disk", 3) }
    }

    fn weight(&mut self) -> u32 {
        match self.weights {
            0 => 100,
            1 => 50 + self.rng.below(200) as u32,
            _ => 1 << self.rng.below(12),
        }
    }

    fn join(&mut self, count: usize) {
        for _ in 0..count {
            let (weight, labels) = (self.weight(), self.labels());
            self.pool.push(Candidate { id: ServerId(self.next), weight, labels });
            self.next += 1;
        }
    }

    /// Something happens; returns what, for the message.
    fn step(&mut self) -> &'static str {
        let what = if self.pool.is_empty() { 0 } else { self.rng.below(6) };
        let at = self.rng.below(self.pool.len().max(1));
        let count = 1 + self.rng.below(3);
        match what {
            0 => self.join(count),
            1 => drop(self.pool.remove(at)),
            2 => self.pool.truncate(self.pool.len() - count.min(self.pool.len())),
            3 => self.pool[at].weight = 1 + self.rng.below(400) as u32,
            4 => self.pool[at].labels = self.labels(),
            _ => {
                let zone = self.pool[at].labels.zone.clone();
                self.pool.retain(|one| one.labels.zone != zone);
            }
        }
        ["join", "leave", "several leave", "weight", "labels", "a zone leaves"][what]
    }
}

/// The failure domain of each server, by the words of the rule.
fn domains_of(class: Class, candidates: &[Candidate]) -> Domains {
    let own = |one: &Candidate| format!("server {}", one.id);
    let zone = |one: &Candidate| one.labels.zone.clone();
    let host = |one: &Candidate| if one.labels.host.is_empty() { own(one) } else { one.labels.host.clone() };
    let disk = |one: &Candidate| match (&*one.labels.host, &*one.labels.disk) {
        ("", _) | (_, "") => own(one),
        (host, disk) => format!("{host} {disk}"),
    };
    let levels: [&dyn Fn(&Candidate) -> String; 4] = [&zone, &host, &disk, &own];
    let named = levels.map(|level| candidates.iter().map(|one| (one.id, level(one))).collect::<Domains>());
    named.iter().find(|names| distinct(names.values()) >= class.width()).unwrap_or(&named[3]).clone()
}

fn distinct<T: Ord>(items: impl Iterator<Item = T>) -> usize {
    items.collect::<BTreeSet<T>>().len()
}

fn loads(lists: &Lists) -> BTreeMap<ServerId, usize> {
    let mut loads = BTreeMap::new();
    for server in lists.iter().flatten() {
        *loads.entry(*server).or_insert(0) += 1;
    }
    loads
}

/// Places that another server has now.
fn moved(before: &Lists, after: &Lists) -> usize {
    let none = Vec::new();
    let held = (0..ALL).map(|at| before.get(at).unwrap_or(&none));
    let new = |(held, list): (&Vec<ServerId>, &Vec<ServerId>)| list.iter().filter(|one| !held.contains(one)).count();
    held.zip(after).map(new).sum()
}

/// Places that must get another server if the loads are to be those of `after`: what servers and domains lack to them.
fn unavoidable(before: &Lists, after: &Lists, domains: &Domains) -> usize {
    let (mut kept, mut kept_domains) = (BTreeMap::new(), BTreeMap::new());
    for list in before {
        let known: BTreeSet<ServerId> = list.iter().copied().filter(|one| domains.contains_key(one)).collect();
        for domain in known.iter().map(|one| &domains[one]).collect::<BTreeSet<_>>() {
            *kept_domains.entry(domain).or_insert(0) += 1;
        }
        for one in known {
            *kept.entry(one).or_insert(0) += 1;
        }
    }
    let quotas = loads(after);
    let mut lacks: BTreeMap<&String, (usize, usize)> = BTreeMap::new();
    for (one, domain) in domains {
        let quota = quotas.get(one).copied().unwrap_or(0);
        let lack = lacks.entry(domain).or_default();
        lack.0 += quota;
        lack.1 += quota.saturating_sub(kept.get(one).copied().unwrap_or(0));
    }
    let lack = |(domain, (quota, lack)): (&String, (usize, usize))| {
        lack.max(quota.saturating_sub(kept_domains.get(domain).copied().unwrap_or(0)))
    };
    lacks.into_iter().map(lack).sum()
}

/// The least number of places that must get another server if the loads are to be those of `after`: takes `after` and
/// exchanges places round and round as long as that brings any back (a minimum cost flow, by cancelling negative
/// cycles).
fn minimum(before: &Lists, after: &Lists, domains: &Domains) -> usize {
    let ids: Vec<ServerId> = domains.keys().copied().collect();
    let names: Vec<&String> = domains.values().collect();
    let held = |at: usize, one: usize| before.get(at).is_some_and(|list| list.contains(&ids[one]));
    let held: Vec<Vec<bool>> = (0..ALL).map(|at| (0..ids.len()).map(|one| held(at, one)).collect()).collect();
    let number = |one: &ServerId| ids.binary_search(one).unwrap();
    let mut lists: Vec<Vec<usize>> = after.iter().map(|list| list.iter().map(number).collect()).collect();
    while let Some(steps) = cheaper_round(&names, &held, &lists) {
        for (at, leaver, comer) in steps {
            let place = lists[at].iter().position(|one| *one == leaver).unwrap();
            lists[at][place] = comer;
        }
    }
    (0..ALL).map(|at| lists[at].iter().filter(|one| !held[at][**one]).count()).sum()
}

/// A round of exchanges (partition, who leaves it, who comes) that brings places back; the shortest.
fn cheaper_round(names: &[&String], held: &[Vec<bool>], lists: &[Vec<usize>]) -> Option<Vec<(usize, usize, usize)>> {
    const NEVER: i32 = 1 << 20;
    let count = names.len();
    // What it costs that one comes for another, and where.
    let mut steps = vec![vec![(NEVER, 0); count]; count];
    for (at, list) in lists.iter().enumerate() {
        for comer in (0..count).filter(|one| !list.contains(one)) {
            let related = list.iter().copied().find(|one| names[*one] == names[comer]);
            for leaver in list.iter().copied().filter(|one| related.is_none_or(|related| related == *one)) {
                let cost = i32::from(!held[at][comer]) - i32::from(!held[at][leaver]);
                steps[comer][leaver] = steps[comer][leaver].min((cost, at));
            }
        }
    }
    // The cheapest ways of so many steps, with the last server but one.
    let mut ways = vec![(0..count).map(|one| steps[one].iter().map(|(cost, _)| (*cost, one)).collect()).collect()];
    for length in 0..count {
        let last: &Vec<Vec<(i32, usize)>> = &ways[length];
        if let Some(start) = (0..count).find(|one| last[*one][*one].0 < 0) {
            let mut round = Vec::new();
            let mut to = start;
            for ways in ways.iter().rev() {
                let from = ways[start][to].1;
                round.push((steps[from][to].1, to, from));
                to = from;
            }
            return Some(round);
        }
        let by = |from: usize, over: usize, to: usize| (last[from][over].0 + steps[over][to].0, over);
        let best = |from: usize, to: usize| (0..count).map(|over| by(from, over, to)).min().unwrap();
        let next = (0..count).map(|from| (0..count).map(|to| best(from, to)).collect()).collect();
        ways.push(next);
    }
    None
}

/// Places that each domain should have: the level is found at which all together have enough.
fn ideal_of_domains(class: Class, candidates: &[Candidate], domains: &Domains) -> BTreeMap<String, f64> {
    let mut weights: BTreeMap<String, f64> = BTreeMap::new();
    for one in candidates {
        *weights.entry(domains[&one.id].clone()).or_default() += f64::from(one.weight);
    }
    let total = (class.width().min(weights.len()) * ALL) as f64;
    let given = |level: f64| weights.values().map(|weight| (weight * level).min(ALL as f64)).sum::<f64>();
    let (mut low, mut high) = (0.0, total);
    for _ in 0..200 {
        let level = f64::midpoint(low, high);
        if given(level) < total { low = level } else { high = level }
    }
    weights.into_iter().map(|(domain, weight)| (domain, (weight * high).min(ALL as f64))).collect()
}

fn check_apart(story: &str, class: Class, candidates: &[Candidate], after: &Lists) {
    let domains = domains_of(class, candidates);
    let width = class.width().min(distinct(domains.values()));
    assert_eq!(after.len(), ALL, "{story}");
    for list in after {
        assert_eq!(list.len(), width, "{story}: {list:?}");
        assert_eq!(distinct(list.iter().map(|one| &domains[one])), width, "{story}: {list:?} share a domain");
    }
}

fn check_quotas(story: &str, class: Class, candidates: &[Candidate], after: &Lists) {
    let domains = domains_of(class, candidates);
    let loads = loads(after);
    let load = |one: &Candidate| loads.get(&one.id).copied().unwrap_or(0) as f64;
    for (domain, ideal) in ideal_of_domains(class, candidates, &domains) {
        let servers = candidates.iter().filter(|one| domains[&one.id] == domain);
        let held: f64 = servers.clone().map(load).sum();
        assert!((held - ideal).abs() < 1.001, "{story}: domain {domain} has {held} places, should have {ideal}");
        let weight: f64 = servers.clone().map(|one| f64::from(one.weight)).sum();
        for one in servers {
            let share = held * f64::from(one.weight) / weight;
            assert!((load(one) - share).abs() < 1.0, "{story}: {} has {}, should have {share}", one.id, load(one));
        }
    }
}

fn check_places_kept(story: &str, before: &Lists, after: &Lists) {
    for (old, new) in before.iter().zip(after) {
        for (place, one) in new.iter().enumerate() {
            let was = old.iter().position(|other| other == one);
            let kept = was.is_none_or(|was| was == place || was >= new.len());
            assert!(kept, "{story}: {one} changed its place: {old:?} became {new:?}");
        }
    }
}

fn check_moves(story: &str, class: Class, candidates: &[Candidate], before: &Lists, after: &Lists) {
    let domains = domains_of(class, candidates);
    let (moved, unavoidable) = (moved(before, after), unavoidable(before, after, &domains));
    assert!(moved >= unavoidable, "{story}: the test counts wrong");
    if moved > unavoidable + unavoidable / 100 + 4 && candidates.len() <= EXACT_SERVERS_MAX {
        let least = minimum(before, after, &domains);
        assert!(least >= unavoidable && least <= moved, "{story}: the test finds no minimum");
        assert!(moved <= least + least / 100 + 4, "{story}: {moved} moved where {least} would do");
    }
}

/// `assign`, of which all promises are checked.
fn checked(story: &str, class: Class, before: &Lists, candidates: &[Candidate]) -> Lists {
    let story = &format!("{story}, {class}, {} servers", candidates.len());
    let after = assign(class, before, candidates);
    check_apart(story, class, candidates, &after);
    check_quotas(story, class, candidates, &after);
    check_places_kept(story, before, &after);
    check_moves(story, class, candidates, before, &after);
    after
}

#[test]
fn members_share_no_domain_and_quotas_are_met_and_little_moves_whatever_happens() {
    for seed in 0..40 {
        let mut world = World::new(seed, 24);
        let mut held = checked(&format!("seed {seed}, first"), world.class, &Vec::new(), &world.pool);
        for step in 0..8 {
            let what = world.step();
            held = checked(&format!("seed {seed}, step {step}, {what}"), world.class, &held, &world.pool);
        }
    }
}

#[test]
fn nothing_moves_when_nothing_happens() {
    for seed in 100..120 {
        let world = World::new(seed, 40);
        let held = assign(world.class, &[], &world.pool);
        assert_eq!(assign(world.class, &held, &world.pool), held, "seed {seed}");
    }
}

#[test]
fn the_order_of_candidates_does_not_matter_and_the_answer_is_the_same_again() {
    for seed in 200..215 {
        let mut world = World::new(seed, 40);
        let held = assign(world.class, &[], &world.pool);
        world.step();
        let expected = assign(world.class, &held, &world.pool);
        world.rng.shuffle(&mut world.pool);
        assert_eq!(assign(world.class, &held, &world.pool), expected, "seed {seed}");
        for at in 0..ALL {
            let at = Partition(at as u16);
            let answer = stand_in(world.class, at, &[], &world.pool);
            world.rng.shuffle(&mut world.pool);
            assert_eq!(stand_in(world.class, at, &[], &world.pool), answer, "seed {seed}");
        }
    }
}

#[test]
fn one_more_of_equal_servers_moves_its_share_and_no_more() {
    for (word, count) in [("r1", 1), ("r2", 2), ("r3", 3), ("r3", 5), ("ec:4+2", 6), ("ec:4+2", 9), ("r3", 200)] {
        let class = class(word);
        let held = assign(class, &[], &equals(count));
        let after = checked("join", class, &held, &equals(count + 1));
        let share = ALL * class.width() / (count as usize + 1);
        let moved = moved(&held, &after);
        assert!(moved >= share && moved <= share + 1, "{word}: {moved} moved, the share is {share}");
        assert_eq!(moved, loads(&after)[&ServerId(count + 1)], "{word}: somebody else got a place too");
    }
}

#[test]
fn one_less_of_equal_servers_moves_only_its_places() {
    for (word, count) in [("r1", 2), ("r2", 3), ("r3", 4), ("r3", 6), ("ec:4+2", 7), ("ec:4+2", 10), ("r3", 200)] {
        let class = class(word);
        let held = assign(class, &[], &equals(count));
        let after = checked("leave", class, &held, &equals(count)[1..]);
        let (moved, places) = (moved(&held, &after), loads(&held)[&ServerId(1)]);
        assert!(moved >= places && moved <= places + 4, "{word}: {moved} moved, {places} had to");
    }
}

#[test]
fn another_weight_moves_the_difference_and_no_more() {
    for (weight, factor) in [(50, 0.5), (150, 1.5), (101, 1.01), (1, 0.01)] {
        let mut candidates = equals(10);
        let held = assign(class("r3"), &[], &candidates);
        candidates[4].weight = weight;
        let after = checked("weight", class("r3"), &held, &candidates);
        let ideal = 3.0 * ALL as f64 * (factor / (9.0 + factor) - 0.1);
        let moved = moved(&held, &after) as f64;
        assert!(moved <= ideal.abs() * 1.2 + 4.0, "weight {weight}: {moved} moved, {ideal} is the difference");
    }
}

#[test]
fn many_changes_of_equal_servers_never_cost_more_than_a_fifth_beyond_the_unavoidable() {
    for seed in 300..310 {
        let mut rng = Rng(seed);
        let class = class(["r3", "ec:4+2"][rng.below(2)]);
        let mut pool = equals(12);
        let mut held = assign(class, &[], &pool);
        for step in 0..12_u32 {
            let at = rng.below(pool.len());
            match rng.below(3) {
                0 => pool.push(server(100 + step, 100, ["", "", ""])),
                1 if pool.len() > 8 => drop(pool.remove(at)),
                _ => pool[at].weight = 50 + rng.below(100) as u32,
            }
            let after = checked(&format!("seed {seed}, step {step}"), class, &held, &pool);
            let (moved, least) = (moved(&held, &after), unavoidable(&held, &after, &domains_of(class, &pool)));
            assert!(moved <= least + least / 5 + 16, "seed {seed}, step {step}: {moved} moved, {least} had to");
            held = after;
        }
    }
}

#[test]
fn a_zone_that_is_drained_gives_up_its_places_only() {
    for (zones, domains) in [(3, 10), (4, 3)] {
        let all = in_zones(zones, 5 * zones);
        let held = checked("all zones", class("r3"), &Vec::new(), &all);
        let rest: Vec<Candidate> = all.iter().filter(|one| one.labels.zone != "zone 1").cloned().collect();
        assert_eq!(distinct(domains_of(class("r3"), &rest).values()), domains);
        let after = checked("a zone drained", class("r3"), &held, &rest);
        let lost = held.iter().flatten().filter(|one| one.0 % zones == 1).count();
        let moved = moved(&held, &after);
        assert!(moved <= lost + 4, "{zones} zones: {moved} moved, {lost} had to");
    }
}

#[test]
fn zones_keep_copies_apart_as_soon_as_there_are_enough() {
    let two: Vec<Candidate> = in_zones(2, 8);
    let held = checked("two zones", class("r3"), &Vec::new(), &two);
    let mut three = two;
    three.extend((9..13).map(|id| server(id, 100, ["zone 2", "", ""])));
    let after = checked("three zones", class("r3"), &held, &three);
    assert!(after.iter().all(|list| distinct(list.iter().map(|one| if one.0 > 8 { 2 } else { one.0 % 2 })) == 3));
}

#[test]
fn servers_of_one_host_hold_one_copy_and_disks_count_when_hosts_are_too_few() {
    let host = |id: u32, disk: &str| server(id, 100, ["", &format!("host {}", id % 2), disk]);
    let bare: Vec<Candidate> = (0..6).map(|id| host(id, "")).collect();
    let after = checked("r2 on two hosts", class("r2"), &Vec::new(), &bare);
    assert!(after.iter().all(|list| list[0].0 % 2 != list[1].0 % 2));
    let disks: Vec<Candidate> = (0..6).map(|id| host(id, ["sda", "sdb"][id as usize / 2 % 2])).collect();
    // Servers 0 and 4 lie on one disk, as do 1 and 5.
    let after = checked("r3 on four disks", class("r3"), &Vec::new(), &disks);
    assert!(after.iter().all(|list| distinct(list.iter().map(|one| one.0 % 4)) == 3));
}

#[test]
fn a_server_heavier_than_all_others_has_each_partition_once_and_the_others_share_the_rest() {
    let mut candidates = equals(5);
    candidates[2].weight = 1_000_000;
    candidates[3].weight = 200;
    let after = checked("a giant", class("r3"), &Vec::new(), &candidates);
    let loads: Vec<usize> = loads(&after).into_values().collect();
    assert_eq!(loads[2], ALL);
    assert!(loads[3].abs_diff(2 * ALL * 2 / 5) <= 1, "{loads:?}");
    assert!([0, 1, 4].into_iter().all(|at| loads[at].abs_diff(2 * ALL / 5) <= 1), "{loads:?}");
}

#[test]
fn the_greatest_weights_are_summed_without_overflow() {
    let mut candidates = equals(30);
    candidates.iter_mut().for_each(|one| one.weight = u32::MAX);
    candidates[0].weight = 1;
    let after = checked("great weights", class("r3"), &Vec::new(), &candidates);
    assert_eq!(loads(&after).get(&ServerId(1)), None);
}

#[test]
fn shards_stay_where_they_are_when_servers_come_and_go() {
    let class = class("ec:4+2");
    let held = assign(class, &[], &equals(9));
    let after = assign(class, &held, &equals(11)[2..]);
    let stays = |(old, new): (&Vec<ServerId>, &Vec<ServerId>)| old.iter().zip(new).filter(|(a, b)| a == b).count();
    let same: usize = held.iter().zip(&after).map(stays).sum();
    // Two of nine went, and their places are the new ones' but for the rounding.
    assert!(6 * ALL - same <= 6 * ALL * 2 / 9 + 4, "{same} places are the same");
}

#[test]
fn too_few_servers_make_short_lists_that_grow_at_their_end() {
    let class = class("r3");
    assert_eq!(assign(class, &[], &[]), vec![Vec::new(); ALL]);
    let one = checked("one", class, &Vec::new(), &equals(1));
    let two = checked("two", class, &one, &equals(2));
    assert!(two.iter().all(|list| *list == [ServerId(1), ServerId(2)]));
    let three = checked("three", class, &two, &equals(3));
    assert!(three.iter().all(|list| *list == [ServerId(1), ServerId(2), ServerId(3)]));
    let back = checked("the first went", class, &three, &equals(3)[1..]);
    assert!(back.iter().all(|list| *list == [ServerId(3), ServerId(2)]));
    assert_eq!(checked("all went", class, &three, &[]), vec![Vec::new(); ALL]);
}

#[test]
fn a_server_of_no_weight_holds_nothing() {
    let mut candidates = equals(5);
    candidates[1].weight = 0;
    let expected: Vec<Candidate> = candidates.iter().filter(|one| one.weight > 0).cloned().collect();
    let held = assign(class("r3"), &[], &equals(5));
    assert_eq!(assign(class("r3"), &held, &candidates), assign(class("r3"), &held, &expected));
    assert_eq!(stand_in(class("r3"), Partition(7), &[], &candidates[1..2]), None);
}

#[test]
fn no_before_is_too_strange() {
    for seed in 400..440 {
        let mut world = World::new(seed, 12);
        let lists = [0, 1, ALL - 1, ALL, ALL + 5][world.rng.below(5)];
        let (ids, long) = (1 + world.rng.below(20), 1 + world.rng.below(30));
        let strange: Lists = (0..lists)
            .map(|_| (0..world.rng.below(long)).map(|_| ServerId(world.rng.below(ids) as u32)).collect())
            .collect();
        let after = assign(world.class, &strange, &world.pool);
        let story = format!("seed {seed}, {}", world.class);
        check_apart(&story, world.class, &world.pool, &after);
        check_quotas(&story, world.class, &world.pool, &after);
    }
}

#[test]
fn a_candidate_named_twice_counts_once_in_whatever_order() {
    let mut twice = equals(6);
    twice.push(server(3, 900, ["", "other", ""]));
    let after = assign(class("r3"), &[], &twice);
    assert!(after.iter().all(|list| distinct(list.iter()) == 3));
    twice.reverse();
    assert_eq!(assign(class("r3"), &[], &twice), after);
}

/// Who is first serves most reads, and who loses a server copies from its partners: neither may be a few.
#[test]
fn places_and_partners_are_spread() {
    let mut held = assign(class("r3"), &[], &equals(20));
    for count in [21, 22, 23, 24] {
        let share = ALL as f64 / f64::from(count - 1);
        for (one, first) in loads(&held.iter().map(|list| vec![list[0]]).collect()) {
            assert!((first as f64 - share).abs() < share * 0.35, "{one} is first {first} times, {share} is its share");
        }
        let shared = held.iter().filter(|list| list.contains(&ServerId(1)));
        let partners = loads(&shared.cloned().collect());
        let mean = 2.0 * partners[&ServerId(1)] as f64 / f64::from(count - 2);
        let most = partners.iter().filter(|(one, _)| one.0 != 1).map(|(_, times)| *times as f64);
        assert!(most.clone().count() == count as usize - 2 && most.fold(0.0, f64::max) < mean * 1.6);
        held = assign(class("r3"), &held, &equals(count));
    }
}

#[test]
fn a_cluster_of_the_greatest_size_is_assigned() {
    let class = class("ec:12+4");
    let rack = |id: u32| server(id, 80 + id % 40, [&format!("zone {}", id % 19), &format!("host {}", id / 8), ""]);
    let all: Vec<Candidate> = (1..=1024).map(rack).collect();
    let held = checked("first", class, &Vec::new(), &all);
    let rest: Vec<Candidate> = all.into_iter().filter(|one| one.labels.zone != "zone 7").collect();
    let after = checked("a zone went", class, &held, &rest);
    let least = unavoidable(&held, &after, &domains_of(class, &rest));
    assert!(moved(&held, &after) <= least + least / 5 + 16);
}

#[test]
fn a_stand_in_is_apart_from_the_others_where_it_can_be() {
    let all = [
        server(1, 1, ["a", "h1", "d1"]),
        server(2, 1, ["a", "h1", "d2"]),
        server(3, 1, ["a", "h2", "d1"]),
        server(4, 1, ["b", "h3", "d1"]),
        server(5, 1, ["a", "h1", "d1"]),
    ];
    let answer = |taken: &[&Candidate], up: &[Candidate]| stand_in(class("r3"), Partition(9), taken, up);
    assert_eq!(answer(&[&all[0]], &all), Some(ServerId(4)));
    assert_eq!(answer(&[&all[0], &all[3]], &all), Some(ServerId(3)));
    assert_eq!(answer(&[&all[0], &all[3], &all[2]], &all), Some(ServerId(2)));
    assert_eq!(answer(&[&all[0], &all[3], &all[2], &all[1]], &all), Some(ServerId(5)));
    assert_eq!(answer(&all.iter().collect::<Vec<_>>(), &all), None);
    assert_eq!(answer(&[], &[]), None);
    assert_ne!(stand_in(class("r3"), Partition(u16::MAX), &[], &all), None);
}

#[test]
fn stand_ins_are_as_many_as_weights_say() {
    let pool: Vec<Candidate> = (1..=4).map(|id| server(id, 100 * id, ["", "", ""])).collect();
    let answers = (0..PARTITIONS).map(|at| stand_in(class("r3"), Partition(at), &[&pool[3]], &pool).unwrap());
    let loads = loads(&answers.map(|one| vec![one]).collect());
    assert_eq!(loads.len(), 3);
    for (one, load) in loads {
        let share = ALL as f64 * f64::from(one.0) / 6.0;
        assert!((load as f64 - share).abs() < share * 0.1, "{one}: {load}, should be {share}");
    }
}

#[test]
fn a_stand_in_stays_until_it_goes_itself() {
    let pool: Vec<Candidate> = (1..=9).map(|id| server(id, 50 * id, ["", "", ""])).collect();
    for at in (0..PARTITIONS).map(Partition) {
        let answer = stand_in(class("ec:4+2"), at, &[&pool[0], &pool[1]], &pool);
        let without = stand_in(class("ec:4+2"), at, &[&pool[0], &pool[1]], &pool[..8]);
        assert!(answer == without || answer == Some(ServerId(9)), "partition {at}: {answer:?}, then {without:?}");
    }
}

#[test]
fn the_logarithm_is_one() {
    for lot in [1, 3, 1 << 40, (1 << 63) - 1, 1 << 63, 0x9e37_79b9_7f4a_7c15, u64::MAX] {
        let exact = 64.0 - (lot as f64).log2();
        let ours = minus_log2(lot) as f64 / (1_u64 << 32) as f64;
        assert!((ours - exact).abs() < 1e-8, "{lot}: {ours}, should be {exact}");
    }
    assert!(minus_log2(0) <= 64 << 32 && minus_log2(u64::MAX) > 0);
}
