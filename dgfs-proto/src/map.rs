//! The cluster map: which server holds which partition, by class and epoch.
//!
//! Never decides an assignment (the metadata service does). Always: who writes and who reads derive the same sets of
//! servers from the same map.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::class::Class;
use crate::ids::{ChunkId, Epoch, Partition, ServerId};

/// What an operator decided about a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Takes part.
    #[default]
    Active,
    /// Gives everything away, then may be removed.
    Draining,
    /// Was away for longer than the grace time: its partitions have moved. Active again when it returns.
    Out,
}

/// Where a server stands; empty words are unknown. Copies of a chunk never share the narrowest domain that there are
/// enough of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// A room, a site.
    pub zone: String,
    /// A machine.
    pub host: String,
    /// A disk of that machine.
    pub disk: String,
}

/// A storage daemon as the map knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Its number, for good.
    pub id: ServerId,
    /// `HOST:PORT` of its QUIC endpoint; empty for the in-process one.
    pub address: String,
    /// Its name, shown to people.
    pub label: String,
    /// Where it stands.
    pub labels: Labels,
    /// Its share relative to others; 0 holds nothing.
    pub weight: u32,
    /// What was decided about it.
    pub standing: Standing,
    /// Last heartbeat was in time.
    pub up: bool,
    /// Bytes its disk can hold.
    pub capacity_bytes: u64,
    /// Bytes used on its disk by chunks.
    pub used_bytes: u64,
    /// Bytes it can still take (reserve for deletes already subtracted).
    pub free_bytes: u64,
}

/// A server that a partition is assigned to. Its place in the list is the shard it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Which.
    pub server: ServerId,
    /// It holds every committed version of the partition; otherwise it is fetching what it lacks.
    pub full: bool,
    /// The epoch since which every write of the partition goes to it, unless it is down.
    pub since: Epoch,
}

/// A server that holds some of a partition beside its members: one that leaves it, or one that stands in for a member that is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extra {
    /// Which.
    pub server: ServerId,
    /// The member's place it left or stands in for.
    pub place: u8,
    /// It held every version committed before this epoch; 0: only some.
    pub until: Epoch,
}

/// Who holds one partition of one class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Those it is assigned to, by place. Shorter than the class is wide while there are too few servers.
    pub members: Vec<Holder>,
    /// Others that hold some of it. Empty once all members are full and up.
    pub extras: Vec<Extra>,
    /// The epoch at which the servers that a write goes to changed last: who writes by an older map is refused.
    pub changed: Epoch,
}

/// The placements of a class, by partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassMap {
    /// The class.
    pub class: Class,
    /// [`crate::limits::PARTITIONS`] of them.
    pub placements: Vec<Placement>,
}

/// Who holds what. Clients cache it; a newer epoch replaces it whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterMap {
    /// Grows with each change (not of usage numbers).
    pub epoch: Epoch,
    /// All servers, by id.
    pub servers: Vec<ServerInfo>,
    /// The classes in use. Empty until the volume has its servers.
    pub classes: Vec<ClassMap>,
    /// The class of new chunks where no directory says otherwise.
    pub default_class: Class,
    /// Grows when a directory's policy changes; 0: no directory has one.
    pub policies: u64,
}

/// Where a write of one chunk goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteSet {
    /// Servers and the place (shard) each one takes.
    pub targets: Vec<(ServerId, u8)>,
    /// There are at least as many as the class demands.
    pub enough: bool,
}

impl ClusterMap {
    /// Who holds a partition of a class; none while the class is not assigned.
    #[must_use]
    pub fn placement_of(&self, class: Class, partition: Partition) -> Option<&Placement> {
        let map = self.classes.iter().find(|map| map.class == class)?;
        map.placements.get(partition.0 as usize)
    }

    /// Who holds a chunk.
    #[must_use]
    pub fn placement(&self, chunk: ChunkId) -> Option<&Placement> {
        self.placement_of(chunk.class(), chunk.partition())
    }

