//! Leases among sessions that lose, delay and reorder messages and crash, on a simulated clock.
//!
//! Each key (an inode's attributes, its content, a name) is a register whose values grow. Checked at every read: it
//! returns nothing older than any write or read that ended before it began; no two sessions may keep writes of a file
//! back; and every operation ends. A failing seed is printed; make it a test of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dgfs_proto::ids::{Ino, SessionId};
use dgfs_proto::meta::{Recall, RecallOf};
use dgfs_proto::name::Name;

use super::{Changes, Leases, Told, WaitId};

const SESSIONS: u64 = 4;
const INODES: u64 = 3;
const NAMES: u64 = 3;
const TICKS: u64 = 1500;
/// A call or poll without an answer is repeated after so long.
const RETRY: u64 = 40;
/// A session that was silent for so long is dead.
const LEASE: u64 = 300;
/// So few that leases are taken back for want of room.
const PER_SESSION_MAX: usize = 2;
/// Longest way of a message.
const DELAY: u64 = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    Attrs(u64),
    Content(u64),
    Name(u64),
}

fn ino(number: u64) -> Ino {
    Ino::new(number + 2).unwrap()
}

fn name(number: u64) -> Name {
    Name::new(format!("n{number}").as_bytes()).unwrap()
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
    /// Recalls for which something had to be sent are carried out.
    Recalled(Vec<u64>),
}

#[derive(Clone, Debug)]
enum Message {
    Call { from: u64, id: u64, ask: Ask },
    Poll { from: u64, number: u64, received: u64, recalled: Vec<u64> },
    Answer { to: u64, id: u64, value: u64, kept: bool },
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
}

impl Client {
    /// An answer to the poll under way? What was told with it has arrived.
    fn poll_answered(&mut self, poll: u64) -> bool {
        let is_new = self.poll_waits && poll == self.poll;
        if is_new {
            self.alive = self.alive.max(self.poll_began);
            self.poll_waits = false;
            self.recalled.clear();
        }
        is_new
    }
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng(seed),
            now: 0,
            leases: Leases { per_session_max: PER_SESSION_MAX, ..Leases::default() },
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

    fn any_key(&mut self) -> Key {
        match self.rng.below(3) {
            0 => Key::Attrs(self.rng.below(INODES)),
            1 => Key::Content(self.rng.below(INODES)),
            _ => Key::Name(self.rng.below(NAMES)),
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
            Ask::Change(_) | Ask::Writes(_) | Ask::Flush(..) | Ask::Recalled(_) => 0,
        };
        let now = self.now;
        let client = self.client(at);
        client.next_call += 1;
        let (id, asked) = (client.next_call, client.forgotten.clone());
        client.calls.insert(id, Call { ask: ask.clone(), asked, sent: now, began: now, floor });
        self.send(Message::Call { from: at, id, ask });
    }

    /// A session's program does something.
    fn act(&mut self, at: u64) {
        if self.client(at).calls.len() >= 3 {
            return;
        }
        let key = self.any_key();
        // What a program changes just now it does not read (another program of the same mount might see the change up to a
        // round trip later than other mounts do).
        let changing = |call: &Call| matches!(call.ask, Ask::Change(other) if other == key);
        if self.client(at).calls.values().any(changing) {
            return;
        }
        match self.rng.below(4) {
            0 | 1 => {
                let kept_back = if let Key::Content(of) = key { self.client(at).dirty.get(&of).copied() } else { None };
                let known = self.client(at).cache.get(&key).copied().filter(|_| self.trusts(at));
                if let Some(value) = kept_back.filter(|_| self.trusts(at)).or(known) {
                    self.cached_reads += 1;
                    let floor = self.floor(key);
                    self.returned(key, value, floor);
                } else {
                    self.call(at, Ask::Read(key));
                }
            }
            // A program's write of a file that this session keeps writes of back is kept back, too.
            2 if !self.keeps_back(at, key) => self.call(at, Ask::Change(key)),
            2 => {}
            _ => {
                let of = self.rng.below(INODES);
                let changes =
                    self.client(at).calls.values().any(|call| matches!(call.ask, Ask::Change(Key::Content(_))));
                if changes {
                } else if self.client(at).writes.contains(&of) && self.trusts(at) {
                    self.counter += 1;
                    let value = self.counter;
                    self.client(at).dirty.insert(of, value);
                    self.client(at).own.insert(of, value);
                    self.raise(Key::Content(of), value);
                } else {
                    self.call(at, Ask::Writes(of));
                }
            }
        }
    }

