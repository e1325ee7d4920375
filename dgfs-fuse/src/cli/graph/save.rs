//! `dgfs save`: queries under a name.
//!
//! Never saves what cannot be read again: an expression is checked first. Never replaces a query that was not meant to be.

use serde_json::{Value, json};

use crate::cli::args::graph::SaveArgs;
use crate::cli::graph::ask::Ask;
use crate::cli::graph::expression::Expression;
use crate::cli::graph::output::{Output, text};
use crate::cli::graph::places::mount_in;
use crate::cli::graph::{Ended, Outcome, misused};

/// Runs the command.
pub(crate) fn run(args: &SaveArgs, out: &mut Output<'_>) -> Ended {
    if args.list {
        return list(&mount_in(&args.place)?, args.json, out);
    }
    let request = request(args)?;
    mount_in(&args.place)?.order(&request)?;
    Ok(Outcome::Done)
}

fn request(args: &SaveArgs) -> Result<Value, crate::cli::Failure> {
    let name = args.name.as_deref().ok_or_else(|| misused("expected a name"))?;
    if args.remove {
        return Ok(json!({ "save": name, "expression": null }));
    }
    let Expression { text, utc_offset_secs } = Expression::new(&args.expression)?;
    let replace = args.replace;
    Ok(json!({ "save": name, "expression": text, "replace": replace, "utc-offset-secs": utc_offset_secs }))
}

fn list(mount: &impl Ask, json: bool, out: &mut Output<'_>) -> Ended {
    let mut found = false;
    mount.ask(&json!({ "saved": true }), &mut |line| {
        found = true;
        match json {
            true => out.json(&line),
            false => {
                out.name(text(&line, "name").as_bytes())?;
                out.named("\t", text(&line, "expression").as_bytes())
            }
        }
    })?;
    Ok(Outcome::of(found))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{list, request};
    use crate::cli::args::graph::{SaveArgs, Where};
    use crate::cli::graph::Outcome;
    use crate::cli::graph::ask::testing::Fake;
    use crate::cli::graph::output::testing::printed;

    fn args(name: &str, expression: &[&str], remove: bool) -> SaveArgs {
        let expression = expression.iter().map(|word| (*word).to_owned()).collect();
        let place = Where::default();
        SaveArgs { name: Some(name.to_owned()), expression, remove, replace: false, list: false, place, json: false }
    }

    #[test]
    fn a_query_is_checked_before_it_is_saved() {
        let saved = request(&args("mine", &["a", "b"], false)).unwrap();
        assert_eq!((&saved["save"], &saved["expression"]), (&json!("mine"), &json!("a b")));
        assert_eq!(saved["replace"], json!(false));
        let replacing = SaveArgs { replace: true, ..args("mine", &["a"], false) };
        assert_eq!(request(&replacing).unwrap()["replace"], json!(true));
        assert_eq!(request(&args("mine", &["(a"], false)).unwrap_err().code, 2);
        assert_eq!(request(&args("mine", &[], true)).unwrap(), json!({ "save": "mine", "expression": null }));
    }

    #[test]
    fn names_and_expressions_are_listed() {
        let ask = json!({ "saved": true });
        let fake = Fake::new([(ask.clone(), vec![json!({ "name": "n", "expression": "a b" })]), (ask, vec![])]);
        assert_eq!(printed(|out| list(&fake, false, out)).0, "n\ta b\n");
        assert_eq!(printed(|out| list(&fake, false, out)).1.unwrap(), Outcome::Nothing);
    }
}
