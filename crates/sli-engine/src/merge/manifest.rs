//! The `run.json` of a merged folder: what one run over everything says of data and model, and what the parts say of
//! their machines and times.

use serde_json::{Map, Value};

use super::parts::{Part, Parts};
use crate::summary::{OF_MACHINES, SUMS};

/// Members that the journal writes, or that are of a part alone.
const OWN: [&str; 4] = ["sli", "key", "files", "shard"];

/// What `run.json` has beside the key and the files.
pub(super) fn merged(parts: &Parts) -> Value {
    let mut json = Map::new();
    let first = parts
        .all
        .first()
        .and_then(|part| part.manifest.json().as_object());
    for (name, value) in first.into_iter().flatten() {
        let name = name.as_str();
        if OWN.contains(&name) || OF_MACHINES.contains(&name) {
            continue;
        }
        let value = if name == "weights" {
            weights(parts)
        } else if SUMS.contains(&name) {
            sum(parts
                .all
                .iter()
                .filter_map(|part| part.manifest.json().get(name)))
        } else {
            value.clone()
        };
        json.insert(name.to_owned(), value);
    }
    json.insert("parts".into(), parts.all.iter().map(of_machine).collect());
    Value::Object(json)
}

/// Those of the first of the parts that read the most of them: where there are few records some experts are not chosen.
fn weights(parts: &Parts) -> Value {
    let of = |part: &Part| part.manifest.json().get("weights").cloned();
    let unread = |weights: &Value| {
        weights
            .get("in_part")
            .and_then(Value::as_array)
            .map(Vec::len)
    };
    let all = parts.all.iter().filter_map(of);
    all.min_by_key(unread).unwrap_or_default()
}

/// What a part says of its machine.
fn of_machine(part: &Part) -> Value {
    let members = ["shard"].iter().chain(&OF_MACHINES);
    let members = members.filter_map(|name| {
        let value = part.manifest.json().get(*name)?.clone();
        Some(((*name).to_owned(), value))
    });
    Value::Object(members.collect())
}

/// Whole numbers stay such.
fn sum<'a>(values: impl Iterator<Item = &'a Value> + Clone) -> Value {
    let whole: Option<u64> = values.clone().map(Value::as_u64).sum();
    whole.map_or_else(
        || values.filter_map(Value::as_f64).sum::<f64>().into(),
        Into::into,
    )
}
