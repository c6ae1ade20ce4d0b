//! What the table of architectures says about a type, read off the description of the
//! configuration that its class has by default.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::registry::ModelType;
use crate::{
    Activation, Attention, Config, FeedForward, KeySelection, KeyValue, Layer, Leaf, LengthLimit,
    Mask, Mixer, ModelSpec, NormKind, NormSpan, Position, PositionTable, RouterScore, Source,
    SpecError, Stack, Step, WeightIndex, Write,
};

/// Facts about one supported type.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Facts {
    /// `model_type` of the configuration.
    pub model_type: String,
    /// The family that describes it.
    pub family: &'static str,
    /// Its classes that are supported.
    pub classes: Vec<String>,
    /// Stacks, in order of execution.
    pub stacks: Vec<&'static str>,
    /// Kinds of mixers.
    pub mixers: BTreeSet<String>,
    /// How positions enter.
    pub positions: BTreeSet<&'static str>,
    /// Kinds of norms, and where they stand.
    pub norms: BTreeSet<String>,
    /// How tokens choose experts, where there are any.
    pub mixture_of_experts: Option<&'static str>,
    /// Prefix of a layer's tensors, `{}` for its number.
    pub layer_prefix: String,
    /// The token table's tensor.
    pub embedding: String,
    /// The projection to logits.
    pub head: Option<String>,
    /// The code whose outputs its goldens hold.
    pub verified_against: &'static str,
    /// What a model of this type cannot do here, or at all.
    pub limits: Vec<String>,
}

/// Limits that a description does not show.
const LIMITS: &[(&str, &str)] = &[
    (
        "chatglm",
        "a record of the first generation needs its mask and begin tokens",
    ),
    (
        "cohere_compass_text",
        "text only, where the three position axes are equal",
    ),
    ("emu3_text_model", "text only: images as their tokens"),
    (
        "mpt",
        "`clip_qkv` together with `qk_ln`, prefix language models and windows are refused",
    ),
    (
        "original",
        "experts in several consolidated files are refused",
    ),
];

impl Facts {
    /// Describes the type's default configuration.
    pub fn of(row: &ModelType) -> Result<Self, SpecError> {
        let config = Config::of_defaults(row.model_type);
        let spec = (row.describe)(&config)?;
        let classes = config.row()?.classes.keys().cloned().collect();
        let verified_against = if crate::defaults::is_remote(row.model_type) {
            "the code published beside the weights"
        } else {
            "transformers 5.23.0"
        };
        Ok(Self::of_spec(&spec, classes, verified_against))
    }

    fn of_spec(spec: &ModelSpec, classes: Vec<String>, verified_against: &'static str) -> Self {
        let output = spec.output_stack();
        let mixers = spec.stacks.iter().flat_map(stack_mixers);
        Self {
            model_type: spec.model_type.clone(),
            family: spec.family,
            classes,
            stacks: spec.stacks.iter().map(|stack| stack.name).collect(),
            mixers: mixers.clone().map(mixer_name).collect(),
            positions: spec
                .stacks
                .iter()
                .filter_map(|stack| table_name(stack.embedding.positions.as_ref()))
                .chain(mixers.clone().flat_map(position_names))
                .collect(),
            norms: spec.stacks.iter().flat_map(norm_names).collect(),
            mixture_of_experts: mixers.clone().find_map(router_name),
            layer_prefix: output.layers.first().map_or_else(String::new, |layer| {
                // The number is the last one of the prefix.
                let head = layer.prefix.strip_suffix("0.").unwrap_or(&layer.prefix);
                format!("{head}{{}}.")
            }),
            embedding: tensor_name(&output.embedding.leaves, output.embedding.tokens),
            head: output
                .head
                .logits
                .as_ref()
                .map(|logits| tensor_name(&output.head.leaves, logits.projection.weight)),
            verified_against,
            limits: limits(spec),
        }
    }
}

