//! `DeBERTa` (He et al. 2021): attention by content and by position, apart.

use std::rc::Rc;

use super::{BERT, set_head, table};
use crate::build::{Leaves, NormStyle};
use crate::families::blocks::{
    Arrangement, Blocks, Classifier, InFront, MixerOf, Names, Projections, Tie, Transform, Types,
    UnusedHead,
};
use crate::{
    Activation, Config, Described, DistanceKeys, DistanceRule, DistanceTable, DistanceVectors,
    Gain, Identity, KeyValue, LengthLimit, Linear, Mixer, Neighbourhood, Position, Shard, Slot,
    Source, SpecError, Step, TypeRule, Write,
};

/// Where the embedding waits for the convolution.
const BEGINNING: Slot = Slot::Stash(0);

/// `DeBERTa`.
pub fn deberta(config: &Config) -> Result<Described, SpecError> {
    config.off("talking_head", "no published model has it")?;
    let names = Names {
        projections: Projections::Separate(["", "", ""]),
        ..BERT
    };
    let mut model = usual(config, &names)?;
    model.names.projections = Projections::per_head("attention.self.in_proj", model.heads);
    let positions = Positions::read(config, &mut model, DistanceRule::Each)?;
    model.query_key_value_bias = false;
    model.attention_of = MixerOf::new(move |own: &Blocks<'_>, leaves, layer| {
        let mut attention = own.usual_attention(leaves, layer);
        let wide = own.heads * own.head_dim;
        let addend = |leaves: &mut Leaves, name: &str| {
            let source = leaves.tensor(name);
            Some(leaves.weight(source, &[wide], Shard::Column))
        };
        attention.query.bias = addend(leaves, "attention.self.q_bias");
        if let KeyValue::Own {
            key: _,
            value: Some(value),
        } = &mut attention.key_value
        {
            value.bias = addend(leaves, "attention.self.v_bias");
        }
        let shape = [wide, own.hidden_size];
        let mut project = |has: bool, name: &str, bias| {
            has.then(|| leaves.linear(name, shape, bias, Shard::Column))
        };
        let keys = project(positions.meets_queries(), "attention.self.pos_proj", false);
        let queries = project(positions.meets_keys(), "attention.self.pos_q_proj", true);
        attention
            .positions
            .extend(positions.vectors(own, leaves, keys, queries));
        Some(Mixer::Attention(Box::new(attention)))
    });
    finish(config, model)
}

/// `DeBERTa`, versions 2 and 3 (He et al. 2023): distances in buckets, shared projections, a convolution.
pub fn deberta_v2(config: &Config) -> Result<Described, SpecError> {
    let names = Names {
        projections: Projections::Separate([
            "attention.self.query_proj",
            "attention.self.key_proj",
            "attention.self.value_proj",
        ]),
        ..BERT
    };
    let mut model = usual(config, &names)?;
    if let Some(width) = config.optional_size("attention_head_size")?
        && width != model.head_dim
    {
        return Err(config.unsupported("attention_head_size", "heads of another width"));
    }
    let buckets = at_least_one(config, "position_buckets")?;
    let mut positions = Positions::read(config, &mut model, DistanceRule::Each)?;
    if let Some(buckets) = buckets {
        positions.set_buckets(config, buckets)?;
    }
    let norms = config
        .optional_text("norm_rel_ebd")?
        .unwrap_or_default()
        .to_lowercase();
    positions.is_normed = norms.split('|').any(|name| name.trim() == "layer_norm");
    let shared = config.flag("share_att_key")?;
    model.attention_of = MixerOf::new(move |own: &Blocks<'_>, leaves, layer| {
        let mut attention = own.usual_attention(leaves, layer);
        let shape = [own.heads * own.head_dim, own.hidden_size];
        let content_key = match &attention.key_value {
            KeyValue::Own { key, value: _ } => key.clone(),
            KeyValue::OfLayer(_) | KeyValue::OfStack { .. } => attention.query.clone(),
        };
        let mut project = |has: bool, content: &Linear, name: &str| {
            has.then(|| {
                if shared {
                    content.clone()
                } else {
                    leaves.linear(name, shape, true, Shard::Column)
                }
            })
        };
        let keys = project(
            positions.meets_queries(),
            &content_key,
            "attention.self.pos_key_proj",
        );
        let queries = project(
            positions.meets_keys(),
            &attention.query,
            "attention.self.pos_query_proj",
        );
        attention
            .positions
            .extend(positions.vectors(own, leaves, keys, queries));
        Some(Mixer::Attention(Box::new(attention)))
    });
    convolve(config, &mut model)?;
    finish(config, model)
}

