//! The blocks that most language models vary: token table, layers of attention and feed-forward network around a
//! residual stream, final norm, head. A type says what differs from Llama; what it says becomes a description in
//! one place ([`Blocks::build`]).

mod attention;
mod block_choice;
mod classes;
mod ends;
mod layer;
mod names;
mod network;
mod streams;

use std::rc::Rc;

use crate::build::{Leaves, NormStyle, Stored, divided, head_width, layer_types, mask_of};
use crate::rope::{Rope, RopeOptions, TurnsForm};
use crate::{
    Activation, ClampedGate, Config, Embedding, Features, Head, LengthLimit, Mask, Mixer, NormSpan,
    Pictures, Position, PositionIds, QueryTemperature, Resampled, Sequence, SpecError, Step,
};

pub use self::attention::{Buckets, Cross, Gate, alibi, alibi_slopes};
pub use self::block_choice::BlockSizes;
pub use self::classes::{Classifier, InFront, Judged};
pub use self::ends::{ConstantTable, Narrow, Table, Types};
pub use self::layer::Residual;
pub use self::names::{
    Arrangement, Form, Names, Norms, Projections, SharedTokens, Tie, Transform, UnusedHead,
};

pub use self::streams::{GatedStreams, Hyper};

/// A stack of blocks as data: public fields are what a type may set before [`Blocks::build`].
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches of the reference"
)]
#[derive(Clone)]
pub struct Blocks<'c> {
    config: &'c Config,
    /// The configuration of the whole model, where this stack's is a part of it.
    pub whole: Option<&'c Config>,
    /// The family's name.
    pub family: &'static str,
    /// The stack's name.
    pub stack: &'static str,
    /// Prefix of the stack's tensors.
    pub prefix: String,
    /// Names of its tensors.
    pub names: Names,
    /// What a tensor's full name stands for, where that is not a tensor.
    pub stored: Option<Stored>,
    /// Projections are stored `[in, out]` (`Conv1D`).
    pub transposed: bool,
    /// Tensors that files carry and nothing needs.
    pub ignored: Vec<&'static str>,

    /// Features of the hidden state.
    pub hidden_size: usize,
    /// Features of the buffers beside it, where they are others.
    pub stash_size: Option<usize>,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Features of a query or key head.
    pub head_dim: usize,
    /// Features of a value head, where they are others.
    pub value_dim: Option<usize>,
    /// Features inside the feed-forward network.
    pub intermediate_size: usize,
    /// Norms of the layers.
    pub norm: NormStyle,
    /// Where they stand.
    pub arrangement: Arrangement,
    /// How what a sublayer computes is added to the residual stream.
    pub residual: Residual,
    /// Factor on the attention's output.
    pub attention_gain: f64,

    /// Queries, keys and values have an addend.
    pub query_key_value_bias: bool,
    /// All but the keys (Whisper).
    pub keys_without_bias: bool,
    /// The attention's output projection has an addend.
    pub output_bias: bool,
    /// Norm of queries and keys.
    pub query_key_norm: Option<(NormSpan, NormStyle)>,
    /// They are normalised after the rotation.
    pub norm_after_rotation: bool,
    /// A convolution of queries, keys and values: its name, and its rows.
    pub convolution: Option<(&'static str, usize)>,
    /// Values are normalised by head, without a factor.
    pub value_norm: bool,
    /// Values rotate as keys do.
    pub values_rotate: bool,
    /// Values are the keys as projected.
    pub values_are_keys: bool,
    /// The layer whose keys and values are used.
    pub keys_of_layer: Option<usize>,
    /// Limit of queries, keys and values.
    pub clip: Option<f64>,
    /// Learned logits, one a head, by their name.
    pub sinks: Option<&'static str>,
    /// Gate on the heads' outputs.
    pub gate: Option<Gate>,
    /// Factor on the queries by their positions.
    pub query_temperature: Option<QueryTemperature>,
    /// Norm of the differences of differential attention; the addend of lambda follows from the layer.
    pub differential: Option<NormStyle>,
    /// Keys that dynamic mask attention keeps.
    pub dynamic_mask: Option<usize>,
    /// Blocks of keys that queries choose.
    pub block_choice: Option<BlockSizes>,
    /// Mask of every layer.
    pub masks: Vec<Mask>,
    /// Rotation of every layer.
    pub ropes: Vec<Option<Rope>>,
    /// What the checkpoint may have of the rotations, by the names of the tensor.
    pub stored_turns: Option<(TurnsForm, &'static [&'static str])>,
    /// Other ways in which positions enter attention.
    pub positions: Vec<Position>,
    /// Learned addends by distance.
    pub buckets: Option<Buckets>,
    /// Factor on `q k`.
    pub attention_scale: f64,
    /// Limit of the attention logits.
    pub attention_softcap: Option<f64>,
    /// The attention logits are cut off there.
    pub attention_clamp: Option<f64>,

    /// A stack whose end is seen beside the layer's own keys.
    pub merged: Option<usize>,
    /// An attention to an earlier stack.
    pub cross: Option<Cross>,
    /// The feed-forward network is gated.
    pub gated: bool,
    /// The projections into it have addends.
    pub up_bias: bool,
    /// The one out of it has an addend.
    pub down_bias: bool,
    /// Its activation.
    pub activation: Activation,
    /// Its activation is xIELU, whose scalars are learned.
    pub xielu: bool,
    /// Replaces its gated activation.
    pub clamped: Option<ClampedGate>,
    /// Projections are parts of modules `NAME.linear`, which cut what enters and leaves them.
    pub limited: bool,

    /// Attention of another kind, by layer; `None`: the usual.
    pub attention_of: MixerOf<'c>,
    /// Something other than the feed-forward network, by layer; `None`: the usual.
    pub feed_forward_of: MixerOf<'c>,
    /// Where the tensors of each layer are, where layers share theirs (ALBERT).
    pub places: Option<Vec<String>>,
    /// What is different in a layer.
    pub by_layer: Option<Change<'c>>,
    /// Steps of another arrangement than these.
    pub layer_of: Option<OwnSteps<'c>>,

    /// Number of token ids, where it is not `vocab_size`.
    pub vocab_size: Option<usize>,
    /// What a record brings along in place of tokens.
    pub features: Option<Rc<Stem<'c>>>,
    /// What the rows are made of where they are no tokens.
    pub resampled: Option<Rc<Rows<'c>>>,
    /// Patches of pictures that a record brings along in place of tokens.
    pub pictures: Option<Rc<Patches<'c>>>,
    /// There is no token table: what is looked up makes the rows.
    pub without_tokens: bool,
    /// Which of a record's sequences it reads.
    pub sequence: Sequence,
    /// A token table that several stacks share.
    pub shared_tokens: Option<SharedTokens>,
    /// Rows of the token table that no token has, behind the vocabulary.
    pub further_rows: usize,
    /// Factor on the token embedding.
    pub embedding_scale: f64,
    /// Norm of the token embedding, by its name.
    pub token_norm: Option<(&'static str, NormStyle)>,
    /// The token table has another width than the hidden state.
    pub narrow: Option<Narrow>,
    /// Kinds of tokens.
    pub types: Option<Types>,
    /// Rows of further tables that every token gets.
    pub constant_rows: Vec<ConstantTable>,
    /// How positions enter the embedding.
    pub table: Option<Table>,
    /// Norm of the sum of embeddings, by its name.
    pub embedding_norm: Option<(&'static str, NormStyle)>,
    /// What else is in front of the first layer.
    pub further_input: Option<Further<'c, Embedding>>,
    /// A token that the classes of the type take for padding and hide by themselves; records may not have it.
    pub refused_token: Option<u32>,
    /// How position ids follow from tokens.
    pub position_ids: PositionIds,
    /// How long a record may be; `None`: as the rotations were trained for.
    pub length_limit: Option<LengthLimit>,
    /// Rows of the token table that run in front of every record.
    pub prompt: Vec<u32>,

    /// Norm behind the last layer.
    pub final_norm: Option<NormStyle>,
    /// What pools the first token, by its name in the stack.
    pub pooler: Option<&'static str>,
    /// What says of which class a record is, in the class for it.
    pub sequence_classifier: Option<Classifier>,
    /// What says of which class a token is, in the class for it.
    pub token_classifier: Classifier,
    /// The stack has the head for classes, also in front of another one.
    pub classifies: bool,
    /// Whether the head is the token table.
    pub tie: Tie,
    /// What stands in front of the head's projection.
    pub transforms: Vec<Transform>,
    /// The head has an addend.
    pub head_bias: bool,
    /// Its name where the head is tied and it is another one.
    pub tied_bias: Option<&'static str>,
    /// Another name of the projection to logits, which the reference's class has given it.
    pub other_head: Option<&'static str>,
    /// Columns of the head's projection behind those of the token table, stored `[in, out]` (MobileBERT).
    pub further_columns: Option<&'static str>,
    /// Number of logits of a head of its own, where it is not the vocabulary.
    pub outputs: Option<usize>,
    /// Rows of the head's projection are normalised.
    pub normalized_head: bool,
    /// Factor on the logits.
    pub logit_scale: f64,
    /// Limit of the logits.
    pub logit_softcap: Option<f64>,
    /// Tensors of a head that the description does not use.
    pub unused_head: UnusedHead,
    /// What else is behind the last layer.
    pub further_head: Option<Further<'c, Head>>,
    /// `is_causal: false` is understood: the attentions of the reference agree on it.
    pub may_look_ahead: bool,
    /// A mixer of another kind sees no later token, whatever the masks say.
    pub one_way: bool,
}

/// Features and their stem, whose weights it takes.
pub type Stem<'c> = dyn Fn(&mut Leaves) -> Features + 'c;

/// Patches of pictures and what becomes of them, whose weights it takes.
pub type Patches<'c> = dyn Fn(&mut Leaves) -> Pictures + 'c;

/// Rows and what they are made of, whose weights it takes.
pub type Rows<'c> = dyn Fn(&mut Leaves) -> Resampled + 'c;

/// A change of the blocks of one layer, by its number.
pub type Change<'c> = Rc<dyn Fn(&mut Blocks<'c>, usize) + 'c>;

