//! Changes that a client kept back, over a real engine.

use std::sync::atomic::Ordering;

use dgfs_proto::attr::Timestamp;
use dgfs_proto::ids::{Ino, OpId};
use dgfs_proto::limits::KEPT_BACK_MAX;
use dgfs_proto::meta::{
    Caller, KeptAnswer, KeptBack, LockFamily, MetaReply, MetaRequest, Mutation, NewNode, RemoveKind, SetAttr, digest,
};
use dgfs_proto::status::Status;

use super::{Bench, name, set};

fn make(text: &str, ino: Option<Ino>) -> Mutation {
    let (caller, node) = (Caller { uid: 0, gid: 0 }, NewNode::File);
    Mutation::Make { parent: Ino::ROOT, name: name(text), node, mode: 0o644, umask: 0, caller, open: false, ino }
}

fn remove(text: &str) -> Mutation {
    Mutation::Remove { parent: Ino::ROOT, name: name(text), kind: RemoveKind::Unlink }
}

fn kept(op: u64, mutation: Mutation) -> KeptBack {
    KeptBack { op: OpId(op), at: Timestamp { secs: 5, nanos: 6 }, mutation, expected: 0 }
}

impl Bench {
    async fn grant(&self) -> Ino {
        match self.mutate(Mutation::GrantInodes { count: 10 }).await {
            Ok(MetaReply::InodesGranted(first)) => first,
            other => panic!("a grant of inodes answered {other:?}"),
        }
    }

    async fn keep(&self, changes: &[KeptBack]) -> Result<Vec<KeptAnswer>, Status> {
        match self.call(MetaRequest::KeptBack { acked: OpId(0), changes: changes.to_vec() }).await {
            MetaReply::KeptBack(answers) => Ok(answers),
            MetaReply::Refused(status) => Err(status),
            other => panic!("changes kept back answered {other:?}"),
        }
    }
}

/// An answer that was not expected.
fn other(answer: &KeptAnswer) -> &MetaReply {
    if let KeptAnswer::Other(reply) = answer { reply } else { panic!("{answer:?}") }
}

fn nth(first: Ino, at: u64) -> Ino {
    Ino::new(first.get() + at).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_kept_back_are_applied_once_also_by_a_writer_that_takes_over() {
    let bench = Bench::new(false).await;
    let first = bench.grant().await;
    let changes = [kept(100, make("a", Some(first))), kept(101, make("b", Some(nth(first, 1))))];
    let answers = bench.keep(&changes).await.unwrap();
    let MetaReply::Named(named) = other(&answers[0]) else { panic!("{answers:?}") };
    assert_eq!((named.ino, named.attrs[0].ctime), (first, changes[0].at), "the client chose number and time");
    bench.remove("a").await.unwrap();
    // The answer was lost: the same again, here and at the next writer.
    assert_eq!(bench.keep(&changes).await.unwrap(), answers);
    assert_eq!(bench.names().await, set(&["b"]));
    let bench = bench.taken_over().await;
    assert_eq!(bench.keep(&changes).await.unwrap(), answers);
    assert_eq!(bench.names().await, set(&["b"]), "a removed file came back");
    // What comes as expected is said so, and not again to who asks again: it may have changed since.
    let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    let chmod = kept(102, Mutation::SetAttr { ino: nth(first, 1), set });
    let answers = bench.keep(std::slice::from_ref(&chmod)).await.unwrap();
    let again = KeptBack { op: OpId(103), expected: digest(other(&answers[0])), ..chmod };
    assert_eq!(bench.keep(std::slice::from_ref(&again)).await.unwrap(), [KeptAnswer::Expected]);
    assert_eq!(bench.keep(&[again]).await.unwrap(), [KeptAnswer::Unkept]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_kept_back_is_refused_and_changes_nothing() {
    let bench = Bench::new(false).await;
    bench.make("file", false).await.unwrap();
    let first = bench.grant().await;
    assert!(bench.keep(&[kept(100, make("a", Some(nth(first, 5))))]).await.is_ok());
    let set_size = SetAttr { size: Some(0), ..SetAttr::default() };
    let unlock = Mutation::UnlockOwner { ino: Ino::ROOT, family: LockFamily::Flock, owner: 1 };
    for (why, mutation) in [
        ("a number that was used", make("b", Some(nth(first, 5)))),
        ("a number before one that was used", make("b", Some(nth(first, 4)))),
        ("a number that was not granted", make("b", Some(nth(first, 10)))),
        ("the root's", make("b", Some(Ino::ROOT))),
        ("no number", make("b", None)),
        ("a size", Mutation::SetAttr { ino: first, set: set_size }),
        ("a lock", unlock),
    ] {
        assert_eq!(bench.keep(&[kept(101, mutation)]).await, Err(Status::Malformed), "{why}");
    }
    let by_itself = bench.mutate(make("b", Some(nth(first, 6)))).await;
    assert_eq!(by_itself, Err(Status::Malformed), "a number is chosen ahead only");
    let many: Vec<KeptBack> = (0..=KEPT_BACK_MAX as u64).map(|at| kept(200 + at, remove("none"))).collect();
    for (why, changes) in [
        ("none", &[][..]),
        ("too many", &many),
        ("not in their order", &[kept(202, remove("file")), kept(201, remove("a"))]),
    ] {
        assert_eq!(bench.keep(changes).await, Err(Status::Malformed), "{why}");
    }
    assert_eq!(bench.names().await, set(&["a", "file"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_engine_takes_of_what_was_kept_back_what_it_has_room_for() {
    let bench = Bench::new(false).await;
    bench.make("before", false).await.unwrap();
    let first = bench.grant().await;
    let refused = KeptAnswer::Other(Box::new(MetaReply::Refused(Status::NoSpace)));
    bench.engine.full.store(true, Ordering::Release);
    let changes = [kept(100, make("a", Some(first))), kept(101, remove("before"))];
    assert_eq!(bench.keep(&changes).await.unwrap(), [refused.clone(), refused.clone()]);
    assert_eq!(bench.names().await, set(&["before"]));
    bench.engine.full.store(false, Ordering::Release);
    bench.make_when_there_is_room("after").await;
    bench.engine.tight.store(true, Ordering::Release);
    let changes = [kept(102, make("b", Some(nth(first, 1)))), kept(103, remove("before"))];
    let answers = bench.keep(&changes).await.unwrap();
    assert_eq!(answers[0], refused);
    assert!(matches!(other(&answers[1]), MetaReply::Named(_)), "{answers:?}");
    assert_eq!(bench.names().await, set(&["after"]), "what removes has room");
}
