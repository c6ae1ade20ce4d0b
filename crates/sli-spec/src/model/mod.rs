//! The description of a model: stacks of layers, layers of steps, steps of mixers.
//!
//! A [`Layer`]'s `leaves` are the only list of its weights, in the order of use; everything else
//! holds [`crate::WeightIndex`]es into that list. Shapes are `[out, in]`; activations are `[tokens, features]`.

mod embedding;
mod features;
mod head;
mod inputs;
mod joined_tiles;
mod layer;
mod pictures;
mod rows;
mod seen;
mod stem;
mod tiling;
mod transform;
mod view;

use std::collections::{BTreeSet, HashSet};

use serde::Serialize;

use crate::mechanisms::{Mechanism, Mixer};
use crate::parts::rope::StoredTurns;
use crate::parts::{Cut, LengthLimit, Mask, Slot};
use crate::source::{Leaf, Source};
use transform::is_default;

pub use self::embedding::{
    ConstantRow, Embedding, LayerInputs, NgramTable, NgramTables, PositionTable, ProjectedInputs,
    Scattered, Sinusoidal, StartState, TokenDropout, TokenTypes, TypeRule,
};
pub use self::features::{Features, Layout};
pub use self::head::{
    ClassesHead, Classified, Handed, Head, LogitsHead, Merge, Pooler, Predicts, Probabilities,
};
pub use self::inputs::{Becomes, InputKind, InputRow, InputTable, LookedUp, TokenInput};
pub use self::joined_tiles::{JoinedTiles, ScaledTable, TileTables};
pub use self::layer::{Branch, Layer, Step, Write};
pub use self::pictures::{
    AxisTables, BesidePlanes, FrontRow, Interpolation, PackedLimits, PictureLayout, PictureRows,
    Pictures, Place, PlaceTable, PreparedPictures,
};
pub use self::rows::{
    AskedRows, Halving, Joining, PlacedRows, Resampled, Resampling, RowRule, Standard, TokenChoice,
};
pub use self::stem::{NormOf, PatchPlaces, PlaneConvolution, PlaneWeights, StemStep, Surroundings};
pub use self::tiling::Tiling;
pub use self::transform::HeadTransform;
pub use self::view::View;

/// A whole model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelSpec {
    /// `model_type` of the configuration.
    pub model_type: String,
    /// The family that described it.
    pub family: &'static str,
    /// Prefix of the base model in tensor names (`model.`); a checkpoint of the bare base model
    /// lacks it.
    pub base_prefix: &'static str,
    /// Tensors that files of this family carry and that nothing needs (`*` matches any run).
    pub ignored: Vec<&'static str>,
    /// Parameters of the reference's class that files have and nothing here needs (the last layer of a tower that is read
    /// before it).
    #[serde(skip_serializing_if = "is_default")]
    pub unused: u64,
    /// Number of token ids of the last stack, which the logits are of.
    pub vocab_size: usize,
    /// Which of the weights that are tied is the others' where the first of them is not stored.
    pub ties: TieOrder,
    /// The last stack has what the model itself makes of a record: a row for its text, or for each of its pictures.
    #[serde(skip_serializing_if = "is_default")]
    pub pooled_end: PooledEnd,
    /// Vision tower, projector, encoder, decoder: in order of execution.
    pub stacks: Vec<Stack>,
}

/// Whether the rows of the last stack are what the model itself makes of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum PooledEnd {
    /// They are not.
    #[default]
    No,
    /// They are what its pooler gives.
    Pooler,
    /// They are the embeddings that its class is for.
    Embeddings,
}

/// In which order the reference looks for a weight to tie others to, where the one that they are tied to is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum TieOrder {
    /// The token table of each stack, then the head.
    HeadLast,
    /// The head, then the token table of each stack.
    HeadFirst,
    /// The head, then the token tables from the last stack to the first.
    Backwards,
}

/// How position ids follow from a record's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum PositionIds {
    /// 0, 1, 2, ...
    Sequential,
    /// 0 for so many rows of a prompt, and then 0, 1, 2, ...
    BehindPrompt(usize),
    /// RoBERTa: `padding + 1 +` the number of non-padding tokens before; a padding token has
    /// position `padding`.
    AfterPadding {
        /// `pad_token_id`.
        padding: u32,
    },
    /// 0, 1, 2, ...; the tokens of this kind with which a record begins are its context, which sees all of itself (HRM,
    /// PaliGemma). Tokens of no kind are of kind 0.
    OfKinds(u32),
    /// ChatGLM: what stands in front of the first `begin` is the context, which sees all of itself;
    /// the rest fills one mask of the context. Learned tables are not used; a rotation names its
    /// [`PositionAxis`](crate::rope::PositionAxis). A record without `begin`, or without a mask, has
    /// no positions.
    Blocks {
        /// The first token of the generated part.
        begin: u32,
        /// Masks: the first of these that the record has, at its first place.
        masks: [u32; 2],
    },
}

