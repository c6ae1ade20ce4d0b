//! Zamba and Zamba 2: scans of Mamba and Mamba-2, and in some layers a transformer block in front that sees the
//! embedding beside the hidden state. Its weights are those of few blocks that the layers share in turn.

use std::rc::Rc;

use crate::build::{Leaves, NormStyle, Stored, divided, layer_types};
use crate::families::blocks::{Blocks, Names};
use crate::families::mamba::{Dual, expanded, time_step_rank};
use crate::rope::{Rope, RopeOptions};
use crate::{
    Activation, Adapter, Attention, Config, Described, FeedForward, Identity, KeyValue,
    LengthLimit, Linear, Mask, Mixer, Position, Selection, SelectiveScan, Shard, Slot, Source,
    SpecError, Split, Step, WeightIndex, Write,
};

/// What entered the first layer.
const EMBEDDING: Slot = Slot::Stash(0);
/// What a block makes of it and of the hidden state.
const BLOCK: Slot = Slot::Stash(1);

/// What the scan of a layer is, its weights under a place.
type Scan = dyn Fn(&mut Leaves, &str) -> Mixer;

/// What both types have in common.
struct Shared {
    hidden: usize,
    heads: [usize; 3],
    norm: NormStyle,
    /// Of each layer, the number of the block that is in front of its scan, counted over such layers.
    blocks: Vec<Option<usize>>,
    /// How many have weights of their own.
    own: usize,
    /// Where these stand in a layer.
    place: &'static str,
    rope: Option<Rope>,
}

/// What an adapter of a projection is, by its place: Zamba 2's blocks have some of their own for each use.
struct Adapted {
    rank: usize,
    attention: bool,
}

/// Zamba.
pub fn zamba(config: &Config) -> Result<Described, SpecError> {
    let mut model = blocks(config)?;
    let hidden = model.hidden_size;
    let wide = config.optional_size("attention_hidden_size")?;
    let kinds = kinds_of_zamba(config, model.layers())?;
    if kinds.contains(&true) && wide.is_some_and(|wide| wide != 2 * hidden) {
        let problem = "the attention sees the hidden state and the embedding";
        return Err(config.unsupported("attention_hidden_size", problem));
    }
    let kv_heads = config.heads("num_key_value_heads")?;
    let head_dim = match config.optional_heads("attention_head_dim")? {
        Some(head_dim) => head_dim,
        None => 2 * hidden / model.heads,
    };
    config.ignore(&["use_associative_scan"]);
    let channels = expanded(config, "mamba_expand", hidden)?;
    let groups = config.heads("n_mamba_heads")?;
    let scan = OfGroups {
        hidden,
        channels,
        groups,
        state: config.size("mamba_d_state")?,
        rank: time_step_rank(config, "mamba_dt_rank", hidden)?,
        kernel: config.size("mamba_d_conv")?,
        bias: config.flag("mamba_proj_bias")?,
        convolution_bias: config.flag("mamba_conv_bias")?,
        activation: config.activation("hidden_mamba_act")?,
    };
    divided(config, "n_mamba_heads", channels, groups)?;
    let shared = Shared {
        hidden,
        heads: [model.heads, kv_heads, head_dim],
        norm: model.norm,
        blocks: numbered(&kinds),
        own: shared_blocks(config, kinds.len(), 1)?,
        place: "shared_transf",
        rope: None,
    };
    divided(config, "num_key_value_heads", model.heads, kv_heads)?;
    let scan = move |leaves: &mut Leaves, place: &str| scan.build(leaves, place);
    layers(&mut model, shared, None, Box::new(scan));
    model.build()
}

