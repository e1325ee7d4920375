//! Leases among sessions that lose, delay and reorder messages and crash, on a simulated clock.
//!
//! Each key (an inode's attributes, its content, a name) is a register whose values grow. Checked at every read: it
//! returns nothing older than any write or read that ended before it began; no two sessions may keep changes of a file, or
//! of the names in the directory, back; none of those comes after a change of somebody else; and every operation ends. A failing seed is printed; make it a test of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dgfs_proto::ids::{Ino, SessionId};
use dgfs_proto::meta::Recall;
use dgfs_proto::name::Name;

use super::{Leases, WaitId};

const SESSIONS: u64 = 4;
const INODES: u64 = 3;
const NAMES: u64 = 2;
const TICKS: u64 = 1500;
/// A call or poll without an answer is repeated after so long.
const RETRY: u64 = 40;
/// A session that was silent for so long is dead.
const LEASE: u64 = 300;
/// So few that leases are taken back for want of room.
const PER_SESSION_MAX: usize = 2;
/// Directories are inodes from here on; each has so many names.
const DIRECTORIES: u64 = 100;
const DIRECTORIES_COUNT: u64 = 12;
/// How long one session works in the directory.
const SPELL: u64 = 150;
/// One of so many times the others look there.
const SELDOM: u64 = 40;
/// Longest way of a message.
const DELAY: u64 = 12;

mod client;
mod meta;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    Attrs(u64),
    Content(u64),
    Name(u64),
}

fn ino(number: u64) -> Ino {
    Ino::new(number + 2).unwrap()
}

fn number_of(ino: Ino) -> u64 {
    ino.get() - 2
}

/// The directory that a name is in.
fn directory_of(name: u64) -> u64 {
    DIRECTORIES + name / NAMES
}

fn name(number: u64) -> Name {
    Name::new(format!("n{number}").as_bytes()).unwrap()
}

fn place(of: u64) -> (Ino, Name) {
    (ino(directory_of(of)), name(of))
}

