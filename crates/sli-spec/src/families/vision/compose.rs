//! Puts a tower, what projects its end, and a decoder together.

use std::rc::Rc;

use super::part::DescribePart;
use crate::build::{Described, Leaves, NormStyle, pattern};
use crate::families::pooled;
use crate::{
    Activation, AddedRows, BesidePlanes, Config, Head, HeadTransform, Identity, Input, InputKind,
    Interpolation, Joining, KeyValue, Layer, Leaf, LengthLimit, Mask, Mixer, ModelSpec, Norm,
    PictureLayout, PictureRows, Pictures, PlaceTable, PlacedRows, PooledEnd, PositionIds,
    Resampled, Resampling, RowRule, Scattered, Sequence, Shard, Slot, Source, SpecError, Stack,
    Standard, Step, TokenInput, WeightIndex, Write,
};

/// Where the tensors of a part may be: what stands in the place of its own prefix in their names, as files spell it.
#[derive(Clone, Copy)]
pub(super) struct Places {
    /// Prefixes of the base model's tensors.
    pub base: &'static [&'static str],
    /// Prefixes of what is outside of it (the head).
    pub outside: &'static [&'static str],
}

impl Places {
    /// A tensor of the part, in every spelling.
    fn source(self, base_prefix: &str, name: &str) -> Source {
        let (prefixes, bare) = match name.strip_prefix(base_prefix) {
            Some(bare) => (self.base, bare),
            None => (self.outside, name),
        };
        spelled(prefixes, bare)
    }

    /// A pattern of tensors of the part, in every spelling.
    pub fn patterns(self, base_prefix: &str, own: &'static str) -> Vec<&'static str> {
        if own.starts_with('*') {
            return vec![own];
        }
        let (prefixes, bare) = match own.strip_prefix(base_prefix) {
            Some(bare) => (self.base, bare),
            None => (self.outside, own),
        };
        let spelled = prefixes.iter();
        spelled
            .map(|prefix| pattern(format!("{prefix}{bare}")))
            .collect()
    }

    /// Gives the tensors of a stack the names that they have in the whole.
    pub fn rename(self, base_prefix: &str, stack: &mut Stack) {
        respell(stack, &|name: &str| self.source(base_prefix, name));
        for Layer { prefix, .. } in &mut stack.layers {
            let bare = prefix.strip_prefix(base_prefix).unwrap_or(prefix);
            *prefix = format!("{}{bare}", self.base.first().unwrap_or(&""));
        }
    }
}

/// Puts something else in the place of the tensors of a stack, by their names.
fn respell(stack: &mut Stack, name: &dyn Fn(&str) -> Source) {
    let respelled = |leaves: &mut Vec<Leaf>| {
        for leaf in leaves {
            leaf.source = leaf.source.respelled(name);
        }
    };
    respelled(stack.input.leaves_mut());
    if let Some(turns) = &mut stack.turns {
        turns.leaf.source = turns.leaf.source.respelled(name);
    }
    for Layer { leaves, .. } in &mut stack.layers {
        respelled(leaves);
    }
    respelled(&mut stack.head.leaves);
}

/// The decoder, of whose tensors files have another spelling than its own type.
pub(super) fn spelled_otherwise(
    mut decoder: Described,
    name: &dyn Fn(&str) -> Source,
) -> Described {
    for spec in std::iter::once(&mut decoder.spec).chain(decoder.untied.as_deref_mut()) {
        spec.stacks
            .iter_mut()
            .for_each(|stack| respell(stack, name));
    }
    decoder
}

/// The decoder, whose logits stay between this number and its opposite.
pub(super) fn capped(mut decoder: Described, cap: f64) -> Described {
    for spec in std::iter::once(&mut decoder.spec).chain(decoder.untied.as_deref_mut()) {
        for logits in spec
            .stacks
            .iter_mut()
            .filter_map(|stack| stack.head.logits.as_mut())
        {
            logits.softcap = Some(cap);
        }
    }
    decoder
}

/// The tower of a model.
pub(super) struct Tower {
    stack: Stack,
    ignored: Vec<&'static str>,
    unused: u64,
}

impl Tower {
    /// By its own type, with all of its layers and the norm behind them.
    pub fn read(
        config: &Config,
        describe: DescribePart,
        places: Places,
    ) -> Result<Self, SpecError> {
        let mut spec = describe(config)?.spec;
        pooled::without(&mut spec);
        let ModelSpec {
            base_prefix,
            mut stacks,
            ignored,
            unused,
            ..
        } = spec;
        let (Some(mut stack), true) = (stacks.pop(), stacks.is_empty()) else {
            return Err(config.unsupported("model_type", "it is no tower"));
        };
        if stack.input.pictures().is_none() {
            return Err(config.unsupported("model_type", "it is no tower of pictures"));
        }
        places.rename(base_prefix, &mut stack);
        (stack.name, stack.sequence) = ("vision", Sequence::Pictures);
        let mut ignored: Vec<_> = (ignored.into_iter())
            .flat_map(|own| places.patterns(base_prefix, own))
            .collect();
        // What pools its end is not used.
        if stack.head.pooler.take().is_some() {
            let prefixes = places.base.iter();
            ignored.extend(prefixes.map(|prefix| pattern(format!("{prefix}pooler.*"))));
        }
        Ok(Self {
            stack,
            ignored,
            unused,
        })
    }