/// Zamba 2: Mamba-2's scan, blocks of several kinds in turn, adapters.
pub fn zamba2(config: &Config) -> Result<Described, SpecError> {
    let mut model = blocks(config)?;
    let hidden = model.hidden_size;
    // The class reckons these itself, whatever a file says.
    config.ignore(&[
        "hybrid_layer_ids",
        "kv_channels",
        "mamba_headdim",
        "num_query_groups",
        "use_conv_bias",
        "use_mem_eff_path",
    ]);
    let kinds = kinds(config, model.layers(), |layer| ZAMBA2.contains(&layer))?;
    let heads = model.heads;
    let kv_heads = config
        .optional_heads("num_key_value_heads")?
        .unwrap_or(heads);
    divided(config, "num_key_value_heads", heads, kv_heads)?;
    // Reckoned as well, but what a file says of these stays.
    let wide = [serde_json::json!(2 * hidden)];
    config.neutral("attention_hidden_size", &wide, "attention of another width")?;
    let head_dim = match config.optional_heads("attention_head_dim")? {
        Some(head_dim) => head_dim,
        None if (2 * hidden).is_multiple_of(heads) => 2 * hidden / heads,
        None => {
            let expected = format!("a divisor of {}", 2 * hidden);
            return Err(config.invalid("num_attention_heads", expected));
        }
    };
    let bias = config.flag("add_bias_linear")?;
    model.set_network_bias(bias);
    let rope = if config.flag("use_mem_rope")? {
        Rope::from_config(config, &RopeOptions::new(head_dim))?
    } else {
        config.ignore(&["rope_parameters", "rope_scaling", "rope_theta"]);
        None
    };
    let long = config.flag("use_long_context")?;
    if let Some(rope) = &rope {
        let positions = config.size("max_position_embeddings")?;
        if long && rope.length_limit(positions) != LengthLimit::Trained(positions) {
            let problem = "it changes the positions that the rotation goes by";
            return Err(config.unsupported("use_long_context", problem));
        }
        let trained = if long { 16_384 } else { positions };
        model.length_limit = Some(rope.length_limit(trained));
    }
    let features = expanded(config, "mamba_expand", hidden)?;
    let mamba_heads = config.heads("n_mamba_heads")?;
    config.size("chunk_size")?;
    let scan = Dual {
        hidden,
        heads: mamba_heads,
        head_dim: divided(config, "n_mamba_heads", features, mamba_heads)?,
        state: config.size("mamba_d_state")?,
        groups: config.heads("mamba_ngroups")?,
        kernel: config.size("mamba_d_conv")?,
        input_bias: bias,
        output_bias: bias,
        convolution_bias: true,
        activation: Activation::Silu,
        limits: Some([config.number("time_step_min")?, f64::INFINITY]),
        norm: Some((NormStyle::rms(1e-5), false)),
        multipliers: None,
    };
    scan.check(config, ["n_mamba_heads", "mamba_ngroups"], features)?;
    let adapted = Adapted {
        rank: config.size("adapter_rank")?,
        attention: config.flag("use_shared_attention_adapter")?,
    };
    if adapted.attention && (kv_heads != heads || heads * head_dim != 2 * hidden) {
        let problem = "the class makes adapters of keys as wide as those of queries";
        return Err(config.unsupported("use_shared_attention_adapter", problem));
    }
    let shared = Shared {
        hidden,
        heads: [heads, kv_heads, head_dim],
        norm: model.norm,
        blocks: numbered(&kinds),
        own: shared_blocks(config, kinds.len(), config.heads("num_mem_blocks")?)?,
        place: "shared_transformer",
        rope,
    };
    let scan = move |leaves: &mut Leaves, place: &str| scan.build(leaves, place);
    layers(&mut model, shared, Some(adapted), Box::new(scan));
    model.build()
}

/// Sizes, names and ends of both.
fn blocks(config: &Config) -> Result<Blocks<'_>, SpecError> {
    // About new weights, ways to the same sums, and generation.
    config.ignore(&[
        "time_step_floor",
        "time_step_max",
        "time_step_min",
        "use_mamba_kernels",
    ]);
    let hidden = config.size("hidden_size")?;
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let inner = config.optional_size("intermediate_size")?;
    let sizes = [hidden, inner.unwrap_or(4 * hidden)];
    let layers = config.layers("num_hidden_layers")?;
    let heads = config.heads("num_attention_heads")?;
    let mut model = Blocks::sized(config, norm, layers, sizes, [heads, heads, 1])?;
    model.family = "hybrid";
    model.names = Names {
        gate: "feed_forward.gate_proj",
        up: "feed_forward.up_proj",
        down: "feed_forward.down_proj",
        final_norm: "final_layernorm",
        ..Names::USUAL
    };
    config.ignore(&["num_logits_to_keep"]);
    model.activation = config.activation("hidden_act")?;
    model.may_look_ahead = false;
    Ok(model)
}

