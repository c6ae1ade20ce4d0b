//! What a checkpoint holds beside the model, in few words.

use std::collections::{BTreeMap, BTreeSet};

use sli_checkpoint::{CoverageReport, without_numbers};

/// The tensors that nothing needs, by the reason why: names that differ in the number of the layer
/// are one, with `*` for the number.
pub fn left_out(report: &CoverageReport) -> BTreeMap<&'static str, Vec<String>> {
    let mut reasons: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
    for tensor in &report.ignored {
        let names = reasons.entry(tensor.reason).or_default();
        names.insert(without_numbers(&tensor.name));
    }
    let names = reasons.into_iter();
    names
        .map(|(reason, names)| (reason, names.into_iter().collect()))
        .collect()
}