/// Layers that share one width and one sequence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stack {
    /// `decoder`, `encoder`, `vision`, ...: names the output files.
    pub name: &'static str,
    /// Features of the hidden state.
    pub hidden_size: usize,
    /// Features of the buffers beside it.
    pub stash_size: usize,
    /// Which of a record's sequences it reads.
    pub sequence: Sequence,
    /// What enters the first layer.
    pub input: Input,
    /// How positions follow from a record's tokens.
    pub positions: PositionIds,
    /// How long a record may be.
    pub limit: LengthLimit,
    /// What the checkpoint may have of its rotations.
    pub turns: Option<StoredTurns>,
    /// Rows of the token table, or of one of the embedding's, that run in front of every record. Results are of the
    /// record's own tokens only.
    pub prompt: Vec<u32>,
    /// The layers, in order of execution.
    pub layers: Vec<Layer>,
    /// What follows the last layer.
    pub head: Head,
}

/// Which of a record's sequences a stack reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Sequence {
    /// `text` or `input_ids`.
    Record,
    /// `decoder_text` or `decoder_input_ids`.
    Decoder(DecoderInput),
    /// The patches of its pictures, beside its tokens.
    Pictures,
    /// As many rows as follow from the tokens of the first, or from its pictures.
    Rows(RowRule),
}

impl Sequence {
    /// Whether its rows follow from the record's pictures alone.
    pub fn is_of_pictures(self) -> bool {
        matches!(self, Self::Pictures | Self::Rows(RowRule::Pictures(_)))
    }
}

/// What a decoder behind an encoder gets of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DecoderInput {
    /// How labels become its input; `None`: the reference makes none of them.
    pub shift: Option<LabelShift>,
    /// A record without decoder input has its own tokens as labels (BART); else the decoder gets nothing.
    pub repeats: bool,
}

/// Labels shifted right: one token in front, the last one left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LabelShift {
    /// What stands in front.
    pub start: ShiftStart,
    /// In the place of labels that are none (-100).
    pub padding: u32,
    /// The decoder's other tokens do not see padding that labels became.
    pub hides_padding: bool,
}

/// What stands in front of labels that are shifted right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ShiftStart {
    /// This token.
    Token(u32),
    /// The last label, where padding is at the end (mBART: the language).
    LastLabel,
}

impl DecoderInput {
    /// What the record brings along, or labels behind `start`; shifting takes the token of padding too, which is one like
    /// any other.
    pub fn shifted(start: Option<ShiftStart>, padding: Option<u32>) -> Self {
        let shift = |(start, padding)| LabelShift {
            start,
            padding,
            hides_padding: false,
        };
        Self {
            shift: start.zip(padding).map(shift),
            repeats: false,
        }
    }

    /// Whether this input, which labels became, has padding in front of other tokens that the reference hides from them.
    pub fn hides(self, shifted: &[u32]) -> bool {
        let Some(shift) = self.shift.filter(|shift| shift.hides_padding) else {
            return false;
        };
        let first = shifted.iter().position(|&token| token == shift.padding);
        first.is_some_and(|first| shifted[first..].iter().any(|&token| token != shift.padding))
    }

    /// The input that predicts these labels (`None`: -100): them, shifted right. `None` where none follows from them.
    pub fn of_labels(self, labels: impl Iterator<Item = Option<u32>>) -> Option<Vec<u32>> {
        let labels: Vec<Option<u32>> = labels.collect();
        if labels.is_empty() {
            return Some(Vec::new());
        }
        let LabelShift { start, padding, .. } = self.shift?;
        let mut shifted: Vec<u32> = labels
            .into_iter()
            .map(|one| one.unwrap_or(padding))
            .collect();
        let start = match start {
            ShiftStart::Token(token) => token,
            ShiftStart::LastLabel => {
                let count = shifted.iter().filter(|&&token| token != padding).count();
                *shifted.get(count.checked_sub(1)?)?
            }
        };
        shifted.rotate_right(1);
        shifted[0] = start;
        Some(shifted)
    }
}