    /// The server with this id.
    #[must_use]
    pub fn server(&self, id: ServerId) -> Option<&ServerInfo> {
        let at = self.servers.binary_search_by_key(&id, |server| server.id).ok()?;
        self.servers.get(at)
    }

    /// Does the server answer, as far as the map knows?
    #[must_use]
    pub fn is_up(&self, id: ServerId) -> bool {
        self.server(id).is_some_and(|server| server.up)
    }

    /// Where a write of `chunk` goes: its members that are up, and for each that is down its stand-in.
    #[must_use]
    pub fn write_set(&self, chunk: ChunkId) -> WriteSet {
        let Some(placement) = self.placement(chunk) else { return WriteSet { targets: Vec::new(), enough: false } };
        let mut targets = Vec::with_capacity(placement.members.len());
        for (place, member) in (0_u8..).zip(&placement.members) {
            if self.is_up(member.server) {
                targets.push((member.server, place));
                continue;
            }
            let is_taken = |server: ServerId| {
                placement.members.iter().any(|member| member.server == server)
                    || targets.iter().any(|(taken, _)| *taken == server)
            };
            let stands_in =
                |extra: &&Extra| extra.place == place && self.is_up(extra.server) && !is_taken(extra.server);
            // The last one is the newest: earlier ones with the same place are leaving.
            let stand_in = placement.extras.iter().rev().find(stands_in).map(|extra| (extra.server, place));
            targets.extend(stand_in);
        }
        let enough = targets.len() >= chunk.class().minimum();
        WriteSet { targets, enough }
    }

    /// Everybody who may hold shard `place` of a chunk, or a copy of it: full members that are up first, those that are down last.
    #[must_use]
    pub fn read_order(&self, placement: &Placement, place: Option<u8>) -> Vec<ServerId> {
        let mut ranked: Vec<(u8, ServerId)> = Vec::with_capacity(placement.members.len() + placement.extras.len());
        for (at, member) in (0_u8..).zip(&placement.members) {
            if place.is_none_or(|place| place == at) {
                let rank = if member.full { 0 } else { 2 };
                ranked.push((rank + if self.is_up(member.server) { 0 } else { 3 }, member.server));
            }
        }
        for extra in &placement.extras {
            if place.is_none_or(|place| place == extra.place) {
                ranked.push((1 + if self.is_up(extra.server) { 0 } else { 3 }, extra.server));
            }
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, server)| server).collect()
    }
}

impl Placement {
    /// Is `server` among those that hold some of it?
    #[must_use]
    pub fn holds(&self, server: ServerId) -> bool {
        self.place_of(server).is_some()
    }

    /// The place a member has, or an extra left or stands in for.
    #[must_use]
    pub fn place_of(&self, server: ServerId) -> Option<u8> {
        let member = (0_u8..).zip(&self.members).find(|(_, member)| member.server == server).map(|(place, _)| place);
        member.or_else(|| self.extras.iter().rev().find(|extra| extra.server == server).map(|extra| extra.place))
    }

    /// Does a list of what `source` holds name every version that `member` may lack? Later ones were written to `member` itself.
    #[must_use]
    pub fn suffices(&self, source: ServerId, member: &Holder) -> bool {
        let full = self.members.iter().any(|holder| holder.server == source && holder.full);
        let was_full = |extra: &Extra| extra.server == source && extra.until.0 > 0 && extra.until >= member.since;
        full || self.extras.iter().any(was_full)
    }

