//! `NeoMME` on text: a narrow token table, the embedding mixed into every layer, rows of tokens added to values, and heads
//! that leave out what is of their own values.

use std::rc::Rc;

use crate::build::{NormStyle, layer_types};
use crate::families::blocks::{
    Arrangement, Blocks, Gate, MixerOf, Names, Narrow, Tie, Transform, UnusedHead,
};
use crate::rope::{Rope, RopeOptions};
use crate::{
    Activation, Config, Described, Gain, Identity, LayerInputs, Mask, Mixer, NormSpan, Shard, Slot,
    Source, SpecError, Split, StartState, Step, Write,
};

/// The embedding, which every layer reads again.
const FIRST: Slot = Slot::Stash(0);

/// What enters the attention of a layer.
const MIXED: Slot = Slot::Stash(1);

const FULL: &str = "full_attention";
const WINDOW: &str = "sliding_attention";

/// `NeoMME` without pictures.
pub fn neomme(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&[
        "embedding_dim",
        "patch_size",
        "image_token_id",
        "document_token_id",
    ]);
    let unweighted = NormStyle {
        weight: false,
        ..NormStyle::rms(config.positive("norm_eps")?)
    };
    let mut model = Blocks::new(config, unweighted)?;
    (model.family, model.stack) = ("neomme", "encoder");
    model.names = Names {
        tokens: "embed_tokens.word_embeddings",
        output: "self_attn.output_projection.o_proj",
        final_norm: "final_norm",
        ..Names::USUAL
    };
    model.arrangement = Arrangement::pre("input_layernorm", "post_attention_layernorm");
    model.set_attention_bias(config.flag("attention_bias")?);
    model.set_network_bias(config.flag("mlp_bias")?);
    model.gated = false;
    model.activation = config.activation("hidden_act")?;
    model.query_key_norm = Some((NormSpan::Head, unweighted));
    model.gate = Some(Gate {
        name: "self_attn.output_projection.gate_proj",
        per_head: false,
        bias: false,
        activation: Activation::Sigmoid,
        head_bias: None,
    });
    model.embedding_norm = Some(("embedding_norm", unweighted));
    model.narrow = Some(Narrow {
        width: config.size("embedding_rank")?,
        inward: "embed_tokens.embedding_projection",
        bias: false,
        sum_is_narrow: false,
        trigrams: false,
        beside: 0,
        outward: None,
    });
    model.may_look_ahead = false;
    model.ignored = vec!["*patch_embeddings.*", "multi_vector_head.*", "dense_head.*"];
    let layers = model.layers();
    let kinds = layer_types(config, layers, |layer| {
        if (layer + 1) % 6 == 0 || layer + 1 == layers {
            FULL
        } else {
            WINDOW
        }
    })?;
    let windows = windows(config, &kinds)?;
    model.masks = windows
        .iter()
        .map(|window| window.map_or(Mask::Full, Mask::Window))
        .collect();
    if let Some(ropes) = config.nested("rope_parameters")? {
        // Of kinds that no layer is of.
        let unused = [FULL, WINDOW].into_iter();
        let unused = unused.filter(|kind| !kinds.iter().any(|own| own == kind));
        unused.for_each(|kind| ropes.ignore(&[kind]));
    }
    let width = model.head_dim;
    let rope = |kind: &String| {
        let options = RopeOptions {
            layer_type: Some(kind),
            partial: true,
            default_partial: if kind == FULL { 0.25 } else { 1.0 },
            ..RopeOptions::new(width)
        };
        Rope::from_config(config, &options)
    };
    model.ropes = kinds.iter().map(rope).collect::<Result<_, _>>()?;
    let full: Vec<usize> = (0..layers).filter(|&layer| kinds[layer] == FULL).collect();
    let with_values = [full.first().copied(), full.last().copied()];
    if full.is_empty() {
        return Err(config.invalid("layer_types", format!("at least one `{FULL}`")));
    }
    set_input(&mut model)?;
    let residual = match config.optional_number("residual_multiplier")? {
        Some(factor) => factor,
        None => (2.0 * layers as f64).powf(-0.5),
    };
    set_layers(&mut model, with_values, residual);
    set_head(config, &mut model)?;
    model.build()
}

