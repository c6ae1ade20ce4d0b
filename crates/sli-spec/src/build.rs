//! Building descriptions: naming a tensor and recording its leaf are one act.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use crate::{
    Activation, Branch, Config, Convolution, DenseConvolution, FeedForward, Gain, Layer, Leaf,
    Limits, Linear, Mask, Mixer, ModelSpec, Norm, NormKind, Shard, Slot, Source, SpecError, Split,
    Step, StoredNorm, WeightIndex, Write,
};

/// What the full name of a tensor stands for, where that is not a tensor.
pub type Stored = Rc<dyn Fn(&str) -> Source>;

/// Collects the weights of one embedding, layer or head, in the order of their use.
#[derive(Clone)]
pub struct Leaves {
    prefix: String,
    collected: Vec<Leaf>,
    optional: Option<&'static str>,
    norm_factor: &'static str,
    stored: Option<Stored>,
}

/// What the norms of a model have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormStyle {
    /// Which.
    pub kind: NormKind,
    /// Added to the variance (or mean square).
    pub epsilon: f64,
    /// There is a factor per feature.
    pub weight: bool,
    /// There is an addend per feature.
    pub bias: bool,
    /// The factor is stored less one (Gemma).
    pub plus_one: bool,
}

impl NormStyle {
    /// RMS norm with a factor.
    pub fn rms(epsilon: f64) -> Self {
        Self {
            kind: NormKind::Rms,
            epsilon,
            weight: true,
            bias: false,
            plus_one: false,
        }
    }

    /// Layer norm with a factor and an addend.
    pub fn layer(epsilon: f64) -> Self {
        Self {
            kind: NormKind::Layer,
            epsilon,
            weight: true,
            bias: true,
            plus_one: false,
        }
    }
}

