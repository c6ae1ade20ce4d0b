//! BERT and its relatives: post-norm encoders with learned positions and a masked-LM head.

mod beside;
mod big_bird;
mod bottleneck;
mod canine;
mod deberta;
mod fnet;
mod funnel;
mod grouped;
mod jina;
mod linear;
mod mobileclip;
mod modern;
mod narrow;
mod neomme;
mod page;
mod pairs;
mod protein;
mod relatives;
mod roberta;
mod summary;
mod xlm;
mod xlnet;
mod xmod;

pub use self::beside::{markuplm, roc_bert};
pub use self::big_bird::{big_bird, sparse_blocks};
pub use self::bottleneck::mobilebert;
pub use self::canine::canine;
pub use self::deberta::{deberta, deberta_v2};
pub use self::fnet::fnet;
pub use self::funnel::funnel;
pub use self::grouped::{convbert, squeezebert};
pub use self::linear::{nystromformer, yoso};
pub use self::mobileclip::sam3_lite_text;
pub use self::modern::{
    eurobert, gte, jina_embeddings_v3, modernbert, modernbert_decoder, neobert, nomic_bert,
    ultrabert,
};
pub use self::narrow::{albert, electra, rembert, roformer};
pub use self::neomme::neomme;
pub use self::page::{bros, layoutlm, layoutlmv3, lilt};
pub use self::pairs::{blip_text, chinese_clip_text, clip_text, dpr, siglip_text, tipsv2_text};
pub use self::protein::{esm, esmc};
pub use self::relatives::{
    bert, bert_generation, ernie, git, megatron_bert, mpnet, splinter, tapas, visual_bert,
};
pub use self::roberta::{ibert, longformer, luke, roberta, roberta_prelayernorm, xlm_roberta_xl};
pub use self::xlm::{flaubert, xlm};
pub use self::xlnet::xlnet;
pub use self::xmod::xmod;

use crate::build::NormStyle;
use crate::families::blocks::{
    Arrangement, Blocks, Classifier, Cross, InFront, Names, Norms, Projections, Table, Transform,
    Types, UnusedHead,
};
use crate::model_type::{ModelType, limited, row};
use crate::{Activation, Config, Described, LengthLimit, Mask, SpecError, TypeRule};

/// The registered types.
pub const TYPES: &[ModelType] = &[
    row("albert", albert),
    row("bert", bert),
    row("bert-generation", bert_generation),
    row("big_bird", big_bird),
    row("bros", bros),
    row("camembert", roberta),
    row("clip_text_model", clip_text),
    row("canine", canine),
    row("convbert", convbert),
    row("data2vec-text", roberta),
    row("deberta", deberta),
    row("deberta-v2", deberta_v2),
    row("distilbert", distilbert),
    limited(row("dpr", dpr), "records have no padding"),
    row("electra", electra),
    row("ernie", ernie),
    row("esm", esm),
    row("esmc", esmc),
    row("eurobert", eurobert),
    limited(
        row("flaubert", flaubert),
        "without embeddings of languages; records have no padding",
    ),
    row("fnet", fnet),
    limited(
        row("funnel", funnel),
        "no records that are too short for its distances",
    ),
    limited(row("git", git), "without pictures"),
    row("gte", gte),
    row("ibert", ibert),
    row("jina_embeddings_v3", jina_embeddings_v3),
    row("layoutlm", layoutlm),
    limited(row("layoutlmv3", layoutlmv3), "without pictures"),
    row("lilt", lilt),
    row("longformer", longformer),
    limited(row("luke", luke), "without entities"),
    row("markuplm", markuplm),
    row("megatron-bert", megatron_bert),
    row("mobilebert", mobilebert),
    row("modernbert", modernbert),
    row("metaclip_2_text_model", clip_text),
    row("modernbert-decoder", modernbert_decoder),
    row("mpnet", mpnet),
    limited(row("neomme", neomme), "without pictures"),
    row("neobert", neobert),
    row("nomic_bert", nomic_bert),
    row("nystromformer", nystromformer),
    row("rembert", rembert),
    row("roberta", roberta),
    row("roberta-prelayernorm", roberta_prelayernorm),
    row("roc_bert", roc_bert),
    row("roformer", roformer),
    limited(
        row("sam3_lite_text_text_model", sam3_lite_text),
        "without its projection of the token with the largest id",
    ),
    row("siglip2_text_model", siglip_text),
    row("siglip_text_model", siglip_text),
    row("splinter", splinter),
    row("squeezebert", squeezebert),
    limited(
        row("tapas", tapas),
        "without tables: every token is of the kinds 0",
    ),
    row("tipsv2_text_model", tipsv2_text),
    row("ultrabert", ultrabert),
    limited(row("visual_bert", visual_bert), "without visual embeddings"),
    limited(
        row("xlm", xlm),
        "without embeddings of languages; records have no padding",
    ),
    row("xlm-roberta", roberta),
    row("xlm-roberta-xl", xlm_roberta_xl),
    limited(
        row("xlnet", xlnet),
        "without memories of earlier texts, and without permutations",
    ),
    row("xmod", xmod),
    row("yoso", yoso),
];

