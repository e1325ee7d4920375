//! Who holds a partition: what changes when a server comes, goes, or has caught up.
//!
//! Never lets go of a copy that may be the last one. Always: `changed` of a placement moves to the new epoch whenever the servers
//! that a write goes to may differ from before, so that a writer with an older map is refused.

use std::collections::{BTreeMap, BTreeSet};

use dgfs_proto::class::Class;
use dgfs_proto::ids::{Epoch, Partition, ServerId};
use dgfs_proto::map::{Extra, Holder, Placement};
use dgfs_proto::meta::Filled;

use crate::cluster::Cluster;
use crate::placement::{Candidate, assign, stand_in};

/// Others that may hold some of one partition; the oldest that never held everything goes first.
const EXTRAS_MAX: usize = 24;

impl Cluster {
    /// Notes that a server is up or down, for everything it holds.
    pub(super) fn set_up(&mut self, id: ServerId, up: bool, now_ms: u64) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if member.state.up == up {
            return;
        }
        let lasted = now_ms.saturating_sub(member.state.changed_ms);
        member.state.up = up;
        member.state.changed_ms = now_ms;
        if up {
            member.state.down_ms += lasted;
        } else {
            member.state.downs += 1;
        }
        self.dirty.servers.insert(id);
        let epoch = self.next_epoch();
        let mut touched = Vec::new();
        for (class, placements) in &mut self.classes {
            for (partition, placement) in (0_u16..).zip(placements) {
                if note(placement, id, up, epoch) {
                    touched.push((*class, Partition(partition)));
                }
            }
        }
        self.epoch = epoch;
        self.dirty.classes.extend(touched.iter().map(|(class, _)| *class));
        self.ensure_stand_ins(&touched);
    }

    /// Members of these partitions that are down get somebody who takes their writes, if anybody can.
    fn ensure_stand_ins(&mut self, partitions: &[(Class, Partition)]) {
        let epoch = self.epoch;
        let answering = self.members.values().filter(|member| member.state.up);
        let up: BTreeSet<ServerId> = answering.map(|member| member.row.id).collect();
        let known: BTreeMap<ServerId, Candidate> =
            self.members.values().map(|member| (member.row.id, member.candidate())).collect();
        let mut candidates = self.candidates();
        candidates.retain(|candidate| up.contains(&candidate.id));
        for (class, partition) in partitions {
            let Some(placement) = self.placement_mut(*class, *partition) else { continue };
            for (place, member) in (0_u8..).zip(placement.members.clone()) {
                if up.contains(&member.server) || has_stand_in(placement, place, &up) {
                    continue;
                }
                let members = placement.members.iter().map(|holder| holder.server);
                let extras = placement.extras.iter().map(|extra| extra.server);
                let taken = members.chain(extras).filter(|server| *server != member.server);
                let taken: Vec<&Candidate> = taken.filter_map(|server| known.get(&server)).collect();
                if let Some(server) = stand_in(*class, *partition, &taken, &candidates) {
                    placement.extras.push(Extra { server, place, until: Epoch(0) });
                    placement.changed = epoch;
                }
            }
        }
    }

    fn is_up(&self, id: ServerId) -> bool {
        self.members.get(&id).is_some_and(|member| member.state.up)
    }

    fn placement_mut(&mut self, class: Class, partition: Partition) -> Option<&mut Placement> {
        self.classes.get_mut(&class)?.get_mut(partition.0 as usize)
    }

    /// Members report partitions of which they hold everything. Reports by an old map are passed over.
    pub(crate) fn filled(&mut self, id: ServerId, filled: &[Filled]) {
        if !self.is_up(id) {
            return;
        }
        let mut any = false;
        for Filled { class, partition, since } in filled {
            let Some(placement) = self.placement_mut(*class, *partition) else { continue };
            let reported = |holder: &&mut Holder| holder.server == id && holder.since == *since && !holder.full;
            let Some(holder) = placement.members.iter_mut().find(reported) else { continue };
            holder.full = true;
            release_extras(placement, class.width());
            any = true;
            self.dirty.classes.insert(*class);
        }
        if any {
            self.bump();
        }
    }

    /// Assigns what is wanted, when the candidates changed and there are enough to begin with.
    pub(super) fn assign_if_due(&mut self) {
        let fresh = self.classes.is_empty();
        if !self.reassign || (fresh && self.members.len() < self.initial_servers as usize) {
            return;
        }
        self.reassign = false;
        let candidates = self.candidates();
        let mut changed = false;
        for class in self.wanted.clone() {
            changed |= self.assign_class(class, &candidates);
        }
        if changed {
            self.bump();
            let moved = |placement: &Placement| placement.changed == self.epoch;
            let mut partitions = Vec::new();
            for (class, placements) in &self.classes {
                let of_class = (0_u16..).zip(placements).filter(|(_, placement)| moved(placement));
                partitions.extend(of_class.map(|(partition, _)| (*class, Partition(partition))));
            }
            self.ensure_stand_ins(&partitions);
        }
    }

    fn assign_class(&mut self, class: Class, candidates: &[Candidate]) -> bool {
        let epoch = self.next_epoch();
        let fresh = !self.classes.contains_key(&class);
        let placements =
            self.classes.entry(class).or_insert_with(|| vec![Placement::default(); usize::from(self.partitions)]);
        let servers = |placement: &Placement| placement.members.iter().map(|holder| holder.server).collect();
        let before: Vec<Vec<ServerId>> = placements.iter().map(servers).collect();
        let after = assign(self.partitions, class, &before, candidates);
        let mut changed = fresh;
        for ((placement, old), new) in placements.iter_mut().zip(before).zip(after) {
            if old != new {
                // Nothing was ever written to a class that is new: everybody has all of it.
                hand_over(placement, &new, fresh, epoch);
                release_extras(placement, class.width());
                changed = true;
            }
        }
        if changed {
            self.dirty.classes.insert(class);
        }
        changed
    }

    /// Takes a server out of everything it holds, whatever is lost with it.
    pub(super) fn forget_holder(&mut self, id: ServerId) {
        let epoch = self.next_epoch();
        for (class, placements) in &mut self.classes {
            for placement in placements {
                if placement.holds(id) {
                    placement.extras.retain(|extra| extra.server != id);
                    placement.changed = epoch;
                    self.dirty.classes.insert(*class);
                }
            }
        }
    }

    /// As [`Self::forget_holder`], after its places were assigned to others.
    pub(super) fn forget_extra(&mut self, id: ServerId) {
        for (class, placements) in &mut self.classes {
            for placement in placements.iter_mut().filter(|placement| placement.holds(id)) {
                placement.extras.retain(|extra| extra.server != id);
                self.dirty.classes.insert(*class);
            }
        }
        self.bump();
    }
}

