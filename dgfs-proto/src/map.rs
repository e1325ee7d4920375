//! The cluster map: which server holds which partition, by epoch.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, Partition, ServerId};

/// A storage daemon as the map knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Its number, for good.
    pub id: ServerId,
    /// `HOST:PORT` of its QUIC endpoint; empty for the in-process one.
    pub address: String,
    /// Its label, shown to people.
    pub label: String,
    /// Last heartbeat was in time.
    pub up: bool,
    /// Bytes its disk can hold.
    pub capacity_bytes: u64,
    /// Bytes used on its disk by chunks.
    pub used_bytes: u64,
    /// Bytes it can still take (reserve for deletes already subtracted).
    pub free_bytes: u64,
}

/// Who holds what. Clients cache it; a newer epoch replaces it whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterMap {
    /// Grows with each change of servers or assignment (not of usage numbers).
    pub epoch: Epoch,
    /// All servers, by id.
    pub servers: Vec<ServerInfo>,
    /// For each partition its replicas, the first one preferred. Empty until the volume has its servers.
    pub assignment: Vec<Vec<ServerId>>,
}

impl ClusterMap {
    /// The replicas of `partition`; empty when the map is not assigned yet.
    #[must_use]
    pub fn replicas(&self, partition: Partition) -> &[ServerId] {
        self.assignment.get(partition.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// The server with this id.
    #[must_use]
    pub fn server(&self, id: ServerId) -> Option<&ServerInfo> {
        self.servers.iter().find(|server| server.id == id)
    }
}