const BERT: Names = Names {
    tokens: "embeddings.word_embeddings",
    layers: "encoder.layer",
    projections: Projections::Separate([
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
    ]),
    output: "attention.output.dense",
    up: "intermediate.dense",
    down: "output.dense",
    head: "cls.predictions.decoder",
    ..Names::USUAL
};

/// Its attention to an encoder in front of it.
const CROSS: Cross = Cross {
    stack: 0,
    width: None,
    norms: Norms::sum("crossattention.output.LayerNorm"),
    projections: [
        "crossattention.self.query",
        "crossattention.self.key",
        "crossattention.self.value",
    ],
    output: "crossattention.output.dense",
};

/// Without the head of BERT's masked language model.
const UNUSED: UnusedHead = UnusedHead {
    without: &["cls.predictions.*"],
    tied: &[
        "cls.predictions.decoder.weight",
        "cls.predictions.decoder.bias",
    ],
    own: &["cls.predictions.bias"],
};

/// BERT's keys, its head and its table of positions.
fn masked(config: &Config) -> Result<Blocks<'_>, SpecError> {
    let mut model = usual(config, &BERT)?;
    let width = model.hidden_size;
    set_head(&mut model, width);
    model.sequence_classifier = Some(Classifier::POOLED);
    table(config, &mut model, 0)?;
    Ok(model)
}

/// Classes as RoBERTa has them: a layer of the head's own on the first token.
fn dense_classifier(activation: Activation) -> Classifier {
    let dense = InFront::dense("classifier.dense", activation);
    Classifier::first_token(dense, &["classifier.out_proj"])
}

/// The head of BERT's masked language model.
fn set_head(model: &mut Blocks<'_>, width: usize) {
    model.transforms = vec![Transform::normed(
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        width,
        model.activation,
    )];
    model.tied_bias = Some("cls.predictions.bias");
    model.unused_head = UNUSED;
    model.ignored.push("cls.seq_relationship.*");
}

/// DistilBERT: no token types, no pooler, a fixed epsilon.
pub fn distilbert(config: &Config) -> Result<Described, SpecError> {
    const DISTILBERT: Names = Names {
        layers: "transformer.layer",
        projections: Projections::Separate([
            "attention.q_lin",
            "attention.k_lin",
            "attention.v_lin",
        ]),
        output: "attention.out_lin",
        up: "ffn.lin1",
        down: "ffn.lin2",
        head: "vocab_projector",
        ..BERT
    };
    // The position table is stored even where it was initialised with sines.
    config.ignore(&["sinusoidal_pos_embds", "tie_weights_"]);
    let arrangement = Arrangement::after_sum("sa_layer_norm", "output_layer_norm");
    let norm = NormStyle::layer(1e-12);
    let mut model = encoder(config, &DISTILBERT, arrangement, norm)?;
    model.intermediate_size = config.size("hidden_dim")?;
    model.activation = config.activation("activation")?;
    model.transforms = vec![Transform::normed(
        "vocab_transform",
        "vocab_layer_norm",
        model.hidden_size,
        model.activation,
    )];
    let dense = InFront::dense("pre_classifier", Activation::Relu);
    model.sequence_classifier = Some(Classifier::first_token(dense, &["classifier"]));
    model.tied_bias = Some("vocab_projector.bias");
    model.unused_head = UnusedHead {
        without: &[
            "vocab_transform.*",
            "vocab_layer_norm.*",
            "vocab_projector.*",
        ],
        tied: &["vocab_projector.weight"],
        own: &[],
    };
    table(config, &mut model, 0)?;
    model.build()
}

