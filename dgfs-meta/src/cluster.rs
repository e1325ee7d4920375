//! The storage cluster: who is a member, who is up, who holds which partition of which class.
//!
//! Synchronous: never reads a clock, never calls anybody, never reads a row. Invariants: a server leaves a partition's
//! holders only when all members are full, or by force; a member is full only if it holds every committed version; the
//! epoch grows with each change that anybody may go by.

use std::collections::{BTreeMap, BTreeSet};

use dgfs_proto::chunk::Upkeep;
use dgfs_proto::class::Class;
use dgfs_proto::ids::{Epoch, ServerId, Uuid};
use dgfs_proto::limits::{LABEL_BYTES_MAX, PARTITIONS, SERVER_DOWN_MS, SERVERS_MAX};
use dgfs_proto::map::{ClassMap, ClusterMap, Holder, Labels, Placement, ServerInfo, Standing};
use dgfs_proto::status::Status;

use crate::placement::Candidate;
use crate::rows::{MemberRow, ServerRow};

mod commands;
mod holders;
mod status;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

/// A pause of this writer longer than this says nothing about servers that could not be heard meanwhile.
const TICK_GAP_MS: u64 = SERVER_DOWN_MS / 2;
/// Bytes of weight one: servers weigh by their capacity.
const WEIGHT_UNIT_BYTES: u64 = 1 << 30;
/// Largest weight: the sums of all weights stay far from overflow.
pub(crate) const WEIGHT_MAX: u32 = 1 << 20;

/// What a storage daemon says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Space {
    /// Names the file system it lies on; 0: not known.
    pub(crate) disk: u64,
    pub(crate) capacity_bytes: u64,
    pub(crate) used_bytes: u64,
    pub(crate) free_bytes: u64,
}

/// A storage server.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) row: ServerRow,
    pub(crate) state: MemberRow,
    /// Last heartbeat, milliseconds since 1970 on meta's clock.
    pub(crate) seen_ms: u64,
    pub(crate) space: Space,
    pub(crate) upkeep: Upkeep,
}

/// A storage daemon that wants to take part.
#[derive(Clone, Debug)]
pub(crate) struct Joining {
    pub(crate) identity: Uuid,
    pub(crate) id: Option<ServerId>,
    pub(crate) address: String,
    pub(crate) label: String,
    pub(crate) labels: Labels,
    pub(crate) space: Space,
}

/// What must be written to the engine.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Dirty {
    pub(crate) servers: BTreeSet<ServerId>,
    pub(crate) classes: BTreeSet<Class>,
}

/// The state.
#[derive(Debug)]
pub(crate) struct Cluster {
    epoch: Epoch,
    members: BTreeMap<ServerId, Member>,
    classes: BTreeMap<Class, Vec<Placement>>,
    /// Classes that data ask for.
    wanted: BTreeSet<Class>,
    next_server: u32,
    /// Servers that must have joined before anything is assigned.
    initial_servers: u32,
    /// How long a server may be down before its partitions move, and silent before it is down.
    grace_ms: u64,
    silence_ms: u64,
    /// The candidates changed since the last assignment.
    reassign: bool,
    ticked_ms: u64,
    partitions: u16,
    dirty: Dirty,
}

/// What a writer begins with.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) epoch: Epoch,
    pub(crate) next_server: u32,
    pub(crate) servers: Vec<ServerRow>,
    pub(crate) states: Vec<(ServerId, MemberRow)>,
    pub(crate) classes: Vec<ClassMap>,
    /// Of a volume from before there were classes.
    pub(crate) assignment: Vec<Vec<ServerId>>,
    /// How long a server may be down before its partitions move; configured, not stored.
    pub(crate) grace_ms: u64,
    /// How long a server may be silent before it is down.
    pub(crate) silence_ms: u64,
}

impl Cluster {
    pub(crate) fn new(stored: Stored, initial_servers: u32, now_ms: u64) -> Self {
        Self::with_partitions(stored, initial_servers, now_ms, PARTITIONS)
    }

