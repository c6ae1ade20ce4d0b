//! Jina's embeddings, version 2 (Guenther et al. 2023): BERT with slopes in both directions and gated networks. They call
//! themselves `bert`; the names of their tensors tell the two forms apart, and `auto_map` does before there are any.

use std::rc::Rc;

use super::{BERT, set_head, usual_keys};
use crate::build::NormStyle;
use crate::families::blocks::{Arrangement, Blocks, Names, alibi_slopes};
use crate::{
    Activation, Alibi, Config, Described, Gain, Identity, LengthLimit, Mixer, NormSpan, Position,
    Slot, SpecError, Step, Write,
};

/// Where the input of a layer waits.
const INPUT: Slot = Slot::Stash(0);

/// The repository that has the code of the second form.
const SECOND_FORM: &str = "jina-bert-v2-qk-post-norm";

/// Either form.
pub(super) fn jina(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["emb_pooler", "model_max_length", "attn_implementation"]);
    let second = config
        .value("auto_map")
        .is_some_and(|map| map.to_string().contains(SECOND_FORM));
    let names = Names {
        gate_up: Some(if second {
            "mlp.up_gated_layer"
        } else {
            "mlp.gated_layers"
        }),
        up_first: second,
        down: if second { "mlp.down_layer" } else { "mlp.wo" },
        query_norm: "attention.self.layer_norm_q",
        key_norm: "attention.self.layer_norm_k",
        ..BERT
    };
    let mut model = usual_keys(config, &names)?;
    model.family = "jina";
    (model.gated, model.up_bias) = (true, false);
    model.activation = gate(config)?;
    model.positions.push(Position::Alibi(Alibi {
        slopes: alibi_slopes(model.heads),
        rounded_to_bf16: false,
        both_ways: true,
    }));
    let trained = config.size("max_position_embeddings")?;
    model.length_limit = Some(LengthLimit::Trained(trained));
    let attention = "attention.output.LayerNorm";
    if second {
        model.arrangement = Arrangement::after_sum(attention, "layer_norm_2");
        model.query_key_norm = Some((NormSpan::Full, model.norm));
        enter_twice(&mut model);
    } else {
        model.arrangement = Arrangement::after_sum(attention, "mlp.layernorm");
    }
    let width = model.hidden_size;
    set_head(&mut model, width);
    model.build()
}

/// The activation of the gate.
fn gate(config: &Config) -> Result<Activation, SpecError> {
    const KEY: &str = "feed_forward_type";
    match config.optional_text(KEY)?.as_deref() {
        Some("geglu") => {
            config.ignore(&["hidden_act"]);
            Ok(Activation::Gelu)
        }
        Some("reglu") => {
            config.ignore(&["hidden_act"]);
            Ok(Activation::Relu)
        }
        _ => Err(config.unsupported(KEY, "`geglu` and `reglu` are known")),
    }
}

/// The input of a layer is added to what comes out of its attention once more, normed again.
fn enter_twice(model: &mut Blocks<'_>) {
    let style: NormStyle = model.norm;
    model.layer_of = Some(Rc::new(move |own, leaves, layer| {
        let mut steps = own.steps(leaves, layer);
        let norm = leaves.norm("layer_norm_1", own.hidden_size, style);
        let again = Step {
            read: INPUT,
            write: Write::AddNorm(norm, Gain::One),
            ..Step::residual(Mixer::Identity(Identity))
        };
        let kept = Step {
            write: Write::Set(INPUT),
            ..Step::residual(Mixer::Identity(Identity))
        };
        steps.insert(1, again);
        steps.insert(0, kept);
        steps
    }));
}