fn session(number: u64) -> SessionId {
    SessionId::new(number + 1).unwrap()
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[derive(Clone, Debug)]
enum Ask {
    Read(Key),
    Change(Key),
    Writes(u64),
    /// Kept-back content, sent.
    Flush(u64, u64),
    /// Kept-back changes of names, sent.
    FlushNames(Vec<(u64, u64)>),
    /// Recalls for which something had to be sent are carried out.
    Recalled(Vec<u64>),
}

#[derive(Clone, Debug)]
enum Message {
    Call { from: u64, id: u64, ask: Ask },
    Poll { from: u64, number: u64, received: u64, recalled: Vec<u64> },
    Answer { to: u64, id: u64, value: u64, kept: bool, ahead: bool },
    Batch { to: u64, poll: u64, number: u64, recalls: Vec<Recall> },
    Nothing { to: u64, poll: u64 },
}

/// A call a session waits for.
struct Call {
    ask: Ask,
    /// What the session had forgotten when it asked.
    asked: HashMap<Key, u64>,
    sent: u64,
    began: u64,
    floor: u64,
}

#[derive(Default)]
struct Client {
    dead: bool,
    /// Stops for a while: neither reads nor answers.
    stopped_until: u64,
    cache: HashMap<Key, u64>,
    forgotten: HashMap<Key, u64>,
    writes: BTreeSet<u64>,
    dirty: BTreeMap<u64, u64>,
    /// Names changed ahead.
    dirty_names: BTreeMap<u64, u64>,
    /// The last write of its own.
    own: BTreeMap<u64, u64>,
    calls: BTreeMap<u64, Call>,
    next_call: u64,
    received: u64,
    /// Carried out, and told with the poll under way or the next one.
    recalled: Vec<u64>,
    poll: u64,
    /// Recalls that wait for a flush.
    flushing: Vec<(u64, u64)>,
    /// Recalls that wait for the names changed ahead.
    flushing_names: Vec<u64>,
    polled: u64,
    poll_began: u64,
    poll_waits: bool,
    /// The lease as the session counts it: from what it sent and was answered.
    alive: u64,
}

/// An operation at meta that waits for recalls.
struct Waiting {
    from: u64,
    id: u64,
    ask: Ask,
    wait: Option<WaitId>,
}

struct World {
    rng: Rng,
    now: u64,
    leases: Leases,
    truth: HashMap<Key, u64>,
    /// What every read that begins now must at least return.
    floor: HashMap<Key, u64>,
    counter: u64,
    clients: Vec<Client>,
    seen: Vec<u64>,
    fenced: BTreeSet<u64>,
    net: Vec<(u64, Message)>,
    waiting: Vec<Waiting>,
    polls: BTreeMap<u64, (u64, u64)>,
    answered: HashMap<(u64, u64), u64>,
    /// Nothing is lost and nobody crashes any more.
    calm: bool,
    cached_reads: u64,
    changes: u64,
    recalls: u64,
    /// Changes of names that were made ahead.
    ahead: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng(seed),
            now: 0,
            leases: Leases { per_session_max: PER_SESSION_MAX + 3 * (seed % 3) as usize, ..Leases::default() },
            truth: HashMap::new(),
            floor: HashMap::new(),
            counter: 0,
            clients: (0..SESSIONS).map(|_| Client::default()).collect(),
            seen: vec![0; SESSIONS as usize],
            fenced: BTreeSet::new(),
            net: Vec::new(),
            waiting: Vec::new(),
            polls: BTreeMap::new(),
            answered: HashMap::new(),
            calm: false,
            cached_reads: 0,
            changes: 0,
            recalls: 0,
            ahead: 0,
        }
    }

    fn send(&mut self, message: Message) {
        if !self.calm && self.rng.below(20) == 0 {
            return;
        }
        let due = self.now + 1 + self.rng.below(DELAY);
        self.net.push((due, message));
    }

    fn client(&mut self, at: u64) -> &mut Client {
        &mut self.clients[at as usize]
    }

    /// What a session's program is interested in. For a while one session works in the directory, others look there seldom.
    fn any_key(&mut self, at: u64) -> Key {
        let works = self.now / SPELL % SESSIONS == at;
        let kinds = if works { 4 } else { 2 + u64::from(self.rng.below(SELDOM) == 0) };
        match self.rng.below(kinds) {
            0 => Key::Attrs(self.rng.below(INODES)),
            1 => Key::Content(self.rng.below(INODES)),
            _ => {
                // A directory is new to a session that begins to work, mostly.
                let directory = self.now / SPELL % DIRECTORIES_COUNT;
                Key::Name(directory * NAMES + self.rng.below(NAMES))
            }
        }
    }

    fn floor(&self, key: Key) -> u64 {
        self.floor.get(&key).copied().unwrap_or(0)
    }

    fn raise(&mut self, key: Key, value: u64) {
        let floor = self.floor.entry(key).or_insert(0);
        *floor = (*floor).max(value);
    }

    fn returned(&mut self, key: Key, value: u64, floor: u64) {
        assert!(value >= floor, "{key:?}: a read returned {value}, but {floor} had been seen before it began");
        self.raise(key, value);
    }

    /// The session believes its leases: what it sent lately was answered.
    fn trusts(&self, at: u64) -> bool {
        self.clients[at as usize].alive + LEASE - 2 * DELAY > self.now
    }

    fn call(&mut self, at: u64, ask: Ask) {
        let floor = match &ask {
            Ask::Read(key) => self.floor(*key),
            Ask::Change(_) | Ask::Writes(_) | Ask::Flush(..) | Ask::FlushNames(_) | Ask::Recalled(_) => 0,
        };
        let now = self.now;
        let client = self.client(at);
        client.next_call += 1;
        let (id, asked) = (client.next_call, client.forgotten.clone());
        client.calls.insert(id, Call { ask: ask.clone(), asked, sent: now, began: now, floor });
        self.send(Message::Call { from: at, id, ask });
    }

    fn tick(&mut self) {
        self.now += 1;
        let now = self.now;
        let mut due: Vec<Message> = Vec::new();
        self.net.retain(|(when, message)| {
            let arrives = *when <= now;
            if arrives {
                due.push(message.clone());
            }
            !arrives
        });
        due.into_iter().for_each(|message| self.deliver(message));
        for at in 0..SESSIONS {
            self.run_client(at);
        }
        for at in 0..SESSIONS {
            if !self.fenced.contains(&at) && now > self.seen[at as usize] + LEASE {
                self.fenced.insert(at);
                self.leases.end_session(session(at));
                self.polls.remove(&at);
                // What it kept back is lost with it, and nobody else has seen it.
                let contents = self.client(at).dirty.clone().into_iter().map(|(of, value)| (Key::Content(of), value));
                let names = self.client(at).dirty_names.clone().into_iter().map(|(of, value)| (Key::Name(of), value));
                for (key, value) in contents.chain(names) {
                    let left = self.truth.get(&key).copied().unwrap_or(0);
                    let reads = self.clients.iter_mut().flat_map(|client| client.calls.values_mut());
                    let reads = reads.filter(|call| matches!(call.ask, Ask::Read(other) if other == key));
                    reads.for_each(|call| call.floor = call.floor.min(left));
                    if self.floor(key) == value {
                        self.floor.insert(key, left);
                    }
                }
            }
        }
        self.leases.evict();
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.wait.is_none_or(|wait| self.leases.is_carried_out(wait)) {
                self.attempt(waiting);
            } else {
                self.waiting.push(waiting);
            }
        }
        for (at, (poll, received)) in self.polls.clone() {
            if let Some((number, recalls)) = self.leases.batch(session(at), received) {
                self.polls.remove(&at);
                self.send(Message::Batch { to: at, poll, number, recalls });
            }
        }
        self.nobody_keeps_back_what_others_do();
    }

    fn nobody_keeps_back_what_others_do(&self) {
        for of in (0..INODES).chain(DIRECTORIES..DIRECTORIES + DIRECTORIES_COUNT) {
            let keeps = (0..SESSIONS).filter(|at| {
                let client = &self.clients[*at as usize];
                !client.dead && self.trusts(*at) && client.writes.contains(&of)
            });
            let keeps: Vec<u64> = keeps.collect();
            assert!(keeps.len() <= 1, "sessions {keeps:?} keep changes of {of} back at once");
        }
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Call { from, id, ask } => {
                if self.fenced.contains(&from) {
                    return;
                }
                self.seen[from as usize] = self.now;
                if let Some(value) = self.answered.get(&(from, id)) {
                    let value = *value;
                    return self.send(Message::Answer { to: from, id, value, kept: false, ahead: false });
                }
                if !self.waiting.iter().any(|waiting| (waiting.from, waiting.id) == (from, id)) {
                    self.attempt(Waiting { from, id, ask, wait: None });
                }
            }
            Message::Poll { from, number, received, recalled } => {
                if self.fenced.contains(&from) {
                    return;
                }
                self.seen[from as usize] = self.now;
                self.leases.carried_out(session(from), &recalled);
                self.polls.insert(from, (number, received));
                if self.rng.below(3) == 0 {
                    self.polls.remove(&from);
                    self.send(Message::Nothing { to: from, poll: number });
                }
            }
            Message::Answer { to, .. } | Message::Batch { to, .. } | Message::Nothing { to, .. }
                if self.client(to).dead || self.client(to).stopped_until > self.now =>
            {
                // A stopped process finds it when it goes on.
                if !self.client(to).dead {
                    let due = self.client(to).stopped_until + 1;
                    self.net.push((due, message));
                }
            }
            Message::Answer { to, id, value, kept, ahead } => self.answer(to, id, value, kept, ahead),
            Message::Nothing { to, poll } => {
                let _: bool = self.client(to).poll_answered(poll);
            }
            Message::Batch { to, poll, number, recalls } => {
                if self.client(to).poll_answered(poll) {
                    self.take_batch(to, number, &recalls);
                }
            }
        }
    }
}

