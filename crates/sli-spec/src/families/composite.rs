//! Models of two parts that are types of their own: any encoder, and any decoder that attends to it.

use serde_json::Value;

use crate::build::{Leaves, pattern};
use crate::families::pictures::END;
use crate::families::pooled;
use crate::{
    Config, DecoderInput, Described, Features, Handed, Head, Input, Layer, Leaf, LengthLimit,
    Mechanism, ModelSpec, PooledEnd, PositionIds, Sequence, Shard, ShiftStart, SpecError, Stack,
    Task, TieOrder,
};

/// Whether a decoder attends to an encoder.
const ATTENDS: &str = "add_cross_attention";

/// The optional part that a bare base model has, which a decoder lacks.
const POOLER: &str = "pooler";
const POOLER_OF_DECODER: &str = "pooler of the decoder";

/// A part: the key of its configuration, which is the prefix of its tensors as well.
#[derive(Clone, Copy)]
struct Part {
    key: &'static str,
    /// It is the bare base model, whose tensors lack the prefix of that.
    is_base: bool,
}

const ENCODER: Part = Part {
    key: "encoder",
    is_base: true,
};

const DECODER: Part = Part {
    key: "decoder",
    is_base: false,
};

/// `EncoderDecoderModel`: two types that have language models of their own (Rothe et al. 2020).
///
/// `described` describes a part, by its own type.
pub fn encoder_decoder(
    config: &Config,
    described: impl Fn(&Config) -> Result<Described, SpecError>,
) -> Result<Described, SpecError> {
    config.ignore(&["is_encoder_decoder", "tie_word_embeddings"]);
    let encoder_config = config.part(ENCODER.key, "bert", Some(Task::Base), &[])?;
    let mut encoder = described(&encoder_config)?;
    pooled::without(&mut encoder.spec);
    let (_, decoder) = attending(config, described)?;
    let end = encoder.spec.output_stack();
    let [width, reads] = [end, decoder.spec.input_stack()].map(|stack| stack.hidden_size);
    if width != reads {
        let problem =
            format!("an encoder of another width than the decoder's {reads} is not known");
        return Err(encoder_config.unsupported("hidden_size", problem));
    }
    if let [_, _, ..] = encoder.spec.stacks[..] {
        return Err(encoder_config.unsupported("model_type", "it has a decoder itself"));
    }
    let patterns =
        |of: fn(&ModelSpec) -> &[&'static str]| ENCODER.patterns(&encoder.spec, of(&encoder.spec));
    let front = Front {
        ignored: patterns(|spec| &spec.ignored),
        stacks: ENCODER.stacks(encoder.spec.clone()),
    };
    behind(config, &front, decoder, true)
}

/// `SpeechEncoderDecoderModel` and `VisionEncoderDecoderModel`: a decoder that is a type of its own, behind an encoder that
/// is not run: records bring its end along. `width`: the key of the encoder's configuration that says how wide it is,
/// where there is one.
pub fn behind_given(
    config: &Config,
    width: &str,
    described: impl Fn(&Config) -> Result<Described, SpecError>,
) -> Result<Described, SpecError> {
    config.ignore(&["is_encoder_decoder", "tie_word_embeddings"]);
    let (decoder_config, decoder) = attending(config, described)?;
    let encoder = config.value(ENCODER.key);
    let size = |key: &str| {
        let size = encoder?.as_object()?.get(key)?.as_u64()?;
        usize::try_from(size)
            .ok()
            .filter(|size| (1..=1 << 20).contains(size))
    };
    // As wide are the ends of wav2vec 2.0 and of ViT, which stand for an encoder of which the file says nothing.
    let own = match encoder {
        None => Some(768),
        Some(_) => size("hidden_size"),
    };
    let expected = "an object whose `hidden_size` is the width of its end";
    let own = own.ok_or_else(|| config.invalid(ENCODER.key, expected))?;
    let end = size(width).unwrap_or(own);
    let reads = decoder.spec.input_stack().hidden_size;
    let told = decoder_config.optional_size("cross_attention_hidden_size")?;
    let mut leaves = Leaves::new("");
    let mut head = Head::default();
    if end != reads && told.is_none() {
        if end != own {
            return Err(config.invalid(ENCODER.key, format!("a `{width}` of {own} or {reads}")));
        }
        let projection = leaves.linear("enc_to_dec_proj", [reads, own], true, Shard::Replicate);
        head.handed = Some(Handed {
            positions: None,
            projection: Some(projection),
        });
    }
    let mut mechanisms = decoder.spec.input_stack().mechanisms();
    let attended = mechanisms.find_map(Mechanism::stack_end);
    let attended = attended.and_then(|end| Some(end.projections.first()?.in_features));
    let attended = attended.unwrap_or(end);
    drop(mechanisms);
    let handed_on = if head.handed.is_some() { reads } else { end };
    if handed_on != attended {
        return Err(config.invalid(ENCODER.key, format!("an end of {attended} features")));
    }
    head.leaves = leaves.finish();
    let given = Stack {
        name: ENCODER.key,
        hidden_size: end,
        stash_size: end,
        sequence: Sequence::Record,
        input: Input::Features(Features::given(END, end)),
        positions: PositionIds::Sequential,
        limit: LengthLimit::None,
        turns: None,
        prompt: Vec::new(),
        layers: Vec::new(),
        head,
    };
    let front = Front {
        ignored: vec!["encoder.*"],
        stacks: vec![given],
    };
    behind(config, &front, decoder, false)
}

/// What stands in front of a decoder.
struct Front {
    ignored: Vec<&'static str>,
    stacks: Vec<Stack>,
}

/// The decoder, which attends to an encoder unless its configuration says otherwise, and that configuration.
fn attending(
    config: &Config,
    described: impl Fn(&Config) -> Result<Described, SpecError>,
) -> Result<(Config, Described), SpecError> {
    let on = || Value::Bool(true);
    let assumed = [("is_decoder", on()), (ATTENDS, on())];
    let part = config.part(DECODER.key, "bert", Some(Task::CausalLm), &assumed)?;
    let decoder = described(&part)?;
    let mut stacks = decoder.spec.stacks.iter();
    let attends = stacks.any(|stack| !stack.sources().is_empty());
    if part.flag(ATTENDS)? && !attends {
        let problem = "no attention to an encoder is known for this type of decoder";
        return Err(part.unsupported("model_type", problem));
    }
    Ok((part, decoder))
}

/// `hides_padding`: of what labels became, the decoder's other tokens do not see padding.
fn behind(
    config: &Config,
    front: &Front,
    decoder: Described,
    hides_padding: bool,
) -> Result<Described, SpecError> {
    let start = config.token_id("decoder_start_token_id")?;
    let mut input = DecoderInput::shifted(
        start.map(ShiftStart::Token),
        config.token_id("pad_token_id")?,
    );
    if let Some(shift) = &mut input.shift {
        shift.hides_padding = hides_padding;
    }
    let composed = |decoder: ModelSpec| -> Result<ModelSpec, SpecError> {
        let vocab_size = decoder.vocab_size;
        let with = |front: &[&'static str], own: &[&'static str]| {
            [front, &DECODER.patterns(&decoder, own)].concat()
        };
        let ignored = with(&front.ignored, &decoder.ignored);
        let mut stacks = front.stacks.clone();
        let mut behind = DECODER.stacks(decoder);
        for stack in &mut behind {
            stack.sequence = Sequence::Decoder(input);
        }
        stacks.append(&mut behind);
        Ok(ModelSpec {
            model_type: config.model_type()?,
            family: "composite",
            base_prefix: "",
            ignored,
            unused: 0,
            vocab_size,
            ties: TieOrder::HeadLast,
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

impl Part {
    /// The name of a tensor of the part in the whole.
    fn name(self, base_prefix: &str, name: &str) -> String {
        let own = match name.strip_prefix(base_prefix) {
            Some(bare) if self.is_base => bare,
            _ => name,
        };
        format!("{}.{own}", self.key)
    }

    fn patterns(self, spec: &ModelSpec, patterns: &[&'static str]) -> Vec<&'static str> {
        patterns
            .iter()
            .map(|ignored| {
                pattern(if ignored.starts_with('*') {
                    format!("{}.{ignored}", self.key)
                } else {
                    self.name(spec.base_prefix, ignored)
                })
            })
            .collect()
    }

    fn stacks(self, spec: ModelSpec) -> Vec<Stack> {
        let ModelSpec {
            base_prefix,
            mut stacks,
            ..
        } = spec;
        let renamed = |leaves: &mut Vec<Leaf>| {
            for leaf in leaves {
                if !self.is_base && leaf.optional == Some(POOLER) {
                    leaf.optional = Some(POOLER_OF_DECODER);
                }
                leaf.source = leaf.source.renamed(&|name| self.name(base_prefix, name));
            }
        };
        for stack in &mut stacks {
            stack.name = self.key;
            renamed(stack.input.leaves_mut());
            if let Some(turns) = &mut stack.turns {
                let own = &turns.leaf.source;
                turns.leaf.source = own.renamed(&|name| self.name(base_prefix, name));
            }
            for Layer { leaves, prefix, .. } in &mut stack.layers {
                renamed(leaves);
                *prefix = self.name(base_prefix, prefix);
            }
            renamed(&mut stack.head.leaves);
        }
        stacks
    }
}
