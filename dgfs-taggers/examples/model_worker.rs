//! A worker as `dgfs` and `dgfs-index` are one, for the tests of models.
//!
//! Never does more than they do: the words of its command line go to the worker.

fn main() -> std::io::Result<()> {
    dgfs_taggers::worker::start(&std::env::args_os().skip(1).collect::<Vec<_>>())
}
