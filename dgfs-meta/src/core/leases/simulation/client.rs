//! What a session does: it follows the rules that `dgfs-client` follows.
//!
//! Never sees the truth but through messages.

use dgfs_proto::meta::{Recall, RecallOf};

use super::{
    Ask, Call, Client, DIRECTORIES, INODES, Key, LEASE, Message, NAMES, RETRY, World, directory_of, number_of,
};

impl Client {
    /// An answer to the poll under way? What was told with it has arrived.
    pub(super) fn poll_answered(&mut self, poll: u64) -> bool {
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
    /// A session's program does something.
    fn act(&mut self, at: u64) {
        if self.client(at).calls.len() >= 3 {
            return;
        }
        let key = self.any_key(at);
        // What a program changes just now it does not read (another program of the same mount might see the change up to a
        // round trip later than other mounts do).
        let changing = |call: &Call| matches!(call.ask, Ask::Change(other) if other == key);
        if self.client(at).calls.values().any(changing) {
            return;
        }
        match self.rng.below(4) {
            0 | 1 => {
                let client = self.client(at);
                let kept_back = match key {
                    Key::Content(of) => client.dirty.get(&of).copied(),
                    Key::Name(of) => client.dirty_names.get(&of).copied(),
                    Key::Attrs(_) => None,
                };
                let known = self.client(at).cache.get(&key).copied().filter(|_| self.trusts(at));
                if let Some(value) = kept_back.filter(|_| self.trusts(at)).or(known) {
                    self.cached_reads += 1;
                    let floor = self.floor(key);
                    self.returned(key, value, floor);
                } else if self.may_ask(at, key) {
                    self.call(at, Ask::Read(key));
                }
            }
            2 if self.changes_ahead(at, key) => {}
            // A program's write of a file that this session keeps writes of back is kept back, too.
            2 if !self.keeps_back(at, key) && self.may_ask(at, key) => self.call(at, Ask::Change(key)),
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

    /// Questions and changes that are asked for wait until the names changed ahead were sent.
    fn may_ask(&mut self, at: u64, key: Key) -> bool {
        if !matches!(key, Key::Name(_)) || self.client(at).dirty_names.is_empty() {
            return true;
        }
        self.flush_names(at);
        false
    }

    /// Changes a name without asking, with the right to.
    fn changes_ahead(&mut self, at: u64, key: Key) -> bool {
        let Key::Name(of) = key else { return false };
        let trusted = self.trusts(at);
        let client = self.client(at);
        let asked = |call: &Call| matches!(call.ask, Ask::Change(Key::Name(_)));
        if !client.writes.contains(&directory_of(of)) || !trusted || client.calls.values().any(asked) {
            return false;
        }
        self.counter += 1;
        self.ahead += 1;
        let value = self.counter;
        let client = self.client(at);
        client.dirty_names.insert(of, value);
        client.cache.insert(key, value);
        bump(client, key);
        self.raise(key, value);
        true
    }

    /// Sends the names changed ahead, one message at a time.
    fn flush_names(&mut self, at: u64) {
        let client = self.client(at);
        let under_way = client.calls.values().any(|call| matches!(call.ask, Ask::FlushNames(_)));
        if !under_way && !client.dirty_names.is_empty() {
            let names = client.dirty_names.iter().map(|(of, value)| (*of, *value)).collect();
            self.call(at, Ask::FlushNames(names));
        }
    }

    fn keeps_back(&self, at: u64, key: Key) -> bool {
        let client = &self.clients[at as usize];
        let Key::Content(of) = key else { return false };
        let about = |call: &Call| matches!(call.ask, Ask::Writes(other) | Ask::Flush(other, _) if other == of);
        client.writes.contains(&of) || client.dirty.contains_key(&of) || client.calls.values().any(about)
    }

    pub(super) fn run_client(&mut self, at: u64) {
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

    pub(super) fn answer(&mut self, to: u64, id: u64, value: u64, kept: bool, ahead: bool) {
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
                if let (true, Key::Name(of)) = (ahead, key)
                    && unchanged(client, &Key::Attrs(directory_of(of)))
                {
                    client.writes.insert(directory_of(of));
                }
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
                    if !client.writes.contains(&of) {
                        forget(client, Key::Content(of));
                    }
                }
                let done: Vec<u64> =
                    client.flushing.iter().filter(|(_, waits)| *waits == of).map(|(recall, _)| *recall).collect();
                client.flushing.retain(|(_, waits)| *waits != of);
                self.call(to, Ask::Recalled(done));
            }
            Ask::FlushNames(names) => {
                for (of, sent) in names {
                    if client.dirty_names.get(&of) == Some(&sent) {
                        client.dirty_names.remove(&of);
                    }
                    if !kept {
                        forget(client, Key::Name(of));
                    }
                }
                if !client.dirty_names.is_empty() {
                    return self.flush_names(to);
                }
                let done = std::mem::take(&mut client.flushing_names);
                if !done.is_empty() {
                    self.call(to, Ask::Recalled(done));
                }
            }
            Ask::Recalled(_) => {}
        }
    }

    pub(super) fn take_batch(&mut self, to: u64, number: u64, recalls: &[Recall]) {
        let client = self.client(to);
        if number <= client.received {
            return;
        }
        client.received = number;
        let mut flush = Vec::new();
        for recall in recalls {
            match &recall.of {
                RecallOf::AllWrites => {}
                RecallOf::Attrs(of) => forget(client, Key::Attrs(number_of(*of))),
                RecallOf::Inode(of) | RecallOf::Writes(of) if number_of(*of) >= DIRECTORIES => {
                    give_up_names(client, number_of(*of));
                }
                RecallOf::Inode(of) | RecallOf::Writes(of) => {
                    let of = number_of(*of);
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
                RecallOf::Name { parent, name } => {
                    let number = String::from_utf8_lossy(name.as_bytes())[1..].parse().unwrap();
                    forget(client, Key::Name(number));
                    give_up_names(client, number_of(*parent));
                }
                RecallOf::Names(parent) => {
                    let first = (number_of(*parent) - DIRECTORIES) * NAMES;
                    (first..first + NAMES).for_each(|of| forget(client, Key::Name(of)));
                    give_up_names(client, number_of(*parent));
                }
            }
            if client.dirty_names.is_empty() {
                client.recalled.push(recall.id);
            } else {
                // What was changed ahead may be of it.
                client.flushing_names.push(recall.id);
            }
        }
        for (of, value) in flush {
            self.call(to, Ask::Flush(of, value));
        }
        if !self.client(to).flushing_names.is_empty() {
            self.flush_names(to);
        }
    }
}

/// Names in a directory are not changed ahead any more.
fn give_up_names(client: &mut Client, directory: u64) {
    client.writes.remove(&directory);
    bump(client, Key::Attrs(directory));
}

fn bump(client: &mut Client, key: Key) {
    *client.forgotten.entry(key).or_insert(0) += 1;
}

fn forget(client: &mut Client, key: Key) {
    client.cache.remove(&key);
    bump(client, key);
}
