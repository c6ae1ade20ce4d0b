//! What there is: model types, and arguments.

use clap::{ArgAction, CommandFactory};
use pyo3::prelude::*;
use sli::Error;
use sli::cli::Cli;
use sli_engine::EngineError;
use sli_spec::model::Layer;
use sli_spec::{Config, Leaf, ModelSpec, Options, SpecError, describe};

use crate::errors;

/// `sli architectures`, as JSON.
#[pyfunction]
pub fn architectures(py: Python<'_>) -> PyResult<String> {
    let all = sli::calls::architectures().map_err(|error| errors::raised(py, &error))?;
    serde_json::to_string(&all).map_err(|error| errors::internal(py, &error.to_string()))
}

/// The flags of a command: name, whether it takes a value, whether it may be repeated, the values that it takes where those are
/// listed, and what it is for.
#[pyfunction]
pub fn flags(command: &str) -> Vec<(String, bool, bool, Vec<String>, String)> {
    let mut cli = Cli::command();
    cli.build();
    let Some(command) = cli.find_subcommand(command) else {
        return Vec::new();
    };
    let flags = command.get_arguments().filter_map(|argument| {
        let name = argument.get_long()?;
        let takes = argument.get_action().takes_values();
        let repeats = matches!(argument.get_action(), ArgAction::Append);
        let possible = argument.get_possible_values();
        let values = possible.iter().map(|value| value.get_name().to_owned());
        let values = if takes { values.collect() } else { Vec::new() };
        let help = argument.get_help().map(ToString::to_string);
        Some((
            name.to_owned(),
            takes,
            repeats,
            values,
            help.unwrap_or_default(),
        ))
    });
    flags.filter(|(name, ..)| name != "help").collect()
}

/// A weight: its stack, its layer within it, the names that it may be made of (`{}`: the number of an expert), its shape as the
/// model uses it, and the part of the model that a checkpoint may lack, if it belongs to one.
type Weight = (
    String,
    Option<usize>,
    Vec<String>,
    Vec<usize>,
    Option<String>,
);

/// The weights that a configuration describes, as JSON text has it.
#[pyfunction]
pub fn weights(py: Python<'_>, config: &str) -> PyResult<Vec<Weight>> {
    let spec = described(py, config)?;
    let mut all = Vec::new();
    for stack in &spec.stacks {
        let weight = |layer: Option<usize>, leaf: &Leaf| {
            let names = leaf.source.names().into_iter().map(str::to_owned);
            (
                stack.name.to_owned(),
                layer,
                names.collect(),
                leaf.shape.clone(),
                leaf.optional.map(str::to_owned),
            )
        };
        all.extend(stack.input.leaves().iter().map(|leaf| weight(None, leaf)));
        for (number, layer) in stack.layers.iter().enumerate() {
            all.extend(layer.leaves.iter().map(|leaf| weight(Some(number), leaf)));
        }
        all.extend(stack.head.leaves.iter().map(|leaf| weight(None, leaf)));
    }
    Ok(all)
}

/// A weight of a layer: its stack, the sets of tensors of which each gives it, and the part of the model that a checkpoint may
/// lack, if it belongs to one.
type LayerWeight = (String, Vec<Vec<String>>, Option<String>);

/// The weights of a layer of every stack that has it.
#[pyfunction]
pub fn layer_weights(py: Python<'_>, config: &str, layer: usize) -> PyResult<Vec<LayerWeight>> {
    let spec = described(py, config)?;
    let stacks = spec.stacks.iter();
    let all = stacks.flat_map(|stack| {
        let own = stack.layers.get(layer).into_iter();
        own.flat_map(|layer| &layer.leaves).map(|leaf| {
            (
                stack.name.to_owned(),
                leaf.source.alternatives(),
                leaf.optional.map(str::to_owned),
            )
        })
    });
    Ok(all.collect())
}

/// Whether a layer of a configuration is what the first one of another, of a layer alone, is, but for where its weights are.
#[pyfunction]
pub fn is_alike(py: Python<'_>, config: &str, layer: usize, alone: &str) -> PyResult<bool> {
    let [whole, alone] = [described(py, config)?, described(py, alone)?];
    let ([whole], [alone]) = (&whole.stacks[..], &alone.stacks[..]) else {
        return Ok(false);
    };
    let (Some(own), [alone]) = (whole.layers.get(layer), &alone.layers[..]) else {
        return Ok(false);
    };
    let shapes = |layer: &Layer| {
        let leaves = layer.leaves.iter();
        leaves
            .map(|leaf| (leaf.shape.clone(), leaf.optional))
            .collect::<Vec<_>>()
    };
    Ok(own.steps == alone.steps && shapes(own) == shapes(alone))
}

fn described(py: Python<'_>, config: &str) -> PyResult<ModelSpec> {
    let described = |config| {
        let config = Config::parse(config)?;
        Ok::<_, SpecError>(describe(&config, &Options::default())?.spec)
    };
    described(config).map_err(|source| {
        let path = "config.json".into();
        let error = Error::Engine(EngineError::Config { path, source });
        errors::raised(py, &error)
    })
}
