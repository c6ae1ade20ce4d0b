"""Writes crates/sli-pictures/tests/texts.json: what transformers' processors make of texts with placeholders of pictures.

    python tools/pictures/processors.py

The tokenizer of each case has single bytes and the special tokens that it needs. What is kept is the text that the processor hands it.
"""

import json
import os
import tempfile
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import transformers
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from goldens import drawn

OUT = Path(__file__).parents[2] / "crates/sli-pictures/tests/texts.json"
TINY_PINPOINTS = [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]]
GRID = {"size": {"shortest_edge": 3136, "longest_edge": 50000}}
LFM2 = {"encoder_patch_size": 4, "downsample_factor": 2, "tile_size": 16, "max_tiles": 6, "min_image_tokens": 2, "max_image_tokens": 8}
GEMMA4 = {"image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>", "audio_token": "<|audio|>", "boa_token": "<|audio>", "eoa_token": "<audio|>"}
# Class, its own keys, the class and the keys of its pictures, names of tokens.
CASES = [
    ("LlavaProcessor", {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}, "CLIPImageProcessor", {"size": 56, "crop_size": 56}, {"image_token": "<image>"}),
    ("LlavaProcessor", {"patch_size": 14, "vision_feature_select_strategy": "full"}, "SiglipImageProcessor", {"size": {"height": 42, "width": 28}}, {}),
    ("LlavaNextProcessor", {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}, "LlavaNextImageProcessor", {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}, "image_grid_pinpoints": TINY_PINPOINTS}, {"image_token": "<image>"}),
    ("LlavaOnevisionProcessor", {"num_image_tokens": 16, "vision_feature_select_strategy": "full", "vision_aspect_ratio": "anyres_max_9"}, "LlavaOnevisionImageProcessor", {"size": {"height": 56, "width": 56}, "image_grid_pinpoints": TINY_PINPOINTS}, {"image_token": "<image>", "video_token": "<video>"}),
    ("LlavaOnevisionProcessor", {"num_image_tokens": 16, "vision_feature_select_strategy": "full", "vision_aspect_ratio": "anyres_max_2"}, "LlavaOnevisionImageProcessor", {"size": {"height": 56, "width": 56}, "image_grid_pinpoints": TINY_PINPOINTS}, {"image_token": "<image>", "video_token": "<video>"}),
    ("Qwen2VLProcessor", {}, "Qwen2VLImageProcessor", GRID, {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}),
    ("Qwen2_5_VLProcessor", {}, "Qwen2VLImageProcessor", GRID, {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}),
    ("Qwen3VLProcessor", {}, "Qwen2VLImageProcessor", GRID | {"patch_size": 16}, {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}),
    ("Glm4vProcessor", {}, "Glm4vImageProcessor", GRID, {"image_token": "<|image|>", "video_token": "<|video|>"}),
    ("Glm46VProcessor", {}, "Glm46VImageProcessor", GRID, {"image_token": "<|image|>", "video_token": "<|video|>"}),
    ("Kimi_K25Processor", {}, "Kimi_K25ImageProcessor", {"max_patches": 64}, {"image_token": "<|media_pad|>"}),
    ("InternVLProcessor", {"image_seq_length": 3}, "GotOcr2ImageProcessor", {"size": {"height": 28, "width": 28}, "max_patches": 4}, {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"}),
    ("Idefics2Processor", {"image_seq_len": 3}, "Idefics2ImageProcessor", {}, {}),
    ("Idefics2Processor", {"image_seq_len": 3}, "Idefics2ImageProcessor", {"do_image_splitting": True}, {}),
    ("Idefics3Processor", {"image_seq_len": 3}, "Idefics3ImageProcessor", {"size": {"longest_edge": 112}, "max_image_size": {"longest_edge": 56}}, {}),
    ("Idefics3Processor", {"image_seq_len": 3}, "Idefics3ImageProcessor", {"do_image_splitting": False, "max_image_size": {"longest_edge": 56}}, {}),
    ("Gemma3Processor", {"image_seq_length": 3}, "Gemma3ImageProcessor", {"size": {"height": 28, "width": 28}, "do_pan_and_scan": True}, {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}),
    ("PaliGemmaProcessor", {}, "SiglipImageProcessor", {"image_seq_length": 4, "size": {"height": 28, "width": 28}}, {}),
    ("MllamaProcessor", {}, "MllamaImageProcessor", {"size": {"height": 28, "width": 28}}, {}),
    ("PixtralProcessor", {"patch_size": 14, "spatial_merge_size": 2}, "PixtralImageProcessor", {"size": {"longest_edge": 112}, "patch_size": 14}, {}),
    ("Cohere2VisionProcessor", {}, "Cohere2VisionImageProcessor", {"size": {"height": 28, "width": 28}, "max_patches": 4}, {"boi_token": "<BOI>", "eoi_token": "<EOI>", "image_token": "<I>", "img_line_break_token": "<LB>"}),
    ("AyaVisionProcessor", {"patch_size": 14, "img_size": 28, "downsample_factor": 1}, "GotOcr2ImageProcessor", {"size": {"height": 28, "width": 28}, "max_patches": 4}, {}),
    ("ChameleonProcessor", {"image_seq_length": 4}, "ChameleonImageProcessor", {"size": {"shortest_edge": 28}, "crop_size": 28}, {"image_token": "<image>"}),
    ("JanusProcessor", {"num_image_tokens": 4}, "JanusImageProcessor", {"size": {"height": 28, "width": 28}}, {"image_token": "<image_placeholder>", "boi_token": "<begin_of_image>", "eoi_token": "<end_of_image>"}),
    ("Llama4Processor", {"patch_size": 14, "pixel_shuffle_ratio": 0.5}, "Llama4ImageProcessor", {"size": {"height": 56, "width": 56}, "max_patches": 4}, {}),
    ("DeepseekVLProcessor", {"num_image_tokens": 4}, "DeepseekVLImageProcessor", {"size": {"height": 28, "width": 28}}, {"image_token": "<image_placeholder>"}),
    ("Exaone4_5_Processor", {}, "Qwen2VLImageProcessor", GRID, {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}),
    ("HyperCLOVAXVisionV2Processor", {}, "Qwen2VLImageProcessor", GRID, {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}),
    ("VideoLlama3Processor", {}, "VideoLlama3ImageProcessor", GRID, {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}),
    ("PaddleOCRVLProcessor", {}, "PaddleOCRVLImageProcessor", GRID, {"image_token": "<|image_pad|>"}),
    ("QianfanOCRProcessor", {"image_seq_length": 3}, "GotOcr2ImageProcessor", {"size": {"height": 28, "width": 28}, "max_patches": 4}, {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}),
    ("LightOnOcrProcessor", {"patch_size": 14, "spatial_merge_size": 2}, "PixtralImageProcessor", {"size": {"longest_edge": 112}, "patch_size": 14}, {"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]"}),
    ("Lfm2VlProcessor", {}, "Lfm2VlImageProcessor", LFM2, {}),
    ("Lfm2VlProcessor", {}, "Lfm2VlImageProcessor", LFM2 | {"use_thumbnail": False}, {}),
    ("AriaProcessor", {}, "AriaImageProcessor", {}, {"image_token": "<image>"}),
    ("AriaProcessor", {"size_conversion": {"980": 5}}, "AriaImageProcessor", {"max_image_size": 490, "split_image": True}, {"image_token": "<image>"}),
    ("Gemma4Processor", {}, "Gemma4ImageProcessor", {"max_soft_tokens": 70}, GEMMA4),
    ("Gemma4UnifiedProcessor", {}, "Gemma4UnifiedImageProcessor", {"max_soft_tokens": 70}, GEMMA4),
    ("Ovis2Processor", {"image_seq_length": 3}, "Ovis2ImageProcessor", {"size": {"height": 28, "width": 28}, "crop_to_patches": True, "max_patches": 4}, {}),
]
RECORDS = [[(97, 131)], [(30, 160)], [(150, 40), (60, 62)]]
TEXTS = [
    lambda token, n: "a " + " b ".join([token] * n) + " c?",
    lambda token, n: token * n + "What <s>?",
]
# The placeholder where the class has no name for it.
TOKENS = {"MllamaProcessor": "<|image|>", "PixtralProcessor": "[IMG]", "Llama4Processor": "<|image|>", "QianfanOCRProcessor": "<image>"}


def tokenizer(named):
    letters = pre_tokenizers.ByteLevel.alphabet()
    backend = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate(sorted(letters))}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", sep_token="<sep>", pad_token="<pad>", extra_special_tokens=named)
    extra = ["<image>", "<fake_token_around_image>", "<|image|>", "[IMG]", "[IMG_BREAK]", "[IMG_END]", "<|patch|>", "<|IMG_PATCH|>", "<global-img>", "<IMG_ATOM>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>"]
    made.add_tokens(extra, special_tokens=True)
    return made


