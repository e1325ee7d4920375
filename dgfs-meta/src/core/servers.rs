//! Storage servers and the cluster map: requests in, rows out.
//!
//! Never decides who holds what: `cluster` does. Always: what changed there goes into the batch that the answer waits for.

use std::sync::Arc;

use dgfs_proto::attr::Timestamp;
use dgfs_proto::ids::{ChunkVersion, ServerId};
use dgfs_proto::limits::LIST_MAX;
use dgfs_proto::map::ClusterMap;
use dgfs_proto::meta::{LiveQuery, MetaReply, ServerCommand, ServerRequest};
use dgfs_proto::status::Status;

use crate::cluster::{Joining, Space};
use crate::core::tx::{Step, Stop, Tx};
use crate::core::{Core, Outcome, policy};
use crate::rows::{Row, SettingsRow, key};

/// Numbers handed to a storage server at once.
const NUMBERS_MAX: u32 = 4096;

const fn refused(status: Status) -> Outcome {
    Outcome::Answer { reply: MetaReply::Refused(status), ticket: 0 }
}

impl Core {
    /// The map as clients see it.
    pub(crate) fn map(&self) -> ClusterMap {
        self.cluster.map(self.settings.class, self.settings.policies)
    }

    /// Answers a storage daemon; `durable` is the newest batch whose garbage may be dropped.
    pub(crate) fn server_request(&mut self, now: Timestamp, request: &ServerRequest, durable: u64) -> Outcome {
        match request {
            ServerRequest::Join {
                identity,
                id,
                address,
                label,
                labels,
                disk,
                capacity_bytes,
                used_bytes,
                free_bytes,
            } => {
                let space = Space {
                    disk: *disk,
                    capacity_bytes: *capacity_bytes,
                    used_bytes: *used_bytes,
                    free_bytes: *free_bytes,
                };
                let joining = Joining {
                    identity: *identity,
                    id: *id,
                    address: address.clone(),
                    label: label.clone(),
                    labels: labels.clone(),
                    space,
                };
                self.join(now, joining)
            }
            ServerRequest::Beat { .. } => self.server_beat(now, request, durable),
            ServerRequest::CheckLive(questions) => self.check_live(now, questions),
            ServerRequest::CheckMoves(questions) => self.check_moves(now, questions),
            ServerRequest::CheckCompression(questions) => self.check_compression(now, questions),
            ServerRequest::Numbers { count } => self.numbers_for_moves(*count),
            ServerRequest::Move { owner, index, from, to, allocated } => {
                let moved = self.run(now, None, |tx| policy::move_slot(tx, (*owner, *index), *from, (*to, *allocated)));
                match moved {
                    Ok(((), ticket, _)) => Outcome::Answer { reply: MetaReply::Done, ticket },
                    Err(Stop::Need(need)) => Outcome::Need(need),
                    Err(Stop::Refused(status)) => refused(status),
                }
            }
        }
    }

    fn join(&mut self, now: Timestamp, joining: Joining) -> Outcome {
        let joined = self.cluster.join(now.as_ms(), joining);
        // The first server of a volume may be all that was waited for.
        let _assigned = self.cluster.want(self.settings.class);
        self.store_cluster();
        match joined {
            Ok(id) => {
                let epoch = self.cluster.epoch();
                let reply = MetaReply::Joined { id, chunk_bytes: self.volume.chunk_bytes, epoch };
                Outcome::Answer { reply, ticket: self.ticket }
            }
            Err(status) => refused(status),
        }
    }

    fn server_beat(&mut self, now: Timestamp, request: &ServerRequest, durable: u64) -> Outcome {
        let ServerRequest::Beat {
            id,
            disk,
            capacity_bytes,
            used_bytes,
            free_bytes,
            collected,
            filled,
            upkeep,
            sessions,
        } = request
        else {
            return refused(Status::Malformed);
        };
        if collected.len() > LIST_MAX || filled.len() > LIST_MAX {
            return refused(Status::Malformed);
        }
        let space =
            Space { disk: *disk, capacity_bytes: *capacity_bytes, used_bytes: *used_bytes, free_bytes: *free_bytes };
        if let Err(status) = self.cluster.beat(now.as_ms(), *id, space, *upkeep) {
            return refused(status);
        }
        self.cluster.filled(*id, filled);
        let ticket = self.store_cluster();
        self.garbage_collected(*id, collected);
        let garbage = self.hand_out_garbage(*id, durable);
        let epoch = self.cluster.epoch();
        // What follows from it is only about old data.
        let policies = if self.settings.recompressed.is_empty() { 0 } else { self.settings.policies };
        Outcome::Answer {
            reply: MetaReply::Beat { epoch, policies, garbage, sessions: self.living_sessions(*sessions) },
            ticket,
        }
    }

    /// Time passes for the cluster.
    pub(crate) fn tick_cluster(&mut self, now: Timestamp) {
        self.cluster.tick(now.as_ms());
        self.follow_targets(now.as_ms());
        self.store_cluster();
        self.forget_garbage_of_absent();
    }