/// A whole number that counts where it is 1 or more.
fn at_least_one(config: &Config, key: &str) -> Result<Option<usize>, SpecError> {
    match config.optional_number(key)? {
        Some(number) if number >= 1.0 => config.optional_size(key),
        _ => Ok(None),
    }
}

fn usual<'c>(config: &'c Config, names: &Names) -> Result<Blocks<'c>, SpecError> {
    config.ignore(&["pooler_dropout", "pooler_hidden_size"]);
    // It is an encoder, whatever the file says.
    config.ignore(&["is_decoder", "add_cross_attention"]);
    let arrangement = Arrangement::after_sum("attention.output.LayerNorm", "output.LayerNorm");
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let mut model = super::encoder(config, names, arrangement, norm)?;
    let pooled = InFront::dense("pooler.dense", config.activation("pooler_hidden_act")?);
    model.sequence_classifier = Some(Classifier::first_token(pooled, &["classifier"]));
    model.family = "deberta";
    if let Some(width) = config.optional_size("embedding_size")?
        && width != model.hidden_size
    {
        return Err(config.unsupported("embedding_size", "a token table of another width"));
    }
    model.intermediate_size = config.size("intermediate_size")?;
    model.activation = config.activation("hidden_act")?;
    let kinds = config.index("type_vocab_size")?;
    model.types = (kinds > 0).then_some(Types {
        name: "embeddings.token_type_embeddings",
        count: kinds,
        rule: TypeRule::Given,
    });
    if config.flag("position_biased_input")? {
        table(config, &mut model, 0)?;
    } else {
        let trained = config.size("max_position_embeddings")?;
        model.length_limit = Some(LengthLimit::Trained(trained));
        model.ignored.push("*embeddings.position_embeddings.*");
    }
    Ok(model)
}

/// The head, which files of the published models may lack.
fn finish(config: &Config, mut model: Blocks<'_>) -> Result<Described, SpecError> {
    let width = model.hidden_size;
    model.ignored.extend(["*mask_predictions.*", "*pooler.*"]);
    // Stored where no term reads them, too.
    model
        .ignored
        .extend(["*encoder.rel_embeddings.weight", "*encoder.LayerNorm.*"]);
    if config.flag("legacy")? {
        set_head(&mut model, width);
        model.unused_head.own = &["cls.predictions.bias"];
        model.ignored.push("lm_predictions.*");
        return model.build();
    }
    model.transforms = vec![Transform::normed(
        "lm_predictions.lm_head.dense",
        "lm_predictions.lm_head.LayerNorm",
        width,
        model.activation,
    )];
    model.tied_bias = Some("lm_predictions.lm_head.bias");
    model.tie = Tie::Always(true);
    model.unused_head = UnusedHead {
        without: &["lm_predictions.*"],
        tied: &[],
        own: &[],
    };
    model.ignored.push("cls.predictions.*");
    model.build()
}

/// What follows the first layer: a convolution of the embedding is added to it.
fn convolve(config: &Config, model: &mut Blocks<'_>) -> Result<(), SpecError> {
    let Some(kernel) = at_least_one(config, "conv_kernel_size")? else {
        config.ignore(&["conv_kernel_size", "conv_act", "conv_groups"]);
        return Ok(());
    };
    if kernel % 2 == 0 {
        return Err(config.unsupported("conv_kernel_size", "an even kernel shortens records"));
    }
    config.neutral(
        "conv_groups",
        &[1.into()],
        "a convolution of groups of features is not implemented",
    )?;
    let activation = if config.in_file("conv_act") {
        config.activation("conv_act")?
    } else {
        Activation::Tanh
    };
    model.layer_of = Some(Rc::new(move |own, leaves, layer| {
        let steps = own.steps(leaves, layer);
        if layer > 0 {
            return steps;
        }
        let beginning = Step {
            write: Write::Set(BEGINNING),
            ..Step::residual(Mixer::Identity(Identity))
        };
        let place = format!("{}encoder.conv.", own.prefix);
        let convolution = leaves.under(place, |leaves| {
            let width = own.hidden_size;
            let weight = Source::Reshape(Box::new(leaves.tensor("conv.weight")));
            let bias = Some(leaves.tensor("conv.bias"));
            let shape = [width, width * kernel];
            let mixer = Mixer::Neighbourhood(Neighbourhood {
                projection: leaves.linear_of(weight, bias, shape, Shard::Column),
                reach: kernel / 2,
                activation,
            });
            let norm = leaves.norm("LayerNorm", width, own.norm);
            Step {
                read: BEGINNING,
                write: Write::AddNorm(norm, Gain::One),
                ..Step::residual(mixer)
            }
        });
        [vec![beginning], steps, vec![convolution]].concat()
    }));
    Ok(())
}

