//! The engine's server, looked at every second; and where standbys meet the active writer.
//!
//! Never in the way of a commit: it has a connection and a bound in time of its own. Always: a standby says that it waits
//! for as long as it does.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tracing::debug;

use dgfs_proto::attr::Timestamp;
use dgfs_proto::limits::STANDBY_LOOK_MS;
use dgfs_proto::meta::Announce;

use crate::engine::{EngineError, EngineHealth};
use crate::service::watch::{Complaint, Health};
use crate::service::{MetaService, State};

/// How often it is looked at: two small commands, within the scrape interval of Prometheus.
const LOOK: Duration = Duration::from_millis(STANDBY_LOOK_MS);

impl MetaService {
    /// Says who this process is, and watches the engine's server until the service ends.
    pub(crate) fn watch_engine(self: &Arc<Self>) {
        let service = Arc::downgrade(self);
        tokio::spawn(watch(service));
    }

    async fn look(&self, complaint: &mut Complaint) {
        if self.engine.is_server() {
            let found = self.engine.health().await;
            self.note_health(found, complaint);
        }
        let state = self.state.lock().clone();
        let outcome = match state {
            State::Active(active) if !active.is_dead() => self.meet_standbys().await,
            State::Active(_) | State::Standby => self.wait_here().await,
            State::Closed => Ok(()),
        };
        if let Err(error) = outcome {
            debug!(%error, "standby and active writer did not hear of each other");
        }
    }

    fn note_health(&self, found: Result<EngineHealth, EngineError>, complaint: &mut Complaint) {
        let (found, why) = match found {
            Ok(health) => (Some(health), String::new()),
            Err(error) => (None, error.to_string()),
        };
        {
            let mut health = self.watch.health.lock();
            *health = Health { known: true, found: found.clone(), ..*health };
        }
        let active = self.active();
        if let Some(health) = &found {
            complaint.about(health.not_durable.as_deref());
        }
        if let Some(active) = active {
            match &found {
                Some(health) => {
                    active.engine_answers();
                    active.engine_is_durable(health.not_durable.as_deref());
                }
                None => active.engine_is_away(&why),
            }
        }
    }

    /// The active writer: who waits, and what its clock shows.
    async fn meet_standbys(&self) -> Result<(), EngineError> {
        self.watch.offset.set(0);
        let texts = self.engine.waiting(self.options.clock.wall_ms()).await?;
        let me = self.watch.me().map(|me| me.instance);
        let read = |text: &Vec<u8>| postcard::from_bytes::<Announce>(text).ok();
        let waits = |who: &Announce| Some(who.instance) != me && who.is_bounded();
        *self.watch.standbys.lock() = texts.iter().filter_map(read).filter(waits).collect();
        Ok(())
    }

    /// A standby.
    async fn wait_here(&self) -> Result<(), EngineError> {
        let Some(me) = self.watch.me() else { return Ok(()) };
        let text = postcard::to_extend(&me, Vec::new()).unwrap_or_default();
        let sent = self.options.clock.wall_ns();
        let time = self.engine.wait_here(text).await?;
        if let Some(ahead) = time.writer_ahead_ms {
            let theirs = Timestamp::from_ms(time.now_ms.saturating_add_signed(ahead));
            self.watch.offset.learn((sent, self.options.clock.wall_ns()), theirs);
        }
        Ok(())
    }
}

async fn watch(service: Weak<MetaService>) {
    let mut complaint = Complaint::default();
    loop {
        let Some(service) = service.upgrade() else { return };
        let mut closed = service.closed.subscribe();
        if *closed.borrow_and_update() {
            return;
        }
        service.look(&mut complaint).await;
        drop(service);
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = closed.changed() => return,
        }
    }
}