    /// Carries out what an operator asks of a server.
    pub(crate) fn server_command(&mut self, id: ServerId, command: &ServerCommand) -> Outcome {
        let done = self.cluster.command(id, command);
        let ticket = self.store_cluster();
        match done {
            Ok(()) => Outcome::Answer { reply: MetaReply::Done, ticket },
            Err(sentence) => Outcome::Answer { reply: MetaReply::Denied(sentence), ticket: 0 },
        }
    }

    /// Puts what changed in the cluster into the next batch; the batch, or 0 when nothing did.
    pub(crate) fn store_cluster(&mut self) -> u64 {
        let dirty = self.cluster.take_dirty();
        let moved = self.counters.map_epoch != self.cluster.epoch();
        if dirty.servers.is_empty() && dirty.classes.is_empty() && !moved {
            return 0;
        }
        self.counters.map_epoch = self.cluster.epoch();
        self.counters.next_server = self.cluster.next_server();
        self.counters_dirty = true;
        // Not through the cache of rows: the cluster itself is what is in memory of them.
        for id in dirty.servers {
            let member = self.cluster.member(id);
            let server = member.map(|member| Arc::new(Row::Server(member.row.clone())));
            let state = member.map(|member| Arc::new(Row::Member(member.state.clone())));
            self.pending.rows.insert(key::server(id), server);
            self.pending.rows.insert(key::member(id), state);
        }
        for class in dirty.classes {
            let row = self.cluster.class_map(class).map(|map| Arc::new(Row::Class(map)));
            self.pending.rows.insert(key::class(class), row);
        }
        self.ticket
    }

    fn check_live(&mut self, now: Timestamp, questions: &[LiveQuery]) -> Outcome {
        if questions.len() > LIST_MAX {
            return refused(Status::Malformed);
        }
        let granted: Vec<bool> =
            questions.iter().map(|question| self.is_granted_to_living(question.id.version.get())).collect();
        let asked = self.run(now, None, |tx| {
            let keys: Vec<_> = questions.iter().map(|question| key::slots(question.owner, question.index)).collect();
            tx.want(&keys)?;
            let mut live = Vec::with_capacity(questions.len());
            for (question, granted) in questions.iter().zip(granted) {
                live.push(granted || is_referred(tx, question)?);
            }
            Ok(live)
        });
        match asked {
            Ok((live, ticket, _)) => Outcome::Answer { reply: MetaReply::Live(live), ticket },
            Err(Stop::Need(need)) => Outcome::Need(need),
            Err(Stop::Refused(status)) => refused(status),
        }
    }

    fn check_moves(&mut self, now: Timestamp, questions: &[LiveQuery]) -> Outcome {
        self.check_held(now, questions, policy::wanted_class, MetaReply::Moves)
    }

    fn check_compression(&mut self, now: Timestamp, questions: &[LiveQuery]) -> Outcome {
        self.check_held(now, questions, policy::wanted_compression, MetaReply::Compressions)
    }

    /// Asks the policies about each of these versions.
    fn check_held<T>(
        &mut self,
        now: Timestamp,
        questions: &[LiveQuery],
        ask: fn(&mut Tx<'_>, &SettingsRow, &LiveQuery) -> Step<Option<T>>,
        answer: fn(Vec<Option<T>>) -> MetaReply,
    ) -> Outcome {
        if questions.len() > LIST_MAX {
            return refused(Status::Malformed);
        }
        let settings = Arc::clone(&self.settings);
        let asked = self.run(now, None, |tx| {
            let keys: Vec<_> = questions.iter().map(|question| key::slots(question.owner, question.index)).collect();
            tx.want(&keys)?;
            questions.iter().map(|question| ask(tx, &settings, question)).collect()
        });
        match asked {
            Ok((answers, ticket, _)) => Outcome::Answer { reply: answer(answers), ticket },
            Err(Stop::Need(need)) => Outcome::Need(need),
            Err(Stop::Refused(status)) => refused(status),
        }
    }

    fn numbers_for_moves(&mut self, count: u32) -> Outcome {
        let count = u64::from(count.min(NUMBERS_MAX));
        let chunk = self.counters.next_chunk;
        let Some(version) = ChunkVersion::new(self.counters.next_version) else { return refused(Status::NoSpace) };
        self.counters.next_chunk += count;
        self.counters.next_version += count;
        self.counters_dirty = true;
        Outcome::Answer { reply: MetaReply::Granted { chunk, version }, ticket: self.ticket }
    }

    /// What may be changed of the volume has changed: everybody hears of it by the map.
    pub(crate) fn store_settings(&mut self) {
        Arc::make_mut(&mut self.settings).policies += 1;
        self.cluster.bump();
        self.pending.rows.insert(key::SETTINGS, Some(Arc::new(Row::Settings(SettingsRow::clone(&self.settings)))));
        self.store_cluster();
    }
}

fn is_referred(tx: &mut Tx<'_>, question: &LiveQuery) -> Step<bool> {
    let slot = tx.slot(question.owner, question.index)?;
    let (chunk, version) = (question.id.chunk.whole(), question.id.version);
    let own = slot.is_some_and(|slot| slot.chunk == chunk && slot.version == version);
    Ok(own || tx.shared_count(version)?.is_some())
}
