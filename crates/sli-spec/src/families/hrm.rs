//! The hierarchical reasoning model (HRM): two groups of layers run by turns, each of them several times.

use std::rc::Rc;

use crate::build::NormStyle;
use crate::families::blocks::{Blocks, Gate};
use crate::model_type::{ModelType, limited, row};
use crate::rope::RopeOptions;
use crate::{
    Activation, Config, Described, Identity, Mask, Mixer, PositionIds, Slot, Source, SpecError,
    Split, StartState, Step, Write,
};

/// The registered types.
pub const TYPES: &[ModelType] = &[limited(
    row("hrm_text", hrm_text),
    "tokens of type 1, which see all of each other, have to be the first ones of a record",
)];

/// What the slow group left.
const SLOW: Slot = Slot::Stash(0);

/// What the fast group left.
const FAST: Slot = Slot::Stash(1);

/// Most layers that run one after the other.
const MOST: usize = 10_000;

/// The order of the layers: the fast group so many times, then the slow one, all of it so many times.
#[derive(Clone, Copy)]
struct Turns {
    /// Layers of a group.
    own: usize,
    fast: usize,
    rounds: usize,
}

impl Turns {
    fn new(config: &Config) -> Result<Self, SpecError> {
        // Files before the groups had a key of their own say it where others say how many layers run in all.
        let key = if config.in_file("num_layers_per_stack") {
            "num_layers_per_stack"
        } else {
            "num_hidden_layers"
        };
        let turns = Self {
            own: config.layers(key)?,
            fast: config.layers("L_cycles")?,
            rounds: config.layers("H_cycles")?,
        };
        config.ignore(&["num_hidden_layers", "num_layers_per_stack", "L_bp_cycles"]);
        let all = turns.fast.saturating_add(1).saturating_mul(turns.rounds);
        if all.saturating_mul(turns.own) > MOST {
            let expected = format!("a number that gives at most {MOST} layers in all");
            return Err(config.invalid("H_cycles", expected));
        }
        Ok(turns)
    }

    /// Layers that run one after the other.
    fn layers(self) -> usize {
        self.own * self.rounds * (self.fast + 1)
    }

    /// Whether a layer is of the slow group, and its number in its group.
    fn place(self, layer: usize) -> (bool, usize) {
        let turn = layer / self.own;
        (turn % (self.fast + 1) == self.fast, layer % self.own)
    }
}

/// HRM's language model.
pub fn hrm_text(config: &Config) -> Result<Described, SpecError> {
    let turns = Turns::new(config)?;
    let norm = NormStyle {
        weight: false,
        ..NormStyle::rms(config.positive("rms_norm_eps")?)
    };
    let heads = config.heads("num_attention_heads")?;
    let hidden = config.size("hidden_size")?;
    if !hidden.is_multiple_of(heads) {
        return Err(config.invalid("num_attention_heads", format!("a divisor of {hidden}")));
    }
    let head_dim = config.heads("head_dim")?;
    let inner = config.size("intermediate_size")?;
    let sizes = [heads, heads, head_dim];
    let mut model = Blocks::sized(config, norm, turns.layers(), [hidden, inner], sizes)?;
    model.family = "hrm";
    model.ignored.clear();
    model.activation = config.activation("hidden_act")?;
    model.set_attention_bias(config.flag("attention_bias")?);
    model.set_network_bias(config.flag("mlp_bias")?);
    model.gate = Some(Gate {
        name: "self_attn.gate_proj",
        per_head: false,
        bias: model.output_bias,
        activation: Activation::Sigmoid,
        head_bias: None,
    });
    let scale = config.optional_number("embedding_scale")?;
    model.embedding_scale = match scale {
        Some(scale) => scale,
        None => 1.0 / config.positive("initializer_range")?,
    };
    model.rotate(&RopeOptions::new(head_dim))?;
    if config.flag("prefix_lm")? {
        model.masks.fill(Mask::CausalAfterContext);
        model.position_ids = PositionIds::OfKinds(1);
    }
    model.may_look_ahead = false;
    model.places = Some(
        (0..turns.layers())
            .map(|layer| place(turns, layer))
            .collect(),
    );
    let wide = heads * head_dim;
    model.stored = Some(Rc::new(move |name| stored(name, [wide, inner])));
    model.further_input = Some(Rc::new(move |leaves, embedding| {
        embedding.start = Some(StartState {
            kept: SLOW,
            addend: Some(leaves.flat("z_L_init", hidden)),
        });
    }));
    model.layer_of = Some(Rc::new(move |own, leaves, layer| {
        let (is_slow, number) = turns.place(layer);
        let mut steps = Vec::new();
        // The first layer starts from the sum already.
        if number == 0 && layer > 0 {
            steps.push(copy(SLOW, Write::Set(Slot::Hidden)));
            steps.push(copy(FAST, Write::Add));
        }
        steps.extend(own.steps(leaves, layer));
        if number + 1 == turns.own && layer + 1 < turns.layers() {
            let target = if is_slow { SLOW } else { FAST };
            steps.push(Step {
                pre: Some(leaves.norm("final_norm", own.hidden_size, own.norm)),
                ..copy(Slot::Hidden, Write::Set(target))
            });
        }
        steps
    }));
    model.build()
}

/// Where the tensors of a layer are.
fn place(turns: Turns, layer: usize) -> String {
    let (is_slow, number) = turns.place(layer);
    let group = if is_slow { "H" } else { "L" };
    format!("{group}_module.layers.{number}")
}

/// The slot's content to where it is written.
fn copy(read: Slot, write: Write) -> Step {
    Step {
        read,
        write,
        ..Step::residual(Mixer::Identity(Identity))
    }
}

/// Files have the gate, queries, keys and values of an attention in one tensor, and both projections into a network in
/// another: `[rows of each of the four, rows of each of the two]`.
fn stored(name: &str, [wide, inner]: [usize; 2]) -> Source {
    let of_attention = ["gate_proj", "q_proj", "k_proj", "v_proj"];
    for (part, own) in of_attention.iter().enumerate() {
        if let Some(layer) = name.strip_suffix(&format!("self_attn.{own}.weight")) {
            let all = Source::tensor(format!("{layer}attn.gqkv_proj.weight"));
            return all.part(Split::Rows(vec![wide; of_attention.len()]), part);
        }
    }
    for (part, own) in ["gate_proj", "up_proj"].iter().enumerate() {
        if let Some(layer) = name.strip_suffix(&format!("mlp.{own}.weight")) {
            let both = Source::tensor(format!("{layer}mlp.gate_up_proj.weight"));
            return both.part(Split::Rows(vec![inner; 2]), part);
        }
    }
    Source::tensor(name.replace(".self_attn.o_proj.", ".attn.o_proj."))
}
