//! The process of those who change files and tags while everything is killed: see `dgfs_tests::fire`.
//!
//! Never started by hand.

fn main() {
    dgfs_tests::fire::agent::serve();
}