    /// Features of its rows.
    pub fn width(&self) -> usize {
        self.stack.hidden_size
    }

    /// Rows in front of the patches of every view.
    pub fn front(&self) -> usize {
        let pictures = self.stack.input.pictures();
        pictures.map_or(0, |pictures| pictures.front.len())
    }

    /// No layers: patches as they are projected.
    pub fn bare(pictures: Pictures) -> Self {
        let width = pictures.width();
        Self {
            stack: Stack {
                name: "vision",
                hidden_size: width,
                stash_size: width,
                sequence: Sequence::Pictures,
                input: Input::Pictures(pictures),
                positions: PositionIds::Sequential,
                limit: LengthLimit::None,
                turns: None,
                prompt: Vec::new(),
                layers: Vec::new(),
                head: Head::default(),
            },
            ignored: Vec::new(),
            unused: 0,
        }
    }

    /// Files have tensors of parts that are not used.
    pub fn ignore(&mut self, patterns: &[&'static str]) {
        self.ignored.extend(patterns);
    }

    /// What the tensor of its pictures is called, where they are planes.
    pub fn set_name(&mut self, own: &'static str) {
        if let Input::Pictures(Pictures {
            layout: PictureLayout::Planes { name, .. },
            ..
        }) = &mut self.stack.input
        {
            *name = own;
        }
    }

    /// Rows and columns of its pictures are multiples of a number.
    pub fn set_whole(&mut self, side: usize) {
        let Input::Pictures(pictures) = &mut self.stack.input else {
            return;
        };
        match &mut pictures.layout {
            PictureLayout::Packed { limits, .. } => limits.whole = side,
            PictureLayout::Padded { whole, .. } | PictureLayout::Placed { whole, .. } => {
                *whole = side;
            }
            PictureLayout::Planes { .. } | PictureLayout::Rows { .. } => {}
        }
    }

    /// Says what comes beside its pictures.
    pub fn set_beside(&mut self, own: BesidePlanes) {
        if let Input::Pictures(Pictures {
            layout: PictureLayout::Planes { beside, .. },
            ..
        }) = &mut self.stack.input
        {
            *beside = own;
        }
    }

    /// Says that its pictures stand in the upper left of planes of its own size, as a mask has it, and take the places that are as
    /// far into them.
    pub fn set_points(&mut self, name: &'static str, partly: bool) {
        self.set_beside(BesidePlanes::Points { name, partly });
        if let Input::Pictures(Pictures {
            positions: Some(table),
            ..
        }) = &mut self.stack.input
        {
            table.otherwise = Interpolation::Buckets;
        }
    }

    /// Norms its end.
    pub fn norm_end(&mut self, describe: impl FnOnce(&mut Leaves) -> Norm) {
        let mut leaves = Leaves::new("");
        self.stack.head.norm = Some(describe(&mut leaves));
        self.stack.head.leaves = leaves.finish();
    }

    /// Rows and columns of patches of every view, where they are known.
    pub fn grid(&self) -> Option<[usize; 2]> {
        let table = self.stack.input.pictures()?.positions.as_ref();
        table.map(|PlaceTable { grid, .. }| *grid)
    }

    /// Rows and columns of patches of every view, where all have one size.
    pub fn shown_grid(&self) -> [usize; 2] {
        let pictures = self.stack.input.pictures();
        let size = pictures.map(|pictures| (&pictures.layout, pictures.patch));
        match size {
            Some((
                PictureLayout::Planes {
                    size: Some(size), ..
                },
                patch,
            )) => size.map(|length| length / patch),
            _ => [0; 2],
        }
    }

    /// Layers.
    pub fn layers(&self) -> usize {
        self.stack.layers.len()
    }

    /// Keeps what leaves these layers (0-based) beside the end, in their order.
    pub fn keep_behind(&mut self, layers: &[usize]) {
        for (number, &layer) in layers.iter().enumerate() {
            let step = Step {
                write: Write::Set(Slot::Stash(number as u8)),
                ..Step::residual(Mixer::Identity(Identity))
            };
            self.stack.layers[layer].steps.push(step);
        }
        self.stack.head.kept = layers.len();
    }

    /// Ends behind so many layers, without the norm.
    pub fn end_behind(&mut self, layers: usize) {
        let unused = self.stack.layers.split_off(layers.min(self.layers()));
        let head = std::mem::take(&mut self.stack.head);
        let of_layers = unused.iter().flat_map(|layer| &layer.leaves);
        for leaf in of_layers.chain(&head.leaves) {
            self.unused += leaf.elements();
            let names = leaf.source.names().into_iter();
            self.ignored
                .extend(names.map(|name| pattern(name.to_owned())));
        }
    }
}

/// What becomes of a tower's end in front of a decoder.
pub(super) struct Projector {
    stack: Stack,
    /// Features of a row of the tower.
    width: usize,
}

impl Projector {
    /// Rows by a rule, normed and through dense layers, `describe` says which.
    pub fn new(
        tower: &Tower,
        rows: (PictureRows, usize),
        describe: impl FnOnce(&mut Leaves) -> (Option<Norm>, Vec<HeadTransform>),
    ) -> Self {
        let columns = [0, tower.width()];
        Self::of("projector", columns, rows, describe)
    }

