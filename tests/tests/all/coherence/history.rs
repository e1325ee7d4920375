//! What three mounts did and saw, each by one program, is checked for linearizability: there is one order of all calls on an
//! object in which each call takes effect between its begin and its end and sees what the ones before it left (Herlihy and
//! Wing, 1990). Meanwhile the metadata service is killed and mounts are stopped for a while.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::mount::Mount;
use dgfs_tests::process::signal;
use dgfs_tests::program::seconds;
use dgfs_tests::rng::Rng;

const REGISTERS: u64 = 4;
const NAMES: u64 = 4;
const LOGS: u64 = 2;
/// Calls on one object in one history; more are not kept, as every order of all of them is searched.
const CALLS_MAX: usize = 600;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Object {
    Register(u64),
    Name(u64),
    Log(u64),
}

/// A call with its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Write(u64),
    Read(u64),
    Create { won: bool },
    Remove { won: bool },
    Look { there: bool },
    Append(u64),
    ReadLog(Vec<u64>),
}

#[derive(Clone, Debug)]
struct Event {
    began: Instant,
    ended: Instant,
    call: Call,
}

/// What an object is like between calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    Value(u64),
    There(bool),
    Records(Vec<u64>),
}

/// The state after a call, if the call could end so.
fn step(state: &State, call: &Call) -> Option<State> {
    match (state, call) {
        (State::Value(_), Call::Write(value)) => Some(State::Value(*value)),
        (State::Value(now), Call::Read(value)) => (now == value).then(|| state.clone()),
        (State::There(there), Call::Create { won }) => (*won != *there).then_some(State::There(true)),
        (State::There(there), Call::Remove { won }) => (*won == *there).then_some(State::There(false)),
        (State::There(now), Call::Look { there }) => (now == there).then(|| state.clone()),
        (State::Records(records), Call::Append(record)) => {
            Some(State::Records(records.iter().copied().chain([*record]).collect()))
        }
        (State::Records(records), Call::ReadLog(seen)) => (records == seen).then(|| state.clone()),
        _ => None,
    }
}

/// Is there an order? `calls` has the calls of each program, in its own order.
fn has_an_order(calls: &[Vec<Event>], start: &State) -> bool {
    let mut seen: HashSet<(Vec<usize>, State)> = HashSet::new();
    let mut open = vec![(vec![0; calls.len()], start.clone())];
    while let Some((at, state)) = open.pop() {
        if at.iter().zip(calls).all(|(at, calls)| *at == calls.len()) {
            return true;
        }
        // Next may come any call that began before every call that is not placed yet ended.
        let next = || at.iter().zip(calls).filter_map(|(at, calls)| calls.get(*at));
        let first_end = next().map(|event| event.ended).min();
        for (program, calls) in calls.iter().enumerate() {
            let Some(event) = calls.get(at[program]) else { continue };
            if Some(event.began) > first_end {
                continue;
            }
            if let Some(after) = step(&state, &event.call) {
                let mut further = at.clone();
                further[program] += 1;
                if seen.insert((further.clone(), after.clone())) {
                    open.push((further, after));
                }
            }
        }
    }
    false
}

struct Program<'a> {
    directory: &'a Path,
    rng: Rng,
    number: u64,
    made: u64,
    registers: Vec<File>,
    history: BTreeMap<Object, Vec<Event>>,
}

impl Program<'_> {
    fn run(mut self, done: &AtomicBool) -> BTreeMap<Object, Vec<Event>> {
        while !done.load(Ordering::Acquire) {
            let object = match self.rng.below(3) {
                0 => Object::Register(self.rng.below(REGISTERS)),
                1 => Object::Name(self.rng.below(NAMES)),
                _ => Object::Log(self.rng.below(LOGS)),
            };
            if self.history.get(&object).is_some_and(|calls| calls.len() >= CALLS_MAX) {
                thread::yield_now();
                continue;
            }
            let began = Instant::now();
            let call = self.call(object);
            let event = Event { began, ended: Instant::now(), call };
            self.history.entry(object).or_default().push(event);
        }
        self.history
    }

    fn next_value(&mut self) -> u64 {
        self.made += 1;
        self.number << 32 | self.made
    }

    fn call(&mut self, object: Object) -> Call {
        match object {
            Object::Register(at) => self.register(at),
            Object::Name(at) => {
                let path = self.directory.join(format!("name{at}"));
                match self.rng.below(4) {
                    0 => Call::Create { won: won(File::create_new(&path).map(drop), ErrorKind::AlreadyExists) },
                    1 => Call::Remove { won: won(fs::remove_file(&path), ErrorKind::NotFound) },
                    _ => Call::Look { there: won(fs::metadata(&path).map(drop), ErrorKind::NotFound) },
                }
            }
            Object::Log(at) => {
                let path = self.directory.join(format!("log{at}"));
                if self.rng.chance(40) {
                    let record = self.next_value();
                    let mut log = OpenOptions::new().append(true).open(&path).unwrap();
                    log.write_all(&record.to_le_bytes()).unwrap();
                    // Open for some time, so that others meet it open.
                    return Call::Append(record);
                }
                let bytes = fs::read(&path).unwrap();
                assert_eq!(bytes.len() % 8, 0, "a torn record");
                Call::ReadLog(bytes.chunks(8).map(|record| u64::from_le_bytes(record.try_into().unwrap())).collect())
            }
        }
    }

    /// Some registers are open all the time, others are opened for each call.
    fn register(&mut self, at: u64) -> Call {
        let opened;
        let file = match self.registers.get(at as usize) {
            Some(file) => file,
            None => {
                let path = self.directory.join(format!("register{at}"));
                opened = OpenOptions::new().read(true).write(true).open(path).unwrap();
                &opened
            }
        };
        if self.rng.chance(40) {
            self.made += 1;
            let value = self.number << 32 | self.made;
            file.write_all_at(&value.to_le_bytes(), 0).unwrap();
            return Call::Write(value);
        }
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, 0).unwrap();
        Call::Read(u64::from_le_bytes(bytes))
    }
}