class Anything:
    """Stands for a processor of videos or sounds that is not used."""


def processor(name, keys, images, settings, named):
    cls = getattr(transformers, name)
    prepare = getattr(transformers, images)(**settings)
    words = tokenizer(named)
    # Only what is of pictures and texts is looked at.
    cls.check_argument_for_proper_class = lambda self, *args: None
    arguments = {"image_processor": prepare, "tokenizer": words} | keys
    for absent in ("video_processor", "feature_extractor"):
        if absent in cls.__init__.__code__.co_varnames:
            arguments[absent] = Anything()
    return cls(**arguments), words


def main():
    lines = []
    for name, keys, images, settings, named in CASES:
        made, words = processor(name, keys, images, settings, named)
        token = TOKENS.get(name) or made.image_token
        for record in RECORDS:
            for text in TEXTS:
                text = text(token, len(record))
                seen = []
                kind = type(words)
                usual = kind.__call__

                def listening(self, text=None, *args, **kwargs):
                    seen.append(text)
                    return usual(self, text, *args, **kwargs)

                kind.__call__ = listening
                pictures = [Image.fromarray(drawn(*size).astype("uint8")) for size in record]
                case = {"class": name, "keys": keys, "images": settings | {"image_processor_type": images}, "named": named, "record": record, "text": text}
                try:
                    encoded = made(images=[pictures], text=[text], **({"return_tensors": "pt"} if name == "Ovis2Processor" else {}))
                    case["expanded"] = seen[-1][0]
                    kinds = encoded.get("mm_token_type_ids", encoded.get("token_type_ids") if name == "Gemma3Processor" else None)
                    if kinds is not None:
                        case["pictures"] = int(sum(kinds[0]))
                except Exception as error:
                    print(name, record, repr(error)[:300])
                    case["refused"] = True
                finally:
                    kind.__call__ = usual
                lines.append(json.dumps(case))
        print(name, flush=True)
    OUT.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
