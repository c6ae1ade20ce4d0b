//! Rotary position embedding: which features rotate, and how fast.
//!
//! Pure arithmetic on the configuration's numbers, after transformers' `modeling_rope_utils`
//! (`ROPE_INIT_FUNCTIONS`): what the reference computes in f32 tensors is computed in f32 here, what
//! it computes in Python floats in f64.

use std::f64::consts::PI;

use half::f16;
use serde::Serialize;
use serde_json::Value;

use crate::{Config, LengthLimit, SpecError};

/// Rotation of queries and keys of one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rope {
    /// Features of a head that are rotated.
    pub dims: usize,
    /// Features over which the exponents run: `dims`, or one less where a part of the head came out
    /// odd.
    pub span: usize,
    /// First rotated feature within a head.
    pub offset: usize,
    /// Pairs are `(2i, 2i + 1)` (GPT-J) instead of `(i, i + dims / 2)`.
    pub interleaved: bool,
    /// Pairs turn backwards (nanochat).
    pub reversed: bool,
    /// Base of the frequencies.
    pub theta: f64,
    /// How the frequencies are changed for long contexts.
    pub scaling: RopeScaling,
    /// What it turns by.
    pub axis: PositionAxis,
}

/// One of the numbers that place a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum PositionAxis {
    /// The token's number in its record.
    #[default]
    Token,
    /// The number of the token in front of the generated part, there of the mask that it fills
    /// ([`crate::PositionIds::Blocks`]).
    Context,
    /// 0 in front of the generated part, 1, 2, ... within it.
    Block,
}

/// The rope types of transformers 5.23.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum RopeScaling {
    /// `theta^(-2i / dims)`.
    Default,
    /// The same, rounded to f16 (ChatGLM).
    Half,
    /// Frequencies divided by `factor` (position interpolation).
    Linear {
        /// Extension of the context.
        factor: f64,
    },
    /// The base grows with the record once it is longer than `trained` (NTK-aware, "dynamic").
    Dynamic {
        /// Extension of the context.
        factor: f64,
        /// `max_position_embeddings`.
        trained: usize,
    },
    /// The base grows in steps: `theta * alpha^(dims / (dims - 2))` with
    /// `alpha = max(1, 2^ceil(log2(length / base_length) + 1) - 1)` (Qwen 1, TeleChat).
    SteppedNtk {
        /// Length of the first step.
        base_length: usize,
        /// Shorter records count as this long, and sine and cosine of longer ones are multiplied by
        /// `1 + ln(length / trained) / 10`.
        trained: Option<usize>,
    },
    /// Low frequencies interpolated, high ones kept, a ramp between (Peng et al. 2023).
    Yarn {
        /// Extension of the context.
        factor: f64,
        /// Length before the extension.
        original: f64,
        /// Factor on sine and cosine.
        attention_factor: f64,
        /// Rotations within `original` above which a frequency is kept.
        beta_fast: f64,
        /// Rotations within `original` below which a frequency is interpolated.
        beta_slow: f64,
        /// The ends of the ramp are rounded to whole features.
        truncate: bool,
    },
    /// A factor per frequency, one list for short records and one for long (Ding et al. 2024).
    LongRope {
        /// For records of at most `original` tokens.
        short: Vec<f64>,
        /// For longer ones.
        long: Vec<f64>,
        /// Length before the extension.
        original: usize,
        /// Factor on sine and cosine, for short records.
        attention_factor: f64,
        /// Factor on sine and cosine, for long records.
        long_attention_factor: f64,
    },
    /// By wavelength: long ones divided by `factor`, short ones kept, blended between (Llama 3.1).
    Llama3 {
        /// Extension of the context.
        factor: f64,
        /// `original / low` is the wavelength from which all of `factor` applies.
        low: f64,
        /// `original / high` is the wavelength up to which nothing changes.
        high: f64,
        /// Length before the extension.
        original: f64,
    },
    /// Exponents over the whole head, of which the first `rotated` pairs turn (Gemma 4).
    Proportional {
        /// Divisor of the frequencies.
        factor: f64,
        /// Pairs that turn; the others have frequency 0.
        rotated: usize,
    },
}