impl Leaves {
    /// Names are relative to the prefix.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            collected: Vec::new(),
            optional: None,
            norm_factor: "weight",
            stored: None,
        }
    }

    /// The same where files call the factor of a norm otherwise than `weight`, or hold something else than a tensor
    /// of a name.
    pub fn stored(
        prefix: impl Into<String>,
        norm_factor: &'static str,
        stored: Option<Stored>,
    ) -> Self {
        Self {
            norm_factor,
            stored,
            ..Self::new(prefix)
        }
    }

    /// The weights that follow belong to a part that a checkpoint may lack (`None`: they do not).
    pub fn optional(&mut self, part: Option<&'static str>) {
        self.optional = part;
    }

    /// The tensor of this name under the prefix.
    pub fn tensor(&self, name: &str) -> Source {
        let name = format!("{}{name}", self.prefix);
        match &self.stored {
            Some(stored) => stored(&name),
            None => Source::tensor(name),
        }
    }

    /// What is described under a longer prefix.
    pub fn nested<T>(&mut self, below: &str, describe: impl FnOnce(&mut Self) -> T) -> T {
        self.under(format!("{}{below}", self.prefix), describe)
    }

    /// What is described with names of its own, among these weights.
    pub fn taking<T>(&mut self, other: &mut Self, describe: impl FnOnce(&mut Self) -> T) -> T {
        std::mem::swap(&mut self.collected, &mut other.collected);
        let described = describe(other);
        std::mem::swap(&mut self.collected, &mut other.collected);
        described
    }

    /// What is described under another prefix.
    pub fn under<T>(&mut self, prefix: String, describe: impl FnOnce(&mut Self) -> T) -> T {
        let own = std::mem::replace(&mut self.prefix, prefix);
        let described = describe(self);
        self.prefix = own;
        described
    }

    /// Records a weight.
    pub fn weight(&mut self, source: Source, shape: &[usize], shard: Shard) -> WeightIndex {
        let index = WeightIndex(self.collected.len() as u32);
        self.collected.push(Leaf {
            shard,
            optional: self.optional,
            ..Leaf::new(source, shape)
        });
        index
    }

    /// The scalar `NAME`, stored with one axis or none; a constant is no parameter.
    pub fn scalar(&mut self, name: &str, constant: bool) -> WeightIndex {
        let source = Source::Reshape(Box::new(self.tensor(name)));
        let index = self.weight(source, &[1], Shard::Replicate);
        if constant {
            self.set_buffer(index);
        }
        index
    }

    /// The limits of the dense layer `NAME`, buffers of the reference.
    pub fn limits(&mut self, name: &str) -> Limits {
        let mut both = |end: &str| {
            ["min", "max"].map(|limit| self.scalar(&format!("{name}.{end}_{limit}"), true))
        };
        Limits {
            input: both("input"),
            output: both("output"),
        }
    }

    /// Says that a weight is not counted as a parameter: the reference holds it in a buffer.
    pub fn set_buffer(&mut self, index: WeightIndex) {
        self.collected[index.0 as usize].constant = true;
    }

    /// `NAME` as a table `[rows, width]`.
    pub fn table(&mut self, name: &str, rows: usize, width: usize) -> WeightIndex {
        self.weight(self.tensor(name), &[rows, width], Shard::Column)
    }

    /// `NAME.weight` `[out, in]`, and `NAME.bias` `[out]` if there is one.
    pub fn linear(
        &mut self,
        name: &str,
        [out_features, in_features]: [usize; 2],
        bias: bool,
        shard: Shard,
    ) -> Linear {
        let weight = self.tensor(&format!("{name}.weight"));
        let bias = bias.then(|| self.tensor(&format!("{name}.bias")));
        self.linear_of(weight, bias, [out_features, in_features], shard)
    }

    /// A linear map whose weight and bias are any expressions.
    pub fn linear_of(
        &mut self,
        weight: Source,
        bias: Option<Source>,
        [out_features, in_features]: [usize; 2],
        shard: Shard,
    ) -> Linear {
        // The addend of a map that is split along its input is added once, after the sum.
        let bias_shard = if shard == Shard::Row {
            Shard::Replicate
        } else {
            shard
        };
        let weight = self.weight(weight, &[out_features, in_features], shard);
        let bias = bias.map(|bias| self.weight(bias, &[out_features], bias_shard));
        Linear::plain(weight, bias, [out_features, in_features])
    }

    /// `NAME.weight` `[columns, 1, kernel]` and, if there is one, `NAME.bias` `[columns]`.
    pub fn convolution(
        &mut self,
        name: &str,
        [columns, kernel]: [usize; 2],
        bias: bool,
        activation: Activation,
    ) -> Convolution {
        let weight = self.flat(&format!("{name}.weight"), columns * kernel);
        let bias = bias.then(|| {
            let bias = self.tensor(&format!("{name}.bias"));
            self.weight(bias, &[columns], Shard::Column)
        });
        Convolution {
            weight,
            bias,
            columns,
            kernel,
            with_row: None,
            activation,
        }
    }

    /// A convolution of all columns along rows, `NAME.weight` `[out, in, kernel]` and `NAME.bias` if there is one, with
    /// half its kernel of zeros on either side.
    pub fn dense_convolution(
        &mut self,
        name: &str,
        [in_features, out_features]: [usize; 2],
        [kernel, stride]: [usize; 2],
        activation: Activation,
        has_bias: bool,
    ) -> DenseConvolution {
        let weight = Source::Reshape(Box::new(self.tensor(&format!("{name}.weight"))));
        let bias = has_bias.then(|| self.tensor(&format!("{name}.bias")));
        let shape = [out_features, in_features * kernel];
        DenseConvolution {
            projection: self.linear_of(weight, bias, shape, Shard::Replicate),
            kernel,
            stride,
            padding: [kernel / 2; 2],
            gated: false,
            activation,
        }
    }

    /// `NAME` as a list of numbers, whatever its axes.
    pub fn flat(&mut self, name: &str, elements: usize) -> WeightIndex {
        let source = Source::Reshape(Box::new(self.tensor(name)));
        self.weight(source, &[elements], Shard::Column)
    }

    /// `NAME.weight`, `NAME.bias`, `NAME.running_mean` and `NAME.running_var`, as torch's batch norms have them.
    pub fn stored_norm(&mut self, name: &str, features: usize) -> StoredNorm {
        let mut vector = |part: &str| self.flat(&format!("{name}.{part}"), features);
        let norm = StoredNorm {
            weight: vector("weight"),
            bias: vector("bias"),
            mean: vector("running_mean"),
            variance: vector("running_var"),
            epsilon: 1e-5,
        };
        self.set_buffer(norm.mean);
        self.set_buffer(norm.variance);
        norm
    }

    /// `NAME.weight` and `NAME.bias`, as far as the style has them.
    pub fn norm(&mut self, name: &str, features: usize, style: NormStyle) -> Norm {
        let weight = style.weight.then(|| {
            let stored = self.norm_tensor(name, self.norm_factor, "gamma");
            let source = if style.plus_one {
                stored.plus_one()
            } else {
                stored
            };
            self.weight(source, &[features], Shard::Replicate)
        });
        let bias = style.bias.then(|| {
            let stored = self.norm_tensor(name, "bias", "beta");
            self.weight(stored, &[features], Shard::Replicate)
        });
        Norm {
            kind: style.kind,
            weight,
            bias,
            epsilon: style.epsilon,
        }
    }

    /// The oldest files call the parameters of a `LayerNorm` what TensorFlow calls them.
    fn norm_tensor(&self, name: &str, usual: &str, older: &str) -> Source {
        let stored = self.tensor(&format!("{name}.{usual}"));
        if name.ends_with("LayerNorm") {
            Source::OneOf(vec![stored, self.tensor(&format!("{name}.{older}"))])
        } else {
            stored
        }
    }

    /// A norm of every head: stored `[heads, head_dim]`, or a tensor a head where the name has a `{}`
    /// for its number.
    pub fn norm_of_heads(
        &mut self,
        name: &str,
        [heads, head_dim]: [usize; 2],
        style: NormStyle,
    ) -> Norm {
        let norm = self.norm(name, heads * head_dim, style);
        for index in [norm.weight, norm.bias].into_iter().flatten() {
            let source = &mut self.collected[index.0 as usize].source;
            *source = match source {
                Source::Tensor(name) if name.contains("{}") => {
                    let of_head = |head: usize| name.replace("{}", &head.to_string());
                    Source::ConcatRows((0..heads).map(of_head).map(Source::tensor).collect())
                }
                _ => Source::Reshape(Box::new(source.clone())),
            };
        }
        norm
    }

    /// `down(activation(up x))`, with biases as told.
    pub fn plain_feed_forward(
        &mut self,
        [up, down]: [&str; 2],
        [hidden_size, intermediate_size]: [usize; 2],
        bias: bool,
        activation: Activation,
    ) -> FeedForward {
        let up = self.linear(up, [intermediate_size, hidden_size], bias, Shard::Column);
        let down = self.linear(down, [hidden_size, intermediate_size], bias, Shard::Row);
        FeedForward::plain(None, up, down, activation)
    }

    /// `down(activation(gate x) * up x)`, with biases as told.
    pub fn gated_feed_forward(
        &mut self,
        [gate, up, down]: [&str; 3],
        [hidden_size, intermediate_size]: [usize; 2],
        bias: bool,
        activation: Activation,
    ) -> FeedForward {
        let gate = self.linear(gate, [intermediate_size, hidden_size], bias, Shard::Column);
        let plain = self.plain_feed_forward(
            [up, down],
            [hidden_size, intermediate_size],
            bias,
            activation,
        );
        FeedForward {
            gate: Some(gate),
            ..plain
        }
    }

    /// `down(activation(gate x) * up x)` where gate and up are one tensor, gate above up.
    pub fn fused_feed_forward(
        &mut self,
        [both, down]: [&str; 2],
        [hidden_size, intermediate_size]: [usize; 2],
        activation: Activation,
    ) -> FeedForward {
        let split = Split::Rows(vec![intermediate_size, intermediate_size]);
        let both = self.tensor(&format!("{both}.weight"));
        let shape = [intermediate_size, hidden_size];
        let gate = self.linear_of(
            both.clone().part(split.clone(), 0),
            None,
            shape,
            Shard::Column,
        );
        let up = self.linear_of(both.part(split, 1), None, shape, Shard::Column);
        let down = self.linear(down, [hidden_size, intermediate_size], false, Shard::Row);
        FeedForward::plain(Some(gate), up, down, activation)
    }

    /// The collected weights.
    pub fn finish(self) -> Vec<Leaf> {
        self.collected
    }

    /// A layer of these weights and steps.
    pub fn layer(self, steps: Vec<Step>) -> Layer {
        Layer {
            prefix: self.prefix,
            leaves: self.collected,
            steps,
        }
    }
}

