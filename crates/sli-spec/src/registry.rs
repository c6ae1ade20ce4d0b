//! The table of model types.

use crate::families::{
    bart, bert, chatglm, cohere, composite, cpmant, deepseek, doge, gemma, gemma4, gpt, granite,
    hybrid, layer_norm, llama, llama_remote, mamba, mixture, mpt, nemotron_nas, original,
    phi_remote, remote_experts, rwkv, t5, t5gemma,
};
use crate::spelling::edit_distance;
use crate::{Class, Config, Described, Instead, ModelSpec, SpecError, Task, defaults};
use serde::Serialize;

/// A description and what was noticed on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    /// The description.
    pub spec: ModelSpec,
    /// The same model with a head of its own, where the configuration says that its head is the token
    /// table: the reference believes the weights where they say otherwise.
    pub untied: Option<Box<ModelSpec>>,
    /// The file says that the head is not the token table, though its class starts from one that is.
    pub own_head_is_told: bool,
    /// The same model as the class of its type that predicts the next token, where the file names the bare base
    /// model: the reference's `AutoModelForCausalLM` takes the head that is stored, whatever the name.
    pub headed: Option<Headed>,
    /// Keys that nothing read and that the caller allowed.
    pub unread: Vec<String>,
    /// Keys of other types and programs that no class of the reference reads for this one.
    pub idle: Vec<String>,
    /// What the class of the configuration is for.
    pub task: Task,
    /// What is run instead of the class that the file names, where that is another one.
    pub instead: Option<Instead>,
    /// What the file says of how its weights are stored, key by key: whoever reads them reads this.
    pub storage: Vec<(String, serde_json::Value)>,
    /// What other programs than the reference's models read of the file, by key: [`BESIDE`].
    pub beside: serde_json::Map<String, serde_json::Value>,
}

/// Keys that decide nothing in the model itself: by them sentence-transformers takes a folder without modules for a
/// causal one, and cuts texts. Each with its value in the file; the positions, where the file does not mention them, with
/// that of the class.
pub const BESIDE: [&str; 3] = ["architectures", "is_causal", "max_position_embeddings"];

/// A description with a head.
#[derive(Clone, Debug, PartialEq)]
pub struct Headed {
    /// The description.
    pub spec: Box<ModelSpec>,
    /// As [`Built::untied`].
    pub untied: Option<Box<ModelSpec>>,
}

impl Built {
    /// Optional parts that the reference's class of this configuration lacks: only the bare base
    /// model has a pooler. Published checkpoints may hold them all the same.
    pub fn parts_of_other_classes(&self) -> &'static [&'static str] {
        match self.task {
            Task::Base | Task::Encoder => &[],
            Task::SequenceClassification if self.classifies_pooled() => &[],
            Task::CausalLm
            | Task::MaskedLm
            | Task::Seq2SeqLm
            | Task::SequenceClassification
            | Task::TokenClassification => &["pooler"],
        }
    }

    /// Whether classes are those of the pooled first token.
    fn classifies_pooled(&self) -> bool {
        let head = &self.spec.output_stack().head;
        let transform = head
            .classes
            .as_ref()
            .and_then(|head| head.transform.as_ref());
        let pooler = head.pooler.as_ref();
        transform
            .zip(pooler)
            .is_some_and(|(front, pooler)| front.dense == pooler.dense)
    }

    /// Number of parameters of the reference's class, a tied weight counted once.
    pub fn parameters(&self) -> u64 {
        let others = self.parts_of_other_classes();
        self.spec.parameters(|part| !others.contains(&part))
    }
}

/// What the caller decides about a configuration.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Keys (dotted paths) that may go unread.
    pub allow_unread: Vec<String>,
}

/// A supported `model_type`.
#[derive(Clone, Copy, Debug)]
pub struct ModelType {
    /// The name in `config.json`.
    pub model_type: &'static str,
    /// From a configuration of this type to its description.
    pub describe: fn(&Config) -> Result<Described, SpecError>,
    /// What it cannot do here that its description does not show.
    pub limit: Option<&'static str>,
}

