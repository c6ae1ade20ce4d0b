//! DeepSeek-V4: attention to a window and to summaries, hyper-connections, experts by token id in the first layers.

use std::rc::Rc;

use crate::build::{Leaves, NormStyle, divided, layer_types};
use crate::families::blocks::{Arrangement, Blocks, Hyper, MixerOf, Residual};
use crate::families::experts::{ExpertTensors, Experts, Shared, SharedTensors};
use crate::rope::{Rope, RopeOptions, RopeScaling};
use crate::{
    ClampedGate, CompressedAttention, Compressor, Config, Described, Mixer, Norm, NormKind,
    Renormalize, RouterScore, Shard, Source, SpecError, Split, SummaryChoice,
};

const WINDOW: &str = "sliding_attention";
const CHOSEN: &str = "compressed_sparse_attention";
const ALL: &str = "heavily_compressed_attention";

/// Experts of layers that choose by token id.
const BY_TOKEN: &str = "hash_moe";

/// What all layers have in common.
struct Sizes {
    hidden: usize,
    heads: usize,
    head_dim: usize,
    q_rank: usize,
    groups: usize,
    rank: usize,
    window: usize,
    norm: NormStyle,
    /// Of layers without and with summaries.
    ropes: [Rope; 2],
    index: IndexSizes,
}

/// The indexer's.
struct IndexSizes {
    heads: usize,
    head_dim: usize,
    top_k: usize,
}

impl Sizes {
    fn read(config: &Config, norm: NormStyle) -> Result<Self, SpecError> {
        let heads = config.heads("num_attention_heads")?;
        let head_dim = config.heads("head_dim")?;
        let groups = config.heads("o_groups")?;
        divided(config, "o_groups", heads * head_dim, groups)?;
        let sizes = Self {
            hidden: config.size("hidden_size")?,
            heads,
            head_dim,
            q_rank: config.size("q_lora_rank")?,
            groups,
            rank: config.size("o_lora_rank")?,
            window: config.size("sliding_window")?,
            norm,
            ropes: ropes(config, head_dim)?,
            index: IndexSizes {
                heads: config.heads("index_n_heads")?,
                head_dim: config.size("index_head_dim")?,
                top_k: config.size("index_topk")?,
            },
        };
        let rotated = sizes.ropes[1].dims;
        if sizes.index.head_dim < rotated {
            return Err(config.invalid("index_head_dim", format!("at least {rotated}")));
        }
        Ok(sizes)
    }

    /// A rotation of the last features of a head.
    fn last(rope: &Rope, head_dim: usize) -> Rope {
        Rope {
            offset: head_dim - rope.dims,
            ..rope.clone()
        }
    }

    /// The mixer of a layer, whose summaries stand for `rate` rows each; they are chosen, or all seen.
    fn build(&self, leaves: &mut Leaves, summaries: Option<(usize, bool)>) -> Mixer {
        let (wide, hidden) = (self.heads * self.head_dim, self.hidden);
        let rope = Self::last(&self.ropes[usize::from(summaries.is_some())], self.head_dim);
        let name = |part: &str| format!("attn.{part}");
        let shard = Shard::Replicate;
        let query_down = (
            leaves.linear(&name("wq_a"), [self.q_rank, hidden], false, shard),
            leaves.norm(&name("q_norm"), self.q_rank, self.norm),
        );
        let query = leaves.linear(&name("wq_b"), [wide, self.q_rank], false, Shard::Column);
        let key = leaves.linear(&name("wkv"), [self.head_dim, hidden], false, shard);
        let key_norm = leaves.norm(&name("norm"), self.head_dim, self.norm);
        let compressor = summaries.map(|(rate, is_chosen)| {
            let shape = [rate, self.head_dim];
            self.compressor(leaves, "attn.compressor", shape, is_chosen)
        });
        let chosen = summaries.filter(|&(_, is_chosen)| is_chosen);
        let choice = chosen.map(|(rate, _)| self.choice(leaves, rate));
        let sinks = leaves.tensor(&name("attn_sink"));
        let sinks = leaves.weight(sinks, &[self.heads], Shard::Column);
        let split = Split::Rows(vec![self.rank; self.groups]);
        let shape = [self.rank, wide / self.groups];
        let groups = (0..self.groups).map(|group| {
            let own = leaves.tensor(&name("wo_a.weight"));
            leaves.linear_of(own.part(split.clone(), group), None, shape, Shard::Column)
        });
        let output_down = groups.collect();
        let shape = [hidden, self.groups * self.rank];
        Mixer::CompressedAttention(Box::new(CompressedAttention {
            heads: self.heads,
            head_dim: self.head_dim,
            query_down,
            query,
            query_norm: Norm {
                kind: NormKind::Rms,
                weight: None,
                bias: None,
                epsilon: self.norm.epsilon,
            },
            key,
            key_norm,
            output_rope: Rope {
                reversed: true,
                ..rope.clone()
            },
            rope,
            window: self.window,
            scale: (self.head_dim as f64).powf(-0.5),
            sinks,
            summaries: compressor,
            choice,
            output_down,
            output: leaves.linear(&name("wo_b"), shape, false, Shard::Row),
        }))
    }