/// A holder came up or went down; true when that concerns the partition.
fn note(placement: &mut Placement, id: ServerId, up: bool, epoch: Epoch) -> bool {
    let mut concerned = placement.extras.iter().any(|extra| extra.server == id);
    for member in placement.members.iter_mut().filter(|member| member.server == id) {
        concerned = true;
        if up {
            member.since = epoch;
        } else {
            member.full = false;
        }
    }
    if concerned {
        placement.changed = epoch;
    }
    concerned
}

fn has_stand_in(placement: &Placement, place: u8, up: &BTreeSet<ServerId>) -> bool {
    let is_member = |server: ServerId| placement.members.iter().any(|holder| holder.server == server);
    placement.extras.iter().any(|extra| extra.place == place && up.contains(&extra.server) && !is_member(extra.server))
}

/// The partition's members become `servers`; who leaves stays as an extra until all members are full.
fn hand_over(placement: &mut Placement, servers: &[ServerId], full: bool, epoch: Epoch) {
    let old = std::mem::take(&mut placement.members);
    for (place, server) in servers.iter().enumerate() {
        let stays = old.get(place).filter(|holder| holder.server == *server);
        placement.members.push(stays.copied().unwrap_or(Holder { server: *server, full, since: epoch }));
    }
    for (place, holder) in (0_u8..).zip(old) {
        let stays = servers.get(usize::from(place)) == Some(&holder.server);
        if !stays {
            let until = if holder.full { epoch } else { Epoch(0) };
            placement.extras.push(Extra { server: holder.server, place, until });
        }
    }
    placement.changed = epoch;
    while placement.extras.len() > EXTRAS_MAX {
        let least = placement.extras.iter().position(|extra| extra.until.0 == 0).unwrap_or(0);
        placement.extras.remove(least);
    }
}

/// Once every member holds everything, nobody else needs to.
fn release_extras(placement: &mut Placement, width: usize) {
    if placement.members.len() >= width && placement.members.iter().all(|member| member.full) {
        placement.extras.clear();
    }
}
