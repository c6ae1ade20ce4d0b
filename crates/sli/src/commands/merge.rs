//! `sli merge`: the parts of a run become one.

use serde_json::Value;
use sli_engine::Merged;

use super::run::print_manifest;
use crate::cli::MergeArgs;
use crate::error::Error;
use crate::progress::count;
use crate::{interrupt, terminal};

/// Merges, or goes on with it.
pub fn merge(arguments: &MergeArgs) -> Result<(), Error> {
    interrupt::resumable();
    let merged = sli_engine::merge(&arguments.parts, &arguments.out, arguments.fresh)?;
    let out = arguments.out.display();
    let manifest = match &merged {
        Merged::Done(manifest) => {
            let number = |name: &str| manifest.json().get(name).and_then(Value::as_u64);
            terminal::say(&format!(
                "{} {} tokens of {} records in {} parts",
                terminal::bold("merged  "),
                count(number("tokens").unwrap_or(0)),
                count(number("records").unwrap_or(0)),
                count(arguments.parts.len() as u64),
            ));
            terminal::say(&format!(
                "{} {out} (run.json lists the files)",
                terminal::bold("results ")
            ));
            manifest
        }
        Merged::Finished(manifest) => {
            terminal::say(&format!(
                "{out} is finished already; nothing to do (--fresh starts over)"
            ));
            manifest
        }
    };
    if arguments.json {
        print_manifest(&arguments.out, manifest.json().clone())?;
    }
    Ok(())
}
