//! Encoders whose token table has another width than the hidden state.

use std::rc::Rc;

use super::{BERT, dense_classifier, masked, set_head, table, usual};
use crate::families::blocks::{
    Arrangement, Blocks, Classifier, Names, Narrow, Projections, Tie, Transform, UnusedHead,
};
use crate::rope::{PositionAxis, Rope, RopeScaling, TurnsForm};
use crate::{Activation, Config, Described, LengthLimit, Mask, SpecError};

/// ELECTRA (Clark et al. 2020): its generator has the head, the discriminator's is of another kind.
pub fn electra(config: &Config) -> Result<Described, SpecError> {
    let names = Names {
        head: "generator_lm_head",
        ..BERT
    };
    config.ignore(&[
        "summary_activation",
        "summary_last_dropout",
        "summary_type",
        "summary_use_proj",
    ]);
    let mut model = usual(config, &names)?;
    model.pooler = None;
    let width = config.size("embedding_size")?;
    model.narrow = narrow(width, "embeddings_project").filter(|_| width != model.hidden_size);
    electra_head(&mut model, width);
    model.sequence_classifier = Some(dense_classifier(Activation::Gelu));
    model.ignored.push("discriminator_predictions.*");
    table(config, &mut model, 0)?;
    model.build()
}

/// The head of ELECTRA's generator, of a token table so wide.
pub(super) fn electra_head(model: &mut Blocks<'_>, width: usize) {
    model.transforms = vec![Transform::normed(
        "generator_predictions.dense",
        "generator_predictions.LayerNorm",
        width,
        Activation::Gelu,
    )];
    model.tied_bias = Some("generator_lm_head.bias");
    model.unused_head = UnusedHead {
        without: &["generator_predictions.*", "generator_lm_head.*"],
        tied: &["generator_lm_head.weight"],
        own: &[],
    };
}

/// ALBERT (Lan et al. 2020): layers share their weights in groups.
pub fn albert(config: &Config) -> Result<Described, SpecError> {
    const ALBERT: Names = Names {
        layers: "encoder.albert_layer_groups",
        projections: Projections::Separate(["attention.query", "attention.key", "attention.value"]),
        output: "attention.dense",
        up: "ffn",
        down: "ffn_output",
        head: "predictions.decoder",
        ..BERT
    };
    // It is an encoder, whatever the file says.
    config.ignore(&["is_decoder", "add_cross_attention"]);
    let mut model = usual(config, &ALBERT)?;
    model.stack = "encoder";
    model.masks.fill(Mask::Full);
    model.pooler = Some("pooler");
    model.arrangement = Arrangement::after_sum("attention.LayerNorm", "full_layer_layer_norm");
    let width = config.size("embedding_size")?;
    model.narrow = narrow(width, "encoder.embedding_hidden_mapping_in");
    model.transforms = vec![Transform::normed(
        "predictions.dense",
        "predictions.LayerNorm",
        width,
        model.activation,
    )];
    model.sequence_classifier = Some(Classifier::POOLED);
    model.tied_bias = Some("predictions.bias");
    model.unused_head = UnusedHead {
        without: &["predictions.*"],
        tied: &["predictions.decoder.weight", "predictions.decoder.bias"],
        own: &["predictions.bias"],
    };
    model.ignored.push("sop_classifier.*");
    table(config, &mut model, 0)?;
    share_layers(config, &mut model)?;
    model.build()
}

/// Every layer is one of some groups of inner layers.
fn share_layers(config: &Config, model: &mut Blocks<'_>) -> Result<(), SpecError> {
    let groups = config.layers("num_hidden_groups")?;
    let inner = config.layers("inner_group_num")?;
    let layers = model.layers();
    if groups > layers {
        let expected = format!("at most {layers}, the number of layers");
        return Err(config.invalid("num_hidden_groups", expected));
    }
    // As the reference divides, in f64.
    let group = |layer: usize| (layer as f64 / (layers as f64 / groups as f64)) as usize;
    let name = model.names.layers;
    let place = |layer| format!("{name}.{}", group(layer));
    model.places = Some((0..layers).map(place).collect());
    model.layer_of = Some(Rc::new(move |blocks, leaves, layer| {
        let steps = (0..inner).map(|number| {
            let name = format!("albert_layers.{number}.");
            leaves.nested(&name, |leaves| blocks.steps(leaves, layer))
        });
        steps.collect::<Vec<_>>().concat()
    }));
    Ok(())
}

/// RemBERT (Chung et al. 2021): input and output tables of widths of their own.
pub fn rembert(config: &Config) -> Result<Described, SpecError> {
    let mut model = masked(config)?;
    let width = config.size("input_embedding_size")?;
    model.narrow = narrow(width, "encoder.embedding_hidden_mapping_in");
    model.transforms = vec![Transform::normed(
        "cls.predictions.dense",
        "cls.predictions.LayerNorm",
        config.size("output_embedding_size")?,
        model.activation,
    )];
    model.tie = Tie::Always(false);
    model.unused_head = UnusedHead {
        without: &["cls.predictions.*"],
        tied: &[],
        own: &[],
    };
    model.build()
}

/// RoFormer (Su et al. 2021): a rotation of neighbours, of values too where the file says so.
pub fn roformer(config: &Config) -> Result<Described, SpecError> {
    let mut model = usual(config, &BERT)?;
    model.pooler = None;
    let width = config.optional_size("embedding_size")?;
    let width = width.unwrap_or(model.hidden_size);
    set_head(&mut model, width);
    model.sequence_classifier = Some(dense_classifier(model.activation));
    model.narrow = narrow(width, "embeddings_project").filter(|_| width != model.hidden_size);
    let names = &["encoder.embed_positions.weight"];
    model.stored_turns = Some((TurnsForm::SinesThenCosines, names));
    model.ignored.push("*encoder.embed_positions.weight");
    // Beyond it the reference's table of sines has no rows.
    let rows = config.size("max_position_embeddings")?;
    model.length_limit = Some(LengthLimit::Table(rows));
    model.values_rotate = config.flag("rotary_value")?;
    let rope = Rope {
        dims: model.head_dim,
        span: model.head_dim,
        offset: 0,
        interleaved: true,
        reversed: false,
        theta: 10_000.0,
        scaling: RopeScaling::Default,
        axis: PositionAxis::Token,
    };
    model.ropes.fill(Some(rope));
    model.build()
}

/// A projection with an addend behind the sum of embeddings.
pub(super) fn narrow(width: usize, inward: &'static str) -> Option<Narrow> {
    Some(Narrow {
        width,
        inward,
        bias: true,
        sum_is_narrow: true,
        trigrams: false,
        beside: 0,
        outward: None,
    })
}
