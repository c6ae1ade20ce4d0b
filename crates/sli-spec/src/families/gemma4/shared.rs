//! What Gemma 3n and Gemma 4 share: inputs of its own for every layer, keys of earlier layers.

use std::rc::Rc;

use crate::build::{Leaves, NormStyle, layer_types};
use crate::families::blocks::Blocks;
use crate::families::gemma::both_ways_window;
use crate::{
    Config, LayerInput, LayerInputs, Linear, Merge, Mixer, NormSpan, ProjectedInputs, Shard,
    SpecError,
};

/// The inputs that every layer has of its own.
#[derive(Clone, Copy)]
pub(super) struct OwnInputs {
    /// Rows of their table.
    rows: usize,
    /// Features a layer.
    pub(super) width: usize,
    /// A token without a row of its own reads the first row.
    pub(super) beyond_is_first: bool,
}

/// Everything but rotations and what differs between layers; `kinds` are those of the layers.
pub(super) fn plain<'c>(config: &'c Config, kinds: &[String]) -> Result<Blocks<'c>, SpecError> {
    let mut model = plain_norms(config, kinds)?;
    let both_ways = config
        .value("use_bidirectional_attention")
        .is_some_and(|value| value == "all");
    model.mask_by_kinds(kinds, both_ways_window(config, both_ways)?)?;
    model.logit_softcap = config.optional_positive("final_logit_softcapping")?;
    Ok(model)
}

/// The same without masks and head.
pub(super) fn plain_norms<'c>(
    config: &'c Config,
    kinds: &[String],
) -> Result<Blocks<'c>, SpecError> {
    let sizes = [
        config.heads("num_attention_heads")?,
        config.heads("num_key_value_heads")?,
        config.heads("head_dim")?,
    ];
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let hidden_size = config.size("hidden_size")?;
    let mut model = Blocks::sized(config, norm, kinds.len(), [hidden_size, 0], sizes)?;
    model.family = "gemma4";
    model.ignored.clear();
    model.set_attention_bias(config.flag("attention_bias")?);
    model.activation = config.activation("hidden_activation")?;
    model.query_key_norm = Some((NormSpan::Head, norm));
    model.value_norm = true;
    model.attention_scale = 1.0;
    model.embedding_scale = (hidden_size as f64).sqrt();
    Ok(model)
}

/// The inputs of its own that every layer has, if they have.
pub(super) fn own_inputs(config: &Config) -> Result<Option<OwnInputs>, SpecError> {
    let width = config.optional_index("hidden_size_per_layer_input")?;
    let Some(width) = width.filter(|&width| width > 0) else {
        config.ignore(&["vocab_size_per_layer_input"]);
        return Ok(None);
    };
    Ok(Some(OwnInputs {
        rows: config.size("vocab_size_per_layer_input")?,
        width,
        beyond_is_first: false,
    }))
}

/// Describes a layer's input as what is in front of the first layer, behind the projections of further residual
/// streams.
pub(super) fn set_inputs(
    config: &Config,
    model: &mut Blocks<'_>,
    inputs: Option<OwnInputs>,
    streams: usize,
) -> Result<(), SpecError> {
    let (hidden, layers, norm) = (model.hidden_size, model.layers(), model.norm);
    let columns = inputs.map_or(Some(0), |inputs| inputs.width.checked_mul(layers));
    let columns = columns.filter(|&columns| columns <= 1 << 28);
    let columns =
        columns.ok_or_else(|| config.invalid("hidden_size_per_layer_input", "a smaller number"))?;
    model.further_input = Some(Rc::new(move |leaves, embedding| {
        embedding.streams = (1..streams)
            .map(|stream| stream_projection(leaves, "altup_projections", stream, hidden))
            .collect();
        embedding.layer_inputs = inputs.map(|inputs| LayerInputs {
            table: Some(leaves.table("embed_tokens_per_layer.weight", inputs.rows, columns)),
            rows: inputs.rows,
            beyond_is_first: inputs.beyond_is_first,
            table_scale: (inputs.width as f64).sqrt(),
            projected: Some(ProjectedInputs {
                projection: leaves.linear(
                    "per_layer_model_projection",
                    [columns, hidden],
                    false,
                    Shard::Column,
                ),
                scale: (hidden as f64).powf(-0.5),
                norm: leaves.norm("per_layer_projection_norm", inputs.width, norm),
            }),
            scale: 0.5_f64.sqrt(),
            width: inputs.width,
            layers,
        });
    }));
    let place = format!("{}altup_unembed_projections", model.prefix);
    model.further_head = Some(Rc::new(move |leaves, head| {
        let others = (1..streams).map(|stream| stream_projection(leaves, &place, stream, hidden));
        let others: Vec<Linear> = others.collect();
        if !others.is_empty() {
            head.streams = Merge::Projected(others);
        }
    }));
    Ok(())
}

fn stream_projection(leaves: &mut Leaves, place: &str, stream: usize, hidden: usize) -> Linear {
    let name = format!("{place}.{}", stream - 1);
    leaves.linear(&name, [hidden; 2], false, Shard::Replicate)
}

/// Where the layer's own input enters.
pub(super) fn layer_input(blocks: &Blocks<'_>, leaves: &mut Leaves, width: usize) -> Mixer {
    let (hidden, shard) = (blocks.hidden_size, Shard::Replicate);
    Mixer::LayerInput(LayerInput {
        gate: leaves.linear("per_layer_input_gate", [width, hidden], false, shard),
        activation: blocks.activation,
        projection: leaves.linear("per_layer_projection", [hidden, width], false, shard),
    })
}

/// The layer whose keys and values a layer uses: the last `num_kv_shared_layers` layers use what the last one of
/// their kind before them has.
pub(super) fn sources(
    config: &Config,
    model: &mut Blocks<'_>,
    kinds: &[String],
) -> Result<Vec<Option<usize>>, SpecError> {
    let shared = config.index("num_kv_shared_layers")?;
    let Some(first) = kinds.len().checked_sub(shared).filter(|&first| first > 0) else {
        return Err(config.invalid("num_kv_shared_layers", "less than the number of layers"));
    };
    if shared > 0 {
        model.ignored.extend([
            "*.self_attn.k_proj.*",
            "*.self_attn.v_proj.*",
            "*.self_attn.k_norm.*",
            "*.self_attn.v_norm.*",
        ]);
    }
    (0..kinds.len())
        .map(|layer| {
            if layer < first {
                return Ok(None);
            }
            let source = kinds[..first]
                .iter()
                .rposition(|kind| *kind == kinds[layer]);
            source.map(Some).ok_or_else(|| {
                let expected = "a number that leaves a layer of every kind its own keys";
                config.invalid("num_kv_shared_layers", expected)
            })
        })
        .collect()
}

/// The kinds of the layers, where every so many-th usually sees everything; the last one always does.
pub(super) fn kinds(config: &Config, interval: usize) -> Result<Vec<String>, SpecError> {
    let mut kinds = layer_types(config, config.layers("num_hidden_layers")?, |layer| {
        if (layer + 1).is_multiple_of(interval) {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    // The reference makes it so.
    if let Some(last) = kinds.last_mut() {
        "full_attention".clone_into(last);
    }
    Ok(kinds)
}