fn won(result: std::io::Result<()>, lost: ErrorKind) -> bool {
    match result {
        Ok(()) => true,
        Err(error) if error.kind() == lost => false,
        Err(error) => panic!("{error}"),
    }
}

/// Kills the metadata service, and stops mounts for less than their lease.
fn disturb(cluster: &mut Cluster, mounts: &[Mount], time: Duration, rng: &mut Rng) {
    let began = Instant::now();
    while began.elapsed() < time {
        thread::sleep(time / 8);
        match rng.below(3) {
            0 => {
                let which = format!("meta-{}", 1 + rng.below(2));
                let killed = cluster.kill9(&which);
                println!("{:?}: killed {which} ({killed})", began.elapsed());
                cluster.start_the_dead();
            }
            _ => {
                let mount = rng.pick(mounts);
                signal(mount.pid(), Signal::STOP);
                thread::sleep(Duration::from_millis(200 + rng.below(1500)));
                signal(mount.pid(), Signal::CONT);
            }
        }
    }
}

#[test]
fn what_three_mounts_saw_has_one_order_also_across_fail_overs_and_stalls() {
    let (mut rng, _) = Rng::announced("DGFS_HISTORY_SEED");
    let mut cluster = Cluster::start(ClusterPlan::default());
    let mounts: Vec<Mount> = (0..3).map(|_| cluster.mount()).collect();
    for at in 0..REGISTERS {
        fs::write(mounts[0].join(format!("register{at}")), 0_u64.to_le_bytes()).unwrap();
    }
    for at in 0..LOGS {
        drop(File::create(mounts[0].join(format!("log{at}"))).unwrap());
    }
    let done = AtomicBool::new(false);
    let histories = thread::scope(|scope| {
        let programs: Vec<_> = mounts
            .iter()
            .zip(1..)
            .map(|(mount, number)| {
                let open =
                    |at| OpenOptions::new().read(true).write(true).open(mount.join(format!("register{at}"))).unwrap();
                let program = Program {
                    directory: mount.path(),
                    rng: Rng::new(rng.next()),
                    number,
                    made: 0,
                    registers: (0..REGISTERS / 2).map(open).collect(),
                    history: BTreeMap::new(),
                };
                scope.spawn(|| program.run(&done))
            })
            .collect();
        disturb(&mut cluster, &mounts, seconds("DGFS_HISTORY_SECONDS", 12, 300), &mut rng);
        done.store(true, Ordering::Release);
        programs.into_iter().map(|program| program.join().unwrap()).collect::<Vec<_>>()
    });
    let objects: HashSet<Object> = histories.iter().flat_map(|history| history.keys().copied()).collect();
    let mut calls = 0;
    for object in objects {
        let of: Vec<Vec<Event>> =
            histories.iter().map(|history| history.get(&object).cloned().unwrap_or_default()).collect();
        calls += of.iter().map(Vec::len).sum::<usize>();
        let start = match object {
            Object::Register(_) => State::Value(0),
            Object::Name(_) => State::There(false),
            Object::Log(_) => State::Records(Vec::new()),
        };
        if !has_an_order(&of, &start) {
            tell(&of);
            panic!("{object:?}: what the mounts saw has no order (above)");
        }
    }
    println!("{calls} calls");
    assert!(calls > 500, "only {calls} calls");
}

/// The calls on an object that has no order, by their begin.
fn tell(calls: &[Vec<Event>]) {
    let first = calls.iter().flatten().map(|event| event.began).min().unwrap();
    let mut all: Vec<(usize, &Event)> = calls
        .iter()
        .enumerate()
        .flat_map(|(program, events)| events.iter().map(move |event| (program, event)))
        .collect();
    all.sort_by_key(|(_, event)| event.began);
    for (program, event) in all {
        let (began, ended) = (event.began - first, event.ended - first);
        println!("{program}: {began:?} .. {ended:?} {:?}", event.call);
    }
}

#[test]
fn the_checker_finds_what_has_no_order() {
    let start = Instant::now();
    let event = |from: u64, to: u64, call| Event {
        began: start + Duration::from_millis(from),
        ended: start + Duration::from_millis(to),
        call,
    };
    let written = vec![event(0, 10, Call::Write(1)), event(20, 30, Call::Write(2))];
    let reads = |one, other| vec![event(21, 24, Call::Read(one)), event(25, 29, Call::Read(other))];
    let begin = State::Value(0);
    assert!(has_an_order(&[written.clone(), reads(1, 2)], &begin));
    assert!(has_an_order(&[written.clone(), reads(2, 2)], &begin));
    assert!(!has_an_order(&[written.clone(), reads(2, 1)], &begin), "back in time");
    assert!(!has_an_order(&[written, vec![event(11, 12, Call::Read(0))]], &begin), "a write that returned is not seen");
    let made = |from, to, won| vec![event(from, to, Call::Create { won })];
    assert!(!has_an_order(&[made(0, 5, true), made(3, 8, true)], &State::There(false)), "two winners");
    assert!(has_an_order(&[made(0, 5, false), made(3, 8, true)], &State::There(false)));
}