    fn keeps_back(&self, at: u64, key: Key) -> bool {
        let client = &self.clients[at as usize];
        let Key::Content(of) = key else { return false };
        let about = |call: &Call| matches!(call.ask, Ask::Writes(other) | Ask::Flush(other, _) if other == of);
        client.writes.contains(&of) || client.dirty.contains_key(&of) || client.calls.values().any(about)
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
                for (of, value) in self.client(at).dirty.clone() {
                    let key = Key::Content(of);
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
        self.leases.evict(now);
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
        for of in 0..INODES {
            let keeps = (0..SESSIONS).filter(|at| {
                let client = &self.clients[*at as usize];
                !client.dead && self.trusts(*at) && client.writes.contains(&of)
            });
            let keeps: Vec<u64> = keeps.collect();
            assert!(keeps.len() <= 1, "sessions {keeps:?} keep writes of {of} back at once");
        }
    }

    fn run_client(&mut self, at: u64) {
        let now = self.now;
        if self.client(at).dead || self.client(at).stopped_until > now {
            return;
        }
        match self.rng.below(4000) {
            _ if self.calm => {}
            0 => {
                self.client(at).dead = true;
                return;
            }
            1 => self.client(at).stopped_until = now + 1 + LEASE / 2 + self.rng.below(LEASE),
            _ => {}
        }
        let late: Vec<(u64, Ask)> = self.clients[at as usize]
            .calls
            .iter_mut()
            .filter(|(_, call)| call.sent + RETRY < now)
            .map(|(id, call)| {
                call.sent = now;
                (*id, call.ask.clone())
            })
            .collect();
        for (id, ask) in late {
            self.send(Message::Call { from: at, id, ask });
        }
        let client = self.client(at);
        if !client.poll_waits || client.polled + RETRY < now {
            if !client.poll_waits {
                client.poll += 1;
                client.poll_began = now;
            }
            client.poll_waits = true;
            client.polled = now;
            let (number, received, recalled) = (client.poll, client.received, client.recalled.clone());
            self.send(Message::Poll { from: at, number, received, recalled });
        }
        if self.rng.below(3) == 0 {
            self.act(at);
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
                    return self.send(Message::Answer { to: from, id, value, kept: false });
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
            Message::Answer { to, id, value, kept } => self.answer(to, id, value, kept),
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

    /// Meta tries an operation.
    fn attempt(&mut self, waiting: Waiting) {
        let Waiting { from, id, ask, wait } = waiting;
        if self.fenced.contains(&from) {
            wait.into_iter().for_each(|wait| self.leases.end_wait(wait));
            return;
        }
        let who = session(from);
        let inode = match &ask {
            Ask::Read(Key::Attrs(of) | Key::Content(of)) | Ask::Change(Key::Attrs(of)) => Some(*of),
            _ => None,
        };
        let mut wanted = self.leases.kept_back(who, inode.map(ino).into_iter());
        let changes = match &ask {
            Ask::Read(_) | Ask::Recalled(_) => Changes::default(),
            Ask::Change(Key::Attrs(of)) => Changes { attrs: vec![(ino(*of), of % 2 == 0)], ..Changes::default() },
            Ask::Change(Key::Content(of)) | Ask::Writes(of) | Ask::Flush(of, _) => {
                Changes { content: vec![ino(*of)], ..Changes::default() }
            }
            Ask::Change(Key::Name(of)) => Changes { names: vec![(Ino::ROOT, name(*of))], ..Changes::default() },
        };
        wanted.extend(self.leases.conflicts(who, &changes, wait));
        if !wanted.is_empty() {
            self.recalls += wanted.len() as u64;
            let wait = Some(self.leases.recall(wait, wanted, self.now));
            let _ = self.leases.take_rung();
            self.waiting.push(Waiting { from, id, ask, wait });
            return;
        }
        if !matches!(ask, Ask::Read(_)) {
            wait.into_iter().for_each(|wait| self.leases.end_wait(wait));
        }
        let (value, kept) = match &ask {
            Ask::Recalled(ids) => {
                self.leases.carried_out(who, ids);
                (0, false)
            }
            Ask::Read(key) => {
                let value = self.truth.get(key).copied().unwrap_or(0);
                (value, self.leases.lease(who, &[told(*key)]))
            }
            Ask::Change(key) => {
                self.counter += 1;
                self.changes += 1;
                self.truth.insert(*key, self.counter);
                (self.counter, self.leases.lease(who, &[told(*key)]))
            }
            Ask::Flush(of, value) => {
                self.truth.insert(Key::Content(*of), *value);
                (*value, self.leases.lease(who, &[told(Key::Content(*of))]))
            }
            Ask::Writes(of) => {
                let granted = self.leases.lease_writes(who, ino(*of));
                (self.truth.get(&Key::Content(*of)).copied().unwrap_or(0), granted)
            }
        };
        wait.into_iter().for_each(|wait| self.leases.end_wait(wait));
        self.answered.insert((from, id), value);
        self.send(Message::Answer { to: from, id, value, kept });
    }

    fn answer(&mut self, to: u64, id: u64, value: u64, kept: bool) {
        let Some(call) = self.client(to).calls.remove(&id) else { return };
        if self.fenced.contains(&to) {
            // What it does not know yet: its writes are lost, and so is what it reads of them.
            return;
        }
        let client = self.client(to);
        client.alive = client.alive.max(call.began);
        let unchanged = |client: &Client, key: &Key| call.asked.get(key) == client.forgotten.get(key);
        match call.ask {
            Ask::Read(key) => {
                if kept && unchanged(client, &key) {
                    client.cache.insert(key, value);
                }
                // Its own write is newer than an answer that was on its way: contents carry their version.
                let own = if let Key::Content(of) = key { client.own.get(&of).copied() } else { None };
                self.returned(key, own.unwrap_or(value).max(value), call.floor);
            }
            Ask::Change(key) => {
                if kept && unchanged(client, &key) {
                    client.cache.insert(key, value);
                    bump(client, key);
                } else {
                    forget(client, key);
                }
                self.raise(key, value);
            }
            Ask::Writes(of) => {
                let key = Key::Content(of);
                if kept && unchanged(client, &key) && !client.dirty.contains_key(&of) {
                    client.cache.insert(key, value);
                    client.writes.insert(of);
                }
            }
            Ask::Flush(of, sent) => {
                if client.dirty.get(&of) == Some(&sent) {
                    client.dirty.remove(&of);
                    client.cache.insert(Key::Content(of), sent);
                    client.writes.contains(&of).then_some(()).unwrap_or_else(|| forget(client, Key::Content(of)));
                }
                let done: Vec<u64> =
                    client.flushing.iter().filter(|(_, waits)| *waits == of).map(|(recall, _)| *recall).collect();
                client.flushing.retain(|(_, waits)| *waits != of);
                self.call(to, Ask::Recalled(done));
            }
            Ask::Recalled(_) => {}
        }
    }

    fn take_batch(&mut self, to: u64, number: u64, recalls: &[Recall]) {
        let client = self.client(to);
        if number <= client.received {
            return;
        }
        client.received = number;
        let mut flush = Vec::new();
        for recall in recalls {
            match &recall.of {
                RecallOf::Attrs(of) => forget(client, Key::Attrs(of.get() - 2)),
                RecallOf::Inode(of) | RecallOf::Writes(of) => {
                    let of = of.get() - 2;
                    client.writes.remove(&of);
                    forget(client, Key::Attrs(of));
                    forget(client, Key::Content(of));
                    if let Some(value) = client.dirty.get(&of) {
                        // One flush of a file at a time: another recall waits for the same.
                        if !client.flushing.iter().any(|(_, waits)| *waits == of) {
                            flush.push((of, *value));
                        }
                        client.flushing.push((recall.id, of));
                        continue;
                    }
                }
                RecallOf::Name { name, .. } => {
                    let number = String::from_utf8_lossy(name.as_bytes())[1..].parse().unwrap();
                    forget(client, Key::Name(number));
                }
                RecallOf::Names(_) => (0..NAMES).for_each(|of| forget(client, Key::Name(of))),
            }
            client.recalled.push(recall.id);
        }
        for (of, value) in flush {
            self.call(to, Ask::Flush(of, value));
        }
    }
}

fn told(key: Key) -> Told {
    match key {
        Key::Attrs(of) | Key::Content(of) => Told::Inode(ino(of)),
        Key::Name(of) => Told::Name(Ino::ROOT, name(of)),
    }
}

fn bump(client: &mut Client, key: Key) {
    *client.forgotten.entry(key).or_insert(0) += 1;
}

fn forget(client: &mut Client, key: Key) {
    client.cache.remove(&key);
    bump(client, key);
}

/// Cached reads, changes and recalls of one run.
fn run(seed: u64) -> (u64, u64, u64) {
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
    (world.cached_reads, world.changes, world.recalls)
}

#[test]
fn no_session_believes_what_is_not_true_any_more_and_every_operation_ends() {
    let seeds = if std::env::var("DGFS_LONG").is_ok_and(|value| value == "1") { 20_000 } else { 1_500 };
    let mut sums = (0, 0, 0);
    for seed in 0..seeds {
        let (reads, changes, recalls) =
            std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|_| panic!("seed {seed} failed: see above"));
        sums = (sums.0 + reads, sums.1 + changes, sums.2 + recalls);
    }
    println!("{seeds} seeds: {} reads from caches, {} changes, {} recalls", sums.0, sums.1, sums.2);
    assert!(sums.0 > seeds * 10 && sums.1 > seeds * 10 && sums.2 > seeds * 10, "the simulation hardly did anything");
}