/// What a stack's rows are made of.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(clippy::large_enum_variant, reason = "a model has a few of them")]
pub enum Input {
    /// A row for each token.
    Tokens(Embedding),
    /// Rows of a tensor that the record brings along.
    Features(Features),
    /// Rows of the ends of earlier stacks, or of a table.
    Resampled(Resampled),
    /// A row for each patch of the record's pictures.
    Pictures(Pictures),
}

impl Input {
    /// Weights in front of the first layer, in order of use.
    pub fn leaves(&self) -> &[Leaf] {
        match self {
            Self::Tokens(embedding) => &embedding.leaves,
            Self::Features(features) => &features.leaves,
            Self::Resampled(rows) => &rows.leaves,
            Self::Pictures(pictures) => &pictures.leaves,
        }
    }

    /// The same, to change them.
    pub fn leaves_mut(&mut self) -> &mut Vec<Leaf> {
        match self {
            Self::Tokens(embedding) => &mut embedding.leaves,
            Self::Features(features) => &mut features.leaves,
            Self::Resampled(rows) => &mut rows.leaves,
            Self::Pictures(pictures) => &mut pictures.leaves,
        }
    }

    /// What tokens become rows by, where rows are of tokens.
    pub fn embedding(&self) -> Option<&Embedding> {
        match self {
            Self::Tokens(embedding) => Some(embedding),
            Self::Features(_) | Self::Resampled(_) | Self::Pictures(_) => None,
        }
    }

    /// What features become rows by, where rows are of features.
    pub fn features(&self) -> Option<&Features> {
        match self {
            Self::Tokens(_) | Self::Resampled(_) | Self::Pictures(_) => None,
            Self::Features(features) => Some(features),
        }
    }

    /// What the ends of earlier stacks become rows by, where rows are of those.
    pub fn resampled(&self) -> Option<&Resampled> {
        match self {
            Self::Tokens(_) | Self::Features(_) | Self::Pictures(_) => None,
            Self::Resampled(rows) => Some(rows),
        }
    }

    /// What pictures become rows by, where rows are of pictures.
    pub fn pictures(&self) -> Option<&Pictures> {
        match self {
            Self::Pictures(pictures) => Some(pictures),
            Self::Tokens(_) | Self::Features(_) | Self::Resampled(_) => None,
        }
    }

    /// What is added by position.
    pub fn positions(&self) -> Option<&PositionTable> {
        match self {
            Self::Tokens(embedding) => embedding.positions.as_ref(),
            Self::Features(features) => features.positions.as_ref(),
            Self::Resampled(_) | Self::Pictures(_) => None,
        }
    }
}

impl Stack {
    /// Token ids from here on are not the stack's: the vocabulary, or the shorter table of the layers' own inputs.
    pub fn usable_tokens(&self) -> usize {
        let Some(embedding) = self.input.embedding() else {
            // Where rows are no tokens, ids that are 0 stand for them.
            return 1;
        };
        let inputs = embedding.layer_inputs.as_ref();
        let shorter = inputs.filter(|inputs| inputs.table.is_some() && !inputs.beyond_is_first);
        shorter.map_or(embedding.vocab_size, |inputs| {
            inputs.rows.min(embedding.vocab_size)
        })
    }
}

impl ModelSpec {
    /// The stack that a record's own tokens enter.
    ///
    /// # Panics
    /// If the description has no stack, which no family produces.
    pub fn input_stack(&self) -> &Stack {
        let mut stacks = self.stacks.iter();
        let own = stacks.find(|stack| stack.sequence == Sequence::Record);
        own.unwrap_or(&self.stacks[0])
    }

    /// What the decoder gets, where there is one behind an encoder.
    pub fn decoder_input(&self) -> Option<DecoderInput> {
        self.stacks.iter().find_map(|stack| match stack.sequence {
            Sequence::Record | Sequence::Pictures | Sequence::Rows(_) => None,
            Sequence::Decoder(input) => Some(input),
        })
    }

    /// The stack of the patches of pictures, where there is one.
    pub fn picture_stack(&self) -> Option<usize> {
        let mut stacks = self.stacks.iter();
        stacks.position(|stack| stack.input.pictures().is_some())
    }

