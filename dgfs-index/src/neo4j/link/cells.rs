//! Values of the Bolt protocol as JSON.
//!
//! Never fails for a value that a database can hold: what JSON has no word for becomes a text that says its type.
//! Always: nesting is bounded, so a hostile answer cannot exhaust the stack here.

use neo4rs::{BoltMap, BoltNode, BoltType};
use serde_json::{Map, Value};

/// Deepest nesting of lists and maps that is shown.
const DEPTH_MAX: usize = 32;

/// `value` as JSON: nodes as `{"labels": […], "properties": {…}}`, relationships as `{"type": …, "properties": {…}}`,
/// paths as the list of their nodes and relationships in order.
///
/// # Errors
/// A sentence: the value is nested too deeply.
pub(super) fn to_json(value: BoltType, depth: usize) -> Result<Value, String> {
    if depth > DEPTH_MAX {
        return Err(format!("a value is nested more than {DEPTH_MAX} deep"));
    }
    Ok(match value {
        BoltType::Null(_) => Value::Null,
        BoltType::Boolean(boolean) => Value::Bool(boolean.value),
        BoltType::Integer(integer) => Value::from(integer.value),
        BoltType::Float(float) => Value::from(float.value),
        BoltType::String(text) => Value::String(text.value),
        BoltType::List(list) => {
            Value::Array(list.value.into_iter().map(|item| to_json(item, depth + 1)).collect::<Result<_, _>>()?)
        }
        BoltType::Map(map) => map_to_json(map, depth)?,
        BoltType::Node(node) => node_to_json(node, depth)?,
        BoltType::Relation(relation) => edge_to_json(relation.typ.value, relation.properties, depth)?,
        BoltType::UnboundedRelation(relation) => edge_to_json(relation.typ.value, relation.properties, depth)?,
        BoltType::Path(path) => {
            let mut steps = Vec::new();
            let mut nodes = path.nodes.value.into_iter();
            let mut edges = path.rels.value.into_iter();
            // A path of n nodes has n - 1 relationships; whatever comes beyond that is shown at its end.
            loop {
                let (node, edge) = (nodes.next(), edges.next());
                if node.is_none() && edge.is_none() {
                    break;
                }
                for step in node.into_iter().chain(edge) {
                    steps.push(to_json(step, depth + 1)?);
                }
            }
            Value::Array(steps)
        }
        other @ (BoltType::Point2D(_)
        | BoltType::Point3D(_)
        | BoltType::Bytes(_)
        | BoltType::Duration(_)
        | BoltType::Date(_)
        | BoltType::Time(_)
        | BoltType::LocalTime(_)
        | BoltType::DateTime(_)
        | BoltType::LocalDateTime(_)
        | BoltType::DateTimeZoneId(_)) => unshown(&other),
    })
}

fn map_to_json(map: BoltMap, depth: usize) -> Result<Value, String> {
    let mut object = Map::new();
    for (key, value) in map.value {
        object.insert(key.value, to_json(value, depth + 1)?);
    }
    Ok(Value::Object(object))
}

fn node_to_json(node: BoltNode, depth: usize) -> Result<Value, String> {
    let mut object = Map::new();
    object.insert("labels".to_owned(), to_json(BoltType::List(node.labels), depth + 1)?);
    object.insert("properties".to_owned(), map_to_json(node.properties, depth + 1)?);
    Ok(Value::Object(object))
}

fn edge_to_json(kind: String, properties: BoltMap, depth: usize) -> Result<Value, String> {
    let mut object = Map::new();
    object.insert("type".to_owned(), Value::String(kind));
    object.insert("properties".to_owned(), map_to_json(properties, depth + 1)?);
    Ok(Value::Object(object))
}

/// DGFS stores none of these; a query can make them.
fn unshown(value: &BoltType) -> Value {
    let kind = match value {
        BoltType::Point2D(_) | BoltType::Point3D(_) => "a point",
        BoltType::Bytes(_) => "bytes",
        BoltType::Duration(_) => "a duration",
        _ => "a date or time",
    };
    Value::String(format!("({kind}: use toString() to see it)"))
}