/// The steps of a layer, by its number.
pub type OwnSteps<'c> = Rc<dyn Fn(&Blocks<'c>, &mut Leaves, usize) -> Vec<Step> + 'c>;

/// Something further of the ends of a stack, behind its other weights.
pub type Further<'c, End> = Rc<dyn Fn(&mut Leaves, &mut End) + 'c>;

/// The mixer of a layer, if it is not the usual one.
#[derive(Clone, Default)]
pub struct MixerOf<'c>(Option<Rc<Describe<'c>>>);

type Describe<'c> = dyn Fn(&Blocks<'c>, &mut Leaves, usize) -> Option<Mixer> + 'c;

impl<'c> MixerOf<'c> {
    /// Described by this function of the layer.
    pub fn new(describe: impl Fn(&Blocks<'c>, &mut Leaves, usize) -> Option<Mixer> + 'c) -> Self {
        Self(Some(Rc::new(describe)))
    }

    fn mixer(&self, own: &Blocks<'c>, leaves: &mut Leaves, layer: usize) -> Option<Mixer> {
        let describe = self.0.as_ref()?;
        describe(own, leaves, layer)
    }
}

impl<'c> Blocks<'c> {
    /// A plain Llama of this configuration's sizes: RMS pre-norms, rotate-half rope on all layers,
    /// grouped queries, SwiGLU, no addends.
    pub fn new(config: &'c Config, norm: NormStyle) -> Result<Self, SpecError> {
        Self::with_width(config, norm, config.size("intermediate_size")?)
    }

