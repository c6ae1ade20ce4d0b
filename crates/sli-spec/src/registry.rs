//! The table of model types.

use std::sync::LazyLock;

use crate::families::{
    bart, bert, chatglm, cohere, composite, conformer, cpmant, deepseek, doge, gemma, gemma4, gpt,
    granite, hrm, hybrid, inkling, layer_norm, llama, llama_remote, mamba, mamba_ssm, mixture,
    moonshine, mpt, muse, nemotron_nas, openelm, original, perceiver, phi_remote, pictures,
    pix2struct, remote_experts, rwkv, speech, speecht5, step, t5, t5gemma, vision, xlstm, zaya,
};
use crate::mlx;
pub use crate::model_type::ModelType;
use crate::model_type::{limited, row};
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
        let classified = self.spec.classified_stack();
        let Some(head) = classified.map(|(_, stack)| &stack.head) else {
            return false;
        };
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

/// A model whose parts are types of this table.
fn encoder_decoder(config: &Config) -> Result<Described, SpecError> {
    composite::encoder_decoder(config, part)
}

/// What is run of models that also hear and see films.
const SOUNDLESS: &str = "texts and pictures, without sound and films";

/// What is run of models that also see films.
const FILMLESS: &str = "texts and pictures, without films";

/// What is run of models behind encoders of sound and of pictures.
const GIVEN: &str = "the decoder, behind an encoder's end that the record brings along";

/// A decoder of this table behind an encoder of sound.
fn speech_encoder_decoder(config: &Config) -> Result<Described, SpecError> {
    composite::behind_given(config, "output_hidden_size", part)
}

/// A decoder of this table behind an encoder of pictures.
fn vision_encoder_decoder(config: &Config) -> Result<Described, SpecError> {
    composite::behind_given(config, "hidden_size", part)
}

fn part(part: &Config) -> Result<Described, SpecError> {
    let name = part.model_type()?;
    let unknown = || part.unsupported("model_type", "it is not known as a part of a model");
    let row = known(&name).or_else(|| find(vision::PARTS, &name));
    (row.ok_or_else(unknown)?.describe)(part)
}