    /// Whether records have pictures beside their tokens.
    pub fn has_pictures_beside(&self) -> bool {
        let mut stacks = self.stacks.iter();
        stacks.any(|stack| stack.sequence == Sequence::Pictures)
    }

    /// What stands in the place of a token, and by which rule the rows of it follow from pictures.
    pub fn scattered(&self) -> Option<(Scattered, PictureRows)> {
        let mut embeddings = self
            .stacks
            .iter()
            .filter_map(|stack| stack.input.embedding());
        let own = embeddings.find_map(|embedding| embedding.scattered)?;
        match self.stacks[own.stack].sequence {
            Sequence::Rows(RowRule::Pictures(rule)) => Some((own, rule)),
            _ => None,
        }
    }

    /// Whether the tokens of a record see some of its pictures: the tensor that says which, and the token behind which they see
    /// one.
    pub fn seen_pictures(&self) -> Option<(&'static str, Option<u32>)> {
        let mut embeddings = self
            .stacks
            .iter()
            .filter_map(|stack| stack.input.embedding());
        embeddings.find_map(|embedding| {
            embedding.inputs.iter().find_map(|input| match input.kind {
                InputKind::Seen { placeholder } => Some((input.name, placeholder)),
                _ => None,
            })
        })
    }

    /// The mask `[tokens, pictures, tiles]` of tokens that see pictures from their placeholders on, up to the next one; what
    /// stands side by side is seen together. Behind a token `last` none is seen.
    pub fn seen_behind(
        tokens: &[u32],
        (placeholder, last): (u32, Option<u32>),
        places: &[Place],
    ) -> Result<Vec<u32>, String> {
        seen::seen_behind(tokens, (placeholder, last), places)
    }

    /// Which rows of its pictures so many tokens of a record see, as [`InputKind::Seen`] has it; `mask` has ones where a token
    /// sees a tile of a picture.
    pub fn seen_beside(
        &self,
        tokens: usize,
        mask: Option<&[u32]>,
        places: &[Place],
    ) -> Result<Vec<u32>, String> {
        let layers = self.stacks.iter().flat_map(|stack| &stack.layers);
        let mut branches = layers
            .flat_map(|layer| &layer.steps)
            .flat_map(|step| &step.branches);
        let of_view = branches.find_map(|branch| match &branch.mixer {
            Mixer::Attention(attention) if attention.mask == Mask::Seen => {
                let seen = attention.stack_end()?.stack;
                Some(self.stacks.get(seen)?.rows_of_views())
            }
            _ => None,
        });
        seen::seen(tokens, mask, (places, of_view.flatten()))
    }

    /// What records ask of their pictures in a second text, where a stack reads it.
    pub fn asked(&self) -> Option<AskedRows> {
        let mut inputs = self
            .stacks
            .iter()
            .filter_map(|stack| stack.input.resampled());
        inputs.find_map(Resampled::asked)
    }