/// Frequencies and amplitude of one rotation.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeFrequencies {
    /// `dims / 2` angles per position.
    pub inverse: Vec<f32>,
    /// Factor on sine and cosine.
    pub attention_factor: f32,
}

/// Keys that files carry beside `alpha` and that have no effect with it.
const ALPHA_LEFTOVERS: [&str; 5] = [
    "factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
];

/// Keys of the rope types; one that a type does not use, the reference ignores there too.
const VOCABULARY: [&str; 11] = [
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "high_freq_factor",
    "long_factor",
    "low_freq_factor",
    "mscale",
    "mscale_all_dim",
    "original_max_position_embeddings",
    "short_factor",
    "truncate",
];

/// What a class makes of its configuration's rope keys.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches of the reference"
)]
#[derive(Clone, Copy, Debug)]
pub struct RopeOptions<'a> {
    /// Features of a query or key head.
    pub head_dim: usize,
    /// Pairs are `(2i, 2i + 1)`.
    pub interleaved: bool,
    /// Pairs turn backwards.
    pub reversed: bool,
    /// The class rotates a part of the head if told so; for others the key must be 1.
    pub partial: bool,
    /// The kind of layer, where `rope_parameters` has one object a kind.
    pub layer_type: Option<&'a str>,
    /// Keys beside `rope_parameters` that may hold the base.
    pub theta_keys: &'a [&'a str],
    /// Keys beside `rope_parameters` that may hold the rotated part of the head.
    pub partial_keys: &'a [&'a str],
    /// The older `rope_scaling` object applies to this kind of layer.
    pub scaled: bool,
    /// The class makes an object for each kind of layer of what the file has (Gemma 3, OLMo 3): a kind
    /// that is missing or `null` turns plainly, and the older object stands inside.
    pub converted: bool,
    /// The rotated part of the head if the file does not say.
    pub default_partial: f64,
    /// `rope_parameters` that the class assumes where the file has none.
    pub assumed: Option<&'a Value>,
    /// A type `dynamic` with `alpha` stretches the base once and for all (Hunyuan).
    pub alpha: bool,
    /// `su` and `yarn` are old names of `longrope`, and no other scaling is known (Phi-3).
    pub only_long: bool,
}

impl RopeOptions<'_> {
    /// The usual keys, rotate-half, the whole head.
    pub fn new(head_dim: usize) -> Self {
        Self {
            head_dim,
            interleaved: false,
            reversed: false,
            partial: false,
            layer_type: None,
            theta_keys: &["rope_theta"],
            partial_keys: &["partial_rotary_factor"],
            scaled: true,
            converted: false,
            default_partial: 1.0,
            assumed: None,
            alpha: false,
            only_long: false,
        }
    }
}

impl Rope {
    /// The rotation that a configuration describes, in either spelling: `rope_parameters` (one
    /// object, or one a kind of layer) or `rope_theta` with `rope_scaling`. `None`: the object of
    /// this kind of layer is `null`, which is a layer without rotation.
    pub fn from_config(
        config: &Config,
        options: &RopeOptions<'_>,
    ) -> Result<Option<Self>, SpecError> {
        let outer = Self::parameters(config, options)?;
        // Without effect on the types that have no original length.
        config.ignore(&["original_max_position_embeddings"]);
        let (own, outer, nested) = match (outer, options.layer_type) {
            (Some(outer), Some(layer_type)) if options.converted => {
                Self::converted(config, outer, layer_type, options)?
            }
            (Some(outer), Some(layer_type)) if outer.mentions(layer_type) => {
                match outer.nested(layer_type)? {
                    Some(own) => (Some(own), Some(outer), true),
                    None => return Ok(None),
                }
            }
            (outer, _) => (outer.clone(), outer, false),
        };
        let source = Keys {
            config,
            own,
            outer,
            nested,
        };
        let mut theta = source.theta(options)?;
        let mut rope_type = source.rope_type()?;
        if options.only_long {
            rope_type = source.only_long(rope_type)?;
        }
        let alpha = match rope_type.as_str() {
            "dynamic" if options.alpha => source.own().optional_positive("alpha")?,
            _ => None,
        };
        // `proportional` is about frequencies, not about which features rotate.
        let whole = !options.partial && rope_type != "proportional";
        // Where nothing is scaled, such a class does not look at the part; where something is, its
        // rotation and its heads come out of different widths.
        let unread = whole && rope_type == "default";
        let fraction = source.fraction(options, whole && !unread)?;
        let fraction = if unread {
            options.default_partial
        } else {
            fraction
        };
        let (span, scaling) = if let Some(alpha) = alpha {
            source.own().ignore(&ALPHA_LEFTOVERS);
            let dims = options.head_dim as f64;
            theta *= alpha.powf(dims / (dims - 2.0));
            (options.head_dim, RopeScaling::Default)
        } else {
            source.scaling(&rope_type, options.head_dim, fraction)?
        };
        for keys in [&source.own, &source.outer].into_iter().flatten() {
            keys.ignore(&VOCABULARY);
        }
        let odd = matches!(
            scaling,
            RopeScaling::Default
                | RopeScaling::Linear { .. }
                | RopeScaling::Dynamic { .. }
                | RopeScaling::Llama3 { .. }
                | RopeScaling::LongRope { .. }
        );
        // The reference's ramp has a number for each of `span / 2` pairs; one serves two pairs.
        let odd = odd || (span == 3 && matches!(scaling, RopeScaling::Yarn { .. }));
        let dims = if odd { span.next_multiple_of(2) } else { span };
        if dims == 0 || dims % 2 != 0 || dims > options.head_dim {
            return Err(source.odd(span, options.head_dim));
        }
        Ok(Some(Self {
            dims,
            span,
            offset: 0,
            interleaved: options.interleaved,
            reversed: options.reversed,
            theta,
            scaling,
            axis: PositionAxis::Token,
        }))
    }

