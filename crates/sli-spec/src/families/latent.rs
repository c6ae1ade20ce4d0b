//! Multi-head latent attention: how its weights are named.

use crate::build::{Leaves, NormStyle};
use crate::families::blocks::Gate;
use crate::rope::{Rope, RopeOptions, RopeScaling};
use crate::{
    Activation, Config, HandedLatent, HeadTemperature, Indexer, KeyPool, KeySelection,
    LatentAttention, Linear, Mask, Mixer, OutputGate, Pools, QueryTemperature, Shard, SpecError,
    Split,
};

/// What all layers of a model have in common.
#[derive(Clone, Debug)]
pub struct Latent {
    /// Features of the hidden state.
    pub hidden_size: usize,
    /// Query heads.
    pub heads: usize,
    /// Unrotated features of a head.
    pub nope_dim: usize,
    /// Rotated features of a head.
    pub rope_dim: usize,
    /// Features of a value head.
    pub value_dim: usize,
    /// Rank of the key/value latent.
    pub kv_rank: usize,
    /// Rank of the queries, where they are low-rank too.
    pub q_rank: Option<usize>,
    /// The projections from and to the hidden state have addends.
    pub bias: bool,
    /// Norm of the latents.
    pub norm: NormStyle,
    /// Rotation of queries and the shared key.
    pub rope: Option<Rope>,
    /// Factor on `q k`.
    pub scale: f64,
    /// Factor on the query by its position.
    pub temperature: Option<QueryTemperature>,
    /// Learned factors on the query's heads by its position, by the place of their tensors.
    pub head_temperature: Option<&'static str>,
    /// Where among what layers hand on the latent of keys and values stands, if layers share it.
    pub handed: Option<HandedLatent>,
    /// It is that of an earlier layer.
    pub is_handed: bool,
    /// Factors on the latents of queries and of keys and values.
    pub latent_scales: [f64; 2],
    /// Gate on the heads' outputs.
    pub gate: Option<Gate>,
    /// Queries and a sigmoid gate of every feature are one projection, of the latent with and without its norm.
    pub gated_queries: bool,
    /// Norm of the shared rotated part of the keys, by its name.
    pub shared_key_norm: Option<&'static str>,
    /// Learned logits, one a head, by their name.
    pub sinks: Option<&'static str>,
}

impl Latent {
    /// DeepSeek's keys; the latents' norms have an epsilon of their own.
    pub fn new(config: &Config, interleaved: bool) -> Result<Self, SpecError> {
        Self::sized(config, interleaved, |config| config.size("v_head_dim"))
    }

    /// [`Self::new`] with the features of a value head from elsewhere.
    pub fn sized(
        config: &Config,
        interleaved: bool,
        value_dim: impl Fn(&Config) -> Result<usize, SpecError>,
    ) -> Result<Self, SpecError> {
        let rope_dim = config.size("qk_rope_head_dim")?;
        let options = RopeOptions {
            interleaved,
            ..RopeOptions::new(rope_dim)
        };
        let rope = Rope::from_config(config, &options)?;
        Self::rotated(config, rope, rope_dim, value_dim(config)?)
    }

    /// [`Self::new`] without rotation.
    pub fn unrotated(config: &Config) -> Result<Self, SpecError> {
        let rope_dim = config.size("qk_rope_head_dim")?;
        Self::rotated(config, None, rope_dim, config.size("v_head_dim")?)
    }