    /// The same with places in the end, and the rows without them where they stand beside those with them.
    pub fn placed(mut self, describe: impl FnOnce(&mut Leaves) -> PlacedRows) -> Self {
        let rows = self.rows();
        let mut leaves = Leaves::new("");
        let mut placed = describe(&mut leaves);
        placed.table.weight = WeightIndex(rows.leaves.len() as u32);
        rows.leaves.extend(leaves.finish());
        rows.placed = Some(placed);
        if placed.beside {
            self.stack.hidden_size *= 2;
            self.stack.stash_size *= 2;
        }
        self
    }

    /// What its rows are made of.
    fn rows(&mut self) -> &mut Resampled {
        match &mut self.stack.input {
            Input::Resampled(rows) => rows,
            _ => unreachable!("rows of a projector are gathered"),
        }
    }

    /// The same with sines and cosines of places in a grid in the end.
    pub fn with_waves(mut self, grid: [usize; 2]) -> Self {
        self.rows().waves = Some(grid);
        self
    }

    /// The same with an activation behind the norm.
    pub fn activated(mut self, own: Activation) -> Self {
        self.rows().activation = own;
        self
    }

    /// The same with what the rule puts together in this way.
    pub fn joined(mut self, own: Joining) -> Self {
        if let Input::Resampled(Resampled {
            rule: Resampling::Gathered { joining, .. },
            ..
        }) = &mut self.stack.input
        {
            *joining = own;
        }
        self
    }

    /// Rows of what another projector makes, mixed, with a vector in the place of those that are made of none.
    pub fn mixing(rule: PictureRows, hidden: usize, vector: Source) -> Self {
        let own = Self::behind((1, hidden), (rule, hidden), |_| (None, Vec::new()));
        own.named("tiles")
            .joined(Joining::Mixed)
            .with_vectors([vector])
    }

    /// The same with vectors in the place of rows that are made of none.
    pub fn with_vectors(mut self, sources: impl IntoIterator<Item = Source>) -> Self {
        let hidden = self.stack.hidden_size;
        let Resampled {
            leaves,
            rule: Resampling::Gathered { vectors, .. },
            ..
        } = self.rows()
        else {
            unreachable!("rows of a projector are gathered");
        };
        for source in sources {
            vectors.push(WeightIndex(leaves.len() as u32));
            leaves.push(Leaf::new(source, [hidden]));
        }
        self
    }

    /// The same with features that are `(scale * x - bias) * factor` in front of the norm, by the tensors of both.
    pub fn standardised(mut self, scale: f64, [bias, factor]: [Source; 2]) -> Self {
        let width = self.width;
        if let Input::Resampled(rows) = &mut self.stack.input {
            let mut leaf = |source: Source| {
                rows.leaves.push(Leaf::new(source, [width]));
                WeightIndex(rows.leaves.len() as u32 - 1)
            };
            let own = Standard {
                scale,
                bias: leaf(bias),
                factor: leaf(factor),
            };
            if let Resampling::Gathered { standard, .. } = &mut rows.rule {
                *standard = Some(own);
            }
        }
        self
    }