    /// As [`Self::new`], of fewer partitions, for simulations.
    fn with_partitions(stored: Stored, initial_servers: u32, now_ms: u64, partitions: u16) -> Self {
        let mut states: BTreeMap<ServerId, MemberRow> = stored.states.into_iter().collect();
        let member = |row: ServerRow| {
            let state = states.remove(&row.id).unwrap_or_else(|| MemberRow::new(now_ms));
            (row.id, Member { row, state, seen_ms: now_ms, space: Space::default(), upkeep: Upkeep::default() })
        };
        let mut cluster = Self {
            epoch: stored.epoch,
            members: stored.servers.into_iter().map(member).collect(),
            classes: stored.classes.into_iter().map(|map| (map.class, map.placements)).collect(),
            wanted: BTreeSet::new(),
            next_server: stored.next_server,
            initial_servers: initial_servers.max(1),
            grace_ms: stored.grace_ms,
            silence_ms: stored.silence_ms,
            reassign: false,
            ticked_ms: now_ms,
            partitions,
            dirty: Dirty::default(),
        };
        cluster.wanted = cluster.classes.keys().copied().collect();
        if cluster.classes.is_empty() && !stored.assignment.is_empty() {
            cluster.adopt(&stored.assignment);
        }
        cluster
    }

    /// Takes over the one assignment of a volume from before there were classes.
    fn adopt(&mut self, assignment: &[Vec<ServerId>]) {
        let since = self.epoch;
        let holder = |server: &ServerId| Holder { server: *server, full: true, since };
        let placement = |servers: &Vec<ServerId>| Placement {
            members: servers.iter().map(holder).collect(),
            ..Placement::default()
        };
        self.classes.insert(Class::SINGLE, assignment.iter().map(placement).collect());
        self.wanted.insert(Class::SINGLE);
        self.dirty.classes.insert(Class::SINGLE);
    }

    /// The epoch of the map.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The next free server number.
    pub(crate) fn next_server(&self) -> u32 {
        self.next_server
    }

    /// A member.
    pub(crate) fn member(&self, id: ServerId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// All members.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// What changed since the last time.
    pub(crate) fn take_dirty(&mut self) -> Dirty {
        std::mem::take(&mut self.dirty)
    }

    /// Writes everything again: what was written may not have arrived.
    pub(crate) fn mark_all_dirty(&mut self) {
        self.dirty.servers = self.members.keys().copied().collect();
        self.dirty.classes = self.classes.keys().copied().collect();
    }

    /// The placements of a class, for its row.
    pub(crate) fn class_map(&self, class: Class) -> Option<ClassMap> {
        self.classes.get(&class).map(|placements| ClassMap { class, placements: placements.clone() })
    }

    /// Can chunks of this class be written?
    pub(crate) fn is_assigned(&self, class: Class) -> bool {
        self.classes.contains_key(&class)
    }

    /// Assigns a class, now or once there are servers. False while it is not.
    pub(crate) fn want(&mut self, class: Class) -> bool {
        if self.wanted.insert(class) {
            self.reassign = true;
        }
        if !self.is_assigned(class) {
            self.assign_if_due();
        }
        self.is_assigned(class)
    }

    /// The map as everybody sees it.
    pub(crate) fn map(&self, default_class: Class, policies: u64) -> ClusterMap {
        let classes = self.classes.iter();
        ClusterMap {
            epoch: self.epoch,
            servers: self.members.values().map(Member::info).collect(),
            classes: classes.map(|(class, all)| ClassMap { class: *class, placements: all.clone() }).collect(),
            default_class,
            policies,
        }
    }

    /// Something else that the map tells has changed.
    pub(crate) fn bump(&mut self) {
        self.epoch = self.next_epoch();
    }

    fn next_epoch(&self) -> Epoch {
        Epoch(self.epoch.0 + 1)
    }

    /// Takes a server in, or up again.
    ///
    /// # Errors
    /// `Forbidden` for a disk of another cluster, `Busy` when there are too many servers, `Malformed` for long words.
    pub(crate) fn join(&mut self, now_ms: u64, joining: Joining) -> Result<ServerId, Status> {
        let Labels { zone, host, disk } = &joining.labels;
        let words = [&joining.address, &joining.label, zone, host, disk];
        if words.iter().any(|word| word.len() > LABEL_BYTES_MAX) {
            return Err(Status::Malformed);
        }
        let id = match self.members.values().find(|member| member.row.identity == joining.identity) {
            Some(known) => known.row.id,
            // Its disk says a number that this cluster never gave to it.
            None if joining.id.is_some() => return Err(Status::Forbidden),
            None if self.members.len() >= SERVERS_MAX => return Err(Status::Busy),
            None => self.admit(now_ms, &joining),
        };
        self.update(id, now_ms, &joining);
        self.set_up(id, true, now_ms);
        self.welcome(id);
        self.assign_if_due();
        Ok(id)
    }

    fn admit(&mut self, now_ms: u64, joining: &Joining) -> ServerId {
        let id = ServerId(self.next_server);
        self.next_server += 1;
        let row = ServerRow { id, identity: joining.identity, address: String::new(), label: String::new() };
        // Not up yet: joining makes it so.
        let state = MemberRow { up: false, ..MemberRow::new(now_ms) };
        let member = Member { row, state, seen_ms: now_ms, space: joining.space, upkeep: Upkeep::default() };
        self.members.insert(id, member);
        self.reassign = true;
        id
    }

    fn update(&mut self, id: ServerId, now_ms: u64, joining: &Joining) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let before = (member.row.clone(), member.state.clone());
        let weight = member.weight();
        member.seen_ms = now_ms;
        member.space = joining.space;
        member.row.address.clone_from(&joining.address);
        if !member.state.named {
            member.row.label.clone_from(&joining.label);
        }
        for (known, said) in [
            (&mut member.state.labels.zone, &joining.labels.zone),
            (&mut member.state.labels.host, &joining.labels.host),
            (&mut member.state.labels.disk, &joining.labels.disk),
        ] {
            if !said.is_empty() && !member.state.named {
                known.clone_from(said);
            }
        }
        let moved = before.1.labels != member.state.labels || weight != member.weight();
        if before != (member.row.clone(), member.state.clone()) {
            self.dirty.servers.insert(id);
            self.bump();
        }
        self.reassign |= moved;
    }