/// How far the layers see, where not everything.
fn windows(config: &Config, kinds: &[String]) -> Result<Vec<Option<usize>>, SpecError> {
    const LONG: usize = 1024;
    const KEY: &str = "per_layer_config";
    let short = config.optional_size("sliding_window")?;
    let by_layer = config.nested(KEY)?;
    let mut windows = Vec::new();
    let mut sliding = 0;
    for (layer, kind) in kinds.iter().enumerate() {
        if kind != FULL && kind != WINDOW {
            let problem = format!("`{kind}` is no kind of layer of this type");
            return Err(config.unsupported("layer_types", problem));
        }
        let own = match &by_layer {
            Some(all) => all.nested(&layer.to_string())?,
            None => None,
        };
        let window = match (&own, kind == FULL) {
            (Some(own), _) if own.mentions("sliding_window") => {
                own.optional_size("sliding_window")?
            }
            (_, true) if by_layer.is_none() => None,
            (None, false) if by_layer.is_none() && sliding % 2 == 1 => Some(LONG),
            _ => short,
        };
        sliding += usize::from(kind == WINDOW);
        windows.push(window);
    }
    Ok(windows)
}

/// Keeps the embedding, and looks up what is added to values.
fn set_input(model: &mut Blocks<'_>) -> Result<(), SpecError> {
    let (rows, width) = (model.vocabulary()?, model.kv_heads * model.head_dim);
    model.further_input = Some(Rc::new(move |leaves, embedding| {
        embedding.start = Some(StartState {
            kept: FIRST,
            addend: None,
        });
        embedding.layer_inputs = Some(LayerInputs {
            table: Some(leaves.table("value_embeddings.weight", rows, width)),
            rows,
            beyond_is_first: false,
            table_scale: 1.0,
            projected: None,
            scale: 1.0,
            width,
            layers: 1,
        });
    }));
    Ok(())
}

fn set_layers(model: &mut Blocks<'_>, with_values: [Option<usize>; 2], residual: f64) {
    model.attention_of = MixerOf::new(move |own: &Blocks<'_>, leaves, layer| {
        let mut attention = own.usual_attention(leaves, layer);
        attention.values_of_inputs = with_values.contains(&Some(layer));
        let shares = "self_attn.exclusive_self_attention.alpha";
        attention.exclusive = Some(leaves.flat(shares, own.heads));
        Some(Mixer::Attention(Box::new(attention)))
    });
    model.layer_of = Some(Rc::new(move |own, leaves, layer| {
        let mut share = |part| {
            let both = leaves.tensor("lambdas").part(Split::Rows(vec![1; 2]), part);
            Gain::Vector(leaves.weight(both, &[1], Shard::Replicate))
        };
        let shares = [share(0), share(1)];
        let scaled = |slot, gain, write| {
            let mut step = Step {
                read: slot,
                write,
                ..Step::residual(Mixer::Identity(Identity))
            };
            step.branches[0].gain = gain;
            step
        };
        let [own_share, first_share] = shares;
        let mut steps = vec![
            scaled(Slot::Hidden, own_share, Write::Set(MIXED)),
            scaled(FIRST, first_share, Write::AddTo(MIXED)),
        ];
        let mut usual = own.steps(leaves, layer);
        for step in &mut usual {
            step.branches[0].gain = Gain::Constant(residual);
        }
        usual[0].read = MIXED;
        steps.extend(usual);
        steps
    }));
}

/// Logits of the token table, through the transposed projection.
fn set_head(config: &Config, model: &mut Blocks<'_>) -> Result<(), SpecError> {
    const OUTWARD: &str = "unembedding_projection";
    let tied = config.flag("tie_word_embeddings")?;
    model.tie = Tie::Always(tied);
    let width = config.size("embedding_rank")?;
    let own = if tied {
        format!("{}embed_tokens.embedding_projection.weight", model.prefix)
    } else {
        format!("{OUTWARD}.weight")
    };
    model.stored = Some(Rc::new(move |name: &str| {
        if name.strip_suffix(".weight") == Some(OUTWARD) {
            Source::tensor(own.clone()).transpose()
        } else {
            Source::tensor(name)
        }
    }));
    model.transforms = vec![Transform {
        dense: OUTWARD,
        bias: false,
        width,
        activation: Activation::Linear,
        norm: None,
    }];
    model.unused_head = UnusedHead {
        without: &["lm_head.weight", "unembedding_projection.weight"],
        tied: &["lm_head.weight"],
        own: &[],
    };
    Ok(())
}
