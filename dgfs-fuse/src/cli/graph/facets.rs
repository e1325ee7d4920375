//! `dgfs facets` and `dgfs explain`: what an expression's files have in common, and how it is answered.
//!
//! Never lists files.

use serde_json::{Value, json};

use crate::cli::args::graph::{ExplainArgs, FacetsArgs};
use crate::cli::graph::ask::Ask;
use crate::cli::graph::expression::Expression;
use crate::cli::graph::output::{Output, number, text};
use crate::cli::graph::places::mount_in;
use crate::cli::graph::{Ended, Outcome};

/// Runs `facets`.
pub(crate) fn run(args: &FacetsArgs, out: &mut Output<'_>) -> Ended {
    let request = request(&Expression::new(&args.expression)?, &args.prefix, args.limit);
    show(&mount_in(&args.place)?, &request, args.json, out)
}

/// A question for tags and values.
pub(crate) fn request(expression: &Expression, prefix: &str, limit: u32) -> Value {
    let Expression { text, utc_offset_secs } = expression;
    json!({ "facets": text, "prefix": prefix, "limit": limit, "utc-offset-secs": utc_offset_secs })
}

fn show(mount: &impl Ask, request: &Value, json: bool, out: &mut Output<'_>) -> Ended {
    let mut found = false;
    mount.ask(request, &mut |line| {
        found = true;
        match json {
            true => out.json(&line),
            false => out.named(&format!("{}\t", number(&line, "count")), text(&line, "name").as_bytes()),
        }
    })?;
    Ok(Outcome::of(found))
}

/// Runs `explain`.
pub(crate) fn explain(args: &ExplainArgs, out: &mut Output<'_>) -> Ended {
    let Expression { text, utc_offset_secs } = Expression::new(&args.expression)?;
    show_plan(&mount_in(&args.place)?, &json!({ "explain": text, "utc-offset-secs": utc_offset_secs }), args.json, out)
}

fn show_plan(mount: &impl Ask, request: &Value, json: bool, out: &mut Output<'_>) -> Ended {
    let line = mount.line(request)?;
    if json {
        out.json(&line)?;
    } else {
        for one in text(&line, "explain").lines() {
            out.line(one)?;
        }
        out.line(&format!("answered from the change log up to {}", number(&line, "seq")))?;
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{request, show, show_plan};
    use crate::cli::graph::Outcome;
    use crate::cli::graph::ask::testing::Fake;
    use crate::cli::graph::expression::Expression;
    use crate::cli::graph::output::testing::printed;

    #[test]
    fn counts_stand_before_tags() {
        let request = request(&Expression { text: "beach".to_owned(), utc_offset_secs: 0 }, "s", 5);
        assert_eq!(request, json!({ "facets": "beach", "prefix": "s", "limit": 5, "utc-offset-secs": 0 }));
        let answer = vec![json!({ "name": "sun", "count": 12 }), json!({ "name": "size=3", "count": 1 })];
        let fake = Fake::new([(request.clone(), answer.clone()), (request.clone(), answer), (request.clone(), vec![])]);
        let (text, ended) = printed(|out| show(&fake, &request, false, out));
        assert_eq!((text.as_str(), ended.unwrap()), ("12\tsun\n1\tsize=3\n", Outcome::Done));
        assert!(printed(|out| show(&fake, &request, true, out)).0.starts_with("{\"count\":12,"));
        assert_eq!(printed(|out| show(&fake, &request, false, out)).1.unwrap(), Outcome::Nothing);
    }

    #[test]
    fn a_plan_is_text_with_how_far_it_is_true() {
        let request = json!({ "explain": "a" });
        let fake = Fake::new([
            (request.clone(), vec![json!({ "explain": "one\ntwo\n", "seq": 8 })]),
            (request.clone(), vec![]),
        ]);
        let (text, _) = printed(|out| show_plan(&fake, &request, false, out));
        assert_eq!(text, "one\ntwo\nanswered from the change log up to 8\n");
        assert!(printed(|out| show_plan(&fake, &request, false, out)).1.is_err(), "no answer at all");
    }
}