fn limits(spec: &ModelSpec) -> Vec<String> {
    let length = match spec.length_limit {
        LengthLimit::Table(_) => Some("no record is longer than the table of positions".to_owned()),
        LengthLimit::Trained(_) | LengthLimit::None => None,
    };
    let listed = LIMITS.iter();
    let own = listed.filter(|(model_type, _)| *model_type == spec.model_type);
    length
        .into_iter()
        .chain(own.map(|(_, limit)| (*limit).to_owned()))
        .collect()
}

fn stack_mixers(stack: &Stack) -> impl Iterator<Item = &Mixer> + Clone {
    let steps = stack.layers.iter().flat_map(|layer: &Layer| &layer.steps);
    steps
        .flat_map(|step| &step.branches)
        .map(|branch| &branch.mixer)
}

fn tensor_name(leaves: &[Leaf], index: WeightIndex) -> String {
    let source = leaves.get(index.0 as usize).map(|leaf| &leaf.source);
    source
        .and_then(|source: &Source| source.names().first().map(|&name| name.to_owned()))
        .unwrap_or_default()
}

fn mixer_name(mixer: &Mixer) -> String {
    match mixer {
        Mixer::Attention(attention) => attention_name(attention),
        Mixer::LatentAttention(attention) => match attention.selection {
            None => "latent attention".into(),
            Some(KeySelection::Indexer(_)) => "latent attention, keys chosen by an indexer".into(),
            Some(KeySelection::Previous { .. }) => {
                "latent attention, keys of an earlier choice".into()
            }
        },
        Mixer::FeedForward(network) => format!("feed-forward: {}", network_name(network)),
        Mixer::MixtureOfExperts(experts) => {
            format!("mixture of experts: {}", network_name(&experts.expert))
        }
        Mixer::MixtureOfAttention(_) => "mixture of attention heads".into(),
        Mixer::Linear(_) => "linear map".into(),
        Mixer::SparseFeedForward(sparse) => {
            format!("sparse feed-forward: {}", network_name(&sparse.network))
        }
        Mixer::LowRank(_) => "low-rank product".into(),
        Mixer::LayerInput(_) => "per-layer input".into(),
        Mixer::Streams(_) => "update of all residual streams".into(),
        Mixer::Identity => "identity".into(),
    }
}

fn attention_name(attention: &Attention) -> String {
    let heads = match (attention.heads, attention.kv_heads) {
        (_, 1) => "multi-query",
        (heads, kv_heads) if heads == kv_heads => "multi-head",
        _ => "grouped-query",
    };
    let mask = match attention.mask {
        Mask::Full | Mask::FullButPadding(_) => "full",
        Mask::Causal => "causal",
        Mask::CausalAfterContext => "causal after a context",
        Mask::CausalWindow(_) => "causal window",
        Mask::Window(_) => "window",
        Mask::CausalChunk(_) => "causal chunks",
    };
    let shared = match attention.key_value {
        KeyValue::Own { .. } => "",
        KeyValue::OfLayer(_) => ", keys and values of an earlier layer",
    };
    let differential = match attention.differential {
        Some(_) => ", differential",
        None => "",
    };
    let dynamic = match attention.dynamic_mask {
        Some(_) => ", dynamic mask",
        None => "",
    };
    format!("attention: {heads}, {mask}{shared}{differential}{dynamic}")
}

fn network_name(network: &FeedForward) -> String {
    let activation = match network.activation {
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu (tanh)",
        Activation::Gelu10 => "gelu (clipped at 10)",
        Activation::QuickGelu => "quick gelu",
        Activation::Relu => "relu",
        Activation::Relu2 => "squared relu",
        Activation::Relu6 => "relu6",
        Activation::Silu => "silu",
        Activation::Sigmoid => "sigmoid",
        Activation::Tanh => "tanh",
        Activation::Softplus => "softplus",
        Activation::Mish => "mish",
        Activation::LeakyRelu => "leaky relu",
        Activation::HardSwish => "hard swish",
        Activation::Laplace => "laplace",
        Activation::Linear => "linear",
    };
    if network.learned_activation.is_some() {
        "xielu".into()
    } else if network.gate.is_some() {
        format!("gated {activation}")
    } else {
        activation.into()
    }
}