    /// The same with this many features inside the feed-forward network.
    pub fn with_width(
        config: &'c Config,
        norm: NormStyle,
        intermediate_size: usize,
    ) -> Result<Self, SpecError> {
        let heads = config.heads("num_attention_heads")?;
        let head_dim = match config.optional_heads("head_dim")? {
            Some(head_dim) => head_dim,
            None => head_width(config, config.size("hidden_size")?, heads)?,
        };
        let kv_heads = config
            .optional_heads("num_key_value_heads")?
            .unwrap_or(heads);
        let by_layer = "num_attention_heads_per_layer";
        if !config.declares(by_layer) || config.numbers(by_layer)?.is_none() {
            divided(config, "num_key_value_heads", heads, kv_heads)?;
        }
        let layers = config.layers("num_hidden_layers")?;
        let sizes = [config.size("hidden_size")?, intermediate_size];
        Self::sized(config, norm, layers, sizes, [heads, kv_heads, head_dim])
    }

    /// [`Self::new`] with `[hidden_size, intermediate_size]` and `[heads, kv_heads, head_dim]` from elsewhere.
    pub fn sized(
        config: &'c Config,
        norm: NormStyle,
        layers: usize,
        [hidden_size, intermediate_size]: [usize; 2],
        [heads, kv_heads, head_dim]: [usize; 3],
    ) -> Result<Self, SpecError> {
        Ok(Self {
            config,
            whole: None,
            family: "llama",
            stack: "decoder",
            prefix: config.row()?.base_prefix.clone(),
            names: Names::USUAL,
            stored: None,
            transposed: false,
            ignored: vec!["*.rotary_emb.inv_freq"],
            hidden_size,
            stash_size: None,
            heads,
            kv_heads,
            head_dim,
            value_dim: None,
            intermediate_size,
            norm,
            arrangement: Arrangement::pre("input_layernorm", "post_attention_layernorm"),
            residual: Residual::Plain,
            attention_gain: 1.0,
            query_key_value_bias: false,
            keys_without_bias: false,
            output_bias: false,
            query_key_norm: None,
            norm_after_rotation: false,
            convolution: None,
            value_norm: false,
            values_rotate: false,
            values_are_keys: false,
            keys_of_layer: None,
            clip: None,
            sinks: None,
            gate: None,
            query_temperature: None,
            differential: None,
            dynamic_mask: None,
            block_choice: None,
            masks: vec![Mask::Causal; layers],
            ropes: vec![None; layers],
            stored_turns: None,
            positions: Vec::new(),
            buckets: None,
            attention_scale: (head_dim as f64).powf(-0.5),
            attention_softcap: None,
            attention_clamp: None,
            merged: None,
            cross: None,
            gated: true,
            up_bias: false,
            down_bias: false,
            activation: Activation::Silu,
            xielu: false,
            clamped: None,
            limited: false,
            attention_of: MixerOf::default(),
            feed_forward_of: MixerOf::default(),
            places: None,
            by_layer: None,
            layer_of: None,
            vocab_size: None,
            features: None,
            resampled: None,
            pictures: None,
            without_tokens: false,
            sequence: Sequence::Record,
            shared_tokens: None,
            further_rows: 0,
            embedding_scale: 1.0,
            token_norm: None,
            narrow: None,
            types: None,
            constant_rows: Vec::new(),
            table: None,
            embedding_norm: None,
            further_input: None,
            refused_token: None,
            position_ids: PositionIds::Sequential,
            length_limit: None,
            prompt: Vec::new(),
            final_norm: Some(norm),
            pooler: None,
            sequence_classifier: Some(Classifier::LAST_TOKEN),
            token_classifier: Classifier::TOKENS,
            classifies: false,
            tie: Tie::Configured,
            transforms: Vec::new(),
            head_bias: false,
            tied_bias: None,
            other_head: None,
            further_columns: None,
            outputs: None,
            normalized_head: false,
            logit_scale: 1.0,
            logit_softcap: None,
            unused_head: UnusedHead::projection(&["lm_head.weight"]),
            further_head: None,
            may_look_ahead: true,
            one_way: false,
        })
    }

