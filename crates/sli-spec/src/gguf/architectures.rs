//! The architectures of llama.cpp, each a row of [`ARCHITECTURES`].

use super::architecture::{Architecture, Names};
use super::beside_weights::{
    OPENELM, PLAMO, REFACT, bailingmoe, deepseek2_ocr, openelm, plamo, plm, refact,
};
use super::deltas::{GLM5_NEXT, LING3, MINIMAX, bailingmoe3, glm5_next, minimax_01};
use super::encoders::{
    BERT, JINA, JINA3, MODERN_BERT, NEO_BERT, NOMIC_BERT, T5, bert, eurobert, jina2, jina3,
    modern_bert, neo_bert, nomic_bert, nomic_bert_moe, t5, t5encoder,
};
use super::experts::{
    GPT_OSS, GRANITE_EXPERTS, LATENT, deepseek2, dots1, glm4moe, gpt_oss, granitemoe, olmoe,
    qwen2moe, qwen3moe,
};
use super::gemma::{GEMMA, GEMMA2, gemma, gemma2, gemma3};
use super::gpt::{
    BLOOM, FALCON, GPT2, MPT, NEOX, PHI2, STABLELM, STARCODER2, bloom, codeshell, falcon, gpt2,
    gptneox, mpt, nemotron, phi2, stablelm, starcoder2,
};
use super::heads::{
    APERTUS, DECI, GROK, HY_V3, LAGUNA, MIMO2, MISTRAL4, PHIMOE, QWEN, apertus, deci, grok, hy_v3,
    laguna, mimo2, mistral4, phimoe, qwen,
};
use super::latents::{DOTS3_NOTE, HY_V4, dots3_note, hy_v4};
use super::layer_inputs::{GEMMA3N, gemma3n, gemma4};
use super::limited::{MINIMAX_M3, STEP, minimax_m3, step35};
use super::llama::{
    GLM4, LLAMA, MIXTRAL, PAIRS, PHI3, POST_NORMS, arcee, cohere2, command_r, ernie4_5, exaone4,
    glm4, granite, llama, olmo, olmo2, phi3, qwen2, qwen3, seed_oss, smollm3,
};
use super::mixtures::{
    AFMOE, DBRX, ERNIE_EXPERTS, EXAONE_EXPERTS, HUNYUAN, INDEXED, LLAMA4, STARCODER, afmoe,
    cohere2_moe, dbrx, deepseek32, ernie4_5_moe, exaone_moe, glm_dsa, hunyuan_dense, hunyuan_moe,
    jais2, llama4, minicpm3, minimax_m2, starcoder,
};
use super::published::{
    BAICHUAN, CHATGLM, INTERNLM2, baichuan, chatglm, deepseek, granite_swa, internlm2, mellum,
    minicpm, mistral3, orion, xverse,
};
use super::reader::{Read, Reader};
use super::relatives::{
    bailingmoe2, dream, gemma_embedding, hunyuan_vl, llada, llada_moe, llama_embed, maincoder,
    qwen2vl, qwen3vl, qwen3vlmoe, rnd1, unpaired_llama,
};
use super::rwkv::{
    ARWKV7, RWKV6, RWKV6_QWEN2, RWKV7, RWKV7_IDLE, arwkv7, rwkv6, rwkv6qwen2, rwkv7,
};
use super::states::{
    BESIDE, GRANITE_HYBRID, KIMI_LINEAR, LFM2, MAMBA, NEMOTRON_H, QWEN3_5, QWEN3_NEXT, falcon_h1,
    granite_hybrid, jamba, kimi_linear, lfm2, lfm2moe, mamba, mamba2, nemotron_h, qwen3next,
    qwen35, qwen35moe,
};
use super::turns::{HRM, MUSE, hrm_text, muse_glimmer};

/// The class of the tokenizers that most models of pieces have.
pub(super) const USUAL: &str = "LlamaTokenizer";