    /// The same of all that was kept beside the end, side by side, or of the end where nothing was.
    pub fn of_all(
        tower: &Tower,
        rows: (PictureRows, usize),
        describe: impl FnOnce(&mut Leaves) -> (Option<Norm>, Vec<HeadTransform>),
    ) -> Self {
        let columns = match tower.stack.head.kept {
            0 => [0, tower.width()],
            kept => [tower.width(), kept * tower.width()],
        };
        Self::of("projector", columns, rows, describe)
    }

    /// The same of the end and all that was kept beside it.
    pub fn of_end(
        tower: &Tower,
        rows: (PictureRows, usize),
        describe: impl FnOnce(&mut Leaves) -> (Option<Norm>, Vec<HeadTransform>),
    ) -> Self {
        let columns = [0, (1 + tower.stack.head.kept) * tower.width()];
        Self::of("projector", columns, rows, describe)
    }

    /// The same of what was kept beside the end, by its number.
    pub fn of_kept(
        tower: &Tower,
        number: usize,
        rows: (PictureRows, usize),
        describe: impl FnOnce(&mut Leaves) -> (Option<Norm>, Vec<HeadTransform>),
    ) -> Self {
        let name = pattern(format!("projector-deep-{number}"));
        let columns = [(1 + number) * tower.width(), tower.width()];
        Self::of(name, columns, rows, describe)
    }

    /// Of the tower's features `columns`, the first and how many.
    fn of(
        name: &'static str,
        columns: [usize; 2],
        (rule, hidden): (PictureRows, usize),
        describe: impl FnOnce(&mut Leaves) -> (Option<Norm>, Vec<HeadTransform>),
    ) -> Self {
        Self::gathered(name, (0, columns), (rule, hidden), describe)
    }

    /// A stack of rows of its own.
    pub fn of_stack(stack: Stack) -> Self {
        Self {
            width: stack.hidden_size,
            stack,
        }
    }

    /// Rows of the end of a stack of so many features, by a rule, through dense layers.
    pub fn behind(
        (stack, width): (usize, usize),
        rows: (PictureRows, usize),
        describe: impl FnOnce(&mut Leaves) -> (Option<Norm>, Vec<HeadTransform>),
    ) -> Self {
        Self::gathered("projector", (stack, [0, width]), rows, describe)
    }

    /// The same by another name.
    pub fn named(mut self, name: &'static str) -> Self {
        self.stack.name = name;
        self
    }

    fn gathered(
        name: &'static str,
        (stack, columns): (usize, [usize; 2]),
        (rule, hidden): (PictureRows, usize),
        describe: impl FnOnce(&mut Leaves) -> (Option<Norm>, Vec<HeadTransform>),
    ) -> Self {
        let mut leaves = Leaves::new("");
        let (norm, layers) = describe(&mut leaves);
        let gathered = Resampling::Gathered {
            stack,
            columns,
            parts: rule.parts(),
            joining: Joining::Beside,
            vectors: Vec::new(),
            standard: None,
        };
        let rows = Resampled {
            leaves: leaves.finish(),
            norm,
            layers,
            ..Resampled::plain(gathered)
        };
        Self {
            width: columns[1],
            stack: pooled::rows((name, RowRule::Pictures(rule)), hidden, rows),
        }
    }
}

/// A tensor, in any of several places.
pub(super) fn spelled(prefixes: &[&str], name: &str) -> Source {
    let all = prefixes.iter();
    let all = all.map(|prefix| Source::tensor(format!("{prefix}{name}")));
    Source::one_of(all.collect())
}

/// A norm `NAME`, in any of several places.
pub(super) fn norm(
    leaves: &mut Leaves,
    (prefixes, name): (&'static [&'static str], &str),
    features: usize,
    style: NormStyle,
) -> Norm {
    let stored = Rc::new(|name: &str| spelled(prefixes, name));
    let mut own = Leaves::stored("", "weight", Some(stored));
    leaves.taking(&mut own, |own| own.norm(name, features, style))
}

/// A dense layer `NAME`, in any of several places.
pub(super) fn dense(
    leaves: &mut Leaves,
    (prefixes, name): (&[&str], &str),
    [out, inner]: [usize; 2],
    bias: bool,
    activation: Activation,
) -> HeadTransform {
    let source = |part: &str| spelled(prefixes, &format!("{name}.{part}"));
    let bias = bias.then(|| source("bias"));
    let dense = leaves.linear_of(source("weight"), bias, [out, inner], Shard::Replicate);
    HeadTransform::plain(dense, activation)
}

/// The token of a key that stands for what is seen of pictures, behind the projector.
pub(super) fn scattered(config: &Config, key: &str) -> Result<Scattered, SpecError> {
    let token = config.token_id(key)?;
    Ok(Scattered {
        stack: 1,
        token: token.ok_or_else(|| config.missing(key))?,
        has_positions: false,
        inputs_of: None,
        marks: None,
        is_scaled: false,
    })
}

/// Where it is told whether the head is the token table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tied {
    /// In the whole.
    ByWhole,
    /// In the whole or in the decoder.
    ByEither,
}

