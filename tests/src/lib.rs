//! The harness of the tests that run real daemons and real mounts.
