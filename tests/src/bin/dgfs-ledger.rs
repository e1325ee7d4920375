//! The writers' process of crash tests: see `dgfs_tests::ledger`.
//!
//! Never started by hand.

fn main() {
    dgfs_tests::ledger::agent::serve();
}
