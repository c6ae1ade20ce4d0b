//! What Gemma 3n and Gemma 4 share: inputs of its own for every layer, keys of earlier layers.

use crate::build::{CausalHead, Leaves, NormStyle, divided, mask_of, unused_head};
use crate::families::experts::Experts;
use crate::families::gemma::both_ways_window;
use crate::rope::Rope;
use crate::{
    Activation, Attention, Config, Embedding, HeadNorm, Input, KeyValue, Layer, LayerInput,
    LayerInputs, Leaf, LengthLimit, Linear, Mask, Mixer, ModelSpec, Norm, NormKind, NormSpan,
    Position, PositionIds, Shard, SpecError, Stack, WeightIndex,
};

/// What both generations share.
pub(super) struct Gemma<'c> {
    pub(super) config: &'c Config,
    pub(super) base: &'static str,
    pub(super) hidden_size: usize,
    pub(super) heads: usize,
    pub(super) bias: bool,
    pub(super) norm: NormStyle,
    pub(super) activation: Activation,
    pub(super) kinds: Vec<String>,
    pub(super) masks: Vec<Mask>,
    /// The layer whose keys and values a layer uses.
    pub(super) sources: Vec<Option<usize>>,
    /// Features of a head, key/value heads.
    pub(super) sizes: Vec<[usize; 2]>,
    pub(super) ropes: Vec<Option<Rope>>,
    pub(super) intermediate_sizes: Vec<usize>,
    /// Features of every layer's own input, 0: there is none.
    pub(super) input_size: usize,
    /// A token without a row of its own reads the first row of those inputs.
    pub(super) beyond_is_first: bool,
    /// Experts beside the networks.
    pub(super) experts: Option<Experts>,
}

impl<'c> Gemma<'c> {
    /// Everything but ropes; `kinds` are those of the layers.
    pub(super) fn new(config: &'c Config, kinds: Vec<String>) -> Result<Self, SpecError> {
        let heads = config.heads("num_attention_heads")?;
        let size = [
            config.heads("head_dim")?,
            config.heads("num_key_value_heads")?,
        ];
        let both_ways = config
            .value("use_bidirectional_attention")
            .is_some_and(|value| value == "all");
        let window = both_ways_window(config, both_ways)?;
        let mask = |kind: &String| mask_of(config, kind, window);
        Ok(Self {
            config,
            base: config.row()?.base_prefix.as_str(),
            hidden_size: config.size("hidden_size")?,
            heads,
            bias: config.flag("attention_bias")?,
            norm: NormStyle::rms(config.positive("rms_norm_eps")?),
            activation: config.activation("hidden_activation")?,
            masks: kinds.iter().map(mask).collect::<Result<_, _>>()?,
            sources: sources(config, &kinds)?,
            sizes: vec![size; kinds.len()],
            ropes: vec![None; kinds.len()],
            intermediate_sizes: Vec::new(),
            input_size: config
                .optional_index("hidden_size_per_layer_input")?
                .unwrap_or(0),
            beyond_is_first: false,
            experts: None,
            kinds,
        })
    }

    pub(super) fn layers(&self) -> usize {
        self.kinds.len()
    }

    pub(super) fn attention(&self, leaves: &mut Leaves, layer: usize) -> Result<Mixer, SpecError> {
        let [head_dim, kv_heads] = self.sizes[layer];
        divided(self.config, "num_key_value_heads", self.heads, kv_heads)?;
        let [wide, narrow] = [self.heads, kv_heads].map(|heads| heads * head_dim);
        let hidden = self.hidden_size;
        let mut linear =
            |name: &str, rows| leaves.linear(name, [rows, hidden], self.bias, Shard::Column);
        let query = linear("self_attn.q_proj", wide);
        let source = self.sources[layer];
        let same = self.config.flag("attention_k_eq_v")? && self.kinds[layer] == "full_attention";
        let key_value = match source {
            Some(source) if self.sizes[source] != self.sizes[layer] => {
                let reason = "layers that share keys have heads of other sizes";
                return Err(self.config.unsupported("num_kv_shared_layers", reason));
            }
            Some(source) => KeyValue::OfLayer(source),
            None => KeyValue::Own {
                key: linear("self_attn.k_proj", narrow),
                value: (!same).then(|| linear("self_attn.v_proj", narrow)),
            },
        };
        let head_norm = |norm: Norm| HeadNorm {
            norm,
            span: NormSpan::Head,
            after_rotation: false,
        };
        let query_norm = leaves.norm("self_attn.q_norm", head_dim, self.norm);
        let own = source.is_none();
        let key_norm = own.then(|| leaves.norm("self_attn.k_norm", head_dim, self.norm));
        let value_norm = own.then_some(Norm {
            kind: NormKind::Rms,
            weight: None,
            bias: None,
            epsilon: self.norm.epsilon,
        });
        let output = leaves.linear("self_attn.o_proj", [hidden, wide], self.bias, Shard::Row);
        let sizes = [self.heads, kv_heads, head_dim];
        Ok(Mixer::Attention(Box::new(Attention {
            query_norm: Some(head_norm(query_norm)),
            key_norm: key_norm.map(head_norm),
            value_norm: value_norm.map(head_norm),
            positions: self.ropes[layer]
                .clone()
                .map(Position::Rope)
                .into_iter()
                .collect(),
            scale: 1.0,
            ..Attention::plain(sizes, query, key_value, output, self.masks[layer])
        })))
    }

