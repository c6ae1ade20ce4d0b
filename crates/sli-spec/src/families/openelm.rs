//! `OpenELM`: layers that grow in heads and width (Mehta et al. 2024).

use crate::build::NormStyle;
use crate::families::blocks::{Arrangement, Blocks, Names, Projections};
use crate::model_type::{ModelType, row};
use crate::rope::RopeOptions;
use crate::{Config, Described, NormSpan, SpecError};

/// The registered types.
pub const TYPES: &[ModelType] = &[row("openelm", openelm)];

/// One whole number for each layer.
fn counts(config: &Config, key: &str, layers: usize) -> Result<Vec<usize>, SpecError> {
    let counts = config.sizes(key)?;
    if counts.len() != layers {
        let expected = format!("one number for each of {layers} layers");
        return Err(config.invalid(key, expected));
    }
    Ok(counts)
}

/// Features inside each layer's network: multiples of the hidden size, rounded to a multiple of the divisor.
fn widths(config: &Config, hidden: usize, layers: usize) -> Result<Vec<usize>, SpecError> {
    let key = "ffn_multipliers";
    let factors = config.numbers(key)?.ok_or_else(|| config.missing(key))?;
    let divisor = config.size("ffn_dim_divisor")?;
    let width = |factor: &f64| {
        let exact = factor * hidden as f64;
        let half = divisor as f64 / 2.0;
        let whole = ((exact + half) as usize / divisor * divisor).max(divisor);
        // Rounded down, but by less than a tenth.
        let is_short = (whole as f64) < 0.9 * exact;
        (exact > 0.0 && exact < 1e8).then_some(if is_short { whole + divisor } else { whole })
    };
    let widths: Option<Vec<usize>> = factors.iter().map(width).collect();
    let widths = widths.filter(|widths| widths.len() == layers);
    widths.ok_or_else(|| {
        let expected = format!("one number for each of {layers} layers");
        config.invalid(key, expected)
    })
}

/// `OpenELM`.
pub fn openelm(config: &Config) -> Result<Described, SpecError> {
    let layers = config.layers("num_hidden_layers")?;
    let hidden = config.size("hidden_size")?;
    let head_dim = config.heads("head_dim")?;
    let queries = counts(config, "num_query_heads", layers)?;
    let keys = counts(config, "num_kv_heads", layers)?;
    let of_keys = |layer: usize| queries[layer].is_multiple_of(keys[layer]);
    if !(0..layers).all(of_keys) {
        return Err(config.invalid("num_kv_heads", "divisors of the numbers of query heads"));
    }
    let widths = widths(config, hidden, layers)?;
    // What the numbers of heads came of.
    config.ignore(&["qkv_multipliers", "num_gqa_groups", "rope_max_length"]);
    config.neutral(
        "normalization_layer_name",
        &["rms_norm".into()],
        "another norm is not published",
    )?;
    config.neutral(
        "ffn_with_glu",
        &[true.into()],
        "networks without a gate are not published",
    )?;
    // The class has no key for its epsilon.
    let norm = NormStyle::rms(1e-6);
    let sizes = [queries[0], keys[0], head_dim];
    let mut model = Blocks::sized(config, norm, layers, [hidden, widths[0]], sizes)?;
    model.family = "openelm";
    model.activation = config.activation("hidden_act")?;
    model.rotate(&RopeOptions::new(head_dim))?;
    if config.flag("normalize_qk_projections")? {
        model.query_key_norm = Some((NormSpan::Head, norm));
    }
    model.names = Names {
        tokens: "token_embeddings",
        projections: Projections::Rows("attn.qkv_proj"),
        query_norm: "attn.q_norm",
        key_norm: "attn.k_norm",
        output: "attn.out_proj",
        gate_up: Some("ffn.proj_1"),
        down: "ffn.proj_2",
        ..Names::USUAL
    };
    model.arrangement = Arrangement::pre("attn_norm", "ffn_norm");
    model.differ(move |own, layer| {
        own.heads = queries[layer];
        own.kv_heads = keys[layer];
        own.intermediate_size = widths[layer];
    });
    model.build()
}
