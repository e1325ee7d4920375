//! What an operator asks of a storage server.
//!
//! Never makes data unreadable without being forced to. A refusal is a sentence that says what to do.

use dgfs_proto::ids::ServerId;
use dgfs_proto::limits::LABEL_BYTES_MAX;
use dgfs_proto::map::Standing;
use dgfs_proto::meta::ServerCommand;

use crate::cluster::{Cluster, WEIGHT_MAX};
use crate::placement::assign;

impl Cluster {
    /// Carries a command out.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn command(&mut self, id: ServerId, command: &ServerCommand) -> Result<(), String> {
        if !self.members.contains_key(&id) {
            return Err(format!("there is no storage server {id}: `dgfs server ls` shows them"));
        }
        match command {
            ServerCommand::Drain => self.drain(id),
            ServerCommand::Undrain => self.set_standing(id, Standing::Active),
            ServerCommand::Remove { force } => self.remove(id, *force),
            ServerCommand::Label { label, zone, host, disk } => self.relabel(id, [label, zone, host, disk]),
            ServerCommand::Weight(weight) => self.set_weight(id, *weight),
        }?;
        self.assign_if_due();
        Ok(())
    }

    fn drain(&mut self, id: ServerId) -> Result<(), String> {
        let mut others = self.candidates();
        others.retain(|candidate| candidate.id != id);
        for class in self.classes.keys() {
            let apart = assign(1, *class, &[], &others).first().map_or(0, Vec::len);
            if apart < class.width() {
                return Err(format!(
                    "without storage server {id} only {apart} are left that lie apart, and {class} needs {}: add one first",
                    class.width()
                ));
            }
        }
        self.set_standing(id, Standing::Draining)
    }

    fn set_standing(&mut self, id: ServerId, standing: Standing) -> Result<(), String> {
        let Some(member) = self.members.get_mut(&id) else { return Ok(()) };
        if member.state.standing != standing {
            member.state.standing = standing;
            self.dirty.servers.insert(id);
            self.reassign = true;
            self.bump();
        }
        Ok(())
    }

    fn remove(&mut self, id: ServerId, force: bool) -> Result<(), String> {
        if self.holds_anything(id) && !force {
            return Err(format!(
                "storage server {id} still holds data: `dgfs server drain {id}` first and wait until it holds nothing; \
                 --force forgets it now, and what only it has is lost"
            ));
        }
        let up = self.members.get(&id).is_some_and(|member| member.state.up);
        if up && !force {
            return Err(format!("storage server {id} still runs: stop its daemon first, or it would join again"));
        }
        self.members.remove(&id);
        self.dirty.servers.insert(id);
        self.forget_holder(id);
        self.reassign = true;
        self.bump();
        self.assign_if_due();
        self.forget_extra(id);
        Ok(())
    }

    fn relabel(&mut self, id: ServerId, words: [&Option<String>; 4]) -> Result<(), String> {
        if words.iter().any(|word| word.as_ref().is_some_and(|word| word.len() > LABEL_BYTES_MAX)) {
            return Err(format!("a label has at most {LABEL_BYTES_MAX} bytes"));
        }
        let Some(member) = self.members.get_mut(&id) else { return Ok(()) };
        let before = member.state.labels.clone();
        let labels = &mut member.state.labels;
        let known = [&mut member.row.label, &mut labels.zone, &mut labels.host, &mut labels.disk];
        for (known, word) in known.into_iter().zip(words) {
            if let Some(word) = word {
                known.clone_from(word);
            }
        }
        member.state.named = true;
        self.reassign |= before != member.state.labels;
        self.dirty.servers.insert(id);
        self.bump();
        Ok(())
    }

    fn set_weight(&mut self, id: ServerId, weight: Option<u32>) -> Result<(), String> {
        if weight.is_some_and(|weight| weight > WEIGHT_MAX) {
            return Err(format!("a weight is at most {WEIGHT_MAX}"));
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.state.weight = weight;
            self.dirty.servers.insert(id);
            self.reassign = true;
            self.bump();
        }
        Ok(())
    }
}
