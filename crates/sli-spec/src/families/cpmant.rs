//! CPM-Ant: rows of a prompt in front of every record, attention both ways with learned addends by
//! distance and by kind of token, and a gated network between norms.

use crate::build::NormStyle;
use crate::families::blocks::{
    Arrangement, Blocks, Buckets, Names, Projections, Tie, Types, UnusedHead,
};
use crate::model_type::{ModelType, row};
use crate::{Activation, Config, Described, LengthLimit, Mask, SpecError, TypeRule};

/// The registered types.
pub const TYPES: &[ModelType] = &[row("cpmant", cpmant)];

/// The token that pads a batch on the left.
const PADDING: u32 = 0;
/// Kind of a record's own tokens; the prompt and padding have 0.
const OWN: u32 = 2;
/// Which of the prompts in the token table every record gets.
const PROMPT: usize = 2;

const NAMES: Names = Names {
    tokens: "input_embedding",
    layers: "encoder.layers",
    projections: Projections::Separate([
        "self_att.self_attention.project_q",
        "self_att.self_attention.project_k",
        "self_att.self_attention.project_v",
    ]),
    output: "self_att.self_attention.attention_out",
    gate: "ffn.ffn.w_in.w_0",
    up: "ffn.ffn.w_in.w_1",
    down: "ffn.ffn.w_out",
    final_norm: "encoder.output_layernorm",
    ..Names::USUAL
};

/// CPM-Ant.
pub fn cpmant(config: &Config) -> Result<Described, SpecError> {
    let heads = config.heads("num_attention_heads")?;
    let mut model = Blocks::sized(
        config,
        NormStyle::rms(config.positive("eps")?),
        config.layers("num_hidden_layers")?,
        [config.size("hidden_size")?, config.size("dim_ff")?],
        [heads, heads, config.size("dim_head")?],
    )?;
    (model.family, model.names) = ("cpmant", NAMES);
    model.arrangement = Arrangement::pre(
        "self_att.layernorm_before_attention",
        "ffn.layernorm_before_ffn",
    );
    model.activation = Activation::Gelu;
    model.masks.fill(Mask::FullButPadding(PADDING));
    model.may_look_ahead = false;
    let buckets = Buckets {
        name: "position_bias.relative_attention_bias",
        buckets: config.heads("position_bias_num_buckets")?,
        looks_ahead: true,
        max_distance: config.size("position_bias_max_distance")?,
        types: config.heads("segment_types")?,
        further_rows: 0,
    };
    if buckets.buckets < 4 {
        return Err(config.invalid("position_bias_num_buckets", "at least 4"));
    }
    if buckets.types <= OWN as usize {
        return Err(config.invalid("segment_types", format!("more than {OWN}")));
    }
    model.buckets = Some(buckets);
    model.types = Some(Types {
        name: "segment_embedding",
        count: buckets.types,
        rule: TypeRule::OfToken {
            padding: PADDING,
            other: OWN,
        },
    });
    // Every dropout is off.
    config.ignore(&["dropout_p", "init_std"]);
    // The head is a tensor of its own whatever the file says of ties.
    model.tie = Tie::Always(false);
    (model.ignored, model.unused_head) = (Vec::new(), UnusedHead::projection(&[]));
    let vocab_size = config.size("vocab_size")?;
    let (prompts, length) = (
        config.index("prompt_types")?,
        config.index("prompt_length")?,
    );
    model.further_rows = prompts
        .checked_mul(length)
        .filter(|&rows| rows.saturating_add(vocab_size) <= 1 << 28)
        .ok_or_else(|| config.invalid("prompt_length", "a smaller number"))?;
    if prompts <= PROMPT && length > 0 {
        return Err(config.invalid("prompt_types", format!("more than {PROMPT}")));
    }
    let first = vocab_size + PROMPT * length;
    model.prompt = (first as u32..(first + length) as u32).collect();
    // Where no bucket holds several distances, a longer one has none.
    let exact = buckets.buckets / 4;
    model.length_limit = Some(if buckets.max_distance > exact {
        LengthLimit::None
    } else {
        LengthLimit::Table(exact.saturating_sub(length))
    });
    model.build()
}
