//! Names of users and groups in questions: `owner=ann` becomes the number of ann on this machine.
//!
//! Never asks an index by name: it may run on another machine, where other people have these names. Always: a name that nobody has
//! here is a refusal, not a question that finds nothing.

use dgfs_proto::graph::GraphRequest;
use dgfs_proto::query::{Clause, Key, Number, Query, Test, Value};
use dgfs_proto::status::Status;
use dgfs_runtime::accounts::{gid_of, uid_of};
use tokio::runtime::Handle;

use crate::tags::link::Refusal;

/// Puts numbers for names into a request.
pub(crate) async fn number(request: &mut GraphRequest, runtime: &Handle) -> Result<(), Refusal> {
    for clause in clauses_of(request) {
        number_clause(clause, runtime).await?;
    }
    Ok(())
}

/// Puts numbers for names into a query.
pub(crate) async fn number_query(query: &mut Query, runtime: &Handle) -> Result<(), Refusal> {
    for clause in &mut query.clauses {
        number_clause(clause, runtime).await?;
    }
    Ok(())
}

fn clauses_of(request: &mut GraphRequest) -> Box<dyn Iterator<Item = &mut Clause> + Send + '_> {
    match request {
        GraphRequest::Known { clause, .. } => Box::new(std::iter::once(clause)),
        GraphRequest::Step { sought, clause, .. } => {
            Box::new(sought.query.clauses.iter_mut().chain(std::iter::once(clause)))
        }
        GraphRequest::Search { sought, .. }
        | GraphRequest::Entry { sought, .. }
        | GraphRequest::Count(sought)
        | GraphRequest::Facets { sought, .. }
        | GraphRequest::Dates { sought, .. }
        | GraphRequest::Explain(sought)
        | GraphRequest::Watch { sought: Some(sought), .. } => Box::new(sought.query.clauses.iter_mut()),
        GraphRequest::Top { .. }
        | GraphRequest::Values { .. }
        | GraphRequest::Place { .. }
        | GraphRequest::Places { .. }
        | GraphRequest::Marks(_)
        | GraphRequest::Related { .. }
        | GraphRequest::Duplicates { .. }
        | GraphRequest::Tags { .. }
        | GraphRequest::Saved
        | GraphRequest::Status
        | GraphRequest::Rebuild
        | GraphRequest::Check
        | GraphRequest::Watch { sought: None, .. }
        | GraphRequest::Cypher(_)
        | GraphRequest::Tagger(_) => Box::new(std::iter::empty()),
    }
}

/// Whose number is asked for by name.
enum Account {
    User,
    Group,
}

fn account_of(test: &mut Test) -> Option<(Account, &mut Value)> {
    match test {
        Test::Compare { key: Key::Owner, value: value @ Value::Text(_), .. } => Some((Account::User, value)),
        Test::Compare { key: Key::Group, value: value @ Value::Text(_), .. } => Some((Account::Group, value)),
        _ => None,
    }
}

async fn number_clause(clause: &mut Clause, runtime: &Handle) -> Result<(), Refusal> {
    for atom in &mut clause.atoms {
        let Some((account, value)) = account_of(&mut atom.test) else { continue };
        let Value::Text(name) = &*value else { continue };
        let number = number_of(&account, name.clone(), runtime).await?;
        *value = Value::Number(Number::new(f64::from(number)).ok_or(Status::Invalid)?);
    }
    Ok(())
}

/// The number of an account, by its name.
type LookUp = fn(&str) -> std::io::Result<Option<u32>>;

async fn number_of(account: &Account, name: String, runtime: &Handle) -> Result<u32, Refusal> {
    let (noun, look): (&str, LookUp) = match account {
        Account::User => ("user", uid_of),
        Account::Group => ("group", gid_of),
    };
    let asked = name.clone();
    // Whoever polls may be no thread of the runtime. Cancelled, it ends by itself and nobody hears of it.
    let looked = runtime.spawn_blocking(move || look(&asked)).await;
    match looked {
        Ok(Ok(Some(number))) => Ok(number),
        Ok(Ok(None)) => Err(Refusal::Unknown(format!("no {noun} is called \"{name}\" on the machine of the mount"))),
        Ok(Err(error)) => Err(Refusal::Sentence(format!("look up the {noun} \"{name}\": {error}"))),
        Err(_) => Err(Status::Io.into()),
    }
}