    /// Why a text without pictures is no record of the model, if it is none: the reference's class refuses it.
    pub fn demands_pictures(&self) -> Option<&'static str> {
        let marked = self.scattered().is_some_and(|(own, _)| own.marks.is_some());
        (self.sees_one_picture())
            .then_some("its tokens attend to a picture")
            .or(marked.then_some("some of its tokens stand for a picture"))
    }

    /// Whether all tokens of a record attend to all it has of pictures: then it has one, as the reference's class pairs them.
    pub fn sees_one_picture(&self) -> bool {
        let texts = self.stacks.iter();
        let texts = texts.filter(|stack| !stack.sequence.is_of_pictures());
        let mut attentions = texts
            .flat_map(|stack| &stack.layers)
            .flat_map(|layer| &layer.steps)
            .flat_map(|step| &step.branches);
        attentions.any(|branch| match &branch.mixer {
            Mixer::Attention(attention) if attention.mask != Mask::Seen => {
                let seen = attention.stack_end().map(|end| end.stack);
                let seen = seen.and_then(|stack| self.stacks.get(stack));
                seen.is_some_and(|stack| stack.sequence.is_of_pictures())
            }
            _ => false,
        })
    }

    /// Positions by time, row and column of tokens with pictures, where the model has such.
    pub fn positions_beside(&self, tokens: &[u32], places: &[Place]) -> Option<Vec<[u32; 3]>> {
        let (own, rule) = self.scattered().filter(|(own, _)| own.has_positions)?;
        Some(rule.positions(tokens, own.token, places))
    }

    /// How many rows of a record stacks have that have other rows than its tokens, each once.
    pub fn row_rules(&self) -> Vec<RowRule> {
        let mut rules = Vec::new();
        for stack in &self.stacks {
            if let Sequence::Rows(rule) = stack.sequence
                && !rules.contains(&rule)
            {
                rules.push(rule);
            }
        }
        rules
    }

    /// The stack whose end is pooled to embeddings: the last one of what the record itself says.
    pub fn pooled_stack(&self) -> usize {
        let beside = self.has_pictures_beside();
        let is_own = |stack: &Stack| match stack.sequence {
            Sequence::Decoder(_) | Sequence::Pictures => false,
            Sequence::Rows(RowRule::Pictures(_)) => !beside,
            Sequence::Record | Sequence::Rows(_) => true,
        };
        let stacks = self.stacks.len() - usize::from(self.pooled_end != PooledEnd::No);
        self.stacks[..stacks].iter().rposition(is_own).unwrap_or(0)
    }

    /// Whether a record has pictures or a text, each of which becomes a row of the last stack.
    pub fn is_pair(&self) -> bool {
        let last = self.output_stack().sequence;
        last == Sequence::Rows(RowRule::Either)
    }

    /// The stack whose end is classified, where one is.
    pub fn classified_stack(&self) -> Option<(usize, &Stack)> {
        let mut stacks = self.stacks.iter().enumerate();
        stacks.find(|(_, stack)| stack.head.classes.is_some())
    }

    /// Whether a later stack reads the end of this one.
    pub fn reads_end(&self, stack: usize) -> bool {
        let mut later = self.stacks.iter().skip(stack + 1);
        later.any(|later| later.sources().contains(&stack))
    }

    /// The stack whose end carries the logits: the last one.
    ///
    /// # Panics
    /// If the description has no stack, which no family produces.
    pub fn output_stack(&self) -> &Stack {
        &self.stacks[self.stacks.len() - 1]
    }

    /// Why it cannot be computed as it stands: what would be left out of account.
    pub fn contradiction(&self) -> Option<&'static str> {
        let layers = self.stacks.iter().flat_map(|stack| &stack.layers);
        let mut steps = layers.flat_map(|layer| &layer.steps);
        let of_steps = steps.find_map(Step::contradiction);
        of_steps.or_else(|| self.stacks.iter().find_map(Stack::contradiction))
    }

    /// Number of parameters, a tied weight counted once. `present` tells whether an optional part
    /// (`pooler`, `lm_head`) is there.
    pub fn parameters(&self, present: impl Fn(&str) -> bool) -> u64 {
        let mut seen = HashSet::new();
        // Of a tied weight any use stands for all.
        let weight = |source: &Source| match source {
            Source::Tied { own: _, all } => all.first().unwrap_or(source).clone(),
            _ => source.clone(),
        };
        self.leaves()
            .filter(|leaf| !leaf.constant && leaf.optional.is_none_or(&present))
            .filter(|leaf| seen.insert(weight(&leaf.source)))
            .fold(self.unused, |sum, leaf| sum.saturating_add(leaf.elements()))
    }

    /// Every leaf of the model with the place it belongs to.
    pub fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        self.stacks.iter().flat_map(|stack| {
            stack
                .input
                .leaves()
                .iter()
                .chain(stack.layers.iter().flat_map(|layer| &layer.leaves))
                .chain(&stack.head.leaves)
        })
    }
}

/// How a record divides under [`PositionIds::Blocks`] and [`PositionIds::OfKinds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Tokens in front of the generated part.
    pub context: usize,
    /// Position of the mask that the generated part fills; 0 where there is none.
    pub mask: usize,
}

impl PositionIds {
    /// Whether a record has a context that sees all of itself.
    pub fn divides(self) -> bool {
        match self {
            Self::Blocks { .. } | Self::OfKinds(_) => true,
            Self::Sequential | Self::BehindPrompt(_) | Self::AfterPadding { .. } => false,
        }
    }

