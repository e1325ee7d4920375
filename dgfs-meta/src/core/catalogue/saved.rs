//! Saved queries.
//!
//! Never answers one: an expression is a text here, but for the names of tags in it. Always: a query that names a tag follows
//! it when it gets another name.

use dgfs_proto::limits::{EXPRESSION_BYTES_MAX, NAME_BYTES_MAX, SAVED_QUERIES_MAX};
use dgfs_proto::log::Change;
use dgfs_proto::meta::Actor;
use dgfs_proto::name::name_hash;
use dgfs_proto::query::expr::parse_expr;
use dgfs_proto::query::path::{Component, parse_component};
use dgfs_proto::query::{Context, Test, show};
use dgfs_proto::status::Status;
use dgfs_proto::tag::Tag;

use crate::core::tx::{Need, Step, Stop, Tx};
use crate::engine::{RowKey, RowRange, Table};
use crate::rows::{Row, SavedRow, key};

/// Saves a query under a name, or forgets it.
pub(crate) fn save(tx: &mut Tx<'_>, (name, expression): (&str, Option<&str>), replace: bool, by: Actor) -> Step<()> {
    let is_name = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(['/', '\0']);
    if !is_name || expression.is_some_and(|text| text.is_empty() || text.len() > EXPRESSION_BYTES_MAX) {
        return Err(Status::Invalid.into());
    }
    let key = key::saved(name_hash(tx.volume, name.as_bytes()));
    let mut all = tx.saved_row(key)?;
    let owner = all.iter().find(|saved| saved.name == name).map(|saved| saved.owner);
    match (owner, expression) {
        (None, None) => return Err(Status::NotFound.into()),
        (Some(_), Some(_)) if !replace => return Err(Status::Exists.into()),
        (Some(owner), _) if !by.may_change(owner) => return Err(Status::NotPermitted.into()),
        (None, Some(_)) if tx.saved_keys()?.len() >= SAVED_QUERIES_MAX => return Err(Status::NoSpace.into()),
        (Some(_), _) | (None, Some(_)) => {}
    }
    all.retain(|saved| saved.name != name);
    all.extend(expression.map(|text| SavedRow {
        name: name.to_owned(),
        expression: text.to_owned(),
        owner: owner.unwrap_or(by.uid),
    }));
    if all.is_empty() {
        tx.delete(key);
    } else {
        tx.put(key, Row::Saved(all));
    }
    tx.changes.push(Change::Saved { name: name.to_owned(), expression: expression.map(str::to_owned) });
    Ok(())
}

/// How queries are to be written after a tag got another name.
pub(super) struct Renaming<'a> {
    /// The name it had.
    pub(super) from: &'a Tag,
    /// The name it has.
    pub(super) to: &'a Tag,
    /// Tags below it have moved, too.
    pub(super) with_those_below: bool,
}

impl Renaming<'_> {
    /// The test that takes the place of one; none where it stays.
    fn renamed(&self, test: &Test) -> Option<Test> {
        if let Test::Tag(tag) = test {
            if tag.fold() == self.from.fold() {
                return test_of(self.to);
            }
            if !self.with_those_below || !tag.is_within(self.from) {
                return None;
            }
            let rest = tag.as_str().splitn(self.from.as_str().matches(':').count() + 2, ':').last()?;
            return Tag::parse(&format!("{}:{rest}", self.to.as_str())).ok().map(Test::Tag);
        }
        // A tag with a value is asked for as a comparison.
        self.from.key_value()?;
        (test_of(self.from).as_ref() == Some(test)).then(|| test_of(self.to)).flatten()
    }

    /// The expression that takes the place of one; none where it stays. What is no expression stays, too.
    fn rewritten(&self, expression: &str) -> Option<String> {
        let mut query = parse_expr(expression, &Context::default()).ok()?;
        let mut changed = false;
        for atom in query.clauses.iter_mut().flat_map(|clause| &mut clause.atoms) {
            if let Some(test) = self.renamed(&atom.test) {
                atom.test = test;
                changed = true;
            }
        }
        let text = changed.then(|| show::show_expr(&query))?;
        (text.len() <= EXPRESSION_BYTES_MAX).then_some(text)
    }
}

/// What a query for a tag asks.
fn test_of(tag: &Tag) -> Option<Test> {
    match parse_component(&tag.to_component(), &Context::default()) {
        Ok(Component::Clause(clause)) => clause.atoms.into_iter().next().map(|atom| atom.test),
        Ok(Component::Special(_) | Component::Partial { .. }) | Err(_) => None,
    }
}

impl Tx<'_> {
    fn saved_row(&mut self, key: RowKey) -> Step<Vec<SavedRow>> {
        match self.row(key)?.as_deref() {
            Some(Row::Saved(all)) => Ok(all.clone()),
            Some(_) => Err(Status::Corrupt.into()),
            None => Ok(Vec::new()),
        }
    }

    /// Keys of the rows of saved queries.
    fn saved_keys(&mut self) -> Step<Vec<RowKey>> {
        let range = RowRange { table: Table::Tag, partition: 2, from: 0, to: u64::MAX, limit: SAVED_QUERIES_MAX + 1 };
        if !self.cache.is_complete_list(range.table, range.partition) && self.known_range(range).is_none() {
            return Err(Stop::Need(Need::Range(range)));
        }
        let sorts = self.cache.listed(range.table, range.partition);
        Ok(sorts.into_iter().map(|sort| RowKey { table: range.table, partition: range.partition, sort }).collect())
    }

    /// Every saved query says what it said, under the new name.
    pub(super) fn rename_in_saved(&mut self, renaming: &Renaming<'_>) -> Step<()> {
        for key in self.saved_keys()? {
            let mut all = self.saved_row(key)?;
            let mut changed = false;
            for saved in &mut all {
                if let Some(text) = renaming.rewritten(&saved.expression) {
                    saved.expression.clone_from(&text);
                    self.changes.push(Change::Saved { name: saved.name.clone(), expression: Some(text) });
                    changed = true;
                }
            }
            if changed {
                self.put(key, Row::Saved(all));
            }
        }
        Ok(())
    }
}