impl Branch {
    /// A mixer and nothing around it.
    pub fn plain(mixer: Mixer) -> Self {
        Self {
            pre: None,
            scale: 1.0,
            mixer,
            post: None,
            gain: Gain::One,
            of_seeing: false,
        }
    }
}

impl Step {
    /// `h + mixer(h)`; norms and gains are set on the result.
    pub fn residual(mixer: Mixer) -> Self {
        Self {
            read: Slot::Hidden,
            connection: None,
            beside: None,
            pre: None,
            branches: vec![Branch::plain(mixer)],
            post: None,
            write: Write::Add,
            only: None,
        }
    }
}

/// A model as a family describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// The description.
    pub spec: ModelSpec,
    /// The same model with a head of its own, where the configuration says that its head is the token table.
    pub untied: Option<Box<ModelSpec>>,
}

impl From<ModelSpec> for Described {
    fn from(spec: ModelSpec) -> Self {
        Self { spec, untied: None }
    }
}

/// A pattern of tensor names that depends on the configuration. There are few different ones, which
/// live as long as the program.
pub fn pattern(text: String) -> &'static str {
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(&found) = known.get(text.as_str()) {
        return found;
    }
    let kept: &'static str = Box::leak(text.into_boxed_str());
    known.insert(kept);
    kept
}

