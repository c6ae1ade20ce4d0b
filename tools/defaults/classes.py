"""The model types of the project, and the reference's classes of each."""

import dataclasses
import re
from pathlib import Path

import transformers
from transformers.models.auto import configuration_auto, modeling_auto

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "crates/sli-spec/src"

# Fields that every configuration class inherits; none reaches the forward pass through its default.
INHERITED = {field.name for field in dataclasses.fields(transformers.PreTrainedConfig)}

# Types of parts of models.
PARTS = [
    "blip_2_qformer",
    "blip_2_vision_model",
    "blip_text_model",
    "blip_vision_model",
    "canary_decoder",
    "chinese_clip_text_model",
    "chinese_clip_vision_model",
    "cohere_compass_vision",
    "cosmos3_edge_vision",
    "exaone4_5_vision",
    "gemma4_unified_vision",
    "gemma4_vision",
    "glm4v_moe_vision",
    "glm4v_vision",
    "glm5_next_vision",
    "glm_ocr_vision",
    "got_ocr2_vision",
    "granite_docling_vision",
    "idefics2_perceiver",
    "idefics2_vision",
    "idefics3_vision",
    "idefics_perciever",
    "idefics_vision",
    "instructblip_qformer",
    "instructblip_vision_model",
    "internvl_vision",
    "janus_vision_model",
    "kimi_k25_vision",
    "kosmos_2_text_model",
    "kosmos_2_vision_model",
    "llama4_vision_model",
    "minimax_m3_vl_vision",
    "mllama_vision_model",
    "moonshine_streaming_encoder",
    "muse_glimmer_vision",
    "muse_spark_vision",
    "ovis2_vision",
    "paddleocr_vl_vision",
    "parakeet_encoder",
    "pix2struct_vision_model",
    "pp_chart2table_vision",
    "pp_formulanet_text",
    "qianfan_ocr_vision",
    "qwen2_5_vl_vision",
    "qwen2_vl_vision",
    "qwen3_5_moe_vision",
    "qwen3_5_vision",
    "qwen3_vl_moe_vision",
    "qwen3_vl_vision",
    "qwen4_exp_vision",
    "smolvlm_vision",
    "step3p5_vision",
    "t5_gemma_module",
    "t5gemma2_decoder",
    "t5gemma2_text",
    "video_llama_3_vision",
]

# Types that files name and transformers reads as another one.
ALIASES = {"kimi_k2": "deepseek_v3"}

