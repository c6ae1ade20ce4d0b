//! Models of two parts that are types of their own: any encoder, and any decoder that attends to it.

use serde_json::Value;

use crate::build::pattern;
use crate::{
    Config, DecoderInput, Described, LabelShift, Layer, Leaf, ModelSpec, Sequence, ShiftStart,
    SpecError, Stack, Task, TieOrder,
};

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
    const ATTENDS: &str = "add_cross_attention";
    config.ignore(&["is_encoder_decoder", "tie_word_embeddings"]);
    let on = || Value::Bool(true);
    let assumed = [("is_decoder", on()), (ATTENDS, on())];
    let encoder_config = config.part(ENCODER.key, "bert", Some(Task::Base), &[])?;
    let decoder_config = config.part(DECODER.key, "bert", Some(Task::CausalLm), &assumed)?;
    let encoder = described(&encoder_config)?;
    let decoder = described(&decoder_config)?;
    let end = encoder.spec.output_stack();
    let attends = decoder
        .spec
        .stacks
        .iter()
        .any(|stack| !stack.sources().is_empty());
    if decoder_config.flag(ATTENDS)? != attends {
        let problem = "no attention to an encoder is known for this type of decoder";
        return Err(decoder_config.unsupported("model_type", problem));
    }
    let [width, reads] = [end, decoder.spec.input_stack()].map(|stack| stack.hidden_size);
    if width != reads {
        let problem =
            format!("an encoder of another width than the decoder's {reads} is not known");
        return Err(encoder_config.unsupported("hidden_size", problem));
    }
    let start = config.token_id("decoder_start_token_id")?;
    let padding = config.token_id("pad_token_id")?;
    let shift = start.map(ShiftStart::Token).zip(padding);
    let input = DecoderInput {
        shift: shift.map(|(start, padding)| LabelShift {
            start,
            padding,
            hides_padding: true,
        }),
        repeats: false,
    };
    let composed = |decoder: ModelSpec| -> Result<ModelSpec, SpecError> {
        let vocab_size = decoder.vocab_size;
        let patterns = |of: fn(&ModelSpec) -> &[&'static str]| {
            let mut patterns = ENCODER.patterns(&encoder.spec, of(&encoder.spec));
            patterns.extend(DECODER.patterns(&decoder, of(&decoder)));
            patterns
        };
        let ignored = patterns(|spec| &spec.ignored);
        let computed = patterns(|spec| &spec.computed);
        let mut stacks = ENCODER.stacks(encoder.spec.clone());
        let mut behind = DECODER.stacks(decoder);
        if let [_, _, ..] = stacks[..] {
            return Err(encoder_config.unsupported("model_type", "it has a decoder itself"));
        }
        for stack in &mut behind {
            stack.sequence = Sequence::Decoder(input);
        }
        stacks.append(&mut behind);
        Ok(ModelSpec {
            model_type: config.model_type()?,
            family: "composite",
            base_prefix: "",
            ignored,
            computed,
            vocab_size,
            ties: TieOrder::HeadLast,
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