    pub(super) fn feed_forward(&self, leaves: &mut Leaves, layer: usize) -> crate::FeedForward {
        let names = ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];
        let sizes = [self.hidden_size, self.intermediate_sizes[layer]];
        leaves.gated_feed_forward(names, sizes, false, self.activation)
    }

    pub(super) fn layer_input(&self, leaves: &mut Leaves) -> Mixer {
        let (hidden, width) = (self.hidden_size, self.input_size);
        let gate = leaves.linear(
            "per_layer_input_gate",
            [width, hidden],
            false,
            Shard::Replicate,
        );
        let projection = leaves.linear(
            "per_layer_projection",
            [hidden, width],
            false,
            Shard::Replicate,
        );
        Mixer::LayerInput(LayerInput {
            gate,
            activation: self.activation,
            projection,
        })
    }

    /// Tables and projections in front of the first layer.
    pub(super) fn embedding(
        &self,
        vocab_size: usize,
        streams: usize,
    ) -> Result<Embedding, SpecError> {
        let mut leaves = Leaves::new(self.base);
        let hidden = self.hidden_size;
        let tokens = leaves.table("embed_tokens.weight", vocab_size, hidden);
        let square = [hidden, hidden];
        let streams: Vec<Linear> = (1..streams)
            .map(|stream| {
                let name = format!("altup_projections.{}", stream - 1);
                leaves.linear(&name, square, false, Shard::Replicate)
            })
            .collect();
        let layer_inputs = if self.input_size == 0 {
            self.config.ignore(&["vocab_size_per_layer_input"]);
            None
        } else {
            let rows = self.config.size("vocab_size_per_layer_input")?;
            let columns = self
                .input_size
                .checked_mul(self.layers())
                .filter(|&columns| columns <= 1 << 28)
                .ok_or_else(|| {
                    self.config
                        .invalid("hidden_size_per_layer_input", "a smaller number")
                })?;
            Some(LayerInputs {
                table: leaves.table("embed_tokens_per_layer.weight", rows, columns),
                rows,
                beyond_is_first: self.beyond_is_first,
                table_scale: (self.input_size as f64).sqrt(),
                projection: leaves.linear(
                    "per_layer_model_projection",
                    [columns, hidden],
                    false,
                    Shard::Column,
                ),
                projection_scale: (hidden as f64).powf(-0.5),
                norm: leaves.norm("per_layer_projection_norm", self.input_size, self.norm),
                scale: 0.5_f64.sqrt(),
                width: self.input_size,
                layers: self.layers(),
            })
        };
        Ok(Embedding {
            scale: (hidden as f64).sqrt(),
            streams,
            layer_inputs,
            ..Embedding::of_tokens(tokens, hidden, leaves.finish())
        })
    }

    pub(super) fn model(self, streams: usize, layers: Vec<Layer>) -> Result<ModelSpec, SpecError> {
        let config = self.config;
        let vocab_size = config.size("vocab_size")?;
        let tied = config.flag("tie_word_embeddings")?;
        let head = CausalHead {
            norm: Some((format!("{}norm", self.base), self.norm)),
            projection: "lm_head",
            bias: false,
            tokens: format!("{}embed_tokens.weight", self.base),
            scale: 1.0,
            softcap: config.optional_positive("final_logit_softcapping")?,
        };
        let mut head = head.build(config, [vocab_size, self.hidden_size])?;
        let mut leaves = Leaves::new(self.base);
        let square = [self.hidden_size; 2];
        for stream in 1..streams {
            let name = format!("altup_unembed_projections.{}", stream - 1);
            let linear = leaves.linear(&name, square, false, Shard::Replicate);
            let weight = WeightIndex(linear.weight.0 + head.leaves.len() as u32);
            head.streams.push(Linear { weight, ..linear });
        }
        head.leaves.extend::<Vec<Leaf>>(leaves.finish());
        let mut ignored = unused_head(&config.class()?, tied, &["lm_head.weight"]);
        if self.sources.iter().any(Option::is_some) {
            ignored.extend([
                "*.self_attn.k_proj.*",
                "*.self_attn.v_proj.*",
                "*.self_attn.k_norm.*",
                "*.self_attn.v_norm.*",
            ]);
        }
        let max = config.size("max_position_embeddings")?;
        let limits = self
            .ropes
            .iter()
            .flatten()
            .map(|rope| rope.length_limit(max));
        let limit = limits.filter_map(|limit| match limit {
            LengthLimit::Trained(length) | LengthLimit::Table(length) => Some(length),
            LengthLimit::None => None,
        });
        Ok(ModelSpec {
            model_type: config.model_type()?,
            family: "gemma4",
            base_prefix: self.base,
            ignored,
            vocab_size,
            stacks: vec![Stack {
                name: "decoder",
                hidden_size: self.hidden_size,
                sequence: crate::Sequence::Record,
                input: Input::Tokens(self.embedding(vocab_size, streams)?),
                positions: PositionIds::Sequential,
                limit: limit.min().map_or(LengthLimit::None, LengthLimit::Trained),
                prompt: Vec::new(),
                layers,
                head,
            }],
        })
    }
}

/// The last `num_kv_shared_layers` layers use what the last one of their kind before them has.
pub(super) fn sources(config: &Config, kinds: &[String]) -> Result<Vec<Option<usize>>, SpecError> {
    let shared = config.index("num_kv_shared_layers")?;
    let Some(first) = kinds.len().checked_sub(shared).filter(|&first| first > 0) else {
        return Err(config.invalid("num_kv_shared_layers", "less than the number of layers"));
    };
    (0..kinds.len())
        .map(|layer| {
            if layer < first {
                return Ok(None);
            }
            let source = kinds[..first]
                .iter()
                .rposition(|kind| *kind == kinds[layer]);
            source.map(Some).ok_or_else(|| {
                let expected = "a number that leaves a layer of every kind its own keys";
                config.invalid("num_kv_shared_layers", expected)
            })
        })
        .collect()
}
