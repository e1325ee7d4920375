//! The writers' and readers' process of tests under load: see `dgfs_tests::load`.
//!
//! Never started by hand.

fn main() {
    dgfs_tests::load::agent::serve();
}