    /// The decoders before Llama: as many key as query heads, a network without gate that is four times as wide,
    /// addends everywhere, no positions.
    pub fn classic(
        config: &'c Config,
        names: Names,
        arrangement: Arrangement,
        norm: NormStyle,
    ) -> Result<Self, SpecError> {
        let hidden_size = config.size("hidden_size")?;
        let heads = config.heads("num_attention_heads")?;
        let head_dim = divided(config, "num_attention_heads", hidden_size, heads)?;
        let mut blocks = Self::classic_of(config, [hidden_size, heads, head_dim], norm)?;
        (blocks.names, blocks.arrangement) = (names, arrangement);
        Ok(blocks)
    }

    /// The same under Llama's names, `[hidden_size, heads, head_dim]` from elsewhere.
    pub fn classic_of(
        config: &'c Config,
        [hidden_size, heads, head_dim]: [usize; 3],
        norm: NormStyle,
    ) -> Result<Self, SpecError> {
        if !config.is_part() {
            config.off("add_cross_attention", "there is no encoder to attend to")?;
        }
        let layers = config.layers("num_hidden_layers")?;
        let sizes = [hidden_size, 4 * hidden_size];
        let mut blocks = Self::sized(config, norm, layers, sizes, [heads, heads, head_dim])?;
        blocks.family = "gpt2";
        blocks.ignored.clear();
        blocks.gated = false;
        blocks.activation = Activation::Gelu;
        blocks.set_biases(true);
        blocks.length_limit = Some(LengthLimit::None);
        blocks.unused_head = UnusedHead::projection(&[
            "lm_head.weight",
            "lm_head.bias",
            "embed_out.weight",
            "output_projection.weight",
        ]);
        blocks.may_look_ahead = false;
        Ok(blocks)
    }

