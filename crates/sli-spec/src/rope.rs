//! What a configuration says about rotations, in either of its spellings.
//!
//! What of it is arithmetic on the configuration's numbers follows transformers' `modeling_rope_utils`.

use serde_json::Value;

use crate::config::Config;
use crate::error::SpecError;
pub use crate::parts::rope::{
    Pairs, PositionAxis, Rope, RopeFrequencies, RopeScaling, StoredTurns, TurnsForm,
};

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
                    own if kinds.contains_key(own) => own,
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
        let told = own.optional_text("rope_type")?.or(older);
        // The name that the reference gives the plain one where pairs turn by several numbers.
        let told = told.filter(|name| name != "mrope" || !own.mentions("mrope_section"));
        Ok(told.unwrap_or_else(|| "default".into()))
    }

    fn only_long(&self, rope_type: String) -> Result<String, SpecError> {
        match rope_type.as_str() {
            "default" | "longrope" => Ok(rope_type),
            // As for `longrope`, the original length inside does not count beside that of the class.
            "su" | "yarn" => Ok("longrope".into()),
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
            // There, `null` is not the same as nothing.
            truncate: !outer.mentions("truncate") || outer.flag("truncate")?,
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