    /// `(own, outer, nested)` of [`Keys`] where the class makes an object for each kind of layer.
    fn converted(
        config: &Config,
        outer: Config,
        layer_type: &str,
        options: &RopeOptions<'_>,
    ) -> Result<(Option<Config>, Option<Config>, bool), SpecError> {
        if options.scaled && config.in_file("rope_scaling") && !outer.mentions(layer_type) {
            // It is merged into an object that says `rope_type: default`.
            if !outer.in_file("rope_type") {
                let usual = [Value::from("default")];
                outer.neutral("type", &usual, "the reference looks at `rope_type` only")?;
            }
            return Ok((Some(outer), None, true));
        }
        if outer.keys().next().is_some()
            && !["full_attention", "sliding_attention"]
                .iter()
                .any(|kind| outer.mentions(kind))
        {
            let reason = "this type has one object for each kind of layer";
            return Err(config.unsupported("rope_parameters", reason));
        }
        Ok((outer.nested(layer_type)?, Some(outer), true))
    }

    /// The object that describes the rotation, in either spelling, or what the class assumes.
    pub fn parameters(
        config: &Config,
        options: &RopeOptions<'_>,
    ) -> Result<Option<Config>, SpecError> {
        let older = config
            .nested("rope_scaling")?
            .filter(|older| older.keys().next().is_some());
        let newer = config.nested("rope_parameters")?;
        Ok(older
            .filter(|_| options.scaled)
            .or(newer)
            .or_else(|| Some(config.assumed("rope_parameters", options.assumed?))))
    }

    /// The usual frequencies of the first `span` features, rotate-half.
    pub fn plain(span: usize, theta: f64) -> Self {
        Self {
            dims: span.next_multiple_of(2),
            span,
            offset: 0,
            interleaved: false,
            reversed: false,
            axis: PositionAxis::Token,
            theta,
            scaling: RopeScaling::Default,
        }
    }

    /// Whether a record's length changes its frequencies (dynamic, longrope): then records that
    /// share a prefix do not share its keys.
    pub fn depends_on_length(&self) -> bool {
        matches!(
            self.scaling,
            RopeScaling::Dynamic { .. }
                | RopeScaling::SteppedNtk { .. }
                | RopeScaling::LongRope { .. }
        )
    }

    /// Records whose lengths map to the same class share one table; `length` in tokens.
    pub fn length_class(&self, length: usize) -> usize {
        match self.scaling {
            RopeScaling::Dynamic { trained, .. }
            | RopeScaling::SteppedNtk {
                trained: Some(trained),
                ..
            } => length.max(trained),
            RopeScaling::SteppedNtk {
                base_length,
                trained: None,
            } => self.stepped_alpha(length, base_length) as usize,
            RopeScaling::LongRope { original, .. } => usize::from(length > original),
            _ => 0,
        }
    }

