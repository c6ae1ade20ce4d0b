//! `XLNet` (Yang et al. 2019): the relative attention of Transformer-XL, of which one stream is left where nothing is
//! permuted.

use std::rc::Rc;

use super::summary;
use crate::build::{NormStyle, divided};
use crate::families::blocks::{
    Arrangement, Blocks, Classifier, InFront, MixerOf, Names, UnusedHead,
};
use crate::{
    Attention, Config, Described, DistanceKeys, DistanceTable, DistanceVectors, KeyValue,
    LengthLimit, Mask, Mixer, Position, Predicts, QueryBiases, Segments, Shard, Source, SpecError,
    Task,
};

/// `XLNet`, without memories of earlier texts.
pub fn xlnet(config: &Config) -> Result<Described, SpecError> {
    const NAMES: Names = Names {
        tokens: "word_embedding",
        layers: "layer",
        up: "ff.layer_1",
        down: "ff.layer_2",
        head: "lm_loss",
        ..Names::USUAL
    };
    config.off("bi_data", "two halves of a batch that read both ways")?;
    config.ignore(&[
        "mem_len",
        "reuse_len",
        "use_mems_eval",
        "use_mems_train",
        "use_mems",
    ]);
    config.ignore(&["start_n_top", "end_n_top", "summary_last_dropout"]);
    config.ignore(&["untie_r", "is_decoder"]);
    let hidden = config.size("d_model")?;
    let heads = config.heads("n_head")?;
    let head_dim = divided(config, "n_head", hidden, heads)?;
    if config
        .optional_size("d_head")?
        .is_some_and(|width| width != head_dim)
    {
        return Err(config.invalid("d_head", format!("{head_dim}, which is `d_model / n_head`")));
    }
    if hidden % 2 != 0 {
        return Err(config.invalid("d_model", "an even number"));
    }
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let layers = config.layers("n_layer")?;
    let sizes = [hidden, config.size("d_inner")?];
    let mut model = Blocks::sized(config, norm, layers, sizes, [heads, heads, head_dim])?;
    (model.family, model.names) = ("xlnet", NAMES);
    model.arrangement = Arrangement::after_sum("rel_attn.layer_norm", "ff.layer_norm");
    model.ignored = vec!["*mask_emb"];
    model.gated = false;
    model.set_biases(true);
    model.activation = config.activation("ff_activation")?;
    set_direction(config, &mut model)?;
    let farthest = match config.optional_number("clamp_len")? {
        Some(length) if length >= 1.0 => config.optional_size("clamp_len")?,
        _ => None,
    };
    model.attention_of = MixerOf::new(move |own: &Blocks<'_>, leaves, layer| {
        let shape = [own.heads * own.head_dim, own.hidden_size];
        let wide = shape[0];
        // Stored `[in, heads, head]`.
        let mut projection = |name: &str, bias: Option<&str>| {
            let of =
                |name: &str| Source::Reshape(Box::new(leaves.tensor(&format!("rel_attn.{name}"))));
            let (weight, bias) = (of(name).transpose(), bias.map(of));
            leaves.linear_of(weight, bias, shape, Shard::Column)
        };
        let query = projection("q", Some("r_w_bias"));
        let key = projection("k", None);
        let value = Some(projection("v", None));
        let distances = projection("r", None);
        let mut flat = |name: &str, elements| leaves.flat(&format!("rel_attn.{name}"), elements);
        let biases = QueryBiases::instead(query.bias, flat("r_r_bias", wide));
        let segment = flat("r_s_bias", wide);
        let segments = Segments {
            vectors: flat("seg_embed", 2 * wide),
            bias: segment,
            neutral: None,
        };
        let output = Source::Reshape(Box::new(leaves.tensor("rel_attn.o")));
        let output = leaves.linear_of(output, None, [own.hidden_size, wide], Shard::Row);
        let table = DistanceTable::Sines { farthest };
        let vectors = DistanceVectors {
            keys: Some(DistanceKeys::Projected(distances)),
            query_biases: biases,
            segments: Some(segments),
            ..DistanceVectors::new(table, own.hidden_size, own.attention_scale)
        };
        let sizes = [own.heads, own.heads, own.head_dim];
        let key_value = KeyValue::Own { key, value };
        let attention = Attention {
            positions: vec![Position::Vectors(Box::new(vectors))],
            ..Attention::plain(sizes, query, key_value, output, own.masks[layer])
        };
        Some(Mixer::Attention(Box::new(attention)))
    });
    model.final_norm = None;
    model.sequence_classifier = classifier(config)?;
    model.head_bias = true;
    model.length_limit = Some(LengthLimit::None);
    model.may_look_ahead = false;
    model.unused_head = UnusedHead {
        without: &["lm_loss.*"],
        tied: &["lm_loss.weight"],
        own: &[],
    };
    model.build()
}

/// The class for records sums one up in a layer in front of its projection.
fn classifier(config: &Config) -> Result<Option<Classifier>, SpecError> {
    if config.class()?.task != Task::SequenceClassification {
        config.ignore(&["summary_activation", "summary_type", "summary_use_proj"]);
        return Ok(None);
    }
    config.off(
        "summary_proj_to_labels",
        "the projection would not fit behind it",
    )?;
    let reason = "a summary without a layer is not known";
    config.neutral("summary_use_proj", &[true.into()], reason)?;
    let dense = InFront::dense("sequence_summary.summary", summary::activation(config)?);
    let judged = summary::judged(config)?;
    Ok(Some(Classifier::with_bias(judged, dense, &["logits_proj"])))
}

/// Whether tokens see later ones. Where they do, logits are not of the next token.
fn set_direction(config: &Config, model: &mut Blocks<'_>) -> Result<(), SpecError> {
    match config.optional_text("attn_type")?.as_deref() {
        Some("bi") => {
            config.ignore(&["same_length"]);
            model.stack = "encoder";
            model.masks.fill(Mask::Full);
            model.further_head = Some(Rc::new(|_, head| {
                if let Some(logits) = &mut head.logits {
                    logits.predicts = Predicts::Masked;
                }
            }));
            Ok(())
        }
        Some("uni") => config.off("same_length", "tokens would see nothing but themselves"),
        _ => Err(config.unsupported("attn_type", "`bi` and `uni` are known")),
    }
}