/// The decoder's configuration: the object under `key`, of the type `usual` unless it says another, with the head that the
/// class of the whole has and tied as the whole is.
pub(super) fn decoder_config(
    config: &Config,
    (key, usual): (&str, &str),
    told: Tied,
) -> Result<Config, SpecError> {
    let task = config.class()?.task;
    let mut tied = config.flag("tie_word_embeddings")?;
    let part = match config.value(key) {
        // Older files have its keys beside those of the whole.
        None if config.in_file("hidden_size") => {
            config.flat_part(usual, task, &[key, "vision_config"])?
        }
        _ => config.part(key, usual, Some(task), &[])?,
    };
    // Older files say it in the part, newer ones in the whole.
    tied |= told == Tied::ByEither && part.flag("tie_word_embeddings")?;
    Ok(part.decided("tie_word_embeddings", tied.into()))
}

/// A tower, what projects its ends, and a decoder: what one projector makes stands in the place of a token, the
/// last ones are added to the same tokens behind layers of the decoder (0-based), one each.
pub(super) fn behind(
    config: &Config,
    of_pictures: (&Tower, &[Projector], &[usize]),
    (decoder, places, scattered): (Described, Places, Scattered),
) -> Result<Described, SpecError> {
    composed(config, of_pictures, (decoder, places, Some(scattered)))
}

/// A tower, what projects its end, and a decoder whose layers attend to it.
pub(super) fn crossed(
    config: &Config,
    (tower, projectors): (&Tower, &[Projector]),
    (decoder, places): (Described, Places),
) -> Result<Described, SpecError> {
    composed(config, (tower, projectors, &[]), (decoder, places, None))
}

fn composed(
    config: &Config,
    (tower, projectors, added): (&Tower, &[Projector], &[usize]),
    (decoder, places, scattered): (Described, Places, Option<Scattered>),
) -> Result<Described, SpecError> {
    let composed = |decoder: ModelSpec| -> Result<ModelSpec, SpecError> {
        let ModelSpec {
            base_prefix,
            ignored,
            vocab_size,
            ties,
            stacks,
            ..
        } = decoder;
        let own = |patterns: Vec<&'static str>| {
            let spelled = patterns.into_iter();
            spelled.flat_map(|pattern| places.patterns(base_prefix, pattern))
        };
        let mut texts = stacks;
        if texts.len() > 1 && !added.is_empty() {
            let problem = "a decoder of several stacks has no layers for features";
            return Err(config.unsupported("text_config", problem));
        }
        let before = 1 + projectors.len();
        let several = texts.len() > 1;
        for stack in &mut texts {
            places.rename(base_prefix, stack);
            // What a decoder of one stack reads is in front of it.
            if several {
                read_behind(stack, before);
            }
        }
        let Some(text) = texts.first_mut() else {
            return Err(config.unsupported("text_config", "it has no layers"));
        };
        if let Some(Scattered { token, .. }) = scattered {
            let first = before - added.len();
            add_rows(text, (first, added), token).ok_or_else(|| {
                config.unsupported(
                    "text_config",
                    "it has fewer layers than features that enter it",
                )
            })?;
        }
        let Input::Tokens(embedding) = &mut text.input else {
            return Err(config.unsupported("text_config", "it reads no tokens"));
        };
        embedding.scattered = scattered;
        if scattered.is_some_and(|own| own.has_positions) {
            embedding.inputs.push(TokenInput {
                name: "position_ids",
                columns: 3,
                kind: InputKind::Positions,
            });
        }
        if let Some(name) = scattered.and_then(|own| own.marks) {
            embedding.inputs.push(TokenInput {
                name,
                columns: 1,
                kind: InputKind::Marks { first: false },
            });
        }
        let mut stacks = vec![tower.stack.clone()];
        stacks.extend(projectors.iter().map(|projector| projector.stack.clone()));
        stacks.extend(texts);
        Ok(ModelSpec {
            model_type: config.model_type()?,
            family: "vision",
            base_prefix: config.row()?.base_prefix.as_str(),
            ignored: tower.ignored.iter().copied().chain(own(ignored)).collect(),
            unused: tower.unused,
            vocab_size,
            ties,
            pooled_end: PooledEnd::No,
            stacks,
        })
    };
    let untied = decoder.untied.map(|untied| composed(*untied));
    Ok(Described {
        spec: composed(decoder.spec)?,
        untied: untied.transpose()?.map(Box::new),
    })
}

