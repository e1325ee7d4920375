//! The harness of the tests: real mounts, real clusters, real faults.
//!
//! Never mocks and never skips: what is missing on the machine (`/dev/fuse`, `redis-server`, the right to mount) is a panic
//! with a sentence. What a test started is gone after it: unmounted, killed and removed, also after a panic; what a killed
//! test run left is swept by the next one.
//!
//! In reading order: [`scratch`] directories, [`process`]es, the [`program`] under test, [`mount`]s, [`cluster`]s, power
//! cuts ([`power`]), [`network`]s whose links are cut and clusters [`spread`] over them, [`neo4j`] servers, system calls ([`sys`]), randomness ([`rng`]), mounts
//! whose numbers are read ([`watched`]), files of [`known`] content, the [`ledger`] of what was acknowledged, the [`load`] that
//! reads while it writes, the [`fire`] under which tags are changed, the [`edges`] of the graph
//! that comes of it, [`http`] requests, [`prometheus`] and its neighbours, clusters that are [`monitored`], and the [`faults`] that must be seen: of a
//! [`faulty_disk`], of bits that [`flip`], and others.

pub mod cluster;
pub mod edges;
pub mod faults;
pub mod faulty_disk;
pub mod fire;
pub mod flip;
pub mod http;
pub mod known;
pub mod ledger;
pub mod load;
pub mod monitored;
pub mod mount;
pub mod neo4j;
pub mod network;
pub mod notify;
mod peer;
pub mod power;
pub mod process;
pub mod program;
pub mod prometheus;
pub mod rng;
pub mod scratch;
pub mod spread;
pub mod sys;
pub mod watched;