    /// [`Self::new`] where the rotation is described as one of a part of the head.
    pub fn partial(config: &Config, interleaved: bool) -> Result<Self, SpecError> {
        let rope_dim = config.size("qk_rope_head_dim")?;
        let dim = config.size("qk_nope_head_dim")? + rope_dim;
        // The reference's rotation goes by a file's own size of a head, its attention does not.
        let own = config.in_file("head_dim").then(|| config.size("head_dim"));
        let head = own.transpose()?.unwrap_or(dim);
        let mut options = RopeOptions {
            interleaved,
            partial: true,
            default_partial: rope_dim as f64 / dim as f64,
            ..RopeOptions::new(head)
        };
        // Frequencies that nothing scales do not look at the part.
        if let Some(parameters) = Rope::parameters(config, &options)? {
            let older = parameters.optional_text("type")?;
            let rope_type = parameters.optional_text("rope_type")?.or(older);
            if rope_type.is_none_or(|rope_type| rope_type == "default") {
                options.partial = false;
                options.default_partial = 1.0;
            }
        }
        let described =
            config.nested("rope_parameters")?.is_some() || config.nested("rope_scaling")?.is_some();
        let mut rope = Rope::from_config(config, &options)?;
        if let (Some(rope), false) = (&mut rope, described) {
            rope.scaling = RopeScaling::Yarn {
                factor: 128.0,
                original: 8192.0,
                attention_factor: 1.0,
                beta_fast: 32.0,
                beta_slow: 1.0,
                truncate: true,
            };
        }
        if rope.as_ref().is_some_and(|rope| rope.dims != rope_dim) {
            return Err(config.invalid("qk_rope_head_dim", "the rotated part of a head"));
        }
        let mut latent = Self::rotated(config, rope, rope_dim, config.size("v_head_dim")?)?;
        if !described {
            latent.scale *= (0.1 * 128f64.ln() + 1.0).powi(2);
        }
        Ok(latent)
    }

    /// [`Self::new`] with the rotation and the sizes of a rotated part and of a value head from elsewhere.
    pub fn rotated(
        config: &Config,
        rope: Option<Rope>,
        rope_dim: usize,
        value_dim: usize,
    ) -> Result<Self, SpecError> {
        // Derived from the sizes that are read.
        config.ignore(&["head_dim", "qk_head_dim"]);
        let heads = config.heads("num_attention_heads")?;
        let kv_heads = config.optional_heads("num_key_value_heads")?;
        // The reference repeats every key head `heads / kv_heads` times, rounded down.
        if kv_heads.is_some_and(|kv_heads| heads / kv_heads != 1) {
            return Err(config.unsupported(
                "num_key_value_heads",
                "latent attention has as many key heads as query heads",
            ));
        }
        let nope_dim = config.size("qk_nope_head_dim")?;
        Ok(Self {
            hidden_size: config.size("hidden_size")?,
            heads,
            nope_dim,
            rope_dim,
            value_dim,
            kv_rank: config.size("kv_lora_rank")?,
            q_rank: config.optional_size("q_lora_rank")?,
            bias: config.flag("attention_bias")?,
            norm: NormStyle::rms(1e-6),
            scale: ((nope_dim + rope_dim) as f64).powf(-0.5) * magnitude(config, rope.as_ref())?,
            rope,
            temperature: None,
            head_temperature: None,
            handed: None,
            is_handed: false,
            latent_scales: [1.0, 1.0],
            gate: None,
            gated_queries: false,
            shared_key_norm: None,
            sinks: None,
        })
    }