fn encoder<'c>(
    config: &'c Config,
    names: &Names,
    arrangement: Arrangement,
    norm: NormStyle,
) -> Result<Blocks<'c>, SpecError> {
    let model = Blocks::classic(config, *names, arrangement, norm)?;
    Ok(as_encoder(model, norm))
}

/// What sets an encoder apart from a decoder.
fn as_encoder(mut model: Blocks<'_>, norm: NormStyle) -> Blocks<'_> {
    (model.family, model.stack) = ("bert", "encoder");
    model.masks.fill(Mask::Full);
    model.embedding_norm = Some(("embeddings.LayerNorm", norm));
    model.final_norm = None;
    model.head_bias = true;
    // Each type says its own.
    model.sequence_classifier = None;
    model.ignored = vec!["*embeddings.position_ids", "*embeddings.token_type_ids"];
    model
}

/// The keys as BERT spells them, and positions that are none of attention's.
fn usual<'c>(config: &'c Config, names: &Names) -> Result<Blocks<'c>, SpecError> {
    config.neutral(
        "position_embedding_type",
        &["absolute".into()],
        "relative positions were dropped from the reference",
    )?;
    usual_keys(config, names)
}

/// Types whose classes have no decoder: `is_decoder` changes nothing in them.
const ENCODERS_ONLY: [&str; 24] = [
    "albert",
    "bros",
    "convbert",
    "deberta",
    "deberta-v2",
    "dpr",
    "fnet",
    "gte",
    "ibert",
    "jina_embeddings_v3",
    "layoutlm",
    "layoutlmv3",
    "lilt",
    "longformer",
    "luke",
    "markuplm",
    "mobilebert",
    "mpnet",
    "nomic_bert",
    "nystromformer",
    "splinter",
    "squeezebert",
    "visual_bert",
    "yoso",
];

/// The keys as BERT spells them.
fn usual_keys<'c>(config: &'c Config, names: &Names) -> Result<Blocks<'c>, SpecError> {
    // Left over from the original TensorFlow files; no version of the reference reads them.
    config.ignore(&[
        "directionality",
        "pooler_fc_size",
        "pooler_num_attention_heads",
        "pooler_num_fc_layers",
        "pooler_size_per_head",
        "pooler_type",
    ]);
    let arrangement = Arrangement::after_sum("attention.output.LayerNorm", "output.LayerNorm");
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let mut model = encoder(config, names, arrangement, norm)?;
    model.intermediate_size = config.size("intermediate_size")?;
    model.activation = config.activation("hidden_act")?;
    model.pooler = Some("pooler.dense");
    model.types = Some(Types {
        name: "embeddings.token_type_embeddings",
        count: config.size("type_vocab_size")?,
        rule: TypeRule::Given,
    });
    if ENCODERS_ONLY.contains(&config.model_type()?.as_str()) {
        config.ignore(&["is_decoder", "add_cross_attention"]);
    } else if config.flag("is_decoder")? {
        model.stack = "decoder";
        model.masks.fill(Mask::Causal);
        if config.flag("add_cross_attention")? {
            model.cross = Some(CROSS);
        }
    }
    Ok(model)
}

/// A learned table, of which no position reads the first `lead` rows.
fn table(config: &Config, model: &mut Blocks<'_>, lead: usize) -> Result<(), SpecError> {
    let rows = config.size("max_position_embeddings")?;
    let usable = rows.checked_sub(lead).filter(|&usable| usable > 0);
    let usable = usable
        .ok_or_else(|| config.invalid("max_position_embeddings", format!("more than {lead}")))?;
    model.table = Some(Table::Learned {
        name: "embeddings.position_embeddings",
        offset: 0,
        rows,
        otherwise: None,
    });
    model.length_limit = Some(LengthLimit::Table(usable));
    Ok(())
}
