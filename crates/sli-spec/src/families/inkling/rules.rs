//! What the types say in the same way.

use crate::build::{Leaves, NormStyle};
use crate::families::blocks::Blocks;
use crate::{
    Activation, Attention, Config, Convolution, DistanceProfiles, HeadNorm, KeyConvolution, Mask,
    Mixer, Position, QueryTemperature, RowConvolution, Shard, Slot, SpecError, Split, Step, Write,
};

/// Where what a sublayer computes waits for its convolution.
const COMPUTED: Slot = Slot::Stash(0);

/// What the types say in the same way.
#[derive(Clone)]
pub(super) struct Rules {
    /// Kinds of layers.
    pub kinds: Vec<Kind>,
    /// `[heads, key heads, features of a head]` of layers that are near and of the others.
    pub sizes: [[usize; 3]; 2],
    /// Distances that the profiles have, likewise.
    extents: [usize; 2],
    /// Profiles.
    rank: usize,
    /// Rows of a convolution.
    pub kernel: usize,
    /// Of layers of the other kind.
    temperature: Option<QueryTemperature>,
}

impl Rules {
    pub fn new(config: &Config, kinds: Vec<Kind>) -> Result<Self, SpecError> {
        let sizes = |names: [&str; 3]| -> Result<[usize; 3], SpecError> {
            let [heads, kv_heads, head_dim] = names;
            let sizes = [
                config.heads(heads)?,
                config.heads(kv_heads)?,
                config.heads(head_dim)?,
            ];
            if sizes[0].is_multiple_of(sizes[1]) {
                return Ok(sizes);
            }
            Err(config.invalid(kv_heads, format!("a divisor of {}", sizes[0])))
        };
        let floor = config.optional_positive("log_scaling_n_floor")?;
        let alpha = config.number("log_scaling_alpha")?;
        Ok(Self {
            kinds,
            sizes: [
                sizes([
                    "swa_num_attention_heads",
                    "swa_num_key_value_heads",
                    "swa_head_dim",
                ])?,
                sizes(["num_attention_heads", "num_key_value_heads", "head_dim"])?,
            ],
            extents: [
                config.size("sliding_window_size")?,
                config.size("rel_extent")?,
            ],
            rank: config.heads("d_rel")?,
            kernel: config.heads("conv_kernel_size")?,
            temperature: floor.map(|floor| QueryTemperature::Log { alpha, floor }),
        })
    }

    /// Blocks of these sizes; `intermediate_size`: features inside a network.
    pub fn blocks<'c>(
        &self,
        config: &'c Config,
        intermediate_size: usize,
    ) -> Result<Blocks<'c>, SpecError> {
        let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
        let hidden_size = config.size("hidden_size")?;
        let sizes = [hidden_size, intermediate_size];
        let mut model = Blocks::sized(config, norm, self.kinds.len(), sizes, self.sizes[1])?;
        model.family = "inkling";
        model.ignored.clear();
        model.activation = config.activation("hidden_act")?;
        for (mask, kind) in model.masks.iter_mut().zip(&self.kinds) {
            if kind.sees_window {
                *mask = Mask::CausalWindow(self.extents[0]);
            }
        }
        model.may_look_ahead = false;
        Ok(model)
    }

    /// Which of two a layer has.
    pub fn of<T: Copy>(&self, layer: usize, both: [T; 2]) -> T {
        both[usize::from(!self.kinds[layer].is_near)]
    }

    /// The attention of a layer with its profiles; `names`: of what queries mix by, and of the profiles.
    pub fn attention(
        &self,
        own: &Blocks<'_>,
        leaves: &mut Leaves,
        layer: usize,
        (names, norm): (
            [&str; 2],
            impl FnOnce(&mut Leaves, [usize; 2]) -> Option<HeadNorm>,
        ),
    ) -> Attention {
        let mut attention = own.usual_attention(leaves, layer);
        let (rank, extent) = (self.rank, self.of(layer, self.extents));
        let shape = [own.heads * rank, own.hidden_size];
        let [mix, profiles] = names;
        let mix = leaves.linear(mix, shape, false, Shard::Column);
        let norm = norm(leaves, [own.heads, rank]);
        attention
            .positions
            .push(Position::Profiles(Box::new(DistanceProfiles {
                mix,
                norm,
                profiles: leaves.flat(profiles, rank * extent),
                rank,
                extent,
            })));
        if !self.kinds[layer].is_near {
            attention.query_temperature = self.temperature;
        }
        attention
    }

    /// A convolution to whose sums the row itself is added, and which are multiplied by a factor.
    fn convolution(
        &self,
        leaves: &mut Leaves,
        name: &str,
        (columns, scale): (usize, f64),
    ) -> Convolution {
        let shape = [columns, self.kernel];
        Convolution {
            with_row: Some(scale),
            ..leaves.convolution(name, shape, false, Activation::Linear)
        }
    }

    /// Those of keys and values.
    pub fn of_keys(
        &self,
        own: &Blocks<'_>,
        leaves: &mut Leaves,
        (names, scale): ([&str; 2], f64),
    ) -> Option<Box<[KeyConvolution; 2]>> {
        let columns = own.kv_heads * own.head_dim;
        let each = names
            .map(|name| KeyConvolution::Fixed(self.convolution(leaves, name, (columns, scale))));
        Some(Box::new(each))
    }

    /// What adds a computed sublayer to the residual stream, through its convolution.
    pub fn add(&self, own: &Blocks<'_>, leaves: &mut Leaves, (name, scale): (&str, f64)) -> Step {
        let convolution = self.convolution(leaves, name, (own.hidden_size, scale));
        Step {
            read: COMPUTED,
            ..Step::residual(Mixer::RowConvolution(RowConvolution { convolution }))
        }
    }
}