    /// The mixer, with its weights under `place`.
    pub fn build(
        &self,
        leaves: &mut Leaves,
        place: &str,
        mask: Mask,
        selection: impl FnOnce(&mut Leaves) -> Option<KeySelection>,
    ) -> Mixer {
        let dim = self.nope_dim + self.rope_dim;
        let hidden = self.hidden_size;
        let name = |part: &str| format!("{place}.{part}");
        let wide = self.heads * self.value_dim;
        let mut gate = None;
        let (query_down, query) = match self.q_rank {
            Some(rank) => {
                let down = leaves.linear(
                    &name("q_a_proj"),
                    [rank, hidden],
                    self.bias,
                    Shard::Replicate,
                );
                let norm = leaves.norm(&name("q_a_layernorm"), rank, self.norm);
                let up = if self.gated_queries {
                    let [up, own] = self.gated(leaves, &name("q_b_proj.weight"), rank);
                    gate = Some(own);
                    up
                } else {
                    let shape = [self.heads * dim, rank];
                    leaves.linear(&name("q_b_proj"), shape, false, Shard::Column)
                };
                (Some((down, norm)), up)
            }
            None => {
                let shape = [self.heads * dim, hidden];
                (
                    None,
                    leaves.linear(&name("q_proj"), shape, false, Shard::Column),
                )
            }
        };
        let key_value_down = (!self.is_handed).then(|| {
            let shape = [self.kv_rank + self.rope_dim, hidden];
            let down = name("kv_a_proj_with_mqa");
            let down = leaves.linear(&down, shape, self.bias, Shard::Replicate);
            let norm = leaves.norm(&name("kv_a_layernorm"), self.kv_rank, self.norm);
            (down, norm)
        });
        let shared_key_norm = self
            .shared_key_norm
            .map(|part| leaves.norm(&name(part), self.rope_dim, self.norm));
        let shape = [self.heads * (self.nope_dim + self.value_dim), self.kv_rank];
        let key_value_up = leaves.linear(&name("kv_b_proj"), shape, false, Shard::Column);
        let head_temperature = self
            .head_temperature
            .map(|part| head_temperature(leaves, &name(part), self.heads));
        let selection = selection(leaves);
        let sinks = self.sinks.map(|part| {
            let source = leaves.tensor(&name(part));
            leaves.weight(source, &[self.heads], Shard::Column)
        });
        let own = gate.map(|projection| OutputGate {
            projection,
            of_latent: true,
            per_head: false,
            activation: Activation::Sigmoid,
            head_bias: None,
        });
        let gate = own.or_else(|| {
            let gate = self.gate?;
            Some(gate.build(leaves, hidden, [self.heads, wide]))
        });
        let shape = [hidden, wide];
        let output = leaves.linear(&name("o_proj"), shape, self.bias, Shard::Row);
        Mixer::LatentAttention(Box::new(LatentAttention {
            heads: self.heads,
            nope_dim: self.nope_dim,
            rope_dim: self.rope_dim,
            value_dim: self.value_dim,
            kv_rank: self.kv_rank,
            query_down,
            query,
            sees_raw_latent: self.gated_queries,
            key_value_down,
            handed: self.handed,
            shared_key_norm,
            key_value_up,
            output,
            rope: self.rope.clone(),
            query_latent_scale: self.latent_scales[0],
            key_value_latent_scale: self.latent_scales[1],
            mask,
            scale: self.scale,
            query_temperature: self.temperature,
            head_temperature,
            sinks,
            selection,
            gate,
        }))
    }
}

impl Latent {
    /// The projections to queries and gate, which stand head by head in one tensor and see the latent twice.
    fn gated(&self, leaves: &mut Leaves, name: &str, rank: usize) -> [Linear; 2] {
        let dim = self.nope_dim + self.rope_dim;
        let both = leaves.tensor(name);
        let split = Split::Groups {
            groups: self.heads,
            rows: vec![dim, self.value_dim],
        };
        [(0, dim), (1, self.value_dim)].map(|(part, rows)| {
            let source = both.clone().part(split.clone(), part);
            let shape = [self.heads * rows, 2 * rank];
            leaves.linear_of(source, None, shape, Shard::Column)
        })
    }
}

/// Learned factors on heads, with their tensors in this place.
fn head_temperature(leaves: &mut Leaves, place: &str, heads: usize) -> HeadTemperature {
    let mut vector = |part: &str| {
        let source = leaves.tensor(&format!("{place}.{part}"));
        leaves.weight(source, &[heads], Shard::Column)
    };
    HeadTemperature {
        scale: vector("scale"),
        bias: vector("bias"),
    }
}

/// The lightning indexer's sizes.
#[derive(Clone, Debug)]
pub struct IndexerSizes {
    /// Query heads.
    pub heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Keys or pools per query, at most.
    pub top_k: usize,
    /// Features that queries are of: the rank of their latent, or those of the hidden state.
    pub query_width: usize,
    /// Norm of the hidden state in front of the queries, where there is no latent.
    pub query_norm: Option<NormStyle>,
    /// Learned factors on the queries' heads by their position, by the place of their tensors.
    pub head_temperature: Option<&'static str>,
    /// Rotation of some features.
    pub rope: Option<Rope>,
    /// Norm of the keys.
    pub key_norm: NormStyle,
    /// Keys that are chosen together, where they are.
    pub pools: Option<Pools>,
}