/// The lists of the families.
const FAMILIES: &[&[ModelType]] = &[
    bart::TYPES,
    bert::TYPES,
    chatglm::TYPES,
    cohere::TYPES,
    conformer::TYPES,
    cpmant::TYPES,
    deepseek::TYPES,
    doge::TYPES,
    gemma::TYPES,
    gemma4::TYPES,
    gpt::TYPES,
    granite::TYPES,
    hrm::TYPES,
    hybrid::TYPES,
    inkling::TYPES,
    layer_norm::TYPES,
    llama::TYPES,
    llama_remote::TYPES,
    mamba::TYPES,
    mamba_ssm::TYPES,
    mixture::TYPES,
    moonshine::TYPES,
    mpt::TYPES,
    muse::TYPES,
    nemotron_nas::TYPES,
    openelm::TYPES,
    original::TYPES,
    perceiver::TYPES,
    phi_remote::TYPES,
    pictures::TYPES,
    pix2struct::TYPES,
    remote_experts::TYPES,
    rwkv::TYPES,
    speech::TYPES,
    speecht5::TYPES,
    step::TYPES,
    t5::TYPES,
    t5gemma::TYPES,
    vision::TYPES,
    xlstm::TYPES,
    zaya::TYPES,
    &[
        row("cohere_compass", |config| {
            vision::cohere_compass(config, part)
        }),
        row("encoder-decoder", encoder_decoder),
        row("exaone4_5", |config| vision::exaone4_5(config, part)),
        row("hyperclovax_vision_v2", |config| {
            vision::hyperclovax_vision(config, part)
        }),
        row("aria", |config| vision::aria(config, part)),
        row("aya_vision", |config| vision::aya_vision(config, part)),
        row("blip", |config| vision::blip(config, part)),
        row("blip-2", |config| vision::blip_2(config, part)),
        row("chinese_clip", |config| vision::chinese_clip(config, part)),
        row("clip", |config| vision::clip(config, part)),
        row("cohere2_vision", |config| {
            vision::cohere2_vision(config, part)
        }),
        row("cogvlm", |config| vision::cogvlm(config, part)),
        row("cosmos3_omni", |config| vision::cosmos3_omni(config, part)),
        row("cosmos3_edge", |config| vision::cosmos3_edge(config, part)),
        row("deepseek_vl", |config| vision::deepseek_vl(config, part)),
        limited(
            row("embedding_gemma2", |config| {
                vision::embedding_gemma2(config, part)
            }),
            SOUNDLESS,
        ),
        row("fuyu", |config| vision::fuyu(config, part)),
        row("gemma3", |config| vision::gemma3(config, part)),
        limited(
            row("gemma4", |config| vision::gemma4(config, part)),
            SOUNDLESS,
        ),
        limited(
            row("gemma4_unified", |config| {
                vision::gemma4_unified(config, part)
            }),
            SOUNDLESS,
        ),
        row("glm46v", |config| vision::glm4v(config, part)),
        row("glm4v", |config| vision::glm4v(config, part)),
        row("glm4v_moe", |config| vision::glm4v_moe(config, part)),
        row("glm5_next", |config| vision::glm5_next(config, part)),
        row("glm_ocr", |config| vision::glm_ocr(config, part)),
        row("glmga", |config| vision::glm4v(config, part)),
        row("got_ocr2", |config| vision::got_ocr2(config, part)),
        limited(
            row("granite_docling", |config| {
                vision::granite_docling(config, part)
            }),
            "texts and pages by the coarse path",
        ),
        row("idefics", |config| vision::idefics(config, part)),
        row("idefics2", |config| vision::idefics2(config, part)),
        row("idefics3", |config| vision::idefics3(config, part)),
        row("instructblip", |config| vision::instructblip(config, part)),
        row("internvl", |config| vision::internvl(config, part)),
        row("internvl_chat", |config| {
            vision::internvl_chat(config, part)
        }),
        limited(
            row("janus", |config| vision::janus(config, part)),
            "reading pictures, not drawing them",
        ),
        row("kimi_k25", |config| vision::kimi_k25(config, part)),
        row("kosmos-2", |config| vision::kosmos_2(config, part)),
        row("lfm2_vl", |config| vision::lfm2_vl(config, part)),
        row("lighton_ocr", |config| vision::lighton_ocr(config, part)),
        row("llama4", |config| vision::llama4(config, part)),
        row("llava", |config| vision::llava(config, part)),
        row("llava_next", |config| vision::llava_next(config, part)),
        row("llava_onevision", |config| {
            vision::llava_onevision(config, part)
        }),
        limited(
            row("llava_next_video", |config| {
                vision::llava_next_video(config, part)
            }),
            FILMLESS,
        ),
        row("metaclip_2", |config| vision::metaclip_2(config, part)),
        row("minimax_m3_vl", |config| {
            vision::minimax_m3_vl(config, part)
        }),
        row("mistral_large4", |config| {
            vision::mistral_large4(config, part)
        }),
        row("mistral3", |config| vision::mistral3(config, part)),
        row("mllama", |config| vision::mllama(config, part)),
        row("modernvbert", |config| vision::modernvbert(config, part)),
        row("muse_glimmer", |config| vision::muse_glimmer(config, part)),
        limited(
            row("muse_spark", |config| vision::muse_spark(config, part)),
            SOUNDLESS,
        ),
        row("ovis2", |config| vision::ovis2(config, part)),
        row("paligemma", |config| vision::paligemma(config, part)),
        row("paddleocr_vl", |config| vision::paddleocr_vl(config, part)),
        row("pp_chart2table", |config| vision::got_ocr2(config, part)),
        row("qianfan_ocr", |config| vision::qianfan_ocr(config, part)),
        row("qwen2_5_vl", |config| vision::qwen2_5_vl(config, part)),
        row("qwen2_vl", |config| vision::qwen2_vl(config, part)),
        row("qwen3_5", |config| vision::qwen3_5(config, part)),
        row("qwen3_5_moe", |config| vision::qwen3_5_moe(config, part)),
        row("qwen3_vl", |config| vision::qwen3_vl(config, part)),
        row("qwen3_vl_moe", |config| vision::qwen3_vl_moe(config, part)),
        row("qwen4_exp", |config| vision::qwen4_exp(config, part)),
        limited(
            row("shieldgemma2", |config| vision::shieldgemma2(config, part)),
            "logits of all tokens, of which its class keeps those of yes and no behind the last one",
        ),
        row("siglip", |config| vision::siglip(config, part)),
        row("siglip2", |config| vision::siglip2(config, part)),
        row("smolvlm", |config| vision::idefics3(config, part)),
        limited(row("speech-encoder-decoder", speech_encoder_decoder), GIVEN),
        limited(
            row("step3p7", |config| vision::step3p7(config, part)),
            "texts and pictures without crops beside them",
        ),
        row("ultravbert", |config| vision::ultravbert(config, part)),
        row("video_llama_3", |config| {
            vision::video_llama_3(config, part)
        }),
        limited(
            row("video_llava", |config| vision::video_llava(config, part)),
            FILMLESS,
        ),
        row("vipllava", |config| vision::vipllava(config, part)),
        limited(row("vision-encoder-decoder", vision_encoder_decoder), GIVEN),
    ],
];

