"""The cases of `records.py`: models that see, with the classes that prepare their records.

The model is the golden of the case's name. `token` is the model's token of a picture, of id 3; `placeholder` stands for a
picture in a text, and is that where nothing else is said. `further` are more tokens of texts, `named` those that the tokenizer gives a
name. `without` are records that the class refuses, `front` takes the place of the tokens in front of the picture's.
"""

PAD = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
GRID = {"patch_size": 4, "size": {"shortest_edge": 256, "longest_edge": 2048}}
IMAGE = {"image_token": "<image>"}
SQUARE = {"height": 16, "width": 16}
CROPPED = {"size": {"shortest_edge": 16}, "crop_size": SQUARE}
PINPOINTS = [[16, 32], [32, 16], [32, 32]]
FAKE = ["<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
TILES = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
PLANES = {"size": {"longest_edge": 32}, "patch_size": 4}


def qwen(processor, images="Qwen2VLImageProcessor", settings=GRID, **more):
    return {"processor": processor, "images": images, "settings": settings, "token": "<|image_pad|>", "further": ["<|video_pad|>"], "named": PAD} | more


def glm(processor, images):
    named = {"image_token": "<|image|>", "video_token": "<|video|>"}
    return {"processor": processor, "images": images, "settings": GRID, "token": "<|image|>", "further": ["<|video|>"], "named": named}


def llava(**more):
    keys = {"patch_size": 4, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return {"processor": "LlavaProcessor", "keys": keys, "images": "CLIPImageProcessor", "settings": CROPPED, "token": "<image>", "named": IMAGE} | more


def onevision(most):
    keys = {"num_image_tokens": 16, "vision_feature_select_strategy": "full", "vision_aspect_ratio": f"anyres_max_{most}"}
    settings = {"size": SQUARE, "image_grid_pinpoints": PINPOINTS if most > 1 else [[32, 32]]}
    return {"processor": "LlavaOnevisionProcessor", "keys": keys, "images": "LlavaOnevisionImageProcessor", "settings": settings, "token": "<image>", "further": ["<video>"], "named": IMAGE | {"video_token": "<video>"}}


def pixtral(**more):
    keys = {"patch_size": 4, "spatial_merge_size": 2}
    return {"processor": "PixtralProcessor", "keys": keys, "images": "PixtralImageProcessor", "settings": PLANES, "token": "[IMG]", "further": ["[IMG_BREAK]", "[IMG_END]"]} | more


def gemma4(classes, patch, **more):
    named = {"image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>", "audio_token": "<|audio|>", "boa_token": "<|audio>", "eoa_token": "<audio|>"}
    settings = {"patch_size": patch, "pooling_kernel_size": 2, "max_soft_tokens": 70}
    further = [token for token in named.values() if token != "<|image|>"] + ["<|video|>"]
    # The first numbers are of sounds and films.
    front = ["<0>", "<1>", "<2>"]
    return {"front": front, "processor": f"{classes}Processor", "images": f"{classes}ImageProcessor", "settings": settings, "token": "<|image|>", "further": further, "named": named} | more


CASES = {
    "llava": llava(keys={"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}, settings={"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}),
    "vipllava": llava(),
    "llava_next": llava(processor="LlavaNextProcessor", images="LlavaNextImageProcessor", settings=CROPPED | {"image_grid_pinpoints": PINPOINTS}),
    "llava_onevision": onevision(9),
    "llava_onevision-shrunk": onevision(1),
    "qwen2_vl": qwen("Qwen2VLProcessor"),
    "qwen2_5_vl": qwen("Qwen2_5_VLProcessor"),
    "qwen3_vl": qwen("Qwen3VLProcessor"),
    "qwen3_vl_moe": qwen("Qwen3VLProcessor"),
    "qwen3_5": qwen("Qwen3VLProcessor"),
    "qwen3_5_moe": qwen("Qwen3VLProcessor"),
    "exaone4_5": qwen("Exaone4_5_Processor"),
    "hyperclovax_vision_v2": qwen("HyperCLOVAXVisionV2Processor"),
    "glm4v": glm("Glm4vProcessor", "Glm4vImageProcessor"),
    "glm4v_moe": glm("Glm4vProcessor", "Glm4vImageProcessor"),
    "glm46v": glm("Glm46VProcessor", "Glm46VImageProcessor"),
    "internvl": {
        "processor": "InternVLProcessor", "keys": {"image_seq_length": 4}, "images": "GotOcr2ImageProcessor", "settings": {"size": SQUARE, "max_patches": 4},
        "token": "<IMG_CONTEXT>", "further": ["<img>", "</img>", "<video>"],
        "named": {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"},
    },
    "qianfan_ocr": {
        "processor": "QianfanOCRProcessor", "keys": {"image_seq_length": 4}, "images": "GotOcr2ImageProcessor", "settings": {"size": SQUARE, "max_patches": 4},
        "token": "<IMG_CONTEXT>", "placeholder": "<image>", "further": ["<img>", "</img>", "<image>"],
        "named": {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"},
    },
    # The picture stands in front of the text, and what is asked of it is the text.
    "blip-2": {"processor": "Blip2Processor", "keys": {"num_query_tokens": 5}, "images": "BlipImageProcessor", "settings": {"size": SQUARE}, "token": "<image>", "placeholder": "", "without": ["two", "none", "beside"]},
    "instructblip": {
        "processor": "InstructBlipProcessor", "keys": {"num_query_tokens": 4}, "images": "BlipImageProcessor", "settings": {"size": {"height": 8, "width": 8}}, "token": "<image>",
        "placeholder": "", "without": ["two", "none", "chat", "beside"],
    },
    # Texts have no place of the picture.
    "blip": {"processor": "BlipProcessor", "images": "BlipImageProcessor", "settings": {"size": SQUARE}, "token": "<image>", "without": ["two", "none", "beside"]},
    "idefics": {
        "processor": "IdeficsProcessor", "images": "IdeficsImageProcessor", "settings": {"image_size": 16}, "token": "<image>", "further": ["<fake_token_around_image>"],
    },
    "idefics2": {
        "processor": "Idefics2Processor", "keys": {"image_seq_len": 3}, "images": "Idefics2ImageProcessor",
        "settings": {"size": {"longest_edge": 20, "shortest_edge": 8}, "do_image_splitting": False}, "token": "<image>",
        "further": ["<fake_token_around_image>", "<end_of_utterance>"],
    },
    "idefics3": {
        "processor": "Idefics3Processor", "keys": {"image_seq_len": 4}, "images": "Idefics3ImageProcessor",
        "settings": {"size": {"longest_edge": 32}, "max_image_size": {"longest_edge": 16}}, "token": "<image>", "further": FAKE + TILES,
    },
    "smolvlm": {
        "processor": "SmolVLMProcessor", "keys": {"image_seq_len": 4}, "images": "SmolVLMImageProcessor",
        "settings": {"size": {"longest_edge": 32}, "max_image_size": {"longest_edge": 16}}, "token": "<image>", "further": FAKE + TILES, "named": IMAGE,
    },
    "paligemma": {"processor": "PaliGemmaProcessor", "images": "SiglipImageProcessor", "settings": {"size": SQUARE, "image_seq_length": 16}, "token": "<image>", "named": IMAGE, "without": ["none"]},
    "gemma3": {
        "processor": "Gemma3Processor", "keys": {"image_seq_length": 4}, "images": "Gemma3ImageProcessor", "settings": {"size": SQUARE}, "token": "<image_soft_token>",
        "placeholder": "<start_of_image>", "further": ["<start_of_image>", "<end_of_image>"],
        "named": {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"},
    },
    "gemma4-clipped": gemma4("Gemma4", 4),
    "gemma4_unified": gemma4("Gemma4Unified", 2, without=["tall", "wide"]),
    "mllama": {"processor": "MllamaProcessor", "images": "MllamaImageProcessor", "settings": {"size": SQUARE, "max_image_tiles": 2}, "token": "<|image|>"},
    "mistral3": pixtral(),
    "mistral_large4": pixtral(),
    "lighton_ocr": pixtral(processor="LightOnOcrProcessor", named={"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]"}, without=["tall", "wide"]),
    "aya_vision": {
        "processor": "AyaVisionProcessor", "keys": {"patch_size": 4, "img_size": 16, "downsample_factor": 2}, "images": "GotOcr2ImageProcessor", "settings": {"size": SQUARE, "max_patches": 4},
        "token": "<|IMG_PATCH|>", "placeholder": "<image>", "further": ["<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "TILE_GLOBAL", "TILE_1", "TILE_2", "TILE_3", "TILE_4"],
    },
    "cohere2_vision": {
        "processor": "Cohere2VisionProcessor", "images": "Cohere2VisionImageProcessor", "settings": {"size": SQUARE, "max_patches": 4, "patch_size": 2}, "token": "<I>",
        "further": ["<BOI>", "<EOI>", "<LB>"], "named": {"boi_token": "<BOI>", "eoi_token": "<EOI>", "image_token": "<I>", "img_line_break_token": "<LB>"},
    },
    "llama4": {
        "processor": "Llama4Processor", "keys": {"patch_size": 4, "pixel_shuffle_ratio": 0.5}, "images": "Llama4ImageProcessor", "settings": {"size": SQUARE, "max_patches": 4}, "token": "<|patch|>",
        "placeholder": "<|image|>", "further": ["<|image|>", "<|image_start|>", "<|image_end|>", "<|tile_x_separator|>", "<|tile_y_separator|>"],
    },
    "deepseek_vl": {"processor": "DeepseekVLProcessor", "keys": {"num_image_tokens": 16}, "images": "DeepseekVLImageProcessor", "settings": {"size": SQUARE, "min_size": 4}, "token": "<image_placeholder>", "named": {"image_token": "<image_placeholder>"}},
    "janus": {
        "processor": "JanusProcessor", "keys": {"num_image_tokens": 16}, "images": "JanusImageProcessor", "settings": {"size": SQUARE, "min_size": 4}, "token": "<image_placeholder>",
        "further": ["<begin_of_image>", "<end_of_image>"], "named": {"image_token": "<image_placeholder>", "boi_token": "<begin_of_image>", "eoi_token": "<end_of_image>"},
    },
    "lfm2_vl": {
        "processor": "Lfm2VlProcessor", "images": "Lfm2VlImageProcessor",
        "settings": {"encoder_patch_size": 4, "downsample_factor": 2, "tile_size": 16, "min_tiles": 2, "max_tiles": 4, "min_image_tokens": 2, "max_image_tokens": 8},
        "token": "<image>", "further": ["<|image_start|>", "<|img_thumbnail|>", "<|image_end|>"] + [f"<|img_row_{row}_col_{column}|>" for row in range(1, 5) for column in range(1, 5)], "named": IMAGE,
    },
    "video_llama_3": qwen("VideoLlama3Processor", "VideoLlama3ImageProcessor", GRID | {"merge_size": 1}),
    "paddleocr_vl": qwen("PaddleOCRVLProcessor", "PaddleOCRVLImageProcessor"),
    "kimi_k25": {"processor": "Kimi_K25Processor", "images": "Kimi_K25ImageProcessor", "settings": {"patch_size": 4, "max_patches": 64}, "token": "<|media_pad|>", "named": {"image_token": "<|media_pad|>"}},
}
