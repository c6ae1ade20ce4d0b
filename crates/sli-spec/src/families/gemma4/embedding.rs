//! `EmbeddingGemma` 2: layers of Gemma 4 that look both ways, with inputs of their own that come of the embedding alone,
//! and a projection at the end.

use std::rc::Rc;

use super::shared::{kinds, plain_norms};
use super::{gemma4_layer, layer_sizes};
use crate::build::divided;
use crate::rope::{Rope, RopeOptions};
use crate::{Config, Described, LayerInputs, Mask, ProjectedInputs, Shard, SpecError};

/// Its text half.
pub fn embedding_gemma2(config: &Config) -> Result<Described, SpecError> {
    let pattern = config.optional_size("sliding_window_pattern")?.unwrap_or(6);
    let kinds = kinds(config, pattern)?;
    let mut model = plain_norms(config, &kinds)?;
    (model.stack, model.may_look_ahead) = ("encoder", false);
    model.intermediate_size = config.size("intermediate_size")?;
    let window = config.index("sliding_window")?;
    let global_heads = config.optional_heads("num_global_key_value_heads")?;
    let sizes = layer_sizes(config, &model, &kinds, Some(global_heads.unwrap_or(1)))?;
    for (layer, kind) in kinds.iter().enumerate() {
        divided(config, "num_key_value_heads", model.heads, sizes[layer][1])?;
        model.masks[layer] = match kind.as_str() {
            "full_attention" => Mask::Full,
            "sliding_attention" => Mask::Window(window),
            _ => {
                let reason = format!("`{kind}` is no kind of layer of this type");
                return Err(config.unsupported("layer_types", reason));
            }
        };
        model.ropes[layer] = rotation(config, kind, sizes[layer][0])?;
    }
    let width = config.size("hidden_size_per_layer_input")?;
    set_ends(config, &mut model, width)?;
    model.differ(move |own, layer| [own.head_dim, own.kv_heads] = sizes[layer]);
    model.layer_of = Some(Rc::new(move |own, leaves, layer| {
        gemma4_layer(own, leaves, layer, (None, Some(width)), "ple_block.")
    }));
    model.build()
}

fn rotation(config: &Config, kind: &str, head_dim: usize) -> Result<Option<Rope>, SpecError> {
    let assumed = serde_json::json!({
        "sliding_attention": {"rope_theta": 10_000.0},
        "full_attention": {"rope_theta": 1_000_000.0},
    });
    Rope::from_config(
        config,
        &RopeOptions {
            layer_type: Some(kind),
            theta_keys: &[],
            scaled: false,
            assumed: Some(&assumed),
            ..RopeOptions::new(head_dim)
        },
    )
}

/// The inputs of the layers, and the projection of what leaves them.
fn set_ends(
    config: &Config,
    model: &mut crate::families::blocks::Blocks<'_>,
    width: usize,
) -> Result<(), SpecError> {
    let (hidden, layers, norm) = (model.hidden_size, model.layers(), model.norm);
    let columns = width
        .checked_mul(layers)
        .filter(|&columns| columns <= 1 << 28);
    let columns =
        columns.ok_or_else(|| config.invalid("hidden_size_per_layer_input", "a smaller number"))?;
    model.further_input = Some(Rc::new(move |leaves, embedding| {
        let projection = "ple.per_layer_model_projection";
        embedding.layer_inputs = Some(LayerInputs {
            table: None,
            rows: 0,
            beyond_is_first: false,
            table_scale: 1.0,
            projected: Some(ProjectedInputs {
                projection: leaves.linear(projection, [columns, hidden], false, Shard::Column),
                scale: (hidden as f64).powf(-0.5),
                norm: leaves.norm("ple.per_layer_projection_norm", width, norm),
            }),
            scale: 1.0,
            width,
            layers,
        });
    }));
    let outputs = config.size("embedding_dim")?;
    let name = format!("{}embedding_projection", model.prefix);
    model.further_head = Some(Rc::new(move |leaves, head| {
        let shape = [outputs, hidden];
        head.output = Some(leaves.linear(&name, shape, false, Shard::Replicate));
    }));
    Ok(())
}