    fn compressor(
        &self,
        leaves: &mut Leaves,
        place: &str,
        [rate, width]: [usize; 2],
        overlaps: bool,
    ) -> Compressor {
        let columns = width * (1 + usize::from(overlaps));
        let name = |part: &str| format!("{place}.{part}");
        let shape = [columns, self.hidden];
        Compressor {
            rate,
            width,
            overlaps,
            value: leaves.linear(&name("wkv"), shape, false, Shard::Replicate),
            gate: leaves.linear(&name("wgate"), shape, false, Shard::Replicate),
            bias: leaves.flat(&name("ape"), rate * columns),
            norm: leaves.norm(&name("norm"), width, self.norm),
            rope: Self::last(&self.ropes[1], width),
        }
    }

    fn choice(&self, leaves: &mut Leaves, rate: usize) -> SummaryChoice {
        let IndexSizes {
            heads,
            head_dim,
            top_k,
        } = self.index;
        let place = "attn.indexer";
        let keys = self.compressor(
            leaves,
            &format!("{place}.compressor"),
            [rate, head_dim],
            true,
        );
        let mut linear = |part: &str, shape| {
            leaves.linear(&format!("{place}.{part}"), shape, false, Shard::Replicate)
        };
        SummaryChoice {
            heads,
            query: linear("wq_b", [heads * head_dim, self.q_rank]),
            rope: Self::last(&self.ropes[1], head_dim),
            keys,
            weights: linear("weights_proj", [heads, self.hidden]),
            top_k,
        }
    }
}

/// The rotations of layers without and with summaries.
fn ropes(config: &Config, head_dim: usize) -> Result<[Rope; 2], SpecError> {
    let usual = config.optional_positive("partial_rotary_factor")?;
    let older = config.optional_size("qk_rope_head_dim")?;
    let older = older.map(|rotated| rotated as f64 / head_dim as f64);
    let partial = usual.or(older).unwrap_or(64.0 / 512.0);
    let thetas = [
        config.positive("rope_theta")?,
        config.positive("compress_rope_theta")?,
    ];
    let options = RopeOptions {
        interleaved: true,
        partial: true,
        ..RopeOptions::new(head_dim)
    };
    let kinds = ["main", "compress"];
    let written = Rope::parameters(config, &options)?;
    let by_kind = |written: &Config| -> Result<bool, SpecError> {
        let own = kinds.map(|kind| Ok::<_, SpecError>(written.nested(kind)?.is_some()));
        let [main, compress] = own;
        Ok(main? && compress?)
    };
    let nested = written.as_ref().map(by_kind).transpose()?.unwrap_or(false);
    if nested {
        // Each has its part of the head, or all of it.
        let of = |kind: &'static str| {
            let options = RopeOptions {
                layer_type: Some(kind),
                theta_keys: &[],
                partial_keys: &[],
                ..options
            };
            let rope = Rope::from_config(config, &options)?;
            rope.ok_or_else(|| config.missing("rope_parameters"))
        };
        let [main, compress] = kinds.map(of);
        return Ok([main?, compress?]);
    }
    let options = RopeOptions {
        default_partial: partial,
        ..options
    };
    let scaled = Rope::from_config(config, &options)?;
    let mut scaled = scaled.ok_or_else(|| config.missing("rope_parameters"))?;
    let factor = written
        .as_ref()
        .map(|written| written.in_file("attention_factor"));
    if let (
        RopeScaling::Yarn {
            attention_factor, ..
        },
        Some(false),
    ) = (&mut scaled.scaling, factor)
    {
        // The class says so where the file does not.
        *attention_factor = 1.0;
    }
    let main = Rope {
        theta: thetas[0],
        scaling: RopeScaling::Default,
        ..scaled.clone()
    };
    scaled.theta = thetas[1];
    Ok([main, scaled])
}