    /// Number of layers.
    pub fn layers(&self) -> usize {
        self.masks.len()
    }

    /// All norms, the final one too.
    pub fn set_norm(&mut self, norm: NormStyle) {
        (self.norm, self.final_norm) = (norm, Some(norm));
    }

    /// Whether all four projections of the attention have addends.
    pub fn set_attention_bias(&mut self, bias: bool) {
        (self.query_key_value_bias, self.output_bias) = (bias, bias);
    }

    /// Whether all projections of the feed-forward network have addends.
    pub fn set_network_bias(&mut self, bias: bool) {
        (self.up_bias, self.down_bias) = (bias, bias);
    }

    /// Whether all projections have addends.
    pub fn set_biases(&mut self, bias: bool) {
        self.set_attention_bias(bias);
        self.set_network_bias(bias);
    }

    /// A learned table for so many positions, behind `offset` rows.
    pub fn learned_positions(&mut self, name: &'static str, offset: usize, positions: usize) {
        let rows = positions + offset;
        self.table = Some(Table::Learned {
            name,
            offset,
            rows,
            otherwise: None,
        });
        self.length_limit = Some(LengthLimit::Table(positions));
    }

    /// The same rotation in all layers.
    pub fn rotate(&mut self, options: &RopeOptions<'_>) -> Result<(), SpecError> {
        let rope = Rope::from_config(self.config, options)?;
        self.ropes = vec![rope; self.layers()];
        Ok(())
    }

    /// Takes the rotation from the layers that are not named.
    pub fn keep_rotation(&mut self, keeps: impl Fn(usize) -> bool) {
        for (layer, rope) in self.ropes.iter_mut().enumerate() {
            if !keeps(layer) {
                *rope = None;
            }
        }
    }

    /// Takes the rotation from the layers without a window.
    pub fn rotate_windows_only(&mut self) {
        for (rope, mask) in self.ropes.iter_mut().zip(&self.masks) {
            if !matches!(mask, Mask::CausalWindow(_)) {
                *rope = None;
            }
        }
    }

    /// The masks of `layer_types`, or of `otherwise` where the file has none.
    pub fn mask_by_layer_types(
        &mut self,
        window: Option<usize>,
        otherwise: impl Fn(usize) -> &'static str,
    ) -> Result<(), SpecError> {
        let types = layer_types(self.config, self.layers(), otherwise)?;
        self.mask_by_kinds(&types, window)
    }

    /// The masks of these kinds of layers.
    pub fn mask_by_kinds(
        &mut self,
        kinds: &[String],
        window: Option<usize>,
    ) -> Result<(), SpecError> {
        let mask = |layer_type: &String| mask_of(self.config, layer_type, window);
        self.masks = kinds.iter().map(mask).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// What is different in a layer.
    pub fn differ(&mut self, change: impl Fn(&mut Self, usize) + 'c) {
        self.by_layer = Some(Rc::new(change));
    }
}