/// Cached reads, changes, recalls and changes made ahead of one run.
fn run(seed: u64) -> [u64; 4] {
    let mut world = World::new(seed);
    for _ in 0..TICKS {
        world.tick();
    }
    // From here on what waits must end.
    world.calm = true;
    for client in &mut world.clients {
        client.stopped_until = 0;
    }
    for _ in 0..3 * LEASE {
        world.tick();
    }
    let stuck = world.waiting.iter().filter(|waiting| !world.fenced.contains(&waiting.from));
    let old = stuck.filter(|waiting| {
        let call = world.clients[waiting.from as usize].calls.get(&waiting.id);
        call.is_some_and(|call| call.began + 2 * LEASE < world.now)
    });
    assert_eq!(old.count(), 0, "operations never end");
    [world.cached_reads, world.changes, world.recalls, world.ahead]
}

#[test]
fn no_session_believes_what_is_not_true_any_more_and_every_operation_ends() {
    let seeds = if std::env::var("DGFS_LONG").is_ok_and(|value| value == "1") { 20_000 } else { 1_500 };
    let mut sums = [0; 4];
    for seed in 0..seeds {
        let counts = std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|_| panic!("seed {seed} failed: see above"));
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    let [reads, changes, recalls, ahead] = sums;
    println!(
        "{seeds} seeds: {reads} reads from caches, {changes} changes, {recalls} recalls, {ahead} names changed ahead"
    );
    assert!(sums.iter().all(|sum| *sum > seeds * 3), "the simulation hardly did anything");
}
