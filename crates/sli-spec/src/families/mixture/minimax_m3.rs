//! MiniMax-M3's text model: attention to blocks of keys that an indexer chooses, limited gates, a shared expert.

use super::{mix, sparse_layers};
use crate::build::{NormStyle, layer_types};
use crate::families::blocks::{BlockSizes, Blocks};
use crate::families::experts::{ExpertTensors, Experts, Shared, SharedTensors};
use crate::rope::RopeOptions;
use crate::{
    BlockScore, ClampedGate, Config, Described, NormSpan, Renormalize, RouterScore, SpecError,
};

const CHOSEN: &str = "minimax_m3_sparse";

/// MiniMax-M3's text model.
pub fn minimax_m3_vl_text(config: &Config) -> Result<Described, SpecError> {
    let norm = NormStyle {
        plus_one: true,
        ..NormStyle::rms(config.positive("rms_norm_eps")?)
    };
    let mut decoder = Blocks::with_width(config, norm, config.size("dense_intermediate_size")?)?;
    decoder.family = "mixture";
    // Published files name a gate that the class computes by itself; what turns is said elsewhere.
    config.ignore(&["hidden_act", "rotary_dim"]);
    let options = RopeOptions {
        partial: true,
        ..RopeOptions::new(decoder.head_dim)
    };
    decoder.rotate(&options)?;
    decoder.query_key_norm = Some((NormSpan::Head, norm));
    decoder.names.gate_up = Some("mlp.gate_up_proj");
    let layers = decoder.layers();
    let older = config.nested("sparse_attention_config")?;
    let choices = choices(config, older.as_ref(), layers)?;
    if choices.contains(&true) {
        let sizes = sizes(config, older.as_ref(), &decoder, norm)?;
        decoder.one_way = true;
        decoder.differ(move |own, layer| {
            own.block_choice = choices[layer].then(|| sizes.clone());
        });
    } else {
        config.ignore(&[
            "index_block_size",
            "index_head_dim",
            "index_local_blocks",
            "index_n_heads",
            "index_topk_blocks",
        ]);
    }
    let clamped = ClampedGate::Sharp {
        limit: config.positive("swiglu_limit")?,
        sharpness: config.number("swiglu_alpha")?,
        addend: 1.0,
    };
    decoder.clamped = Some(clamped);
    let listed = if config.in_file("mlp_layer_types") {
        None
    } else {
        config.flags("moe_layer_freq")?
    };
    if listed.as_ref().is_some_and(|listed| listed.len() != layers) {
        let expected = format!("one entry for each of {layers} layers");
        return Err(config.invalid("moe_layer_freq", expected));
    }
    let sparse = sparse_layers(config, layers, |layer| {
        listed.as_ref().is_none_or(|listed| listed[layer])
    })?;
    let experts = Experts {
        tensors: ExpertTensors::Stacked(["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]),
        clamped: Some(clamped),
        shared_clamped: Some(clamped),
        score: RouterScore::Sigmoid,
        choice_bias: &["mlp.gate.e_score_correction_bias"],
        renormalize: Renormalize::Sum { plus: 0.0 },
        scale: config.number("routed_scaling_factor")?,
        shared: Some(Shared {
            tensors: SharedTensors::Fused([
                "mlp.shared_experts.gate_up_proj",
                "mlp.shared_experts.down_proj",
            ]),
            intermediate_size: config.size("shared_intermediate_size")?,
            bias: false,
            activation: decoder.activation,
            gate: None,
        }),
        ..Experts::new(
            config,
            ["num_local_experts", "num_experts_per_tok"],
            config.size("intermediate_size")?,
            decoder.activation,
        )?
    };
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    decoder.build()
}

/// Which layers choose.
fn choices(config: &Config, older: Option<&Config>, layers: usize) -> Result<Vec<bool>, SpecError> {
    let listed = older.map(|older| older.flags("sparse_attention_freq"));
    let listed = listed.transpose()?.flatten();
    if let Some(listed) = listed.filter(|_| !config.in_file("layer_types")) {
        if listed.len() != layers {
            let expected = format!("one entry for each of {layers} layers");
            return Err(config.invalid("sparse_attention_config", expected));
        }
        return Ok(listed);
    }
    let kinds = layer_types(config, layers, |_| "full_attention")?;
    // Layers of any other kind see all earlier keys.
    Ok(kinds.iter().map(|kind| kind == CHOSEN).collect())
}

fn sizes(
    config: &Config,
    older: Option<&Config>,
    decoder: &Blocks<'_>,
    norm: NormStyle,
) -> Result<BlockSizes, SpecError> {
    // The older object wins.
    let size = |key: &str, inside: &str| {
        let own = older.map(|older| older.optional_index(inside));
        let beside = config.index(key)?;
        Ok::<_, SpecError>(own.transpose()?.flatten().unwrap_or(beside))
    };
    let sizes = BlockSizes {
        heads: size("index_n_heads", "sparse_num_index_heads")?,
        head_dim: size("index_head_dim", "sparse_index_dim")?,
        size: size("index_block_size", "sparse_block_size")?,
        top_k: size("index_topk_blocks", "sparse_topk_blocks")?,
        by: BlockScore::LargestProduct {
            local: size("index_local_blocks", "sparse_local_block")?,
        },
        projection: None,
        norms: ["q_norm", "k_norm"],
        norm,
        rope: decoder.ropes.first().cloned().flatten(),
    };
    if sizes.heads == 0 || !decoder.heads.is_multiple_of(sizes.heads) {
        return Err(config.invalid("index_n_heads", format!("a divisor of {}", decoder.heads)));
    }
    if sizes.size == 0 || sizes.top_k == 0 {
        return Err(config.invalid("index_topk_blocks", "at least one block of one key"));
    }
    if sizes.head_dim == 0 {
        return Err(config.invalid("index_head_dim", "at least 1"));
    }
    Ok(sizes)
}