const fn row(
    model_type: &'static str,
    describe: fn(&Config) -> Result<Described, SpecError>,
) -> ModelType {
    ModelType {
        model_type,
        describe,
        limit: None,
    }
}

const fn limited(row: ModelType, limit: &'static str) -> ModelType {
    ModelType {
        limit: Some(limit),
        ..row
    }
}

/// A model whose parts are types of this table.
fn encoder_decoder(config: &Config) -> Result<Described, SpecError> {
    composite::encoder_decoder(config, |part| {
        let name = part.model_type()?;
        let row = MODEL_TYPES.iter().find(|row| row.model_type == name);
        let unknown = || part.unsupported("model_type", "it is not known as a part of a model");
        (row.ok_or_else(unknown)?.describe)(part)
    })
}

/// Every supported type, sorted by name.
pub const MODEL_TYPES: &[ModelType] = &[
    row("RefinedWeb", gpt::falcon),
    row("RefinedWebModel", gpt::falcon),
    row("Yi", llama_remote::yi),
    row("afmoe", mixture::afmoe),
    row("albert", bert::albert),
    row("apertus", llama::apertus),
    row("aquila", llama_remote::aquila),
    row("arcee", llama::arcee),
    row("aria_text", mixture::aria_text),
    row("axk1", deepseek::axk1),
    row("baichuan", llama_remote::baichuan),
    row("bailing_hybrid", hybrid::bailing_hybrid),
    row("bamba", hybrid::bamba),
    row("bart", bart::bart),
    row("beam", deepseek::beam),
    row("bert", bert::bert),
    row("bert-generation", bert::bert_generation),
    row("big_bird", bert::big_bird),
    limited(
        row("bigbird_pegasus", bart::bigbird_pegasus),
        "records whose encoder would look at some blocks only (`block_sparse`) are refused",
    ),
    row("biogpt", gpt::biogpt),
    row("bitnet", llama::bitnet),
    row("blenderbot", bart::blenderbot),
    row("blenderbot-small", bart::blenderbot_small),
    row("bloom", gpt::bloom),
    row("camembert", bert::roberta),
    limited(
        row("chatglm", chatglm::chatglm),
        "a record of the first generation needs its mask and begin tokens",
    ),
    row("clip_text_model", bert::clip_text),
    row("codegen", gpt::codegen),
    row("cohere", cohere::cohere),
    row("cohere2", cohere::cohere2),
    row("cohere2_moe", cohere::cohere2_moe),
    limited(
        row("cohere_compass_text", cohere::cohere_compass),
        "text only, where the three position axes are equal",
    ),
    row("cosmos3_edge_text", llama::cosmos3_edge_text),
    row("cpmant", cpmant::cpmant),
    row("ctrl", gpt::ctrl),
    row("cwm", llama::cwm),
    row("data2vec-text", bert::roberta),
    row("dbrx", mixture::dbrx),
    row("deberta", bert::deberta),
    row("deberta-v2", bert::deberta_v2),
    row("deci", nemotron_nas::deci),
    row("deepseek", remote_experts::deepseek),
    row("deepseek_v2", deepseek::deepseek_v2),
    row("deepseek_v3", deepseek::deepseek_v3),
    row("deepseek_v32", deepseek::deepseek_v32),
    row("diffllama", llama::diffllama),
    row("distilbert", bert::distilbert),
    row("doge", doge::doge),
    row("dots1", deepseek::dots1),
    limited(row("dpr", bert::dpr), "records have no padding"),
    row("electra", bert::electra),
    row("embedding_gemma2_text", gemma4::embedding_gemma2),
    limited(
        row("emu3_text_model", llama::llama),
        "text only: images as their tokens",
    ),
    row("encoder-decoder", encoder_decoder),
    row("ernie", bert::ernie),
    row("ernie4_5", llama::ernie4_5),
    row("ernie4_5_moe", mixture::ernie4_5_moe),
    row("esm", bert::esm),
    row("esmc", bert::esmc),
    row("eurobert", bert::eurobert),
    row("exaone4", llama::exaone4),
    row("exaone_moe", deepseek::exaone_moe),
    row("falcon", gpt::falcon),
    row("falcon_h1", hybrid::falcon_h1),
    row("falcon_mamba", mamba::falcon_mamba),
    limited(
        row("flaubert", bert::flaubert),
        "without embeddings of languages; records have no padding",
    ),
    row("flex_olmo", mixture::flex_olmo),
    row("flint", mixture::flint),
    row("fnet", bert::fnet),
    row("fsmt", bart::fsmt),
    row("gemma", gemma::gemma),
    row("gemma2", gemma::gemma2),
    row("gemma3_text", gemma::gemma3),
    row("gemma3n_text", gemma4::gemma3n),
    row("gemma4_text", gemma4::gemma4),
    row("gemma4_unified_text", gemma4::gemma4),
    row("glm", llama::glm),
    row("glm4", llama::glm4),
    row("glm4_moe", deepseek::glm4_moe),
    row("glm4_moe_lite", deepseek::glm4_moe_lite),
    row("glm_moe_dsa", deepseek::glm_moe_dsa),
    row("gpt-sw3", gpt::gpt2),
    row("gpt2", gpt::gpt2),
    row("gpt_bigcode", gpt::gpt_bigcode),
    row("gpt_neo", gpt::gpt_neo),
    row("gpt_neox", gpt::gpt_neox),
    row("gpt_neox_japanese", gpt::gpt_neox_japanese),
    row("gpt_oss", mixture::gpt_oss),
    row("gptj", gpt::gptj),
    row("granite", granite::granite),
    row("granite_docling_text", granite::granite),
    row("granite_swa", granite::granite_swa),
    row("granitemoe", mixture::granitemoe),
    row("granitemoe_swa", mixture::granitemoe_swa),
    row("granitemoehybrid", hybrid::granitemoehybrid),
    row("granitemoeshared", mixture::granitemoeshared),
    row("grok-1", remote_experts::grok),
    row("gte", bert::gte),
    row("helium", llama::helium),
    row("hunyuan_v1_dense", llama::hunyuan_v1_dense),
    row("hunyuan_v1_moe", mixture::hunyuan_v1_moe),
    row("hy_v3", deepseek::hy_v3),
    row("hyperclovax", granite::hyperclovax),
    row("ibert", bert::ibert),
    row("imagegpt", gpt::imagegpt),
    row("internlm", llama_remote::internlm),
    row("internlm2", llama_remote::internlm2),
    row("internlm3", llama::internlm3),
    row("iquestcoder", llama::iquestcoder),
    row("jais2", layer_norm::jais2),
    row("jamba", hybrid::jamba),
    row("jetmoe", mixture::jetmoe),
    row("jina_embeddings_v3", bert::jina_embeddings_v3),
    row("kimi_k2", deepseek::deepseek_v3),
    row("kimi_linear", hybrid::kimi_linear),
    row("kolibri1", mixture::kolibri1),
    row("laguna", deepseek::laguna),
    limited(
        row("layoutlm", bert::layoutlm),
        "without a layout: every box is that of zeros",
    ),
    limited(
        row("led", bart::led),
        "no token of the encoder sees all (`global_attention_mask`)",
    ),
    row("lfm2", hybrid::lfm2),
    row("lfm2_moe", hybrid::lfm2_moe),
    row("lfm3", hybrid::lfm3),
    row("llama", llama::llama),
    row("llama4_text", mixture::llama4_text),
    row("longcat_flash", deepseek::longcat_flash),
    limited(row("longformer", bert::longformer), "no token is global"),
    row("longt5", t5::longt5),
    limited(row("luke", bert::luke), "without entities"),
    row("m2m_100", bart::m2m_100),
    row("mamba", mamba::mamba),
    row("mamba2", mamba::mamba2),
    row("marian", bart::marian),
    row("mbart", bart::mbart),
    row("megatron-bert", bert::megatron_bert),
    row("mellum", mixture::mellum),
    row("mimo_v2_flash", deepseek::mimo_v2_flash),
    row("minicpm", llama_remote::minicpm),
    row("minicpm3", deepseek::minicpm3),
    limited(
        row("minimax", hybrid::minimax),
        "decays follow from the configuration: files whose tables of them are rounded (bf16, f16) are refused",
    ),
    row("minimax_m2", mixture::minimax_m2),
    row("ministral", llama::ministral),
    row("ministral3", llama::ministral3),
    row("mistral", llama::mistral),
    row("mistral4", deepseek::mistral4),
    row("mixformer-sequential", phi_remote::mixformer_sequential),
    row("mixtral", mixture::mixtral),
    row("modernbert", bert::modernbert),
    row("modernbert-decoder", bert::modernbert_decoder),
    row("mpnet", bert::mpnet),
    limited(
        row("mpt", mpt::mpt),
        "`clip_qkv` together with `qk_ln`, prefix language models and windows are refused",
    ),
    row("mt5", t5::mt5),
    limited(row("mvp", bart::mvp), "without its prompts (`use_prompt`)"),
    row("nanochat", llama::nanochat),
    row("nemotron", layer_norm::nemotron),
    row("nemotron-nas", nemotron_nas::nemotron_nas),
    row("nemotron_h", hybrid::nemotron_h),
    row("nomic_bert", bert::nomic_bert),
    row("olmo", layer_norm::olmo),
    row("olmo2", llama::olmo2),
    row("olmo3", llama::olmo3),
    row("olmo_hybrid", hybrid::olmo_hybrid),
    row("olmoe", mixture::olmoe),
    row("openai-gpt", gpt::openai_gpt),
    row("openai_privacy_filter", mixture::openai_privacy_filter),
    row("opt", gpt::opt),
    limited(
        row("original", original::original),
        "experts in several consolidated files are refused",
    ),
    row("orion", llama_remote::orion),
    row("pegasus", bart::pegasus),
    row("persimmon", layer_norm::persimmon),
    row("phi", gpt::phi),
    row("phi-msft", phi_remote::phi_msft),
    row("phi3", llama::phi3),
    row("phimoe", mixture::phimoe),
    row("plbart", bart::plbart),
    row("qwen", llama_remote::qwen),
    row("qwen2", llama::qwen2),
    row("qwen2_moe", mixture::qwen2_moe),
    row("qwen3", llama::qwen3),
    limited(
        row("qwen3_5_moe_text", hybrid::qwen3_5_moe_text),
        "text only, where the three position axes are equal",
    ),
    limited(
        row("qwen3_5_text", hybrid::qwen3_5_text),
        "text only, where the three position axes are equal",
    ),
    row("qwen3_moe", mixture::qwen3_moe),
    row("qwen3_next", hybrid::qwen3_next),
    row("recurrent_gemma", hybrid::recurrent_gemma),
    row("rembert", bert::rembert),
    row("roberta", bert::roberta),
    row("roberta-prelayernorm", bert::roberta_prelayernorm),
    limited(
        row("roformer", bert::roformer),
        "its table of sines is computed: files in which it is rounded (bf16, f16) are refused",
    ),
    row("rwkv", rwkv::rwkv),
    row("rwkv5", rwkv::rwkv5),
    row("rwkv6", rwkv::rwkv6),
    row("seed_oss", llama::seed_oss),
    row("skywork", llama_remote::llama),
    row("smollm3", llama::smollm3),
    row("solar_open", deepseek::solar_open),
    row("splinter", bert::splinter),
    row("stablelm", layer_norm::stablelm),
    row("starcoder2", layer_norm::starcoder2),
    row("switch_transformers", t5::switch_transformers),
    row("t5", t5::t5),
    row("t5gemma", t5gemma::t5gemma),
    limited(
        row("tapas", bert::tapas),
        "without tables: every token is of the kinds 0",
    ),
    row("telechat", llama_remote::telechat),
    row("tipsv2_text_model", bert::tipsv2_text),
    limited(
        row("trocr", bart::trocr),
        "the decoder alone, without pictures",
    ),
    row("ultrabert", bert::ultrabert),
    row("umt5", t5::umt5),
    row("vaultgemma", gemma::vaultgemma),
    limited(
        row("whisper", bart::whisper),
        "the decoder alone (`WhisperForCausalLM`), without sound",
    ),
    row("xglm", gpt::xglm),
    limited(
        row("xlm", bert::xlm),
        "without embeddings of languages; records have no padding",
    ),
    row("xlm-roberta", bert::roberta),
    row("xlm-roberta-xl", bert::xlm_roberta_xl),
    limited(
        row("xlnet", bert::xlnet),
        "without memories of earlier texts, and without permutations",
    ),
    row("xmod", bert::xmod),
    row("xverse", llama_remote::llama),
    row("youtu", deepseek::youtu),
];