/// Every architecture, sorted by name.
pub const ARCHITECTURES: &[Architecture] = &[
    row_of("afmoe", &["afmoe"], afmoe, AFMOE),
    row_of("apertus", &["apertus"], apertus, APERTUS),
    row_of("arcee", &["arcee"], arcee, &[PAIRS]),
    Architecture {
        idle: RWKV7_IDLE,
        ..row_of("arwkv7", &["rwkv7"], arwkv7, ARWKV7)
    },
    row_of("baichuan", &["baichuan"], baichuan, &[BAICHUAN]),
    row_of("bailingmoe", &["deepseek"], bailingmoe, &[PAIRS]),
    row_of("bailingmoe2", &["glm4_moe"], bailingmoe2, &[]),
    row_of("bailingmoe3", &["bailing_hybrid"], bailingmoe3, LING3),
    row_of("bert", &["bert"], bert, BERT),
    row_of("bloom", &["bloom"], bloom, BLOOM),
    row_of("chatglm", &["glm"], chatglm, &[CHATGLM]),
    row_of("codeshell", &["starcoder2"], codeshell, &[STARCODER2]),
    row_of("cohere2", &["cohere2"], cohere2, &[]),
    row_of("cohere2moe", &["cohere2_moe"], cohere2_moe, &[]),
    row_of("command-r", &["cohere"], command_r, &[]),
    row_of("dbrx", &["dbrx"], dbrx, DBRX),
    row_of("deci", &["deci", "nemotron-nas"], deci, DECI),
    row_of("deepseek", &["deepseek"], deepseek, &[PAIRS]),
    row_of(
        "deepseek2",
        &["deepseek_v2", "deepseek_v3", "glm4_moe_lite", "youtu"],
        deepseek2,
        &[LATENT],
    ),
    row_of("deepseek2-ocr", &["deepseek"], deepseek2_ocr, &[]),
    row_of("deepseek32", &["deepseek_v32"], deepseek32, INDEXED),
    row_of("dots1", &["dots1"], dots1, &[]),
    row_of("dots3note", &["dots3_note_text"], dots3_note, DOTS3_NOTE),
    row_of("dream", &["qwen2"], dream, &[]),
    row_of("ernie4_5", &["ernie4_5"], ernie4_5, &[]),
    row_of(
        "ernie4_5-moe",
        &["ernie4_5_moe"],
        ernie4_5_moe,
        &[ERNIE_EXPERTS],
    ),
    row_of("eurobert", &["eurobert"], eurobert, &[]),
    row_of("exaone", &["llama"], unpaired_llama, &[]),
    row_of("exaone-moe", &["exaone_moe"], exaone_moe, &[EXAONE_EXPERTS]),
    row_of("exaone4", &["exaone4"], exaone4, &[POST_NORMS]),
    row_of("falcon", &["falcon"], falcon, FALCON),
    row_of("falcon-h1", &["falcon_h1"], falcon_h1, BESIDE),
    Architecture {
        of_pieces: "GemmaTokenizer",
        ..row_of("gemma", &["gemma"], gemma, GEMMA)
    },
    Architecture {
        of_pieces: "GemmaTokenizer",
        ..row_of("gemma-embedding", &["gemma3_text"], gemma_embedding, GEMMA2)
    },
    Architecture {
        of_pieces: "GemmaTokenizer",
        ..row_of("gemma2", &["gemma2"], gemma2, GEMMA2)
    },
    Architecture {
        of_pieces: "GemmaTokenizer",
        ..row_of("gemma3", &["gemma3_text"], gemma3, GEMMA2)
    },
    Architecture {
        of_pieces: "GemmaTokenizer",
        ..row_of("gemma3n", &["gemma3n_text"], gemma3n, GEMMA3N)
    },
    Architecture {
        of_pieces: "GemmaTokenizer",
        ..row_of("gemma4", &["gemma4_text"], gemma4, GEMMA3N)
    },
    row_of("glm-dsa", &["glm_moe_dsa"], glm_dsa, INDEXED),
    row_of("glm4", &["glm4"], glm4, &[GLM4]),
    row_of("glm4moe", &["glm4_moe"], glm4moe, &[POST_NORMS]),
    row_of("glm5-next", &["glm5_next_text"], glm5_next, GLM5_NEXT),
    row_of("gpt-oss", &["gpt_oss"], gpt_oss, GPT_OSS),
    row_of("gpt2", &["gpt2"], gpt2, GPT2),
    row_of("gptneox", &["gpt_neox"], gptneox, NEOX),
    row_of("granite", &["granite"], granite, &[PAIRS]),
    row_of("granite_swa", &["granite_swa"], granite_swa, &[PAIRS]),
    row_of(
        "granitehybrid",
        &["granitemoehybrid", "bamba"],
        granite_hybrid,
        GRANITE_HYBRID,
    ),
    row_of(
        "granitemoe",
        &["granitemoe", "granitemoeshared"],
        granitemoe,
        GRANITE_EXPERTS,
    ),
    row_of("grok", &["grok-1"], grok, GROK),
    row_of("hrm_text", &["hrm_text"], hrm_text, HRM),
    row_of(
        "hunyuan-dense",
        &["hunyuan_v1_dense"],
        hunyuan_dense,
        HUNYUAN,
    ),
    row_of("hunyuan-moe", &["hunyuan_v1_moe"], hunyuan_moe, HUNYUAN),
    row_of("hunyuan_vl", &["hunyuan_v1_dense"], hunyuan_vl, HUNYUAN),
    row_of("hy_v3", &["hy_v3"], hy_v3, HY_V3),
    row_of("hy_v4", &["hy_v4"], hy_v4, HY_V4),
    row_of("internlm2", &["internlm2"], internlm2, INTERNLM2),
    row_of("jais2", &["jais2"], jais2, &[]),
    row_of("jamba", &["jamba"], jamba, BESIDE),
    row_of("jina-bert-v2", &["bert"], jina2, JINA),
    row_of("jina-bert-v3", &["jina_embeddings_v3"], jina3, JINA3),
    row_of("kimi-linear", &["kimi_linear"], kimi_linear, KIMI_LINEAR),
    row_of("laguna", &["laguna"], laguna, LAGUNA),
    row_of("lfm2", &["lfm2"], lfm2, LFM2),
    row_of("lfm2moe", &["lfm2_moe"], lfm2moe, LFM2),
    row_of("llada", &["llama"], llada, &[PAIRS]),
    row_of("llada-moe", &["qwen3_moe"], llada_moe, &[]),
    row_of("llama", &["llama", "mistral", "mixtral"], llama, LLAMA),
    row_of("llama-embed", &["llama"], llama_embed, &[PAIRS]),
    row_of("llama4", &["llama4_text"], llama4, LLAMA4),
    row_of("maincoder", &["hunyuan_v1_dense"], maincoder, HUNYUAN),
    row_of("mamba", &["mamba", "falcon_mamba"], mamba, MAMBA),
    row_of("mamba2", &["mamba2"], mamba2, MAMBA),
    row_of("mellum", &["mellum"], mellum, &[]),
    row_of("mimo2", &["mimo_v2_flash"], mimo2, MIMO2),
    row_of("minicpm", &["minicpm"], minicpm, &[PAIRS]),
    row_of("minicpm3", &["minicpm3"], minicpm3, &[LATENT]),
    row_of("minimax-01", &["minimax"], minimax_01, MINIMAX),
    row_of("minimax-m2", &["minimax_m2"], minimax_m2, &[MIXTRAL]),
    row_of(
        "minimax-m3",
        &["minimax_m3_vl_text"],
        minimax_m3,
        MINIMAX_M3,
    ),
    row_of("mistral3", &["ministral3"], mistral3, &[PAIRS]),
    row_of("mistral4", &["mistral4"], mistral4, MISTRAL4),
    row_of("modern-bert", &["modernbert"], modern_bert, MODERN_BERT),
    row_of("mpt", &["mpt"], mpt, MPT),
    row_of("muse-glimmer", &["muse_glimmer_text"], muse_glimmer, MUSE),
    row_of("nemotron", &["nemotron"], nemotron, GEMMA),
    row_of("nemotron_h", &["nemotron_h"], nemotron_h, NEMOTRON_H),
    row_of("nemotron_h_moe", &["nemotron_h"], nemotron_h, NEMOTRON_H),
    row_of("neo-bert", &["neobert"], neo_bert, NEO_BERT),
    row_of("nomic-bert", &["nomic_bert"], nomic_bert, NOMIC_BERT),
    row_of(
        "nomic-bert-moe",
        &["nomic_bert"],
        nomic_bert_moe,
        NOMIC_BERT,
    ),
    row_of("olmo", &["olmo"], olmo, &[PAIRS]),
    row_of("olmo2", &["olmo2", "olmo3"], olmo2, &[POST_NORMS]),
    row_of("olmoe", &["olmoe"], olmoe, &[]),
    row_of("openelm", &["openelm"], openelm, OPENELM),
    row_of("orion", &["orion"], orion, &[]),
    row_of("paddleocr", &["llama"], unpaired_llama, &[]),
    row_of("pangu-embedded", &["llama"], unpaired_llama, &[]),
    row_of("phi2", &["phi"], phi2, PHI2),
    row_of("phi3", &["phi3"], phi3, &[PHI3]),
    row_of("phimoe", &["phimoe"], phimoe, PHIMOE),
    row_of("plamo", &["plamo"], plamo, PLAMO),
    row_of("plm", &["plm"], plm, &[LATENT]),
    row_of("qwen", &["qwen"], qwen, QWEN),
    row_of("qwen2", &["qwen2"], qwen2, &[]),
    row_of("qwen2moe", &["qwen2_moe"], qwen2moe, &[]),
    row_of("qwen2vl", &["qwen2"], qwen2vl, &[]),
    row_of("qwen3", &["qwen3"], qwen3, &[]),
    row_of("qwen35", &["qwen3_5_text"], qwen35, QWEN3_5),
    row_of("qwen35moe", &["qwen3_5_moe_text"], qwen35moe, QWEN3_5),
    row_of("qwen3moe", &["qwen3_moe"], qwen3moe, &[]),
    row_of("qwen3next", &["qwen3_next"], qwen3next, QWEN3_NEXT),
    row_of("qwen3vl", &["qwen3"], qwen3vl, &[]),
    row_of("qwen3vlmoe", &["qwen3_moe"], qwen3vlmoe, &[]),
    row_of("refact", &["gpt_refact"], refact, REFACT),
    row_of("rnd1", &["qwen3_moe"], rnd1, &[]),
    row_of("rwkv6", &["rwkv6"], rwkv6, RWKV6),
    row_of("rwkv6qwen2", &["rwkv6"], rwkv6qwen2, RWKV6_QWEN2),
    Architecture {
        idle: RWKV7_IDLE,
        ..row_of("rwkv7", &["rwkv7"], rwkv7, RWKV7)
    },
    row_of("seed_oss", &["seed_oss"], seed_oss, &[POST_NORMS]),
    row_of("smollm3", &["smollm3"], smollm3, &[PAIRS]),
    row_of("stablelm", &["stablelm"], stablelm, &[STABLELM]),
    row_of("starcoder", &["gpt_bigcode"], starcoder, STARCODER),
    row_of("starcoder2", &["starcoder2"], starcoder2, &[STARCODER2]),
    row_of("step35", &["step3p5"], step35, STEP),
    row_of("t5", &["t5", "umt5"], t5, T5),
    row_of("t5encoder", &["t5", "umt5"], t5encoder, T5),
    row_of("xverse", &["xverse"], xverse, &[PAIRS]),
];