/// Every supported type, sorted by name.
pub static MODEL_TYPES: LazyLock<Vec<ModelType>> = LazyLock::new(|| {
    let mut types = FAMILIES.concat();
    types.sort_unstable_by_key(|row| row.model_type);
    types
});

fn known(model_type: &str) -> Option<&'static ModelType> {
    find(&MODEL_TYPES, model_type)
}

fn find<'r>(rows: &'r [ModelType], model_type: &str) -> Option<&'r ModelType> {
    rows.iter().find(|row| row.model_type == model_type)
}

/// A type that is known and refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedType {
    /// The name in `config.json`.
    pub model_type: &'static str,
    /// Why it cannot be run.
    pub reason: &'static str,
}

/// Why assistants cannot be run.
const DRAFTS: &str = "it drafts tokens for another model, whose hidden states are its inputs; of tokens alone the reference's class fails as well";

/// Types that are known and refused, sorted by name.
pub const REFUSED_TYPES: &[RefusedType] = &[
    RefusedType {
        model_type: "blt",
        reason: "its patches begin where the entropy of another model's predictions is above a threshold, so how many rows its global part has, and which tokens a row stands for, follow from numbers of a run; rows follow from a record's tokens here",
    },
    RefusedType {
        model_type: "dia",
        reason: "its decoder reads and predicts nine codes of sound at every position, where a record has one id",
    },
    RefusedType {
        model_type: "diffusion_gemma",
        reason: "of a record's tokens alone nothing follows: the canvas that its decoder refines is drawn from torch's generator in every run",
    },
    RefusedType {
        model_type: "gemma4_assistant",
        reason: DRAFTS,
    },
    RefusedType {
        model_type: "gemma4_unified_assistant",
        reason: DRAFTS,
    },
    RefusedType {
        model_type: "mra",
        reason: "its attention is a CUDA kernel; without it transformers 5.23 adds zeros in the place of every attention, so there are no right numbers to compare with",
    },
    RefusedType {
        model_type: "muse_glimmer_assistant",
        reason: DRAFTS,
    },
    RefusedType {
        model_type: "nllb-moe",
        reason: "transformers 5.23 gives every token to the first two experts whatever the router chose, so there are no right numbers to compare with",
    },
    RefusedType {
        model_type: "prophetnet",
        reason: "transformers 5.23 mixes up the rows of the addends by distance of its predicting stream, so that logits depend on later tokens and are others than its own generation's",
    },
    RefusedType {
        model_type: "reformer",
        reason: "its attention sorts tokens by hashes that are drawn anew from torch's generator in every run, so there are no numbers to compare with",
    },
    RefusedType {
        model_type: "vit_mae",
        reason: "which patches its encoder sees is drawn from torch's generator in every run, so there are no numbers to compare with",
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
    let Some(row) = known(&name) else {
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
    // No other writer has this key.
    let is_mlx = storage.iter().any(|(key, _)| key == "quantization");
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
            if is_mlx {
                mlx::stack_experts(spec);
            }
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