/// A type that is known and refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedType {
    /// The name in `config.json`.
    pub model_type: &'static str,
    /// Why it cannot be run.
    pub reason: &'static str,
}

/// Types that are known and refused, sorted by name.
pub const REFUSED_TYPES: &[RefusedType] = &[
    RefusedType {
        model_type: "nllb-moe",
        reason: "transformers 5.23 gives every token to the first two experts whatever the router chose, so there are no right numbers to compare with",
    },
    RefusedType {
        model_type: "reformer",
        reason: "its attention sorts tokens by hashes that are drawn anew from torch's generator in every run, so there are no numbers to compare with",
    },
    RefusedType {
        model_type: "voxtral_realtime_text",
        reason: "its layers are conditioned on an embedding of the delay that only the speech model around it computes; without it the reference's class fails as well",
    },
];

/// No type's name is as long as this, in characters.
const LONGEST_NAME: usize = 100;

/// Describes the model of this configuration.
pub fn describe(config: &Config, options: &Options) -> Result<Built, SpecError> {
    let name = config.model_type()?;
    let found = MODEL_TYPES.iter().find(|row| row.model_type == name);
    let Some(row) = found else {
        if let Some(refused) = REFUSED_TYPES.iter().find(|row| row.model_type == name) {
            return Err(config.unsupported("model_type", refused.reason));
        }
        let closest = closest(&name).map(str::to_owned);
        return Err(SpecError::UnknownModelType {
            model_type: name.chars().take(LONGEST_NAME).collect(),
            closest,
        });
    };
    let storage = config.storage(&options.allow_unread);
    let described = |config: &Config| {
        let mut described = (row.describe)(config)?;
        if let Some(contradiction) = described.spec.contradiction() {
            return Err(config.unsupported("model_type", contradiction));
        }
        let of_class = defaults::row(row.model_type).map(|row| &row.ignored);
        let of_class = of_class.into_iter().flatten().map(String::as_str);
        let untied = described.untied.as_deref_mut();
        for spec in std::iter::once(&mut described.spec).chain(untied) {
            spec.ignored.extend(of_class.clone());
        }
        Ok(described)
    };
    let Described { spec, untied } = described(config)?;
    let mut left = config.unread();
    let unread = left.allow(&options.allow_unread)?;
    let Class { task, instead } = config.class()?;
    let headed = config.with_head().and_then(|own| described(&own).ok());
    let headed = headed.map(|Described { spec, untied }| Headed {
        spec: Box::new(spec),
        untied,
    });
    Ok(Built {
        spec,
        own_head_is_told: untied.is_some() && config.tells_own_head(),
        untied,
        headed,
        unread,
        idle: left.idle,
        task,
        instead,
        storage,
        beside: beside(config),
    })
}

fn beside(config: &Config) -> serde_json::Map<String, serde_json::Value> {
    let null = serde_json::Value::Null;
    let of_class = |key: &str| key == "max_position_embeddings" && config.value(key).is_some();
    let known = |key: &&str| config.mentions(key) || of_class(key);
    let entry = |key: &str| (key.to_owned(), config.value(key).unwrap_or(&null).clone());
    BESIDE.into_iter().filter(known).map(entry).collect()
}

/// The registered type that is spelled most alike, if at most a third of it differs.
fn closest(name: &str) -> Option<&'static str> {
    // Longer than any type can be misspelt.
    if name.len() > LONGEST_NAME {
        return None;
    }
    let distance = |row: &ModelType| (edit_distance(name, row.model_type), row.model_type);
    let (distance, closest) = MODEL_TYPES.iter().map(distance).min()?;
    (distance * 3 <= closest.len().max(name.len())).then_some(closest)
}