/// How many blocks have weights of their own: where the class ties nothing, it shares none either.
fn shared_blocks(config: &Config, layers: usize, blocks: usize) -> Result<usize, SpecError> {
    let shares = config.flag("tie_word_embeddings")?;
    Ok(if shares { blocks } else { layers })
}

/// Which layers of Zamba have a block.
fn kinds_of_zamba(config: &Config, layers: usize) -> Result<Vec<bool>, SpecError> {
    let period = config.size("attn_layer_period")?;
    let offset = config.index("attn_layer_offset")?;
    // Counted from the fourth layer on.
    let usual = |layer: usize| layer == 2 || (layer > 2 && (layer - 3) % period == offset);
    kinds(config, layers, usual)
}

/// Layers of Zamba 2 with a block, where the file does not say.
const ZAMBA2: [usize; 9] = [6, 12, 18, 24, 30, 36, 42, 47, 51];

/// Which layers have a block in front of their scan.
fn kinds(
    config: &Config,
    layers: usize,
    usual: impl Fn(usize) -> bool,
) -> Result<Vec<bool>, SpecError> {
    let kinds = layer_types(config, layers, |layer| {
        if usual(layer) { "hybrid" } else { "mamba" }
    })?;
    let kind = |kind: &String| match kind.as_str() {
        "hybrid" => Ok(true),
        // Older files say `mamba`.
        "linear_attention" | "mamba" => Ok(false),
        other => {
            let reason = format!("`{other}` is no kind of layer of this type");
            Err(config.unsupported("layers_block_type", reason))
        }
    };
    kinds.iter().map(kind).collect()
}

/// The layers that have a block, counted.
fn numbered(kinds: &[bool]) -> Vec<Option<usize>> {
    let mut count = 0;
    let number = |&has_block: &bool| {
        has_block.then(|| {
            count += 1;
            count - 1
        })
    };
    kinds.iter().map(number).collect()
}

/// Describes the layers: blocks where there are some, and scans.
fn layers(model: &mut Blocks<'_>, shared: Shared, adapted: Option<Adapted>, scan: Box<Scan>) {
    let has_blocks = shared.blocks.iter().any(Option::is_some);
    // Every copy of a block has the adapters of other uses too.
    model.ignored = vec!["*_adapter_list.*"];
    model.stored = Some(spellings(&shared));
    model.layer_of = Some(Rc::new(move |own, leaves, layer| {
        let mut steps = Vec::new();
        if layer == 0 && has_blocks {
            steps.push(moved(Slot::Hidden, Write::Set(EMBEDDING)));
        }
        let (read, place) = match shared.blocks[layer] {
            Some(number) => {
                steps.extend(shared.steps(own, leaves, number, adapted.as_ref()));
                (BLOCK, "mamba_decoder.")
            }
            None => (Slot::Hidden, ""),
        };
        let norm = format!("{place}input_layernorm");
        let norm = leaves.norm(&norm, own.hidden_size, own.norm);
        let mixer = scan(leaves, &format!("{place}mamba"));
        steps.push(Step {
            read,
            pre: Some(norm),
            ..Step::residual(mixer)
        });
        steps
    }));
}

/// A block is stored with the layer that uses it, or with another one that does.
fn spellings(shared: &Shared) -> Stored {
    let (own, place) = (shared.own, format!(".{}.", shared.place));
    let blocks = shared.blocks.clone();
    Rc::new(move |name: &str| {
        let parts = name.split_once(&place);
        let Some((stack, number, rest)) = parts.and_then(|(layer, rest)| {
            let (stack, number) = layer.rsplit_once('.')?;
            Some((stack, number.parse::<usize>().ok()?, rest))
        }) else {
            return Source::tensor(name);
        };
        let block = |layer: usize| blocks.get(layer).copied().flatten().map(|use_| use_ % own);
        let same = (0..blocks.len()).filter(|&layer| block(layer) == block(number));
        let copy = |layer: usize| Source::tensor(format!("{stack}.{layer}{place}{rest}"));
        Source::Tied {
            own: Box::new(copy(number)),
            all: same.map(copy).collect(),
        }
    })
}

