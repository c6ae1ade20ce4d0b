//! Encoders whose matrices are blocks on a diagonal: SqueezeBERT, and ConvBERT with its heads of convolution.

use std::rc::Rc;

use super::narrow::{electra_head, narrow};
use super::{BERT, dense_classifier, masked, table, usual};
use crate::build::{Leaves, NormStyle, divided};
use crate::families::blocks::{Arrangement, Blocks, MixerOf, Names, Projections};
use crate::{
    Attention, Beside, Config, Described, KeyValue, Mask, Mixer, Shard, Source, SpanConvolution,
    SpecError,
};

/// SqueezeBERT (Iandola et al. 2020): convolutions of groups with a kernel of 1 in the place of matrices.
pub fn squeezebert(config: &Config) -> Result<Described, SpecError> {
    const GROUPS: [(&str, &str); 6] = [
        (".attention.query.weight", "q_groups"),
        (".attention.key.weight", "k_groups"),
        (".attention.value.weight", "v_groups"),
        (".post_attention.conv1d.weight", "post_attention_groups"),
        (".intermediate.conv1d.weight", "intermediate_groups"),
        (".output.conv1d.weight", "output_groups"),
    ];
    let mut model = masked(config)?;
    if config.size("embedding_size")? != model.hidden_size {
        let problem = "the reference's class needs a token table as wide as the hidden state";
        return Err(config.unsupported("embedding_size", problem));
    }
    model.names = Names {
        layers: "encoder.layers",
        projections: Projections::Separate(["attention.query", "attention.key", "attention.value"]),
        output: "post_attention.conv1d",
        up: "intermediate.conv1d",
        down: "output.conv1d",
        ..model.names
    };
    model.arrangement = Arrangement::after_sum("post_attention.layernorm", "output.layernorm");
    // The layers' epsilon is the class's own.
    model.differ(|own, _| own.norm = NormStyle::layer(1e-12));
    let mut groups = Vec::new();
    for (name, key) in GROUPS {
        let count = config.size(key)?;
        divided(config, key, model.hidden_size, count)?;
        divided(config, key, model.intermediate_size, count)?;
        groups.push((name, count));
    }
    model.stored = Some(Rc::new(move |name: &str| {
        let tensor = Source::tensor(name);
        let found = groups.iter().find(|(ending, _)| name.ends_with(ending));
        match found {
            Some((_, groups)) => Source::Reshape(Box::new(tensor)).block_diagonal(*groups),
            None => tensor,
        }
    }));
    model.build()
}

/// ConvBERT (Jiang et al. 2020).
pub fn convbert(config: &Config) -> Result<Described, SpecError> {
    let names = Names {
        head: "generator_lm_head",
        ..BERT
    };
    config.ignore(&["summary_type", "summary_use_proj", "summary_activation"]);
    let mut model = usual(config, &names)?;
    // It is an encoder, whatever the file says.
    model.stack = "encoder";
    model.masks.fill(Mask::Full);
    model.cross = None;
    model.pooler = None;
    let width = config.size("embedding_size")?;
    model.narrow = narrow(width, "embeddings_project").filter(|_| width != model.hidden_size);
    electra_head(&mut model, width);
    model.sequence_classifier = Some(dense_classifier(model.activation));
    let kernel = config.size("conv_kernel_size")?;
    if kernel.is_multiple_of(2) {
        return Err(config.unsupported("conv_kernel_size", "an even kernel changes lengths"));
    }
    let heads = (model.heads / config.size("head_ratio")?).max(1);
    let head_dim = model.hidden_size / heads / 2;
    if 2 * heads * head_dim != model.hidden_size {
        let expected = format!("{heads} heads of both kinds in {}", model.hidden_size);
        return Err(config.invalid("num_attention_heads", expected));
    }
    (model.heads, model.kv_heads, model.head_dim) = (heads, heads, head_dim);
    model.attention_of = MixerOf::new(move |own: &Blocks<'_>, leaves, _| {
        Some(Mixer::Attention(Box::new(spans(own, leaves, kernel))))
    });
    let groups = config.size("num_groups")?;
    if groups > 1 {
        divided(config, "num_groups", model.hidden_size, groups)?;
        divided(config, "num_groups", model.intermediate_size, groups)?;
        // Stored `[groups, in / groups, out / groups]`.
        model.stored = Some(Rc::new(move |name: &str| {
            let tensor = Source::tensor(name);
            let of_network = name.ends_with(".intermediate.dense.weight")
                || (name.ends_with(".output.dense.weight") && !name.contains(".attention."));
            if of_network {
                let blocks = Source::Reshape(Box::new(tensor)).block_diagonal(groups);
                blocks.transpose()
            } else {
                tensor
            }
        }));
    }
    table(config, &mut model, 0)?;
    model.build()
}

/// The attention and the convolutions beside it.
fn spans(own: &Blocks<'_>, leaves: &mut Leaves, kernel: usize) -> Attention {
    let (hidden, wide) = (own.hidden_size, own.heads * own.head_dim);
    let name = |part: &str| format!("attention.self.{part}");
    let mut linear = |part: &str, shape| leaves.linear(&name(part), shape, true, Shard::Column);
    let query = linear("query", [wide, hidden]);
    let key_value = KeyValue::Own {
        key: linear("key", [wide, hidden]),
        value: Some(linear("value", [wide, hidden])),
    };
    let taps = linear("conv_kernel_layer", [own.heads * kernel, wide]);
    let values = linear("conv_out_layer", [wide, hidden]);
    let keys = name("key_conv_attn_layer");
    let depthwise = leaves.flat(&format!("{keys}.depthwise.weight"), hidden * kernel);
    let flat = |leaves: &Leaves, part: &str| {
        Source::Reshape(Box::new(leaves.tensor(&format!("{keys}.{part}"))))
    };
    let (weight, bias) = (flat(leaves, "pointwise.weight"), flat(leaves, "bias"));
    let pointwise = leaves.linear_of(weight, Some(bias), [wide, hidden], Shard::Column);
    let output = leaves.linear(BERT.output, [hidden, 2 * wide], true, Shard::Row);
    let sizes = [own.heads, own.heads, own.head_dim];
    let beside = Beside::SpanConvolution(SpanConvolution {
        depthwise,
        kernel,
        pointwise,
        taps,
        values,
    });
    Attention {
        beside: Some(Box::new(beside)),
        ..Attention::plain(sizes, query, key_value, output, Mask::Full)
    }
}
