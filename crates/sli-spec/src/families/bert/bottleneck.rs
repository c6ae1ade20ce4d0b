//! MobileBERT (Sun et al. 2020): narrow layers between wide boundaries, trigrams of a narrow token table, factors and
//! addends in the place of norms.

use std::rc::Rc;

use super::{BERT, masked};
use crate::build::{Leaves, NormStyle};
use crate::families::blocks::{Blocks, Classifier, InFront, Narrow};
use crate::{
    Attention, Bottleneck, Config, Described, Gain, Identity, KeyValue, Mixer, Norm, NormKind,
    Shard, Slot, SpecError, Step, Write,
};

/// Where the narrow state of a layer is.
const NARROW: Slot = Slot::Stash(0);

/// MobileBERT.
pub fn mobilebert(config: &Config) -> Result<Described, SpecError> {
    let mut model = masked(config)?;
    let layer = Layer::read(config, &model)?;
    model.embedding_norm = Some(("embeddings.LayerNorm", layer.plain_norm));
    model.stash_size = layer.has_bottleneck.then_some(layer.width);
    if !config.flag("classifier_activation")? {
        model.pooler = None;
        let first = Classifier::first_token(InFront::Nothing, &["classifier"]);
        model.sequence_classifier = Some(first);
        model.ignored.push("*pooler.dense.*");
    }
    if layer.has_bottleneck && layer.narrow_attention {
        // Stored where nothing passes it, too.
        model.ignored.push("*.bottleneck.attention.*");
    }
    set_ends(config, &mut model)?;
    model.layer_of = Some(Rc::new(move |own, leaves, _| layer.steps(own, leaves)));
    model.build()
}

/// The token table, as wide as it is, and the head, which has further columns where the table is narrow.
fn set_ends(config: &Config, model: &mut Blocks<'_>) -> Result<(), SpecError> {
    let width = config.size("embedding_size")?;
    if width > model.hidden_size {
        let expected = format!("at most {}, the hidden size", model.hidden_size);
        return Err(config.invalid("embedding_size", expected));
    }
    let trigrams = config.flag("trigram_input")?;
    if trigrams || width != model.hidden_size {
        model.narrow = Some(Narrow {
            width,
            inward: "embeddings.embedding_transformation",
            bias: true,
            sum_is_narrow: false,
            trigrams,
            beside: 0,
            outward: None,
        });
    } else {
        model.ignored.push("*embeddings.embedding_transformation.*");
    }
    if width < model.hidden_size {
        model.further_columns = Some("cls.predictions.dense");
    } else {
        // It has no rows.
        model.ignored.push("cls.predictions.dense.weight");
    }
    Ok(())
}

/// What the layers are like.
#[derive(Clone, Copy)]
struct Layer {
    has_bottleneck: bool,
    /// All of the attention is behind the bottleneck.
    narrow_attention: bool,
    /// Features between the bottlenecks.
    width: usize,
    /// Feed-forward networks.
    networks: usize,
    /// Norms whose epsilon the file says, and those with the class's own.
    norm: NormStyle,
    plain_norm: NormStyle,
}

impl Layer {
    fn read(config: &Config, model: &Blocks<'_>) -> Result<Self, SpecError> {
        const KIND: &str = "normalization_type";
        let kind = match config.optional_text(KIND)?.as_deref() {
            Some("no_norm") => NormKind::Affine,
            Some("layer_norm") => NormKind::Layer,
            _ => return Err(config.unsupported(KIND, "`no_norm` and `layer_norm` are known")),
        };
        let norm = |epsilon| NormStyle {
            kind,
            ..NormStyle::layer(epsilon)
        };
        let has_bottleneck = config.flag("use_bottleneck")?;
        let inner = config.size("intra_bottleneck_size")?;
        let width = if has_bottleneck {
            inner
        } else {
            model.hidden_size
        };
        if let Some(told) = config.optional_size("true_hidden_size")?
            && told != width
        {
            return Err(config.invalid("true_hidden_size", format!("{width}")));
        }
        if !width.is_multiple_of(model.heads) {
            let expected = format!("a divisor of {width}, the features between the bottlenecks");
            return Err(config.invalid("num_attention_heads", expected));
        }
        let narrow_attention = config.flag("use_bottleneck_attention")?;
        let shared = config.flag("key_query_shared_bottleneck")?;
        if has_bottleneck && !narrow_attention && !shared && width != model.hidden_size {
            let problem = "queries and keys need a bottleneck of their own";
            return Err(config.unsupported("key_query_shared_bottleneck", problem));
        }
        Ok(Self {
            has_bottleneck,
            narrow_attention: narrow_attention || !shared || !has_bottleneck,
            width,
            networks: config.size("num_feedforward_networks")?,
            norm: norm(config.positive("layer_norm_eps")?),
            plain_norm: norm(1e-5),
        })
    }