/// A slot's content goes elsewhere.
fn moved(read: Slot, write: Write) -> Step {
    Step {
        read,
        write,
        ..Step::residual(Mixer::Identity(Identity))
    }
}

impl Shared {
    /// The steps of a block: they leave the hidden state and what is added to it for the scan.
    fn steps(
        &self,
        own: &Blocks<'_>,
        leaves: &mut Leaves,
        number: usize,
        adapted: Option<&Adapted>,
    ) -> Vec<Step> {
        let layer = self.blocks.iter().position(|&use_| use_ == Some(number));
        let place = format!(
            "{}{}.{}.{}.",
            own.prefix,
            own.names.layers,
            layer.unwrap_or_default(),
            self.place
        );
        let mut steps = leaves.under(place, |leaves| {
            let norm = leaves.norm("input_layernorm", 2 * self.hidden, self.norm);
            let attention = self.attention(leaves, number, adapted);
            let attention = Step {
                beside: Some(EMBEDDING),
                pre: Some(norm),
                write: Write::Set(BLOCK),
                ..Step::residual(Mixer::Attention(Box::new(attention)))
            };
            let norm = leaves.norm("pre_ff_layernorm", self.hidden, self.norm);
            let network = match adapted {
                Some(adapted) => adapted_network(own, leaves, number, adapted.rank),
                None => own.network(leaves),
            };
            let network = Step {
                read: BLOCK,
                pre: Some(norm),
                write: Write::Set(BLOCK),
                ..Step::residual(Mixer::FeedForward(network))
            };
            vec![attention, network]
        });
        let shape = [self.hidden; 2];
        let linear = leaves.linear("linear", shape, false, Shard::Column);
        steps.push(Step {
            read: BLOCK,
            write: Write::Set(BLOCK),
            ..Step::residual(Mixer::Linear(linear))
        });
        steps.push(moved(Slot::Hidden, Write::AddTo(BLOCK)));
        steps
    }

    fn attention(
        &self,
        leaves: &mut Leaves,
        number: usize,
        adapted: Option<&Adapted>,
    ) -> Attention {
        let [heads, kv_heads, dim] = self.heads;
        let wide = 2 * self.hidden;
        let mut projection = |part: &str, rows: usize| {
            let name = format!("self_attn.{part}_proj");
            let linear = leaves.linear(&name, [rows, wide], false, Shard::Column);
            let rank = adapted.filter(|adapted| adapted.attention);
            let adapter = rank.map(|adapted| {
                let list = format!("self_attn.linear_{part}_adapter_list.{number}");
                adapter(leaves, &list, [rows, wide], adapted.rank, None)
            });
            Linear { adapter, ..linear }
        };
        let query = projection("q", heads * dim);
        let key = projection("k", kv_heads * dim);
        let value = projection("v", kv_heads * dim);
        let shape = [self.hidden, heads * dim];
        let output = leaves.linear("self_attn.o_proj", shape, false, Shard::Row);
        let key_value = KeyValue::Own {
            key,
            value: Some(value),
        };
        Attention {
            scale: (dim as f64 / 2.0).powf(-0.5),
            positions: self.rope.clone().map(Position::Rope).into_iter().collect(),
            ..Attention::plain(self.heads, query, key_value, output, Mask::Causal)
        }
    }
}

/// The adapter of a use; `part`: which half of its rows.
fn adapter(
    leaves: &mut Leaves,
    list: &str,
    [rows, columns]: [usize; 2],
    rank: usize,
    part: Option<usize>,
) -> Adapter {
    let down = leaves.tensor(&format!("{list}.0.weight"));
    let up = leaves.tensor(&format!("{list}.1.weight"));
    let up = match part {
        Some(part) => up.part(Split::Rows(vec![rows; 2]), part),
        None => up,
    };
    Adapter {
        down: leaves.weight(down, &[rank, columns], Shard::Replicate),
        up: leaves.weight(up, &[rows, rank], Shard::Column),
        rank,
    }
}