    /// How a record divides; an error says what it lacks.
    pub fn blocks(self, tokens: &[u32], types: Option<&[u32]>) -> Result<Option<Blocks>, String> {
        let (begin, masks) = match self {
            Self::Blocks { begin, masks } => (begin, masks),
            Self::OfKinds(kind) => {
                // The record says nothing of its kinds.
                let context = Blocks {
                    context: if kind == 0 { tokens.len() } else { 0 },
                    mask: 0,
                };
                let of_types = |types| context_of(kind, types);
                return types.map_or(Ok(context), of_types).map(Some);
            }
            Self::Sequential | Self::BehindPrompt(_) | Self::AfterPadding { .. } => {
                return Ok(None);
            }
        };
        if tokens.is_empty() {
            return Ok(None);
        }
        let place = |wanted: u32| tokens.iter().position(|&token| token == wanted);
        let context = place(begin)
            .ok_or_else(|| format!("token {begin}, which begins the generated part, is missing"))?;
        let mask = masks
            .into_iter()
            .find_map(place)
            .ok_or_else(|| format!("neither mask token ({} or {}) is there", masks[0], masks[1]))?;
        Ok(Some(Blocks { context, mask }))
    }
}

/// The tokens of a kind in front of all others.
fn context_of(wanted: u32, types: &[u32]) -> Result<Blocks, String> {
    let context = types.iter().take_while(|&&kind| kind == wanted).count();
    let later = types[context..].iter().position(|&kind| kind == wanted);
    match later {
        None => Ok(Blocks { context, mask: 0 }),
        Some(later) => Err(format!(
            "token type {wanted} at position {} follows other types, and only a beginning that sees all of itself is known",
            context + later
        )),
    }
}

/// Keys and values of a layer that outlive it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedKeys {
    /// The layer (0-based).
    pub layer: usize,
    /// Columns of the keys.
    pub keys: usize,
    /// Columns of the values.
    pub values: usize,
}

impl Stack {
    /// Residual streams: the hidden state and the stashes that go beside it.
    pub fn streams(&self) -> usize {
        let embedding = self.input.embedding();
        1 + embedding.map_or(0, |embedding| embedding.streams.len() + embedding.copies)
    }