    fn steps(&self, own: &Blocks<'_>, leaves: &mut Leaves) -> Vec<Step> {
        let place = if self.has_bottleneck {
            NARROW
        } else {
            Slot::Hidden
        };
        let mut steps = Vec::new();
        if self.has_bottleneck {
            let Bottleneck { projection, norm } = self.bottleneck(own, leaves, "bottleneck.input");
            steps.push(Step {
                post: Some(norm),
                write: Write::Set(NARROW),
                ..Step::residual(Mixer::Linear(projection))
            });
        }
        let attention = Mixer::Attention(Box::new(self.attention(own, leaves)));
        let norm = leaves.norm("attention.output.LayerNorm", self.width, self.norm);
        let wide = self.has_bottleneck && !self.narrow_attention;
        let from = if wide { Slot::Hidden } else { place };
        steps.extend(added(attention, norm, from, place));
        for number in 0..self.networks {
            let last = number + 1 == self.networks;
            let (names, norm) = if last {
                (String::new(), self.plain_norm)
            } else {
                (format!("ffn.{number}."), self.norm)
            };
            let names = [BERT.up, BERT.down].map(|name| format!("{names}{name}"));
            let sizes = [self.width, own.intermediate_size];
            let [up, down] = [0, 1].map(|index: usize| names[index].as_str());
            let network = leaves.plain_feed_forward([up, down], sizes, true, own.activation);
            let name = down.replace(".dense", ".LayerNorm");
            let norm = leaves.norm(&name, self.width, norm);
            steps.extend(added(Mixer::FeedForward(network), norm, place, place));
        }
        if self.has_bottleneck {
            let shape = [own.hidden_size, self.width];
            let outward = leaves.linear("output.bottleneck.dense", shape, true, Shard::Column);
            let name = "output.bottleneck.LayerNorm";
            let norm = leaves.norm(name, own.hidden_size, self.norm);
            steps.push(Step {
                read: NARROW,
                write: Write::AddNorm(norm, Gain::One),
                ..Step::residual(Mixer::Linear(outward))
            });
        }
        steps
    }

    fn bottleneck(&self, own: &Blocks<'_>, leaves: &mut Leaves, name: &str) -> Bottleneck {
        let shape = [self.width, own.hidden_size];
        Bottleneck {
            projection: leaves.linear(&format!("{name}.dense"), shape, true, Shard::Replicate),
            norm: leaves.norm(&format!("{name}.LayerNorm"), self.width, self.norm),
        }
    }

    fn attention(&self, own: &Blocks<'_>, leaves: &mut Leaves) -> Attention {
        let width = self.width;
        let bottleneck = (self.has_bottleneck && !self.narrow_attention)
            .then(|| self.bottleneck(own, leaves, "bottleneck.attention"));
        let of_values = if bottleneck.is_some() {
            own.hidden_size
        } else {
            width
        };
        let mut linear = |name: &str, inputs| {
            let name = format!("attention.self.{name}");
            leaves.linear(&name, [width, inputs], true, Shard::Column)
        };
        let query = linear("query", width);
        let key_value = KeyValue::Own {
            key: linear("key", width),
            value: Some(linear("value", of_values)),
        };
        let output = leaves.linear(BERT.output, [width, width], true, Shard::Row);
        let sizes = [own.heads, own.heads, width / own.heads];
        let mask = own.masks[0];
        Attention {
            bottleneck,
            ..Attention::plain(sizes, query, key_value, output, mask)
        }
    }
}

/// A sublayer whose output is added to a buffer, and the norm of the sum.
fn added(mixer: Mixer, norm: Norm, read: Slot, place: Slot) -> Vec<Step> {
    let sublayer = Step {
        read,
        ..Step::residual(mixer)
    };
    if place == Slot::Hidden {
        return vec![Step {
            write: Write::AddNorm(norm, Gain::One),
            ..sublayer
        }];
    }
    let sum = Step {
        write: Write::AddTo(place),
        ..sublayer
    };
    let normed = Step {
        read: place,
        pre: Some(norm),
        write: Write::Set(place),
        ..Step::residual(Mixer::Identity(Identity))
    };
    vec![sum, normed]
}