    /// Members that are full.
    #[must_use]
    pub fn full_members(&self) -> usize {
        self.members.iter().filter(|member| member.full).count()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::{ClassMap, ClusterMap, Extra, Holder, Labels, Placement, ServerInfo, Standing};
    use crate::class::Class;
    use crate::ids::{ChunkId, Epoch, ServerId};
    use alloc::string::String;

    fn server(id: u32, up: bool) -> ServerInfo {
        ServerInfo {
            id: ServerId(id),
            address: String::new(),
            label: String::new(),
            labels: Labels::default(),
            weight: 1,
            standing: Standing::Active,
            up,
            capacity_bytes: 0,
            used_bytes: 0,
            free_bytes: 0,
        }
    }

    /// Members 1, 2 and 3 of an r3 partition; 4 and 5 beside them.
    fn map(down: &[u32], not_full: &[u32], extras: &[(u32, u8, u64)]) -> (ClusterMap, ChunkId) {
        let class = Class::replicated(3).unwrap();
        let member = |id: u32| Holder { server: ServerId(id), full: !not_full.contains(&id), since: Epoch(5) };
        let extra =
            |(id, place, until): &(u32, u8, u64)| Extra { server: ServerId(*id), place: *place, until: Epoch(*until) };
        let placement = Placement {
            members: (1..=3).map(member).collect(),
            extras: extras.iter().map(extra).collect(),
            changed: Epoch(5),
        };
        let map = ClusterMap {
            epoch: Epoch(9),
            servers: (1..=5).map(|id| server(id, !down.contains(&id))).collect(),
            classes: vec![ClassMap { class, placements: vec![placement; 4096] }],
            default_class: class,
            policies: 0,
        };
        (map, ChunkId::of(class, 7).unwrap())
    }

    fn targets(map: &ClusterMap, chunk: ChunkId) -> (alloc::vec::Vec<(u32, u8)>, bool) {
        let set = map.write_set(chunk);
        (set.targets.iter().map(|(server, place)| (server.0, *place)).collect(), set.enough)
    }

    #[test]
    fn a_write_goes_to_members_that_are_up_and_to_the_newest_stand_in_of_each_that_is_down() {
        let (whole, chunk) = map(&[], &[], &[]);
        assert_eq!(targets(&whole, chunk), (vec![(1, 0), (2, 1), (3, 2)], true));
        let (one_down, chunk) = map(&[2], &[2], &[(4, 1, 0), (5, 1, 0)]);
        assert_eq!(targets(&one_down, chunk), (vec![(1, 0), (5, 1), (3, 2)], true));
        let (stand_in_down, chunk) = map(&[2, 5], &[2], &[(4, 1, 0), (5, 1, 0)]);
        assert_eq!(targets(&stand_in_down, chunk), (vec![(1, 0), (4, 1), (3, 2)], true));
        let (nobody_stands_in, chunk) = map(&[2], &[2], &[]);
        assert_eq!(targets(&nobody_stands_in, chunk), (vec![(1, 0), (3, 2)], true), "two of three are enough");
        let (two_down, chunk) = map(&[1, 2], &[1, 2], &[]);
        assert!(!targets(&two_down, chunk).1, "one is not");
        let (twice, chunk) = map(&[1, 2], &[1, 2], &[(4, 0, 0), (4, 1, 0)]);
        assert_eq!(targets(&twice, chunk), (vec![(4, 0), (3, 2)], true), "nobody counts twice");
        let unknown = ChunkId::of(Class::replicated(2).unwrap(), 7).unwrap();
        assert_eq!(targets(&whole, unknown), (vec![], false));
    }

    #[test]
    fn a_read_asks_full_members_that_are_up_first_and_those_that_are_down_last() {
        let (map, chunk) = map(&[1], &[1, 2], &[(4, 0, 0), (5, 1, 7)]);
        let placement = map.placement(chunk).unwrap();
        let order = |place| map.read_order(placement, place).iter().map(|id| id.0).collect::<alloc::vec::Vec<_>>();
        assert_eq!(order(None), [3, 4, 5, 2, 1]);
        assert_eq!(order(Some(0)), [4, 1]);
        assert_eq!(order(Some(2)), [3]);
    }

    #[test]
    fn a_list_is_enough_from_a_full_member_or_from_one_who_had_all_when_the_other_came() {
        let (map, chunk) = map(&[], &[1], &[(4, 0, 5), (5, 0, 4)]);
        let placement = map.placement(chunk).unwrap();
        let coming = placement.members[0];
        let enough = |id: u32| placement.suffices(ServerId(id), &coming);
        assert_eq!([1, 2, 3, 4, 5].map(enough), [false, true, true, true, false]);
        assert_eq!((placement.place_of(ServerId(4)), placement.place_of(ServerId(9))), (Some(0), None));
    }
}