    /// A server that was given up takes part again.
    fn welcome(&mut self, id: ServerId) {
        if let Some(member) = self.members.get_mut(&id)
            && member.state.standing == Standing::Out
        {
            member.state.standing = Standing::Active;
            self.dirty.servers.insert(id);
            self.reassign = true;
            self.bump();
        }
    }

    /// A heartbeat.
    ///
    /// # Errors
    /// `Stale` for a server that is not (any more) a member: it joins anew.
    pub(crate) fn beat(&mut self, now_ms: u64, id: ServerId, space: Space, upkeep: Upkeep) -> Result<(), Status> {
        let member = self.members.get_mut(&id).ok_or(Status::Stale)?;
        member.seen_ms = now_ms;
        member.space = space;
        member.upkeep = upkeep;
        self.set_up(id, true, now_ms);
        self.welcome(id);
        Ok(())
    }

    /// Time passes: servers that were silent are down, those down for long are given up, and partitions are assigned anew.
    pub(crate) fn tick(&mut self, now_ms: u64) {
        let gap = now_ms.saturating_sub(self.ticked_ms);
        self.ticked_ms = now_ms;
        if gap > TICK_GAP_MS {
            // This writer stood still: whom it could not hear has a whole silence left.
            for member in self.members.values_mut() {
                member.seen_ms = member.seen_ms.max(now_ms);
            }
        }
        let silent = |member: &Member| member.state.up && now_ms.saturating_sub(member.seen_ms) > self.silence_ms;
        let down: Vec<ServerId> =
            self.members.values().filter(|member| silent(member)).map(|member| member.row.id).collect();
        for id in down {
            self.set_up(id, false, now_ms);
        }
        let given_up = |member: &Member| {
            !member.state.up
                && member.state.standing == Standing::Active
                && now_ms.saturating_sub(member.state.changed_ms) > self.grace_ms
        };
        let out: Vec<ServerId> =
            self.members.values().filter(|member| given_up(member)).map(|member| member.row.id).collect();
        for id in out {
            if let Some(member) = self.members.get_mut(&id) {
                member.state.standing = Standing::Out;
                self.dirty.servers.insert(id);
                self.reassign = true;
                self.bump();
            }
        }
        self.assign_if_due();
    }

    fn candidates(&self) -> Vec<Candidate> {
        let takes_part = |member: &&Member| member.state.standing == Standing::Active && member.weight() > 0;
        self.members.values().filter(takes_part).map(Member::candidate).collect()
    }
}

impl Member {
    /// Its share: what an operator said, or by capacity. The unit is 1 GiB.
    pub(crate) fn weight(&self) -> u32 {
        let by_capacity = (self.space.capacity_bytes / WEIGHT_UNIT_BYTES).clamp(1, u64::from(WEIGHT_MAX));
        self.state.weight.unwrap_or_else(|| u32::try_from(by_capacity).unwrap_or(WEIGHT_MAX))
    }

    fn candidate(&self) -> Candidate {
        Candidate { id: self.row.id, weight: self.weight(), labels: self.state.labels.clone() }
    }

    fn info(&self) -> ServerInfo {
        ServerInfo {
            id: self.row.id,
            address: self.row.address.clone(),
            label: self.row.label.clone(),
            labels: self.state.labels.clone(),
            weight: self.weight(),
            standing: self.state.standing,
            up: self.state.up,
            capacity_bytes: self.space.capacity_bytes,
            used_bytes: self.space.used_bytes,
            free_bytes: self.space.free_bytes,
        }
    }
}