    /// Why its angles depend on the length of the whole record, in records of at most `longest` tokens.
    pub fn turns_by_length(&self, longest: usize) -> Option<&'static str> {
        let same = self.length_class(1) == self.length_class(longest);
        (!same).then_some("rotations depend on a record's length")
    }

    /// In the table of architectures.
    pub(crate) fn label(&self) -> &'static str {
        if self.interleaved {
            "rope (interleaved)"
        } else {
            "rope"
        }
    }

    /// How long a record may be, given `max_position_embeddings`.
    pub fn length_limit(&self, max_position_embeddings: usize) -> LengthLimit {
        let max = max_position_embeddings as f64;
        LengthLimit::Trained(match self.scaling {
            RopeScaling::Dynamic { .. } | RopeScaling::SteppedNtk { .. } => {
                return LengthLimit::None;
            }
            RopeScaling::Linear { factor } => (max * factor) as usize,
            RopeScaling::Yarn {
                factor, original, ..
            } => max.max(original * factor) as usize,
            _ => max_position_embeddings,
        })
    }

    /// The frequencies for a record of `length` tokens that is run in one forward pass.
    pub fn frequencies(&self, length: usize) -> RopeFrequencies {
        let (mut inverse, attention_factor) = match &self.scaling {
            RopeScaling::Default => (
                self.powers(self.theta as f32, self.span, self.dims / 2),
                1.0,
            ),
            RopeScaling::Half => {
                let powers = self.powers(self.theta as f32, self.dims, self.dims / 2);
                let rounded = powers
                    .into_iter()
                    .map(|power| f16::from_f32(power).to_f32());
                (rounded.collect(), 1.0)
            }
            RopeScaling::Linear { factor } => (self.divided(*factor, self.dims / 2), 1.0),
            RopeScaling::Proportional { factor, rotated } => {
                let mut inverse = self.divided(*factor, *rotated);
                inverse.resize(self.dims / 2, 0.0);
                (inverse, 1.0)
            }
            RopeScaling::Dynamic { factor, trained } => {
                (self.dynamic(*factor, *trained, length), 1.0)
            }
            RopeScaling::SteppedNtk {
                base_length,
                trained,
            } => self.stepped(*base_length, *trained, length),
            RopeScaling::Yarn {
                attention_factor, ..
            } => (self.yarn(), *attention_factor),
            RopeScaling::LongRope {
                short,
                long,
                original,
                attention_factor,
                long_attention_factor,
            } => {
                let (factors, attention_factor) = if length > *original {
                    (long, long_attention_factor)
                } else {
                    (short, attention_factor)
                };
                (self.long_rope(factors), *attention_factor)
            }
            RopeScaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => (self.llama3(*factor, *low, *high, *original), 1.0),
        };
        if self.reversed {
            for frequency in &mut inverse {
                *frequency = -*frequency;
            }
        }
        RopeFrequencies {
            inverse,
            attention_factor: attention_factor as f32,
        }
    }

    /// `1 / base^(2i / dims)` of the first `count` pairs.
    fn powers(&self, base: f32, dims: usize, count: usize) -> Vec<f32> {
        self.bases(base, dims, count)
            .into_iter()
            .map(|power| 1.0 / power)
            .collect()
    }

    /// `base^(2i / dims)` of the first `count` pairs.
    #[expect(clippy::unused_self, reason = "reads as a part of the rotation")]
    fn bases(&self, base: f32, dims: usize, count: usize) -> Vec<f32> {
        (0..count)
            .map(|i| base.powf((2 * i) as f32 / dims as f32))
            .collect()
    }

    fn divided(&self, factor: f64, count: usize) -> Vec<f32> {
        let powers = self.powers(self.theta as f32, self.span, count);
        powers
            .into_iter()
            .map(|inverse| inverse / factor as f32)
            .collect()
    }

    /// The base of a long record is a 0-dimensional f32 tensor in the reference.
    fn dynamic(&self, factor: f64, trained: usize, length: usize) -> Vec<f32> {
        let mut base = self.theta as f32;
        if length > trained {
            let exponent = self.span as f64 / (self.span as f64 - 2.0);
            let stretch = (factor as f32 * length as f32) / trained as f32 - (factor - 1.0) as f32;
            base *= stretch.powf(exponent as f32);
        }
        self.powers(base, self.span, self.dims / 2)
    }

    /// How much the base of a record of this length has grown.
    #[expect(clippy::unused_self, reason = "reads as a part of the rotation")]
    fn stepped_alpha(&self, length: usize, base_length: usize) -> f64 {
        let steps = (length as f64 / base_length as f64).log2() + 1.0;
        (2_f64.powf(steps.ceil()) - 1.0).max(1.0)
    }

    fn stepped(
        &self,
        base_length: usize,
        trained: Option<usize>,
        length: usize,
    ) -> (Vec<f32>, f64) {
        let counted = trained.map_or(length, |trained| length.max(trained));
        let exponent = self.dims as f64 / (self.dims as f64 - 2.0);
        let base = self.theta * self.stepped_alpha(counted, base_length).powf(exponent);
        let magnitude = match trained {
            Some(trained) if length > trained => 0.1 * (length as f64 / trained as f64).ln() + 1.0,
            _ => 1.0,
        };
        (
            self.powers(base as f32, self.dims, self.dims / 2),
            magnitude,
        )
    }

    fn yarn(&self) -> Vec<f32> {
        let RopeScaling::Yarn {
            factor,
            original,
            beta_fast,
            beta_slow,
            truncate,
            ..
        } = self.scaling
        else {
            return Vec::new();
        };
        let dims = self.span as f64;
        let feature_of = |rotations: f64| {
            dims * (original / (rotations * 2.0 * PI)).ln() / (2.0 * self.theta.ln())
        };
        let (mut low, mut high) = (feature_of(beta_fast), feature_of(beta_slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dims - 1.0));
        if low == high {
            high += 0.001;
        }
        let powers = self.bases(self.theta as f32, self.span, self.dims / 2);
        let blend = |(i, power): (usize, f32)| {
            let i = i.min(self.span / 2 - 1);
            let ramp = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
            let kept = 1.0 - ramp;
            (1.0 / (factor as f32 * power)) * (1.0 - kept) + (1.0 / power) * kept
        };
        powers.into_iter().enumerate().map(blend).collect()
    }

    fn long_rope(&self, factors: &[f64]) -> Vec<f32> {
        let powers = self.bases(self.theta as f32, self.span, self.dims / 2);
        powers
            .iter()
            .zip(factors)
            .map(|(power, &factor)| 1.0 / (factor as f32 * power))
            .collect()
    }

    fn llama3(&self, factor: f64, low: f64, high: f64, original: f64) -> Vec<f32> {
        let (longest, shortest) = ((original / low) as f32, (original / high) as f32);
        let blend = |inverse: f32| {
            let wavelength = (2.0 * PI) as f32 / inverse;
            if wavelength > longest {
                inverse / factor as f32
            } else if wavelength < shortest {
                inverse
            } else {
                let smooth = (original as f32 / wavelength - low as f32) / (high - low) as f32;
                (1.0 - smooth) * inverse / factor as f32 + smooth * inverse
            }
        };
        let powers = self.powers(self.theta as f32, self.span, self.dims / 2);
        powers.into_iter().map(blend).collect()
    }
}

