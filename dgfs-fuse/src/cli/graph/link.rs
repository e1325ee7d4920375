//! `dgfs link`: relations made by hand.
//!
//! Never decides which relations can be made: the mount does.

use serde_json::{Value, json};

use dgfs_proto::query::Relation;

use crate::cli::Failure;
use crate::cli::args::graph::LinkArgs;
use crate::cli::graph::ask::Ask as _;
use crate::cli::graph::places::{Links, Named};
use crate::cli::graph::{Ended, Outcome, misused, refused};

/// Runs the command.
pub(crate) fn run(args: &LinkArgs) -> Ended {
    let from = Named::new(&args.from, Links::Followed)?;
    let to = Named::new(&args.to, Links::Followed)?;
    let request = request(&from, &args.relation, &to, !args.remove)?;
    from.mount(Links::Followed)?.order(&request)?;
    Ok(Outcome::Done)
}

fn request(from: &Named, relation: &str, to: &Named, on: bool) -> Result<Value, Failure> {
    if Relation::parse(relation).is_none() {
        let all = Relation::ALL.map(Relation::as_str).join(", ");
        return Err(misused(format!("\"{relation}\" is no relation; expected one of {all}")));
    }
    if from.device != to.device {
        let (from, to) = (from.path.display(), to.path.display());
        return Err(refused(format!("{from} and {to} lie on different mounts: a relation is within one volume")));
    }
    Ok(json!({ "relate": { "from": from.ino, "relation": relation, "to": to.ino, "on": on } }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::request;
    use crate::cli::graph::places::Named;

    #[test]
    fn both_files_are_named_by_number_on_one_mount() {
        let named = |ino, device| Named { path: format!("f{ino}").into(), ino, device };
        let asked = request(&named(3, 1), "links-to", &named(5, 1), true).unwrap();
        assert_eq!(asked, json!({ "relate": { "from": 3, "relation": "links-to", "to": 5, "on": true } }));
        let failure = request(&named(3, 1), "likes", &named(5, 1), true).unwrap_err();
        assert_eq!(failure.code, 2);
        assert!(failure.sentence.contains("links-to, linked-from"), "{}", failure.sentence);
        let failure = request(&named(3, 1), "related", &named(5, 2), false).unwrap_err();
        assert!(failure.code == 3 && failure.sentence.starts_with("f3 and f5"), "{}", failure.sentence);
    }
}
