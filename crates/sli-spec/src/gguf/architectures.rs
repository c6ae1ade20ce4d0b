//! The architectures of llama.cpp, each a row of [`ARCHITECTURES`].

use super::architecture::Architecture;
use super::architecture::Row;
use super::experts::{
    GPT_OSS, GRANITE_EXPERTS, LATENT, deepseek2, dots1, glm4moe, gpt_oss, granitemoe, olmoe,
    qwen2moe, qwen3moe,
};
use super::gemma::{GEMMA2, PLUS_ONE, gemma, gemma2, gemma3};
use super::gpt::{
    BERT, BLOOM, FALCON, GPT2, MPT, NEOX, PHI2, STABLELM, STARCODER2, bert, bloom, falcon, gpt2,
    gptneox, mpt, nemotron, phi2, stablelm, starcoder2,
};
use super::llama::{
    AFTER_ATTENTION, GLM4, LLAMA, PAIRS, PHI3, POST_NORMS, arcee, cohere2, command_r, ernie4_5,
    exaone4, glm4, granite, llama, olmo, olmo2, phi3, qwen2, qwen3, seed_oss, smollm3,
};
use super::reader::{Read, Reader};

/// The class of the tokenizers that most models of pieces have.
pub(super) const USUAL: &str = "LlamaTokenizer";

/// Every architecture, sorted by name.
pub const ARCHITECTURES: &[Architecture] = &[
    row_of("arcee", &["arcee"], arcee, PAIRS),
    row_of("bert", &["bert"], bert, BERT),
    row_of("bloom", &["bloom"], bloom, BLOOM),
    row_of("cohere2", &["cohere2"], cohere2, &[]),
    row_of("command-r", &["cohere"], command_r, &[]),
    row_of(
        "deepseek2",
        &["deepseek_v2", "deepseek_v3"],
        deepseek2,
        LATENT,
    ),
    row_of("dots1", &["dots1"], dots1, &[]),
    row_of("ernie4_5", &["ernie4_5"], ernie4_5, &[]),
    row_of("exaone4", &["exaone4"], exaone4, POST_NORMS),
    row_of("falcon", &["falcon"], falcon, FALCON),
    Architecture {
        of_pieces: "GemmaTokenizer",
        ..row_of("gemma", &["gemma"], gemma, PLUS_ONE)
    },
    Architecture {
        of_pieces: "GemmaTokenizer",
        ..row_of("gemma2", &["gemma2"], gemma2, GEMMA2)
    },
    Architecture {
        of_pieces: "GemmaTokenizer",
        ..row_of("gemma3", &["gemma3_text"], gemma3, GEMMA2)
    },
    row_of("glm4", &["glm4"], glm4, GLM4),
    row_of("glm4moe", &["glm4_moe"], glm4moe, AFTER_ATTENTION),
    row_of("gpt-oss", &["gpt_oss"], gpt_oss, GPT_OSS),
    row_of("gpt2", &["gpt2"], gpt2, GPT2),
    row_of("gptneox", &["gpt_neox"], gptneox, NEOX),
    row_of("granite", &["granite"], granite, PAIRS),
    row_of(
        "granitemoe",
        &["granitemoe", "granitemoeshared"],
        granitemoe,
        GRANITE_EXPERTS,
    ),
    row_of("llama", &["llama", "mistral", "mixtral"], llama, LLAMA),
    row_of("mpt", &["mpt"], mpt, MPT),
    row_of("nemotron", &["nemotron"], nemotron, PLUS_ONE),
    row_of("olmo", &["olmo"], olmo, PAIRS),
    row_of("olmo2", &["olmo2", "olmo3"], olmo2, POST_NORMS),
    row_of("olmoe", &["olmoe"], olmoe, &[]),
    row_of("phi2", &["phi"], phi2, PHI2),
    row_of("phi3", &["phi3"], phi3, PHI3),
    row_of("qwen2", &["qwen2"], qwen2, &[]),
    row_of("qwen2moe", &["qwen2_moe"], qwen2moe, &[]),
    row_of("qwen3", &["qwen3"], qwen3, &[]),
    row_of("qwen3moe", &["qwen3_moe"], qwen3moe, &[]),
    row_of("seed_oss", &["seed_oss"], seed_oss, AFTER_ATTENTION),
    row_of("smollm3", &["smollm3"], smollm3, PAIRS),
    row_of("stablelm", &["stablelm"], stablelm, STABLELM),
    row_of("starcoder2", &["starcoder2"], starcoder2, STARCODER2),
];

const fn row_of(
    name: &'static str,
    model_types: &'static [&'static str],
    config: fn(&mut Reader<'_>) -> Read,
    names: &'static [Row],
) -> Architecture {
    Architecture {
        name,
        model_types,
        of_pieces: USUAL,
        config,
        names,
    }
}