fn table_name(positions: Option<&PositionTable>) -> Option<&'static str> {
    Some(match positions? {
        PositionTable::Learned { .. } => "learned table",
        PositionTable::Sinusoidal(_) => "sinusoidal table",
    })
}

fn position_names(mixer: &Mixer) -> Vec<&'static str> {
    let rope = |interleaved| {
        if interleaved {
            "rope (interleaved)"
        } else {
            "rope"
        }
    };
    match mixer {
        Mixer::Attention(attention) if attention.positions.is_empty() => Vec::new(),
        Mixer::Attention(attention) => attention
            .positions
            .iter()
            .map(|position| match position {
                Position::Rope(rotation) => rope(rotation.interleaved),
                Position::Alibi(_) => "alibi",
                Position::Buckets(_) => "relative buckets",
            })
            .collect(),
        Mixer::LatentAttention(attention) => attention
            .rope
            .iter()
            .map(|rotation| rope(rotation.interleaved))
            .collect(),
        Mixer::MixtureOfAttention(attention) => attention
            .rope
            .iter()
            .map(|rotation| rope(rotation.interleaved))
            .collect(),
        Mixer::FeedForward(_)
        | Mixer::MixtureOfExperts(_)
        | Mixer::SparseFeedForward(_)
        | Mixer::LowRank(_)
        | Mixer::LayerInput(_)
        | Mixer::Streams(_)
        | Mixer::Linear(_)
        | Mixer::Identity => Vec::new(),
    }
}

fn norm_names(stack: &Stack) -> BTreeSet<String> {
    let steps = stack.layers.iter().flat_map(|layer| &layer.steps);
    steps.flat_map(step_norms).collect()
}

fn step_norms(step: &Step) -> Vec<String> {
    let kind = |kind| match kind {
        NormKind::Rms => "RMS",
        NormKind::Layer => "layer",
        NormKind::L2 => "L2",
    };
    let mut names = Vec::new();
    let mut add = |norm: Option<&crate::Norm>, place: &str| {
        names.extend(norm.map(|norm| format!("{} norm, {place}", kind(norm.kind))));
    };
    add(step.pre.as_ref(), "before the sublayer");
    add(step.post.as_ref(), "after the sublayer");
    if let Write::AddNorm(norm, _) = &step.write {
        add(Some(norm), "after the residual sum");
    }
    for branch in &step.branches {
        add(branch.pre.as_ref(), "before the sublayer");
        add(branch.post.as_ref(), "after the sublayer");
        if let Mixer::Attention(attention) = &branch.mixer {
            let query = attention.query_norm.as_ref();
            add(
                query.map(|norm| &norm.norm),
                match query.map(|norm| norm.span) {
                    Some(NormSpan::Full) => "of all query and key heads together",
                    _ => "of each query and key head",
                },
            );
        }
    }
    names
}

fn router_name(mixer: &Mixer) -> Option<&'static str> {
    let router = match mixer {
        Mixer::MixtureOfExperts(experts) => &experts.router,
        Mixer::MixtureOfAttention(attention) => &attention.router,
        _ => return None,
    };
    Some(match router.score {
        RouterScore::Softmax => "softmax over all experts",
        RouterScore::Sigmoid => "sigmoid of each expert",
        RouterScore::SoftmaxOfTopK => "softmax over the chosen experts",
        RouterScore::ProductKeys(_) => "softmax over the chosen pairs of keys",
        RouterScore::SigmoidOfTopK => "sigmoid of the chosen logits",
        RouterScore::SparseMixer { .. } => "sparse mixer",
    })
}