/// The kinds of all layers.
fn kinds(config: &Config, layers: usize) -> Result<Vec<String>, SpecError> {
    let ratios = config.numbers("compress_ratios")?;
    if config.in_file("layer_types") || ratios.is_none() {
        let first = |layer: usize| {
            if layer >= 2 && layer % 2 == 1 {
                CHOSEN
            } else {
                ALL
            }
        };
        return layer_types(config, layers, first);
    }
    let ratios = ratios.unwrap_or_default();
    if ratios.len() < layers {
        let expected = format!("one entry for each of {layers} layers");
        return Err(config.invalid("compress_ratios", expected));
    }
    let kind = |&ratio: &f64| match ratio as usize {
        0 => Ok(WINDOW.to_owned()),
        4 => Ok(CHOSEN.to_owned()),
        128 => Ok(ALL.to_owned()),
        _ => Err(config.unsupported("compress_ratios", "ratios are 0, 4 or 128")),
    };
    ratios.iter().take(layers).map(kind).collect()
}

/// The rows of a summary in every layer, and whether summaries are chosen.
fn summaries(config: &Config, layers: usize) -> Result<Vec<Option<(usize, bool)>>, SpecError> {
    let rates = config.nested("compress_rates")?;
    if let Some(rates) = &rates {
        // Those of kinds that no layer is.
        rates.ignore(&[CHOSEN, ALL]);
    }
    let rate = |kind: &str, older: &str, usual: usize| {
        if let Some(rate) = config.optional_size(older)? {
            return Ok(rate);
        }
        match &rates {
            Some(rates) => rates.size(kind),
            None => Ok(usual),
        }
    };
    let of = |kind: &String| match kind.as_str() {
        WINDOW => Ok(None),
        CHOSEN => Ok(Some((rate(CHOSEN, "compress_rate_csa", 4)?, true))),
        ALL => Ok(Some((rate(ALL, "compress_rate_hca", 128)?, false))),
        _ => Err(config.unsupported("layer_types", "unknown kind of layer of this type")),
    };
    kinds(config, layers)?.iter().map(of).collect()
}

/// Which layers have their experts by token id.
fn by_token(config: &Config, layers: usize) -> Result<Vec<bool>, SpecError> {
    let first = config.optional_index("num_hash_layers")?.unwrap_or(3);
    let Some(kinds) = config.texts("mlp_layer_types")? else {
        return Ok((0..layers).map(|layer| layer < first).collect());
    };
    if kinds.len() < layers {
        let expected = format!("one entry for each of {layers} layers");
        return Err(config.invalid("mlp_layer_types", expected));
    }
    let of = |kind: &String| match kind.as_str() {
        BY_TOKEN => Ok(true),
        "moe" => Ok(false),
        _ => Err(config.unsupported("mlp_layer_types", "layers are `hash_moe` or `moe`")),
    };
    kinds.iter().take(layers).map(of).collect()
}

fn experts(config: &Config, blocks: &Blocks<'_>) -> Result<Experts, SpecError> {
    let score = match config.optional_text("scoring_func")?.as_deref() {
        Some("sqrtsoftplus") => RouterScore::SqrtSoftplus,
        Some("sigmoid") => RouterScore::Sigmoid,
        _ => return Err(config.unsupported("scoring_func", "unknown scores of experts")),
    };
    let method = ["noaux_tc".into()];
    config.neutral("topk_method", &method, "another way to choose experts")?;
    let inner = blocks.intermediate_size;
    let clamped = ClampedGate::of(blocks.activation, config.positive("swiglu_limit")?);
    Ok(Experts {
        tensors: ExpertTensors::Each([
            "ffn.experts.{}.w1.weight",
            "ffn.experts.{}.w3.weight",
            "ffn.experts.{}.w2.weight",
        ]),
        router: "ffn.gate",
        score,
        renormalize: Renormalize::Sum { plus: 1e-20 },
        scale: config.number("routed_scaling_factor")?,
        clamped: Some(clamped),
        shared_clamped: Some(clamped),
        shared: Some(Shared {
            tensors: SharedTensors::Plain([
                "ffn.shared_experts.w1",
                "ffn.shared_experts.w3",
                "ffn.shared_experts.w2",
            ]),
            intermediate_size: inner,
            bias: config.flag("mlp_bias")?,
            activation: blocks.activation,
            gate: None,
        }),
        ..Experts::new(
            config,
            ["n_routed_experts", "num_experts_per_tok"],
            inner,
            blocks.activation,
        )?
    })
}

