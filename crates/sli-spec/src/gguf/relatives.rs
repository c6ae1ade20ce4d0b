//! Architectures that are a type of the reference under another name.

use serde_json::json;

use super::experts::{qwen3moe, routed, sigmoid_scores};
use super::gemma::gemma3;
use super::llama::{plain_llama, qwen2, qwen3, rms_in_part};
use super::mixtures::hunyuan_dense;
use super::reader::{Read, Reader};

/// What positions of pictures have more: of text all axes are the same.
const AXES: &[&str] = &["rope.dimension_sections", "n_deepstack_layers"];

/// The text model of Qwen 2-VL and 2.5-VL.
pub(super) fn qwen2vl(reader: &mut Reader<'_>) -> Read {
    reader.ignore(AXES);
    qwen2(reader)
}

/// The text model of Qwen 3-VL.
pub(super) fn qwen3vl(reader: &mut Reader<'_>) -> Read {
    reader.ignore(AXES);
    qwen3(reader)
}

/// The text model of Qwen 3-VL with experts.
pub(super) fn qwen3vlmoe(reader: &mut Reader<'_>) -> Read {
    reader.ignore(AXES);
    qwen3moe(reader)
}

/// EXAONE 3, Pangu and the text model of PaddleOCR-VL.
pub(super) fn unpaired_llama(reader: &mut Reader<'_>) -> Read {
    reader.ignore(AXES);
    plain_llama(reader)
}

/// Llama as an encoder.
pub(super) fn llama_embed(reader: &mut Reader<'_>) -> Read {
    plain_llama(reader)?;
    reader.set("is_causal", false);
    reader.set("architectures", json!(["LlamaModel"]));
    reader.unset("tie_word_embeddings");
    Ok(())
}

/// The text model of `HunyuanVL`, whose rotation is stretched by a factor that the file has beside the base.
pub(super) fn hunyuan_vl(reader: &mut Reader<'_>) -> Read {
    reader.ignore(AXES);
    hunyuan_dense(reader)?;
    reader.ignore(&[
        "rope.scaling.factor",
        "rope.scaling.original_context_length",
    ]);
    if let Some(alpha) = reader.value("rope.scaling.alpha") {
        reader.set(
            "rope_scaling",
            json!({"rope_type": "dynamic", "alpha": alpha, "factor": 1.0}),
        );
    }
    Ok(())
}

/// Maincoder, whose norms of queries and keys stand behind the rotation.
pub(super) fn maincoder(reader: &mut Reader<'_>) -> Read {
    hunyuan_dense(reader)
}

/// `LLaDA`, which sees all of a text.
pub(super) fn llada(reader: &mut Reader<'_>) -> Read {
    plain_llama(reader)?;
    reader.set("is_causal", false);
    Ok(())
}

/// Dream, which sees all of a text.
pub(super) fn dream(reader: &mut Reader<'_>) -> Read {
    qwen2(reader)?;
    reader.set("is_causal", false);
    Ok(())
}

/// RND1, which sees all of a text.
pub(super) fn rnd1(reader: &mut Reader<'_>) -> Read {
    qwen3moe(reader)?;
    reader.set("is_causal", false);
    Ok(())
}

/// `LLaDA` with experts, whose weights are as the softmax left them.
pub(super) fn llada_moe(reader: &mut Reader<'_>) -> Read {
    rnd1(reader)?;
    reader.set("norm_topk_prob", false);
    Ok(())
}

/// `EmbeddingGemma`, whose windows reach both ways.
pub(super) fn gemma_embedding(reader: &mut Reader<'_>) -> Read {
    gemma3(reader)?;
    reader.set("use_bidirectional_attention", true);
    reader.set("architectures", json!(["Gemma3TextModel"]));
    reader.unset("tie_word_embeddings");
    reader.ignore(&["attention.causal"]);
    Ok(())
}

/// Ling of the second generation, which is GLM-4.5 with norms of queries and keys.
pub(super) fn bailingmoe2(reader: &mut Reader<'_>) -> Read {
    rms_in_part(reader, "glm4_moe")?;
    reader.set_where("attention_bias", "blk.0.attn_qkv.bias");
    reader.set("use_qk_norm", true);
    sigmoid_scores(reader)?;
    reader.ignore(&["expert_shared_feed_forward_length"]);
    routed(reader)
}