/// A gated pair of dense layers without biases, `[2 * inner, width]`: what comes of the first weight is multiplied by the
/// activation of what comes of the second.
pub(super) fn gated_pair(
    leaves: &mut Leaves,
    weights: [Source; 2],
    [inner, width]: [usize; 2],
    activation: Activation,
) -> HeadTransform {
    let both = Source::ConcatRows(weights.into());
    let dense = leaves.linear_of(both, None, [2 * inner, width], Shard::Replicate);
    HeadTransform {
        gated: true,
        ..HeadTransform::plain(dense, activation)
    }
}

/// Gives tokens of a model vectors of their own, of so many features.
pub(super) fn with_vectors(
    mut whole: Described,
    vectors: &[(u32, Source)],
    width: usize,
) -> Described {
    for spec in std::iter::once(&mut whole.spec).chain(whole.untied.as_deref_mut()) {
        for stack in &mut spec.stacks {
            let Input::Tokens(embedding) = &mut stack.input else {
                continue;
            };
            for (token, source) in vectors {
                let index = WeightIndex(embedding.leaves.len() as u32);
                embedding.leaves.push(Leaf::new(source.clone(), [width]));
                embedding.own_vectors.push((*token, index));
            }
        }
    }
    whole
}

/// Changes what the attentions of a decoder see; an error where one of them has another mask than those of decoders.
pub(super) fn seeing(
    config: &Config,
    mut decoder: Described,
    see: impl Fn(Mask) -> Option<Mask>,
) -> Result<Described, SpecError> {
    for spec in std::iter::once(&mut decoder.spec).chain(decoder.untied.as_deref_mut()) {
        let layers = spec.stacks.iter_mut().flat_map(|stack| &mut stack.layers);
        let steps = layers.flat_map(|layer| &mut layer.steps);
        for branch in steps.flat_map(|step| &mut step.branches) {
            let Mixer::Attention(attention) = &mut branch.mixer else {
                if branch.mixer.facts().mask().is_some() {
                    let problem = "its attention is not known to see later tokens of a picture";
                    return Err(config.unsupported("text_config", problem));
                }
                continue;
            };
            attention.mask = see(attention.mask).ok_or_else(|| {
                config.unsupported("text_config", "its tokens see later ones already")
            })?;
        }
    }
    Ok(decoder)
}

/// Stacks that the layers of a stack read are so many further; keys of pictures are where they are.
fn read_behind(stack: &mut Stack, before: usize) {
    let steps = stack.layers.iter_mut().flat_map(|layer| &mut layer.steps);
    for branch in steps.flat_map(|step| &mut step.branches) {
        if let Mixer::Attention(attention) = &mut branch.mixer
            && attention.mask != Mask::Seen
            && let KeyValue::OfStack { stack, .. } = &mut attention.key_value
        {
            *stack += before;
        }
    }
}

/// Adds the rows of the stacks from `first` on to those of `token` behind these layers; `None`: there is no such layer.
fn add_rows(text: &mut Stack, (first, layers): (usize, &[usize]), token: u32) -> Option<()> {
    let count = text.layers.len();
    for (number, &layer) in layers.iter().enumerate() {
        let step = Step::residual(Mixer::AddedRows(AddedRows {
            stack: first + number,
            token,
        }));
        // The boundary between two layers is what the first of them says.
        if layer + 1 < count {
            text.layers[layer + 1].steps.insert(0, step);
        } else {
            text.layers.get_mut(layer)?.steps.push(step);
        }
    }
    Some(())
}