/// Hyper-connections of `hc_mult` streams, whose mixing weights take `hc_sinkhorn_iters` rounds.
pub(in crate::families) fn hyper(config: &Config, norm_epsilon: f64) -> Result<Hyper, SpecError> {
    Ok(Hyper {
        rounds: Some(config.index("hc_sinkhorn_iters")?),
        ..unmixed(config, norm_epsilon)?
    })
}

/// The same without mixing weights.
pub(super) fn unmixed(config: &Config, norm_epsilon: f64) -> Result<Hyper, SpecError> {
    Ok(Hyper {
        streams: config.heads("hc_mult")?,
        norm_epsilon,
        epsilon: config.number("hc_eps")?,
        write: [2.0, 0.0],
        rounds: None,
        names: [
            ["hc_attn_fn", "hc_attn_base", "hc_attn_scale"],
            ["hc_ffn_fn", "hc_ffn_base", "hc_ffn_scale"],
        ],
        head: None,
    })
}

/// DeepSeek-V4.
pub fn deepseek_v4(config: &Config) -> Result<Described, SpecError> {
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let sizes = Sizes::read(config, norm)?;
    let layers = config.layers("num_hidden_layers")?;
    let inner = config.size("moe_intermediate_size")?;
    let heads = [sizes.heads, 1, sizes.head_dim];
    let mut blocks = Blocks::sized(config, norm, layers, [sizes.hidden, inner], heads)?;
    blocks.family = "deepseek";
    blocks.activation = config.activation("hidden_act")?;
    blocks.arrangement = Arrangement::pre("attn_norm", "ffn_norm");
    blocks.names.head = "head";
    blocks.one_way = true;
    blocks.residual = Residual::Hyper(Hyper {
        head: Some(["hc_head.hc_fn", "hc_head.hc_base", "hc_head.hc_scale"]),
        ..hyper(config, norm.epsilon)?
    });
    // The class does not look at them.
    config.ignore(&[
        "attention_bias",
        "n_shared_experts",
        "norm_topk_prob",
        "num_key_value_heads",
        "num_nextn_predict_layers",
    ]);
    let summaries = summaries(config, layers)?;
    let rope = |own: &Option<(usize, bool)>| Some(sizes.ropes[usize::from(own.is_some())].clone());
    blocks.ropes = summaries.iter().map(rope).collect();
    let by_token = by_token(config, layers)?;
    let experts = experts(config, &blocks)?;
    let tokens = config.size("vocab_size")?;
    let hidden = sizes.hidden;
    blocks.feed_forward_of = MixerOf::new(move |_, leaves, layer| {
        let own = if by_token[layer] {
            Experts {
                table: Some(("ffn.gate.tid2eid", tokens)),
                ..experts.clone()
            }
        } else {
            Experts {
                choice_bias: &["ffn.gate.bias"],
                ..experts.clone()
            }
        };
        Some(own.build(leaves, hidden))
    });
    let sizes = Rc::new(sizes);
    blocks.attention_of =
        MixerOf::new(move |_, leaves, layer| Some(sizes.build(leaves, summaries[layer])));
    // The published files' names, where the class writes others; of the head the class's own.
    let others = [
        ("embed_tokens.weight", "embed.weight"),
        ("head.weight", "lm_head.weight"),
        (".attn.norm.weight", ".attn.kv_norm.weight"),
        ("hc_head.hc_", "hc_head_"),
    ];
    blocks.stored = Some(Rc::new(move |name: &str| {
        let other = others.iter().find(|(own, _)| name.contains(own));
        let other = other.map(|(own, other)| Source::tensor(name.replace(own, other)));
        let spellings = std::iter::once(Source::tensor(name)).chain(other);
        Source::one_of(spellings.collect())
    }));
    blocks.build()
}