/// The kind of every layer: `layer_types`, or `otherwise` where the file has none.
pub fn layer_types(
    config: &Config,
    layers: usize,
    otherwise: impl Fn(usize) -> &'static str,
) -> Result<Vec<String>, SpecError> {
    match config.texts("layer_types")? {
        Some(types) if types.len() != layers => {
            let expected = format!("one entry for each of {layers} layers");
            Err(config.invalid("layer_types", expected))
        }
        Some(types) => Ok(types),
        None => Ok((0..layers)
            .map(|layer| otherwise(layer).to_owned())
            .collect()),
    }
}

/// The mask of a kind of attention layer in a decoder.
pub fn mask_of(
    config: &Config,
    layer_type: &str,
    window: Option<usize>,
) -> Result<Mask, SpecError> {
    Ok(match layer_type {
        // Older files say `attention`.
        "full_attention" | "attention" => Mask::Causal,
        "sliding_attention" => {
            Mask::CausalWindow(window.ok_or_else(|| config.missing("sliding_window"))?)
        }
        "chunked_attention" => Mask::CausalChunk(config.size("attention_chunk_size")?),
        other => {
            let reason = format!("`{other}` is no kind of layer of this type");
            return Err(config.unsupported("layer_types", reason));
        }
    })
}

/// Features of a head where the file does not say: `hidden_size / heads` without its remainder, as
/// the classes reckon that do not ask for a divisor.
pub fn head_width(config: &Config, hidden_size: usize, heads: usize) -> Result<usize, SpecError> {
    match hidden_size / heads {
        0 => Err(config.invalid("num_attention_heads", format!("at most {hidden_size}"))),
        width => Ok(width),
    }
}

/// `a / b`, an error about `key` if that leaves a remainder.
pub fn divided(config: &Config, key: &str, a: usize, b: usize) -> Result<usize, SpecError> {
    if a.is_multiple_of(b) {
        Ok(a / b)
    } else {
        Err(config.invalid(key, format!("a divisor of {a}")))
    }
}