TASKS = [
    ("masked_lm", modeling_auto.MODEL_FOR_PRETRAINING_MAPPING_NAMES),
    ("causal_lm", modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    ("causal_lm", modeling_auto.MODEL_FOR_CAUSAL_IMAGE_MODELING_MAPPING_NAMES),
    ("masked_lm", modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES),
    ("base", modeling_auto.MODEL_MAPPING_NAMES),
]

# Heads for classes.
CLASS_TASKS = [
    ("sequence_classification", modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES),
    ("token_classification", modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES),
]

# Types of an encoder and a decoder: what has both, and the encoder alone.
SEQUENCE_TASKS = [
    ("seq2seq_lm", modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
    ("seq2seq_lm", modeling_auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES),
    ("encoder", modeling_auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES),
]


def registered_types():
    tables = [SOURCES / "registry.rs", *(SOURCES / "families").glob("**/*.rs")]
    return {name for table in tables for name in re.findall(r'\brow\(\s*"([^"]+)",', table.read_text())}


def names_of(mapping, model_type):
    names = mapping.get(model_type, ())
    return [names] if isinstance(names, str) else list(names)


# Classes that the reference maps from the type of the whole model, or from none.
TEXT_CLASSES = {
    "blip_2_qformer": {"Blip2QFormerModel": "base"},
    "blip_2_vision_model": {"Blip2VisionModel": "base"},
    "blip_text_model": {"BlipTextLMHeadModel": "causal_lm"},
    "blip_vision_model": {"BlipVisionModel": "base"},
    "instructblip_qformer": {"InstructBlipQFormerModel": "base"},
    "instructblip_vision_model": {"InstructBlipVisionModel": "base"},
    "idefics2_perceiver": {"Idefics2PerceiverResampler": "base"},
    "idefics2_vision": {"Idefics2VisionTransformer": "base"},
    "florence2": {"Florence2ForConditionalGeneration": "seq2seq_lm"},
    "pix2struct": {"Pix2StructForConditionalGeneration": "seq2seq_lm"},
    "pix2struct_text_model": {"Pix2StructTextModel": "causal_lm"},
    "pp_formulanet": {"PPFormulaNetForConditionalGeneration": "seq2seq_lm"},
    "udop": {"UdopForConditionalGeneration": "seq2seq_lm", "UdopEncoderModel": "encoder"},
    "vision-encoder-decoder": {"VisionEncoderDecoderModel": "seq2seq_lm"},
    "dpr": {"DPRContextEncoder": "base", "DPRReader": "base"},
    "visual_bert": {"VisualBertForPreTraining": "masked_lm"},
    "emu3_text_model": {"Emu3ForCausalLM": "causal_lm", "Emu3TextModel": "base"},
    "glm5_next_text": {"Glm5NextForCausalLM": "causal_lm", "Glm5NextTextModel": "base"},
    "muse_glimmer_vision": {"MuseGlimmerVisionModel": "base"},
    "muse_spark_text": {"MuseSparkForConditionalGeneration": "causal_lm", "MuseSparkTextModel": "base"},
    "muse_spark_vision": {"MuseSparkVisionModel": "base"},
    "muse_glimmer_text": {"MuseGlimmerForCausalLM": "causal_lm", "MuseGlimmerTextModel": "base"},
    # The head of a decoder that has none by itself is the whole model's.
    "qwen2_vl_text": {"Qwen2VLForConditionalGeneration": "causal_lm", "Qwen2VLTextModel": "base"},
    "qwen2_5_vl_text": {"Qwen2_5_VLForConditionalGeneration": "causal_lm", "Qwen2_5_VLTextModel": "base"},
    "qwen3_vl_text": {"Qwen3VLForConditionalGeneration": "causal_lm", "Qwen3VLTextModel": "base"},
    "qwen3_vl_moe_text": {"Qwen3VLMoeForConditionalGeneration": "causal_lm", "Qwen3VLMoeTextModel": "base"},
    "glm4v_text": {"Glm4vForConditionalGeneration": "causal_lm", "Glm4vTextModel": "base"},
    "glm4v_moe_text": {"Glm4vMoeForConditionalGeneration": "causal_lm", "Glm4vMoeTextModel": "base"},
    "glm_ocr_text": {"GlmOcrForConditionalGeneration": "causal_lm", "GlmOcrTextModel": "base"},
    "gemma4_vision": {"Gemma4VisionModel": "base"},
    "paddleocr_vl_text": {"PaddleOCRVLForConditionalGeneration": "causal_lm", "PaddleOCRTextModel": "base"},
    "mistral_large4_text": {"MistralLarge4ForConditionalGeneration": "causal_lm", "MistralLarge4TextModel": "base"},
    "janus_vision_model": {"JanusVisionModel": "base"},
    "kosmos_2_text_model": {"Kosmos2TextForCausalLM": "causal_lm"},
    "kosmos_2_vision_model": {"Kosmos2VisionModel": "base"},
    "kimi_k25_vision": {"Kimi_K25VisionModel": "base"},
    "paddleocr_vl_vision": {"PaddleOCRVisionModel": "base"},
    "qianfan_ocr_vision": {"QianfanOCRVisionModel": "base"},
    "video_llama_3_vision": {"VideoLlama3VisionModel": "base"},
    "glm4v_vision": {"Glm4vVisionModel": "base"},
    "glm4v_moe_vision": {"Glm4vMoeVisionModel": "base"},
    "glm5_next_vision": {"Glm5NextVisionModel": "base"},
    "granite_docling_text": {"GraniteDoclingForConditionalGeneration": "causal_lm", "GraniteDoclingTextModel": "base"},
    "granite_docling_vision": {"GraniteDoclingVisionModel": "base"},
    "glm_ocr_vision": {"GlmOcrVisionModel": "base"},
    "llama4_vision_model": {"Llama4VisionModel": "base"},
    "qwen2_vl_vision": {"Qwen2VisionTransformerPretrainedModel": "base"},
    "qwen2_5_vl_vision": {"Qwen2_5_VisionTransformerPretrainedModel": "base"},
    "qwen3_vl_vision": {"Qwen3VLVisionModel": "base"},
    "qwen4_exp_vision": {"Qwen4ExpVisionModel": "base"},
    "shieldgemma2": {"ShieldGemma2ForImageClassification": "causal_lm"},
    "qwen3_vl_moe_vision": {"Qwen3VLMoeVisionModel": "base"},
    "cohere_compass_vision": {"CohereCompassVisionModel": "base"},
    "cosmos3_edge_text": {"Cosmos3EdgeForConditionalGeneration": "causal_lm", "Cosmos3EdgeTextModel": "base"},
    "cosmos3_edge_vision": {"Cosmos3EdgeVisionModel": "base"},
    "exaone4_5_vision": {"Exaone4_5_VisionModel": "base"},
    "qwen3_5_vision": {"Qwen3_5VisionModel": "base"},
    "qwen3_5_moe_vision": {"Qwen3_5MoeVisionModel": "base"},
    "chinese_clip_text_model": {"ChineseCLIPTextModel": "base"},
    "chinese_clip_vision_model": {"ChineseCLIPVisionModel": "base"},
    "clip_text_model": {"CLIPTextModelWithProjection": "base"},
    "clip_vision_model": {"CLIPVisionModelWithProjection": "base"},
    "mllama_text_model": {"MllamaForCausalLM": "causal_lm", "MllamaTextModel": "base"},
    "minimax_m3_vl_vision": {"MiniMaxM3VLVisionModel": "base"},
    "mllama_vision_model": {"MllamaVisionModel": "base"},
    "metaclip_2_text_model": {"MetaClip2TextModel": "base", "MetaClip2TextModelWithProjection": "base"},
    "metaclip_2_vision_model": {"MetaClip2VisionModel": "base", "MetaClip2VisionModelWithProjection": "base"},
    "siglip2_text_model": {"Siglip2TextModel": "base"},
    "siglip_text_model": {"SiglipTextModel": "base"},
    "step3p5_vision": {"Step3p7VisionModel": "base"},
    "step3p5": {"Step3p5ForCausalLM": "causal_lm", "Step3p7TextModel": "base"},
}


# Classes of several inputs, as far as they read text; none: they read none.
OF_TEXT = {
    "SpeechT5Model": None,
    "SeamlessM4TForSpeechToText": None,
    "SeamlessM4TModel": "seq2seq_lm",
    "SeamlessM4Tv2ForSpeechToText": None,
    "SeamlessM4Tv2Model": "seq2seq_lm",
}


def classes_of(model_type):
    """Class name -> task. A type's own language-model class overrides its pre-training class."""
    classes = dict(TEXT_CLASSES.get(model_type, {}))
    for task, mapping in TASKS:
        for name in names_of(mapping, model_type):
            # A pre-training class is of use only where it is a masked LM with one more head.
            if mapping is modeling_auto.MODEL_FOR_PRETRAINING_MAPPING_NAMES and not (
                name.endswith("ForPreTraining") and model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
            ):
                continue
            classes[name] = task
    if any(model_type in mapping for task, mapping in SEQUENCE_TASKS if task == "seq2seq_lm"):
        classes |= {name: task for task, mapping in SEQUENCE_TASKS for name in names_of(mapping, model_type)}
    for name in ("ElectraForPreTraining", "FunnelForPreTraining"):  # tell tokens that were replaced, and predict none
        if name in classes:
            classes[name] = "base"
    classes |= {name: task for task, mapping in CLASS_TASKS for name in names_of(mapping, model_type)}
    # A few causal models are in no table.
    for name in names_of(modeling_auto.MODEL_MAPPING_NAMES, model_type):
        sibling = name.removesuffix("Model") + "ForCausalLM"
        if hasattr(transformers, sibling):
            classes.setdefault(sibling, "causal_lm")
    for name in names_of(modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, model_type):
        if classes.get(name, "base") == "base":  # a whole model without a class of its body alone
            classes[name] = "causal_lm"
    classes = {name: OF_TEXT.get(name, task) for name, task in classes.items()}
    return dict(sorted((name, task) for name, task in classes.items() if task))


