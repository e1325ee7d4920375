//! What people and metrics are told of the cluster.
//!
//! Never changes it.

use dgfs_proto::availability::{Record, of_domains};
use dgfs_proto::class::{Class, Shape};
use dgfs_proto::ids::{ChunkId, ServerId};
use dgfs_proto::map::Placement;
use dgfs_proto::meta::{ClassHealth, ServerStatus};

use crate::cluster::{Cluster, Member};
use crate::placement::assign;

impl Cluster {
    /// How redundant the data of each class are.
    pub(crate) fn health(&self) -> Vec<ClassHealth> {
        self.classes.iter().map(|(class, placements)| self.health_of(*class, placements)).collect()
    }

    fn health_of(&self, class: Class, placements: &[Placement]) -> ClassHealth {
        let mut health = ClassHealth { class, full: 0, degraded: 0, under_minimum: 0, unavailable: 0, places_left: 0 };
        for placement in placements {
            health.places_left += u32::try_from(placement.members.len() - placement.full_members()).unwrap_or(0);
            let whole = placement.members.len() >= class.width()
                && placement.members.iter().all(|member| member.full && self.answers(member.server));
            let counter = match (whole, self.is_readable(class, placement), self.is_writable(class, placement)) {
                (true, _, _) => &mut health.full,
                (false, false, _) => &mut health.unavailable,
                (false, true, false) => &mut health.under_minimum,
                (false, true, true) => &mut health.degraded,
            };
            *counter += 1;
        }
        health
    }

    fn answers(&self, id: ServerId) -> bool {
        self.members.get(&id).is_some_and(|member| member.state.up)
    }

    /// Is everything committed to be had from those who answer?
    fn is_readable(&self, class: Class, placement: &Placement) -> bool {
        let everybody = placement.members.iter().map(|holder| holder.server);
        let mut everybody = everybody.chain(placement.extras.iter().map(|extra| extra.server));
        if everybody.all(|server| self.answers(server)) {
            return true;
        }
        let has_place = |place: u8| {
            let member = placement.members.get(usize::from(place));
            let member = member.is_some_and(|holder| holder.full && self.answers(holder.server));
            let mut extras = placement.extras.iter().filter(|extra| extra.place == place);
            member || extras.any(|extra| extra.until.0 > 0 && self.answers(extra.server))
        };
        let places = u8::try_from(class.width()).unwrap_or(u8::MAX);
        let there = (0..places).filter(|place| has_place(*place)).count();
        match class.shape() {
            Shape::Replicated(_) => there > 0,
            Shape::Coded { data, .. } => there >= usize::from(data),
        }
    }

    fn is_writable(&self, class: Class, placement: &Placement) -> bool {
        let up = placement.members.iter().filter(|holder| self.answers(holder.server)).count();
        let is_down =
            |place: u8| placement.members.get(usize::from(place)).is_some_and(|holder| !self.answers(holder.server));
        let places = u8::try_from(placement.members.len()).unwrap_or(u8::MAX);
        let stands_in =
            |place: u8| placement.extras.iter().any(|extra| extra.place == place && self.answers(extra.server));
        let stand_ins = (0..places).filter(|place| is_down(*place) && stands_in(*place)).count();
        up + stand_ins >= class.minimum()
    }

    /// The servers, for people.
    pub(crate) fn server_list(&self, now_ms: u64) -> Vec<ServerStatus> {
        self.members.values().map(|member| self.server_status(member, now_ms)).collect()
    }

    fn server_status(&self, member: &Member, now_ms: u64) -> ServerStatus {
        let id = member.row.id;
        let (mut places, mut extras, mut places_left) = (0, 0, 0);
        for placement in self.classes.values().flatten() {
            for holder in placement.members.iter().filter(|holder| holder.server == id) {
                places += 1;
                places_left += u64::from(!holder.full);
            }
            extras += placement.extras.iter().filter(|extra| extra.server == id).count() as u64;
        }
        let since_change = if member.state.up { 0 } else { now_ms.saturating_sub(member.state.changed_ms) };
        ServerStatus {
            info: member.info(),
            idle_ms: now_ms.saturating_sub(member.seen_ms),
            places,
            extras,
            places_left,
            known_ms: now_ms.saturating_sub(member.state.joined_ms),
            down_ms: member.state.down_ms + since_change,
            downs: member.state.downs,
            upkeep: member.upkeep,
        }
    }

    /// Does this server hold anything, or is it meant to?
    pub(crate) fn holds_anything(&self, id: ServerId) -> bool {
        self.classes.values().flatten().any(|placement| placement.holds(id))
    }

    /// Those who hold some of a chunk and answer: who must be told to drop it.
    pub(crate) fn holders_up(&self, chunk: ChunkId) -> Option<Vec<ServerId>> {
        let placement = self.classes.get(&chunk.class())?.get(chunk.partition().0 as usize)?;
        let everybody = placement.members.iter().map(|holder| holder.server);
        let everybody = everybody.chain(placement.extras.iter().map(|extra| extra.server));
        let mut up: Vec<ServerId> = everybody.filter(|server| self.answers(*server)).collect();
        up.sort_unstable();
        up.dedup();
        Some(up)
    }

    /// The servers that take part.
    pub(crate) fn candidate_ids(&self) -> Vec<ServerId> {
        self.candidates().into_iter().map(|candidate| candidate.id).collect()
    }

    /// The part of the time that each failure domain was up, worst first.
    pub(crate) fn domains_up(&self, now_ms: u64) -> Vec<f64> {
        let taking_part = self.candidate_ids();
        let list = self.server_list(now_ms);
        let records: Vec<Record<'_>> = list
            .iter()
            .filter(|server| taking_part.contains(&server.info.id))
            .map(|server| Record {
                domain: &server.info.labels.host,
                known_ms: server.known_ms,
                down_ms: server.down_ms,
            })
            .collect();
        of_domains(&records)
    }

    /// Classes that are assigned.
    pub(crate) fn classes_in_use(&self) -> usize {
        self.classes.len()
    }

    /// How many copies or shards of a class could lie apart from each other with the servers there are.
    pub(crate) fn domains_for(&self, class: Class) -> usize {
        let one = assign(1, class, &[], &self.candidates());
        one.first().map_or(0, Vec::len)
    }
}