/// What a configuration says of distances.
#[derive(Clone, Copy)]
struct Positions {
    /// Content to position and position to content.
    terms: [bool; 2],
    /// There are vectors of distances.
    is_relative: bool,
    span: usize,
    rule: DistanceRule,
    is_normed: bool,
    longest: usize,
}

impl Positions {
    /// Reads them, and sets the factor on the logits that follows from their number.
    fn read(
        config: &Config,
        model: &mut Blocks<'_>,
        rule: DistanceRule,
    ) -> Result<Self, SpecError> {
        let names = match config.value("pos_att_type") {
            Some(serde_json::Value::String(names)) => {
                let names = names.to_lowercase();
                names
                    .split('|')
                    .map(|name| name.trim().to_owned())
                    .collect()
            }
            _ => config.texts("pos_att_type")?.unwrap_or_default(),
        };
        let terms = ["c2p", "p2c"].map(|term| names.iter().any(|name| name == term));
        let known = terms.iter().filter(|&&has| has).count();
        if names.len() != known {
            return Err(config.invalid("pos_att_type", "`c2p` and `p2c`, each once"));
        }
        let is_relative = config.flag("relative_attention")?;
        let longest = at_least_one(config, "max_relative_positions")?;
        let longest = match longest {
            Some(longest) => longest,
            None => config.size("max_position_embeddings")?,
        };
        model.attention_scale = ((model.head_dim * (1 + known)) as f64).powf(-0.5);
        Ok(Self {
            terms,
            is_relative,
            span: longest,
            rule,
            is_normed: false,
            longest,
        })
    }

    fn set_buckets(&mut self, config: &Config, buckets: usize) -> Result<(), SpecError> {
        let middle = buckets / 2;
        if middle < 2 || self.longest < middle + 2 {
            let expected = format!("at least 4, and less than {}", 2 * self.longest);
            return Err(config.invalid("position_buckets", expected));
        }
        self.span = buckets;
        self.rule = DistanceRule::Log {
            middle,
            ratio: (self.longest - 1) as f64 / middle as f64,
        };
        Ok(())
    }

    fn meets_queries(&self) -> bool {
        self.is_relative && self.terms[0]
    }

    fn meets_keys(&self) -> bool {
        self.is_relative && self.terms[1]
    }

    fn vectors(
        &self,
        own: &Blocks<'_>,
        leaves: &mut Leaves,
        keys: Option<Linear>,
        queries: Option<Linear>,
    ) -> Option<Position> {
        if keys.is_none() && queries.is_none() {
            return None;
        }
        let width = own.hidden_size;
        let source = Source::tensor(format!("{}encoder.rel_embeddings.weight", own.prefix));
        let source = Source::Reshape(Box::new(source));
        let table = leaves.weight(source, &[2 * self.span * width], Shard::Replicate);
        let norm = self.is_normed.then(|| {
            let place = format!("{}encoder.", own.prefix);
            leaves.under(place, |leaves| leaves.norm("LayerNorm", width, own.norm))
        });
        let table = DistanceTable::Learned {
            weight: table,
            span: self.span,
        };
        Some(Position::Vectors(Box::new(DistanceVectors {
            norm,
            keys: keys.map(DistanceKeys::Projected),
            queries,
            rule: self.rule,
            ..DistanceVectors::new(table, width, own.attention_scale)
        })))
    }
}
