//! Relations made by hand: below `@of`.
//!
//! Never makes or takes back what was computed.

use dgfs_proto::graph::{GraphAnswer, GraphRequest};
use dgfs_proto::ids::Ino;
use dgfs_proto::limits::GRAPH_PAGE_MAX;
use dgfs_proto::meta::Mutation;
use dgfs_proto::query::{Entry, Relation};
use dgfs_proto::status::Status;

use super::by_hand;
use crate::tags::lookup::View;

/// Who `source` is where a person made a relation.
const BY_HAND: &str = "user";

impl View<'_> {
    /// `ino` stands in `relation` to `of` from now on.
    pub(crate) async fn relate(&self, scope: Ino, of: &Entry, relation: Relation, ino: Ino) -> Result<(), Status> {
        let (hand, from_of) = by_hand(relation).ok_or(Status::NotPermitted)?;
        let of = self.inode_of(scope, of).await?;
        if of == ino {
            return Err(Status::Invalid);
        }
        if self.is_related_by_hand(of, relation, ino).await? {
            return Err(Status::Exists);
        }
        let (from, to) = if from_of { (of, ino) } else { (ino, of) };
        self.check_may_tag(from).await?;
        self.core.change_graph(Mutation::Relate { from, relation: hand, to, on: true }, &[from]).await
    }

    /// Takes it back, whoever of the two it was said of.
    pub(crate) async fn unrelate(&self, scope: Ino, of: &Entry, relation: Relation, ino: Ino) -> Result<(), Status> {
        let (hand, from_of) = by_hand(relation).ok_or(Status::NotPermitted)?;
        let of = self.inode_of(scope, of).await?;
        if !self.is_related_by_hand(of, relation, ino).await? {
            return Err(Status::NotPermitted);
        }
        let both_ways = matches!(relation, Relation::Versions | Relation::Related);
        let (from, to) = if from_of { (of, ino) } else { (ino, of) };
        self.check_may_tag(from).await?;
        let back = |from, to| Mutation::Relate { from, relation: hand, to, on: false };
        let first = self.core.change_graph(back(from, to), &[from]).await;
        if !both_ways {
            return first;
        }
        self.check_may_tag(to).await?;
        let second = self.core.change_graph(back(to, from), &[to]).await;
        // It was said of one of them at least.
        match (first, second) {
            (Err(Status::NotFound), second) => second,
            (first, Err(Status::NotFound)) => first,
            (first, second) => first.and(second),
        }
    }

    async fn is_related_by_hand(&self, of: Ino, relation: Relation, ino: Ino) -> Result<bool, Status> {
        let request = GraphRequest::Related { ino: of, limit: GRAPH_PAGE_MAX };
        let GraphAnswer::Related(related) = self.core.ask_graph(self.viewer, request).await?.answer else {
            return Err(Status::Malformed);
        };
        let wanted = relation.as_str();
        Ok(related.iter().any(|one| one.ino == ino && one.source == BY_HAND && one.relation == wanted))
    }
}
