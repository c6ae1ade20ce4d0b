//! Texts and pictures in one space: a tower for each, and what each makes of a record projected to the same width.

use serde_json::Value;

use super::compose::Places;
use super::part::DescribePart;
use crate::build::Described;
use crate::families::pooled;
use crate::{
    Config, Input, ModelSpec, PooledEnd, Resampled, Resampling, RowRule, Sequence, Source,
    SpecError, Stack, TieOrder,
};

/// Where files have the tower of pictures.
const PICTURES: Places = Places {
    base: &["vision_model."],
    outside: &["vision_model."],
};

/// Where they have that of texts.
const TEXTS: Places = Places {
    base: &["text_model."],
    outside: &["text_model."],
};

/// CLIP (Radford et al. 2021).
pub fn clip(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let usual = ["clip_vision_model", "clip_text_model"];
    projected(config, usual, describe)
}

/// Chinese CLIP (Yang et al. 2022).
pub fn chinese_clip(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let usual = ["chinese_clip_vision_model", "chinese_clip_text_model"];
    projected(config, usual, describe)
}

/// MetaCLIP 2.
pub fn metaclip_2(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let usual = ["metaclip_2_vision_model", "metaclip_2_text_model"];
    projected(config, usual, describe)
}

/// SigLIP (Zhai et al. 2023): what the towers make of a record is not projected.
pub fn siglip(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    unprojected(
        config,
        ["siglip_vision_model", "siglip_text_model"],
        describe,
    )
}

/// SigLIP 2 (Tschannen et al. 2025).
pub fn siglip2(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    unprojected(
        config,
        ["siglip2_vision_model", "siglip2_text_model"],
        describe,
    )
}

/// Two towers and what each makes of a record.
fn unprojected(
    config: &Config,
    usual: [&str; 2],
    describe: DescribePart,
) -> Result<Described, SpecError> {
    let [vision, text] = parts(config, usual)?;
    let ends = [described(&vision, describe)?, described(&text, describe)?];
    pair(config, ends, (None, &["logit_scale", "logit_bias"]))
}

/// Two towers and a projection of what each makes of a record.
fn projected(
    config: &Config,
    usual: [&str; 2],
    describe: DescribePart,
) -> Result<Described, SpecError> {
    // Of how weights begin.
    config.ignore(&["logit_scale_init_value"]);
    let [vision, text] = parts(config, usual)?;
    let ends = [described(&vision, describe)?, described(&text, describe)?];
    let width = config.size("projection_dim")?;
    pair(config, ends, (Some(width), &["logit_scale"]))
}

/// The configurations of both towers, of pictures and of texts. What older files say once more goes before, and where they
/// do, keys that are not there are as the class has them.
fn parts(config: &Config, usual: [&str; 2]) -> Result<[Config; 2], SpecError> {
    let part = |key: &str, older: &'static str, usual: &str| {
        config.ignore(&[older]);
        let said = config.value(older).is_some_and(Value::is_object);
        config.part(if said { older } else { key }, usual, None, &[])
    };
    Ok([
        part("vision_config", "vision_config_dict", usual[0])?,
        part("text_config", "text_config_dict", usual[1])?,
    ])
}

/// A tower, with what it makes of a record.
fn described(part: &Config, describe: DescribePart) -> Result<ModelSpec, SpecError> {
    let spec = describe(part)?.spec;
    if spec.pooled_end == PooledEnd::No || spec.stacks.len() != 2 {
        let problem = "it makes no row of a record";
        return Err(part.unsupported("model_type", problem));
    }
    Ok(spec)
}

/// Both towers, of pictures and of texts, and the stack of what they make of records, projected to so many features.
fn pair(
    config: &Config,
    [vision, text]: [ModelSpec; 2],
    (projected, ignored): (Option<usize>, &[&'static str]),
) -> Result<Described, SpecError> {
    let vocab_size = text.vocab_size;
    let mut unused = 0;
    let mut patterns = ignored.to_vec();
    let mut stacks: Vec<Stack> = Vec::new();
    for (spec, (places, names)) in [vision, text].into_iter().zip([
        (PICTURES, ["vision", "vision-pooled"]),
        (TEXTS, ["text", "text-pooled"]),
    ]) {
        let first = stacks.len();
        unused += spec.unused;
        let own = spec.ignored.iter();
        patterns.extend(own.flat_map(|own| places.patterns(spec.base_prefix, own)));
        for (mut stack, name) in spec.stacks.into_iter().zip(names) {
            places.rename(spec.base_prefix, &mut stack);
            stack.name = name;
            read_behind(&mut stack, first);
            stacks.push(stack);
        }
    }
    let [pictures, row, _, other] = &mut stacks[..] else {
        return Err(config.unsupported("model_type", "its towers have other stacks"));
    };
    if let Some(width) = projected {
        for (row, name) in [(&mut *row, "visual"), (&mut *other, "text")] {
            let weight = Source::tensor(format!("{name}_projection.weight"));
            pooled::project(row, weight, None, width);
        }
    }
    pictures.sequence = Sequence::Pictures;
    let width = row.hidden_size;
    if other.hidden_size != width {
        let problem = format!(
            "rows of {width} features of pictures and of {} of texts are in no one space",
            other.hidden_size
        );
        return Err(config.unsupported("text_config", problem));
    }
    let made_of = Resampled::plain(Resampling::Either { stacks: [1, 3] });
    let rule = ("embedding", RowRule::Either);
    stacks.push(pooled::rows(rule, width, made_of));
    Ok(Described::from(ModelSpec {
        model_type: config.model_type()?,
        family: "vision",
        base_prefix: "",
        ignored: patterns,
        unused,
        vocab_size,
        ties: TieOrder::HeadLast,
        pooled_end: PooledEnd::Embeddings,
        stacks,
    }))
}

/// Stacks that a stack reads are so many further.
fn read_behind(stack: &mut Stack, first: usize) {
    if let Input::Resampled(rows) = &mut stack.input
        && let Resampling::Gathered { stack: source, .. } = &mut rows.rule
    {
        *source += first;
    }
}