    /// Why its residual streams cannot be computed as they stand.
    fn contradiction(&self) -> Option<&'static str> {
        let streams = self.streams();
        let steps = self.layers.iter().flat_map(|layer| &layer.steps);
        let mut connections = steps.filter_map(|step| step.connection.as_ref());
        let other = connections.any(|connection| connection.streams() != streams);
        let merged = match &self.head.streams {
            Merge::One | Merge::Attended(_) => streams,
            Merge::Projected(others) => others.len() + 1,
            Merge::Mean(merged) => *merged,
            Merge::Weighed(weights) => weights.streams(),
            Merge::Gated(mean) => mean.streams(),
        };
        let both = self.input.embedding().is_some_and(|embedding| {
            // Copies stand in the first stashes, and so do projections.
            embedding.copies > 0 && !embedding.streams.is_empty()
        });
        let ungathered = self.input.resampled().is_some_and(|rows| {
            !rows.layers.is_empty() && !matches!(rows.rule, Resampling::Gathered { .. })
        });
        (other || both || merged != streams)
            .then_some("residual streams that are not there")
            .or(ungathered.then_some("dense layers of rows that are not gathered"))
    }

    /// The mechanisms of all layers, in order.
    pub fn mechanisms(&self) -> impl Iterator<Item = &dyn Mechanism> + Clone {
        self.layers.iter().flat_map(Layer::mechanisms)
    }

    /// Layers whose keys and values later layers use, with their widths.
    pub fn shared_keys(&self) -> Vec<SharedKeys> {
        let used = |layer| {
            let mut mechanisms = self.mechanisms();
            mechanisms.any(|mechanism| mechanism.keys_of_layer() == Some(layer))
        };
        let layers = self.layers.iter().enumerate();
        layers
            .filter(|&(layer, _)| used(layer))
            .flat_map(|(index, layer)| {
                let keys = layer.mechanisms().filter_map(Mechanism::keys);
                keys.map(move |keys| SharedKeys {
                    layer: index,
                    keys: keys.heads * keys.key,
                    values: keys.heads * keys.value,
                })
            })
            .collect()
    }

    /// Why the rows of a record cannot run in pieces, where they cannot.
    pub fn uncut(&self) -> Option<&'static str> {
        if self.input.pictures().is_some() {
            return Some("pictures are seen whole");
        }
        if self.positions.divides() {
            return Some("positions follow from the whole record");
        }
        let embedding = self.input.embedding();
        let of_embedding = embedding.and_then(Embedding::depends_on_record);
        let mut mechanisms = self.mechanisms();
        of_embedding.or_else(|| {
            mechanisms.find_map(|mechanism| match mechanism.cut() {
                Cut::Nowhere(reason) => Some(reason),
                Cut::Anywhere | Cut::KeysFirst => None,
            })
        })
    }

    /// Keys that a query of its layers may choose, where queries choose.
    pub fn chosen_keys(&self) -> Option<usize> {
        self.mechanisms().filter_map(Mechanism::chosen_keys).max()
    }

    /// Buffers beside the hidden state that its steps use.
    pub fn stashes(&self) -> usize {
        let number = |slot: Slot| match slot {
            Slot::Hidden => 0,
            Slot::Stash(index) => usize::from(index) + 1,
        };
        let used = |step: &Step| {
            let written = match step.write {
                Write::Set(slot) | Write::AddTo(slot) => number(slot),
                Write::Add | Write::AddScaled(_) | Write::AddToNormed(_) | Write::AddNorm(..) => 0,
            };
            let beside = step.beside.map_or(0, number);
            let connection = step.connection.as_ref();
            let streams = connection.map_or(0, |of| of.streams().saturating_sub(1));
            let inside = step.mechanisms().flat_map(Mechanism::slots).map(number);
            let own = number(step.read).max(beside).max(written).max(streams);
            inside.fold(own, usize::max)
        };
        let steps = self.layers.iter().flat_map(|layer| &layer.steps);
        steps.map(used).max().unwrap_or(0)
    }

    /// Rows of every view of a record's pictures, where its rows are such and views stay apart.
    pub fn rows_of_views(&self) -> Option<usize> {
        match self.sequence {
            Sequence::Rows(RowRule::Pictures(rule)) => rule.of_view(),
            _ => None,
        }
    }

    /// Whether its rows are of views that stay apart.
    pub fn keeps_views(&self) -> bool {
        match self.sequence {
            Sequence::Rows(RowRule::Pictures(rule)) => rule.keeps_views(),
            _ => false,
        }
    }

    /// Columns of what layers hand on to later ones beside the hidden state.
    pub fn handed_on(&self) -> usize {
        let columns = self.mechanisms().map(Mechanism::hands_on);
        columns.max().unwrap_or(0)
    }

    /// Earlier stacks whose ends the layers read, in order.
    pub fn sources(&self) -> Vec<usize> {
        let ends = self.mechanisms().filter_map(Mechanism::stack_end);
        let own = self.input.resampled().map(Resampled::sources);
        let scattered = self.input.embedding().and_then(|own| own.scattered);
        let own = (own.into_iter().flatten()).chain(scattered.map(|own| own.stack));
        let rows = self.mechanisms().filter_map(Mechanism::rows_of);
        let ends = ends.map(|end| end.stack).chain(rows);
        let stacks: BTreeSet<usize> = ends.chain(own).collect();
        stacks.into_iter().collect()
    }

    /// Features of its end as later stacks read it.
    pub fn end_width(&self) -> usize {
        let handed = self.head.handed.as_ref();
        let projection = handed.and_then(|handed| handed.projection.as_ref());
        let width = projection.map_or(self.hidden_size, |projection| projection.out_features);
        width + self.head.kept * self.stash_size
    }

    /// Whether no token sees a later one.
    pub fn is_causal(&self) -> bool {
        let masks = self.mechanisms().filter_map(Mechanism::mask);
        masks.into_iter().all(Mask::is_causal)
    }
}

#[cfg(test)]
mod tests {
    use super::{Blocks, PositionIds};

    #[test]
    fn a_context_of_kinds_is_a_beginning() {
        let context = |types: Option<&[u32]>| PositionIds::OfKinds(1).blocks(&[5, 6, 7, 8], types);
        let of = |context| Ok(Some(Blocks { context, mask: 0 }));
        assert_eq!(context(None), of(0));
        assert_eq!(context(Some(&[1, 1, 0, 2])), of(2));
        assert_eq!(context(Some(&[1; 4])), of(4));
        let later = context(Some(&[1, 0, 0, 1])).expect_err("a context in two parts");
        assert!(later.starts_with("token type 1 at position 3"), "{later}");
        let zeros = |types: Option<&[u32]>| PositionIds::OfKinds(0).blocks(&[5, 6, 7, 8], types);
        assert_eq!(zeros(None), of(4));
        assert_eq!(zeros(Some(&[0, 0, 1, 2])), of(2));
        assert_eq!(zeros(Some(&[1; 4])), of(0));
        assert!(zeros(Some(&[0, 1, 0, 1])).is_err());
    }
}