/// A sublayer whose output waits for its convolution.
pub(super) fn computed(
    own: &Blocks<'_>,
    leaves: &mut Leaves,
    (read, norm): (Slot, &str),
    mixer: Mixer,
) -> Step {
    Step {
        read,
        pre: Some(leaves.norm(norm, own.hidden_size, own.norm)),
        write: Write::Set(COMPUTED),
        ..Step::residual(mixer)
    }
}

/// A kind of layers.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    /// It has the sizes of layers with windows.
    pub is_near: bool,
    /// It sees what is in its window.
    pub sees_window: bool,
}

/// Kinds of layers by `layer_types`; `near`: of layers that are not named. `full_sees_window`: whether those that are called full see no
/// more than a window, since the class gives them the mask of what is not `hybrid`.
pub(super) fn kinds(
    config: &Config,
    near: impl Fn(usize) -> bool,
    full_sees_window: bool,
) -> Result<Vec<Kind>, SpecError> {
    let layers = config.layers("num_hidden_layers")?;
    let named = |near: bool| if near { "hybrid_sliding" } else { "hybrid" };
    let kinds = crate::build::layer_types(config, layers, |layer| named(near(layer)))?;
    let kind = |name: &String| match name.as_str() {
        "hybrid_sliding" => Ok(Kind {
            is_near: true,
            sees_window: true,
        }),
        "hybrid" => Ok(Kind {
            is_near: false,
            sees_window: false,
        }),
        "full_attention" => Ok(Kind {
            is_near: false,
            sees_window: full_sees_window,
        }),
        other => {
            let reason = format!("`{other}` is no kind of layer of this type");
            Err(config.unsupported("layer_types", reason))
        }
    };
    kinds.iter().map(kind).collect()
}

/// Leaves of the projection to logits the rows of tokens that there are; `head`: its full name.
pub(super) fn cut_head(
    config: &Config,
    model: &mut Blocks<'_>,
    head: &'static str,
) -> Result<(), SpecError> {
    let all = config.size("vocab_size")?;
    let used = config.optional_size("unpadded_vocab_size")?;
    let Some(used) = used.filter(|&used| used < all) else {
        return Ok(());
    };
    model.outputs = Some(used);
    let name = format!("{head}.weight");
    model.stored = Some(std::rc::Rc::new(move |full| {
        let stored = crate::Source::tensor(full);
        if full == name {
            stored.part(Split::Rows(vec![used, all - used]), 0)
        } else {
            stored
        }
    }));
    Ok(())
}