/// The keys that describe one rotation, wherever the file keeps them.
struct Keys<'a> {
    config: &'a Config,
    /// The object of this kind of layer, or the only one.
    own: Option<Config>,
    /// The object that `own` is in, or `own` itself.
    outer: Option<Config>,
    /// `own` is one of several.
    nested: bool,
}

impl Keys<'_> {
    /// Error about a key, named where the file has it.
    fn wrong(&self, key: &str, expected: &str) -> SpecError {
        let place = self
            .own
            .as_ref()
            .filter(|own| own.mentions(key))
            .unwrap_or(self.config);
        place.invalid(key, expected)
    }

    /// Error: `span` features of a head cannot be rotated in pairs. The key that says so is to blame.
    fn odd(&self, span: usize, head_dim: usize) -> SpecError {
        if span != head_dim {
            let expected = "an even number of rotated features";
            return self.wrong("partial_rotary_factor", expected);
        }
        let widths = [
            "head_dim",
            "qk_rope_head_dim",
            "kv_channels",
            "attention_key_size",
        ];
        let said = widths.into_iter().find(|key| {
            let width = self.config.optional_size(key);
            matches!(width, Ok(Some(width)) if width == head_dim)
        });
        match said {
            Some(key) => self
                .config
                .invalid(key, "an even number: features rotate in pairs"),
            None => self.config.invalid(
                "num_attention_heads",
                format!("a number that gives heads an even number of features, not {head_dim}"),
            ),
        }
    }

    fn theta(&self, options: &RopeOptions<'_>) -> Result<f64, SpecError> {
        // Both places count as read: the reference lets the inner one win.
        let beside = first(options.theta_keys, |key| self.config.optional_positive(key))?;
        let inside = match &self.own {
            Some(own) => own.optional_positive("rope_theta")?,
            None => None,
        };
        let theta = inside
            .or(beside)
            .or_else(|| self.default_theta(options.layer_type));
        theta.ok_or_else(|| self.config.missing("rope_theta"))
    }

    fn default_theta(&self, layer_type: Option<&str>) -> Option<f64> {
        match &self.config.row().ok()?.default_theta {
            Value::Object(kinds) => {
                let kind = match layer_type? {
                    "sliding_attention" => "local",
                    _ => "global",
                };
                kinds.get(kind)?.as_f64()
            }
            theta => theta.as_f64(),
        }
    }

    fn fraction(&self, options: &RopeOptions<'_>, whole: bool) -> Result<f64, SpecError> {
        let read = |config: &Config, key: &str| match config.optional_positive(key)? {
            Some(fraction) if fraction > 1.0 => Err(config.invalid(key, "at most 1")),
            Some(fraction) if fraction != 1.0 && whole => {
                Err(config.unsupported(key, "this type rotates whole heads"))
            }
            fraction => Ok(fraction),
        };
        let inside = match &self.own {
            Some(own) => read(own, "partial_rotary_factor")?,
            None => None,
        };
        let beside = first(options.partial_keys, |key| read(self.config, key))?;
        Ok(inside.or(beside).unwrap_or(options.default_partial))
    }

    fn rope_type(&self) -> Result<String, SpecError> {
        let Some(own) = &self.own else {
            return Ok("default".into());
        };
        let older = own.optional_text("type")?;
        Ok(own
            .optional_text("rope_type")?
            .or(older)
            .unwrap_or_else(|| "default".into()))
    }

    fn only_long(&self, rope_type: String) -> Result<String, SpecError> {
        match rope_type.as_str() {
            "default" | "longrope" => Ok(rope_type),
            "su" | "yarn" => {
                let key = "original_max_position_embeddings";
                let inside = self.own().optional_size(key)?;
                if inside.is_some_and(|inside| self.original().ok() != Some(inside)) {
                    return Err(self.own().invalid(key, "the length beside the object"));
                }
                Ok("longrope".into())
            }
            _ => Err(self.unsupported_type("this type knows `longrope` only")),
        }
    }

    fn unsupported_type(&self, reason: &str) -> SpecError {
        let own = self.own();
        let key = if own.in_file("rope_type") {
            "rope_type"
        } else {
            "type"
        };
        own.unsupported(key, reason)
    }

    fn own(&self) -> &Config {
        self.own.as_ref().unwrap_or(self.config)
    }

    fn max_positions(&self) -> Result<usize, SpecError> {
        self.config.size("max_position_embeddings")
    }

    /// Length before the extension: the key beside the object wins over the one inside it.
    fn original(&self) -> Result<usize, SpecError> {
        let inside = self
            .own()
            .optional_size("original_max_position_embeddings")?;
        let beside = self
            .config
            .optional_size("original_max_position_embeddings")?;
        match beside.filter(|_| !self.nested).or(inside) {
            Some(original) => Ok(original),
            None => self.max_positions(),
        }
    }

    fn scaling(
        &self,
        rope_type: &str,
        head_dim: usize,
        fraction: f64,
    ) -> Result<(usize, RopeScaling), SpecError> {
        let own = self.own();
        let dims = (head_dim as f64 * fraction) as usize;
        let scaling = match rope_type {
            "default" => {
                // Files say `factor: 1` and the like; the reference uses no such key here.
                own.neutral(
                    "factor",
                    &[Value::from(1)],
                    "rope_type `default` has no factor",
                )?;
                RopeScaling::Default
            }
            "linear" => RopeScaling::Linear {
                factor: own.positive("factor")?,
            },
            "dynamic" if dims == 2 => {
                return Err(own.unsupported("rope_type", "needs more than two rotated features"));
            }
            "dynamic" => RopeScaling::Dynamic {
                factor: own.positive("factor")?,
                trained: self.max_positions()?,
            },
            "yarn" => self.yarn()?,
            "longrope" => self.long_rope(dims)?,
            "llama3" => RopeScaling::Llama3 {
                factor: own.positive("factor")?,
                low: own.positive("low_freq_factor")?,
                high: own.positive("high_freq_factor")?,
                original: self.original()? as f64,
            },
            "proportional" => {
                let factor = own.optional_positive("factor")?.unwrap_or(1.0);
                let rotated = (fraction * head_dim as f64 / 2.0).floor() as usize;
                return Ok((head_dim, RopeScaling::Proportional { factor, rotated }));
            }
            _ => return Err(self.unsupported_type("unknown rope type")),
        };
        Ok((dims, scaling))
    }

    fn yarn(&self) -> Result<RopeScaling, SpecError> {
        let own = self.own();
        let original = self.original()? as f64;
        let factor = match own.optional_positive("factor")? {
            Some(factor) => factor,
            None => self.max_positions()? as f64 / original,
        };
        let magnitude = |scale: f64, weight: f64| {
            if scale <= 1.0 {
                1.0
            } else {
                0.1 * weight * scale.ln() + 1.0
            }
        };
        let weights = (
            own.optional_number("mscale")?
                .filter(|&weight| weight != 0.0),
            own.optional_number("mscale_all_dim")?
                .filter(|&weight| weight != 0.0),
        );
        let attention_factor = match (own.optional_number("attention_factor")?, weights) {
            (Some(factor), _) => factor,
            (None, (Some(weight), Some(all))) => magnitude(factor, weight) / magnitude(factor, all),
            (None, _) => magnitude(factor, 1.0),
        };
        let beta = |key, usual| {
            Ok::<_, SpecError>(
                own.optional_number(key)?
                    .filter(|&b| b != 0.0)
                    .unwrap_or(usual),
            )
        };
        // The reference looks for `truncate` in the outer object only.
        let outer = self.outer.as_ref().unwrap_or(self.config);
        own.ignore(&["truncate"]);
        Ok(RopeScaling::Yarn {
            factor,
            original,
            attention_factor,
            beta_fast: beta("beta_fast", 32.0)?,
            beta_slow: beta("beta_slow", 1.0)?,
            truncate: !outer.in_file("truncate") || outer.flag("truncate")?,
        })
    }

    fn long_rope(&self, dims: usize) -> Result<RopeScaling, SpecError> {
        let own = self.own();
        let original = self.original()?;
        let frequencies = dims.div_ceil(2);
        let factors = |key: &str| {
            let factors = own.numbers(key)?.ok_or_else(|| own.missing(key))?;
            let usable = |factor: &f64| factor.is_finite() && *factor > 0.0;
            if factors.len() != frequencies || !factors.iter().all(usable) {
                return Err(own.invalid(key, format!("{frequencies} numbers above 0")));
            }
            Ok(factors)
        };
        let (short, long) = (factors("short_factor")?, factors("long_factor")?);
        let factor = match own.optional_positive("factor")? {
            Some(factor) => factor,
            None => self.max_positions()? as f64 / original as f64,
        };
        let attention_factor = match own.optional_number("attention_factor")? {
            Some(factor) => factor,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / (original as f64).ln()).sqrt(),
        };
        Ok(RopeScaling::LongRope {
            short,
            long,
            original,
            attention_factor,
            long_attention_factor: attention_factor,
        })
    }
}

/// The first of these keys that has a value; all are read.
fn first(
    keys: &[&str],
    read: impl Fn(&str) -> Result<Option<f64>, SpecError>,
) -> Result<Option<f64>, SpecError> {
    keys.iter()
        .try_fold(None, |found, key| Ok(found.or(read(key)?)))
}