/// The network of a block, gate above up in one tensor, with the adapter of a use.
fn adapted_network(
    own: &Blocks<'_>,
    leaves: &mut Leaves,
    number: usize,
    rank: usize,
) -> FeedForward {
    let (hidden, inner) = (own.hidden_size, own.intermediate_size);
    let list = format!("feed_forward.gate_up_proj_adapter_list.{number}");
    let mut half = |part: usize| {
        let stored = |parameter: &str| {
            let both = leaves.tensor(&format!("feed_forward.gate_up_proj.{parameter}"));
            both.part(Split::Rows(vec![inner; 2]), part)
        };
        let (weight, bias) = (stored("weight"), own.up_bias.then(|| stored("bias")));
        let linear = leaves.linear_of(weight, bias, [inner, hidden], Shard::Column);
        Linear {
            adapter: Some(adapter(leaves, &list, [inner, hidden], rank, Some(part))),
            ..linear
        }
    };
    let (gate, up) = (half(0), half(1));
    let name = "feed_forward.down_proj";
    let down = leaves.linear(name, [hidden, inner], own.down_bias, Shard::Row);
    FeedForward::plain(Some(gate), up, down, own.activation)
}

/// Zamba's scan: groups of channels that select apart.
#[derive(Clone, Copy)]
struct OfGroups {
    hidden: usize,
    channels: usize,
    groups: usize,
    state: usize,
    rank: usize,
    kernel: usize,
    bias: bool,
    convolution_bias: bool,
    activation: Activation,
}

impl OfGroups {
    fn build(self, leaves: &mut Leaves, place: &str) -> Mixer {
        let Self {
            hidden,
            channels,
            groups,
            state,
            rank,
            ..
        } = self;
        let name = |part: &str| format!("{place}.{part}");
        let each = channels / groups;
        // What is scanned and its gate alternate.
        let halves = |leaves: &Leaves, parameter: &str| {
            let both = leaves.tensor(&name(&format!("in_proj.{parameter}")));
            let half = |part| both.clone().part(Split::Strided { parts: 2 }, part);
            Source::ConcatRows([0, 1].map(half).to_vec())
        };
        let weight = halves(leaves, "weight");
        let bias = self.bias.then(|| halves(leaves, "bias"));
        let input = leaves.linear_of(weight, bias, [2 * channels, hidden], Shard::Column);
        let shape = [channels, self.kernel];
        let bias = self.convolution_bias;
        let convolution = leaves.convolution(&name("conv1d"), shape, bias, self.activation);
        let of_group = |leaves: &Leaves, part: &str, index: usize| Source::Index {
            of: Box::new(leaves.tensor(&name(part))),
            index,
        };
        let selection = (0..groups).map(|group| {
            let rows = [rank, state, state];
            [0, 1, 2].map(|part| {
                let weight = of_group(leaves, "x_proj_weight", group);
                let weight = weight.part(Split::Rows(rows.to_vec()), part);
                leaves.linear_of(weight, None, [rows[part], each], Shard::Replicate)
            })
        });
        let selection = Selection::OfGroups(selection.collect());
        let time_steps = (0..groups).map(|group| {
            let weight = of_group(leaves, "dt_proj_weight", group);
            let bias = of_group(leaves, "dt_proj_bias", group);
            leaves.linear_of(weight, Some(bias), [each, rank], Shard::Replicate)
        });
        let time_steps = time_steps.collect();
        let mut flat =
            |part: &str, elements: usize| -> WeightIndex { leaves.flat(&name(part), elements) };
        let (a_log, skip) = (flat("A_log", channels * state), flat("D", channels));
        let shape = [hidden, channels];
        Mixer::SelectiveScan(Box::new(SelectiveScan {
            channels,
            state,
            groups,
            time_step_rank: rank,
            input,
            convolution,
            selection,
            norms: None,
            time_steps,
            a_log,
            skip,
            // The class knows no other.
            gate_activation: Activation::Silu,
            output: leaves.linear(&name("out_proj"), shape, self.bias, Shard::Row),
        }))
    }
}
