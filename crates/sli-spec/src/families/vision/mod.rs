//! Models of pictures: towers, and decoders that get what a tower sees in the place of a token.

mod aria;
mod blip;
mod cogvlm;
mod compose;
mod crossing;
mod dino;
mod fuyu;
mod gemma;
mod gemma4;
mod glm;
mod granite;
mod idefics;
mod kimi;
mod kosmos;
mod latents;
mod llama4;
mod llava;
mod minimax;
mod mllama;
mod muse;
mod navit;
mod ovis;
mod pairs;
mod part;
mod pixtral;
mod qformer;
mod qwen;
mod qwen_vl;
mod sam;
mod siglip;
mod step;
mod tiles;
mod towers;
mod vbert;

use crate::families::{bert, gpt};
use crate::model_type::{ModelType, row};
use crate::{Config, Described, SpecError};

pub use self::aria::aria;
pub use self::blip::blip;
pub use self::cogvlm::cogvlm;
pub use self::fuyu::fuyu;
pub use self::gemma::{gemma3, paligemma, shieldgemma2};
pub use self::gemma4::{embedding_gemma2, gemma4, gemma4_unified};
pub use self::glm::{glm_ocr, glm4v, glm4v_moe, glm5_next};
pub use self::granite::granite_docling;
pub use self::idefics::idefics;
pub use self::kimi::kimi_k25;
pub use self::kosmos::kosmos_2;
pub use self::latents::idefics2;
pub use self::llama4::llama4;
pub use self::llava::{
    llava, llava_next, llava_next_video, llava_onevision, video_llava, vipllava,
};
pub use self::minimax::minimax_m3_vl;
pub use self::mllama::mllama;
pub use self::muse::{muse_glimmer, muse_spark};
pub use self::navit::{cosmos3_edge, lfm2_vl, paddleocr_vl, video_llama_3};
pub use self::ovis::ovis2;
pub use self::pairs::{chinese_clip, clip, metaclip_2, siglip, siglip2};
pub use self::part::DescribePart;
pub use self::pixtral::{lighton_ocr, mistral_large4, mistral3};
pub use self::qformer::{blip_2, instructblip};
pub use self::qwen::{
    cohere_compass, cosmos3_omni, exaone4_5, hyperclovax_vision, qwen2_5_vl, qwen2_vl, qwen3_5,
    qwen3_5_moe, qwen3_vl, qwen3_vl_moe, qwen4_exp,
};
pub use self::qwen_vl::{VISUAL, qwen_vl};
pub use self::sam::got_ocr2;
pub use self::step::step3p7;
pub use self::tiles::{
    aya_vision, cohere2_vision, deepseek_vl, idefics3, internvl, internvl_chat, janus, qianfan_ocr,
};
pub use self::vbert::{modernvbert, ultravbert};

/// The registered types that stand alone.
pub const TYPES: &[ModelType] = &[
    row("clip_vision_model", towers::clip),
    row("deit", towers::deit),
    row("dinov2", dino::dinov2),
    row("dinov2_with_registers", dino::dinov2_with_registers),
    row("dinov3_vit", dino::dinov3_vit),
    row("ijepa", towers::ijepa),
    row("metaclip_2_vision_model", towers::clip),
    row("mllama_text_model", mllama::text_alone),
    row("pixtral", pixtral::pixtral),
    row("siglip2_vision_model", siglip::siglip2),
    row("siglip_vision_model", siglip::siglip),
    row("vit", towers::vit),
    row("vit_msn", towers::vit_msn),
];

/// Types of towers that are parts of models and nothing else.
pub const PARTS: &[ModelType] = &[
    tower("blip_2_qformer", qformer::alone),
    tower("blip_2_vision_model", qformer::tower),
    tower("blip_text_model", bert::blip_text),
    tower("blip_vision_model", qformer::blip_tower),
    tower("chinese_clip_text_model", bert::chinese_clip_text),
    tower("chinese_clip_vision_model", towers::clip),
    tower("cogvlm_vision", cogvlm::tower),
    tower("cohere_compass_vision", qwen::qwen3_tower),
    tower("cosmos3_edge_vision", navit::cosmos3_edge_tower),
    tower("exaone4_5_vision", qwen::qwen2_5_tower),
    tower("gemma4_vision", gemma4::tower),
    tower("glm4v_moe_vision", glm::glm4v_tower),
    tower("glm4v_vision", glm::glm4v_tower),
    tower("glm5_next_vision", glm::glm5_next_tower),
    tower("glm_ocr_vision", glm::glm_ocr_tower),
    tower("got_ocr2_vision", sam::tower),
    tower("granite_docling_vision", granite::tower),
    tower("idefics2_perceiver", qformer::alone),
    tower("idefics2_vision", siglip::navit),
    tower("idefics3_vision", siglip::idefics3),
    tower("idefics_perciever", qformer::alone),
    tower("idefics_vision", towers::clip),
    tower("instructblip_qformer", qformer::alone),
    tower("instructblip_vision_model", qformer::tower),
    tower("intern_vit_6b", towers::intern_vit),
    tower("internvl_vision", towers::internvl),
    tower("janus_vision_model", siglip::janus),
    tower("kimi_k25_vision", kimi::kimi_tower),
    tower("kosmos_2_text_model", gpt::kosmos_2_text),
    tower("kosmos_2_vision_model", towers::clip),
    tower("llama4_vision_model", llama4::tower),
    tower("minimax_m3_vl_vision", minimax::tower),
    tower("mllama_vision_model", mllama::tower),
    tower("muse_glimmer_vision", muse::glimmer_tower),
    tower("muse_spark_vision", muse::spark_tower),
    tower("ovis2_vision", ovis::tower),
    tower("paddleocr_vl_vision", navit::paddleocr_vl_tower),
    tower("pp_chart2table_vision", sam::tower),
    tower("qianfan_ocr_vision", towers::qianfan_ocr),
    tower("qwen2_5_vl_vision", qwen::qwen2_5_tower),
    tower("qwen2_vl_vision", qwen::qwen2_tower),
    tower("qwen3_5_moe_vision", qwen::qwen3_tower),
    tower("qwen3_5_vision", qwen::qwen3_tower),
    tower("qwen3_vl_moe_vision", qwen::qwen3_tower),
    tower("qwen3_vl_vision", qwen::qwen3_tower),
    tower("qwen4_exp_vision", qwen::qwen3_tower),
    tower("qwen_visual", qwen_vl::tower),
    tower("smolvlm_vision", siglip::idefics3),
    tower("step3p5_vision", step::tower),
    tower("video_llama_3_vision", navit::video_llama_3_tower),
];

/// A row of the table of parts, by a name that is none of a type which stands alone.
const fn tower(
    model_type: &'static str,
    describe: fn(&Config) -> Result<Described, SpecError>,
) -> ModelType {
    row(model_type, describe)
}