/// Architectures that are not read, and why.
pub const REFUSED: &[(&[&str], &str)] = &[
    (
        &["bitnet"],
        "this model rounds the inputs of its products to eight bits, of which the file says nothing",
    ),
    (
        &["clip"],
        "it is the part of a model that sees pictures; the text model is a file of its own",
    ),
    (
        &["dflash", "eagle3", "gemma4-assistant"],
        "it drafts tokens for another model and is none by itself",
    ),
    (
        &["pockettts", "qwen3tts", "wavtokenizer-dec"],
        "it makes sounds",
    ),
    (
        &["gptj"],
        "llama.cpp has the name alone: there are no such files",
    ),
    (
        &["arctic"],
        "its experts stand beside a dense network, on the layer's input with a norm of their own, which no type that is known here does",
    ),
    (
        &["chameleon"],
        "every head of its queries and keys has a layer norm of its own, and part of its tokens stand for pictures",
    ),
    (
        &["clef"],
        "it scores options of questions whose places in the text another program marks",
    ),
    (
        &["cogvlm"],
        "its layers have two sets of weights, one of them for rows that are pictures",
    ),
    (
        &["deepseek4"],
        "its converter stores experts of 4 bits in another order and tables of experts by token, and was not compared; the model's own files of safetensors are read",
    ),
    (
        &["graniteswitch"],
        "tokens of the text switch between adapters that are part of the file",
    ),
    (
        &["grovemoe"],
        "groups of its experts share further ones that the same choice selects, which no type that is known here does",
    ),
    (
        &["jais"],
        "GPT-2 with ALiBi, gates, and logits of attention divided by the width of a head: no type that is known here is built like it",
    ),
    (
        &["kimi-k3"],
        "what goes on from its layers is chosen among what earlier ones left, and its networks have an activation of their own: no type that is known here is built like it",
    ),
    (
        &["maple", "spark2_5"],
        "no published code of this model was found that it could be compared with",
    ),
    (
        &["nanbeige"],
        "all of its layers run several times, one round behind the other, which no type that is known here does so",
    ),
    (
        &["plamo2", "plamo3"],
        "its norms have constants of their own and some of its layers selective scans with norms of steps: no type that is known here is built like it",
    ),
    (
        &["qwen4exp"],
        "its converter numbers a table of n-grams by constants that were not compared; the model's own files of safetensors are read",
    ),
    (
        &["smallthinker"],
        "its experts are chosen by what its attention sees, in front of it, which no type that is known here does",
    ),
    (
        &["talkie"],
        "every layer adds a share of the embeddings, and its norms have no factors: no type that is known here is built like it",
    ),
];

const fn row_of(
    name: &'static str,
    model_types: &'static [&'static str],
    config: fn(&mut Reader<'_>) -> Read,
    names: &'static [Names],
) -> Architecture {
    Architecture {
        name,
        model_types,
        of_pieces: USUAL,
        config,
        names,
        idle: &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_llama_cpp_is_read_or_refused_with_a_reason() {
        let lines = include_str!("llama_cpp.txt").lines();
        let names: Vec<&str> = lines.filter(|line| !line.starts_with('#')).collect();
        let refused: Vec<&str> = REFUSED
            .iter()
            .flat_map(|(names, _)| *names)
            .copied()
            .collect();
        let ours = ARCHITECTURES.iter().map(|architecture| architecture.name);
        let mut known: Vec<&str> = ours.chain(refused).collect();
        known.sort_unstable();
        assert_eq!(known, names);
        for (names, reason) in REFUSED {
            assert!(names.is_sorted() && !reason.is_empty(), "{names:?}");
        }
        assert!(ARCHITECTURES.is_sorted_by_key(|architecture| architecture.name));
    }
}
