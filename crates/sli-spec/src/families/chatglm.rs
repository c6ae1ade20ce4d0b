//! ChatGLM: the first generation with two-dimensional positions, and its successors up to GLM-4-9b,
//! which are Llama with fused projections. All call themselves `chatglm`.

use crate::build::{NormStyle, divided};
use crate::families::blocks::{
    Arrangement, Blocks, Form, Names, Projections, Residual, Tie, UnusedHead,
};
use crate::model_type::{ModelType, limited, row};
use crate::rope::{PositionAxis, Rope, RopeScaling};
use crate::{Activation, Config, Described, LengthLimit, Mask, Position, PositionIds, SpecError};

/// The registered types.
pub const TYPES: &[ModelType] = &[limited(
    row("chatglm", chatglm),
    "a record of the first generation needs its mask and begin tokens",
)];

/// Any generation: only the first has two-dimensional positions.
pub fn chatglm(config: &Config) -> Result<Described, SpecError> {
    config.neutral(
        "quantization_bit",
        &[0.into()],
        "packed weights are not read",
    )?;
    config.neutral("pre_seq_len", &[0.into()], "a learned prefix is not read")?;
    config.ignore(&["prefix_projection"]);
    if config.in_file("inner_hidden_size") || config.in_file("position_encoding_2d") {
        first(config)
    } else {
        later(config)
    }
}

/// ChatGLM2, ChatGLM3, GLM-4-9b.
fn later(config: &Config) -> Result<Described, SpecError> {
    // Precision and scheduling; the scale by layer cancels; the rotation is one function of its
    // arguments, whatever `original_rope` says.
    config.ignore(&[
        "apply_query_key_layer_scaling",
        "attention_softmax_in_fp32",
        "bias_dropout_fusion",
        "fp32_residual_connection",
        "original_rope",
        "max_sequence_length",
    ]);
    config.off("apply_residual_connection_post_layernorm", "not published")?;
    config.neutral("post_layer_norm", &[true.into()], "not published")?;
    let epsilon = config.positive("layernorm_epsilon")?;
    let norm = if config.flag("rmsnorm")? {
        NormStyle::rms(epsilon)
    } else {
        NormStyle::layer(epsilon)
    };
    let mut model = Blocks::new(config, norm)?;
    model.set_network_bias(config.flag("add_bias_linear")?);
    model.output_bias = model.up_bias;
    model.query_key_value_bias = model.up_bias || config.flag("add_qkv_bias")?;
    let grouped = config.flag("multi_query_attention")?;
    if !grouped {
        model.kv_heads = model.heads;
    }
    let dims = divided(config, "kv_channels", model.head_dim, 2)?;
    let ratio = config.positive("rope_ratio")?;
    // In one repository the key divides the position; in the others it multiplies the base.
    let divides = config
        .optional_text("_name_or_path")?
        .is_some_and(|name| name.to_ascii_lowercase().contains("chatglm2"));
    let (theta, scaling) = match ratio {
        1.0 => (10_000.0, RopeScaling::Default),
        factor if divides => (10_000.0, RopeScaling::Linear { factor }),
        factor => (10_000.0 * factor, RopeScaling::Default),
    };
    let axis = PositionAxis::Token;
    let rope = Rope {
        dims,
        span: dims,
        offset: 0,
        interleaved: true,
        reversed: false,
        theta,
        scaling,
        axis,
    };
    model.ropes.fill(Some(rope));
    let fused = "self_attention.query_key_value";
    model.names = Names {
        tokens: "embedding.word_embeddings",
        layers: "encoder.layers",
        projections: if grouped {
            Projections::Rows(fused)
        } else {
            Projections::per_head(fused, model.heads)
        },
        output: "self_attention.dense",
        gate_up: Some("mlp.dense_h_to_4h"),
        down: "mlp.dense_4h_to_h",
        final_norm: "encoder.final_layernorm",
        head: "transformer.output_layer",
        ..Names::USUAL
    };
    model.family = "chatglm";
    // The configured length is that behind any stretching.
    model.length_limit = Some(LengthLimit::Trained(
        config.size("max_position_embeddings")?,
    ));
    model.ignored.push("transformer.rotary_pos_emb.inv_freq");
    if config.flag("tie_word_embeddings")? {
        return Err(config.unsupported("tie_word_embeddings", "the published code never ties"));
    }
    model.build()
}

/// The factor on the residual: the published blocks always assume 28 layers.
const RESIDUAL: f64 = 56.0;

/// ChatGLM-6B: the residual carries the normed hidden state, the context sees all of itself, and
/// the two halves of a head turn by two positions.
fn first(config: &Config) -> Result<Described, SpecError> {
    config.neutral(
        "position_encoding_2d",
        &[true.into()],
        "one-dimensional positions are not published",
    )?;
    config.ignore(&["max_sequence_length"]);
    let token = |key: &str| config.token_id(key)?.ok_or_else(|| config.missing(key));
    let heads = config.heads("num_attention_heads")?;
    let norms = Arrangement::pre("input_layernorm", "post_attention_layernorm");
    let names = Names {
        tokens: "word_embeddings",
        projections: Projections::per_head("attention.query_key_value", heads),
        output: "attention.dense",
        up: "mlp.dense_h_to_4h",
        down: "mlp.dense_4h_to_h",
        final_norm: "final_layernorm",
        ..Names::USUAL
    };
    let norm = NormStyle::layer(config.positive("layernorm_epsilon")?);
    let mut model = Blocks::classic(config, names, norms.in_form(Form::InStream), norm)?;
    model.family = "chatglm";
    if let Some(size) = config.optional_size("inner_hidden_size")? {
        model.intermediate_size = size;
    }
    model.activation = Activation::GeluTanh;
    model.residual = Residual::Carried(RESIDUAL.sqrt());
    model.masks.fill(Mask::CausalAfterContext);
    divided(config, "num_attention_heads", model.head_dim, 4)?;
    let dims = model.head_dim / 2;
    let rope = |offset, axis| {
        Position::Rope(Rope {
            dims,
            span: dims,
            offset,
            interleaved: false,
            reversed: false,
            theta: 10_000.0,
            scaling: RopeScaling::Half,
            axis,
        })
    };
    model.positions = vec![
        rope(0, PositionAxis::Context),
        rope(dims, PositionAxis::Block),
    ];
    model.position_ids = PositionIds::Blocks {
        begin: token("bos_token_id")?,
        masks: [token("gmask_token_id")?, token("mask_token_id")?],
    };
    model.length_limit = Some(LengthLimit::Trained(config.size("max_sequence_length")?));
    let tied = !config.mentions("tie_word_embeddings") || config.flag("tie_word_embeddings")?;
    model.tie = Tie::Always(tied);
    model.ignored = vec!["*.rotary_emb.inv_freq"];
    model.unused_head = UnusedHead {
        without: if tied { &["lm_head.weight"] } else { &[] },
        tied: &["lm_head.weight"],
        own: &[],
    };
    model.build()
}