impl IndexerSizes {
    /// The usual keys; the first features rotate as those of the attention do.
    pub fn read(config: &Config, latent: &Latent) -> Result<Self, SpecError> {
        match latent.q_rank {
            Some(q_rank) => Self::of_width(config, latent, q_rank),
            None => Err(config.missing("q_lora_rank")),
        }
    }

    /// [`Self::read`] with queries of something of this width.
    pub fn of_width(
        config: &Config,
        latent: &Latent,
        query_width: usize,
    ) -> Result<Self, SpecError> {
        let sizes = Self {
            heads: config.heads("index_n_heads")?,
            head_dim: config.size("index_head_dim")?,
            top_k: config.size("index_topk")?,
            query_width,
            query_norm: None,
            head_temperature: None,
            rope: latent.rope.clone(),
            key_norm: NormStyle::layer(1e-6),
            pools: None,
        };
        if sizes.head_dim < latent.rope_dim {
            return Err(config.invalid("index_head_dim", format!("at least {}", latent.rope_dim)));
        }
        Ok(sizes)
    }

    /// The choice of a layer, which is its own or that of an earlier one.
    pub fn selection(&self, leaves: &mut Leaves, hidden: usize, is_own: bool) -> KeySelection {
        if is_own {
            return KeySelection::Indexer(Box::new(self.build(leaves, hidden)));
        }
        KeySelection::Previous {
            top_k: self.top_k,
            pools: self.pools.unwrap_or(Pools::NONE),
        }
    }

    /// The indexer of a layer.
    pub fn build(&self, leaves: &mut Leaves, hidden_size: usize) -> Indexer {
        let place = |part: &str| format!("self_attn.indexer.{part}");
        let query_norm = self
            .query_norm
            .map(|style| leaves.norm(&place("q_input_norm"), self.query_width, style));
        let shape = [self.heads * self.head_dim, self.query_width];
        let query = leaves.linear(&place("wq_b"), shape, false, Shard::Replicate);
        let head_temperature = self
            .head_temperature
            .map(|part| head_temperature(leaves, &place(part), self.heads));
        let shape = [self.head_dim, hidden_size];
        let key = leaves.linear(&place("wk"), shape, false, Shard::Replicate);
        let key_norm = leaves.norm(&place("k_norm"), self.head_dim, self.key_norm);
        let pool = self.pools.map(|pools| {
            let gate = leaves.tensor(&place("index_kpool_compress_gate"));
            let shape = [self.head_dim, hidden_size];
            KeyPool {
                pools,
                gate: leaves.linear_of(gate, None, shape, Shard::Replicate),
                bias: leaves.flat(
                    &place("index_kpool_compress_ape"),
                    pools.size * self.head_dim,
                ),
            }
        });
        let shape = [self.heads, hidden_size];
        let weights = leaves.linear(&place("weights_proj"), shape, false, Shard::Replicate);
        Indexer {
            heads: self.heads,
            head_dim: self.head_dim,
            query,
            query_norm,
            head_temperature,
            key,
            key_norm,
            weights,
            rope: self.rope.clone(),
            top_k: self.top_k,
            pool,
        }
    }
}

/// YaRN's correction of the attention scale: `(0.1 * mscale_all_dim * ln(factor) + 1)^2`, whatever
/// the rope type, if the file has the key.
fn magnitude(config: &Config, rope: Option<&Rope>) -> Result<f64, SpecError> {
    let Some(rope) = rope else { return Ok(1.0) };
    if rope.scaling == RopeScaling::Default {
        return Ok(1.0);
    }
    let object = match config.nested("rope_scaling")? {
        Some(older) => Some(older),
        None => config.nested("rope_parameters")?,
    };
    let Some(object) = object else { return Ok(1.0) };
    match object.optional_number("mscale_all_dim")? {
        Some(weight) if weight != 0.0 => {
            let factor = object.positive("factor")?;
            let mscale = if factor <= 1.0 {
                1.0
            } else {
                0.1 * weight * factor.ln() + 1.0
            };
            Ok(mscale * mscale)
        }
        _ => Ok(1.0),
    }
}
