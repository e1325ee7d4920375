//! Tests of the whole: the sources' rules first, then real processes, mounts and faults.
//!
//! Never mocks: every mount is the kernel's, every daemon a process, every Redis a real one. What a test needs and does not
//! find on the machine is a failure with a sentence, never a silent pass.

mod agreement;
mod ancestors;
mod bad_input;
mod chunks;
mod coherence;
mod command;
mod crash;
mod damage;
mod doctor;
mod faults;
mod files;
mod full_disk;
mod graph_commands;
mod hung_disk;
mod indexes;
mod layering;
mod local_cache;
mod logs;
mod model;
mod neo4j;
mod outage;
mod power;
mod prometheus;
mod relations;
mod round_trips;
mod storage;
mod systemd;
mod taggers;
mod tags;
mod tags_table;
mod tidy;
mod top;
mod two_mounts;
mod watching;
