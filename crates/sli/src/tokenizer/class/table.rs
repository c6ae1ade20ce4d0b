//! The table: a row a class.

use super::parts::{
    albert_normalizer, always_marked, always_marked_words, bert_normalizer, bert_words,
    big_bird_normalizer, byte_level, characters, characters_and_spaces, clip_normalizer,
    clip_words, cohere_words, deberta_v2_normalizer, deberta_v2_words, first_marked,
    funnel_normalizer, gemma_normalizer, gemma_words, herbert_normalizer, lines_and_spaces,
    llama_words, lower_case_always, marked, marked_words, nfc, nfkc, none, nougat_words,
    openai_normalizer, pegasus_normalizer, qwen2_words, qwen3_5_words, rembert_normalizer,
    seamless_normalizer, single_spaces, tipsv2_normalizer, xlnet_normalizer,
};
use super::{Class, Model, Setting, Token, Unknown};
use crate::tokenizer::build::finish;

const fn token(name: &'static str, default: &'static str) -> Token {
    Token {
        name,
        default: Some(default),
        lstrip: false,
    }
}

const fn absent(name: &'static str) -> Token {
    Token {
        name,
        default: None,
        lstrip: false,
    }
}

/// A token that takes the space before it.
const fn wide(name: &'static str, default: &'static str) -> Token {
    Token {
        name,
        default: Some(default),
        lstrip: true,
    }
}

const fn setting(key: &'static str, default: &'static str, part: &'static str) -> Setting {
    Setting { key, default, part }
}

const VOCAB_JSON: Option<&str> = Some("vocab.json");
const MERGES: Option<&str> = Some("merges.txt");
const VOCAB_TXT: Option<&str> = Some("vocab.txt");
const TOKENIZER_MODEL: Option<&str> = Some("tokenizer.model");
const SPIECE: Option<&str> = Some("spiece.model");
const SENTENCEPIECE: Option<&str> = Some("sentencepiece.bpe.model");

/// Bytes or characters that are merged; the unknown token is not known to the model.
const PLAIN: Model = Model::Bpe {
    unknown: false,
    suffix: "",
    fuse: false,
    bytes: false,
};
const WORDS: Model = Model::Bpe {
    unknown: true,
    suffix: "</w>",
    fuse: false,
    bytes: false,
};
const PIECES: Model = Model::Bpe {
    unknown: true,
    suffix: "",
    fuse: true,
    bytes: false,
};
const PIECES_AND_BYTES: Model = Model::Bpe {
    unknown: true,
    suffix: "",
    fuse: true,
    bytes: true,
};
const LLAMA: Model = Model::Bpe {
    unknown: false,
    suffix: "",
    fuse: true,
    bytes: true,
};

const BERT_TOKENS: &[Token] = &[
    token("unk_token", "[UNK]"),
    token("sep_token", "[SEP]"),
    token("pad_token", "[PAD]"),
    token("cls_token", "[CLS]"),
    token("mask_token", "[MASK]"),
];
const GPT2_TOKENS: &[Token] = &[
    token("unk_token", "<|endoftext|>"),
    token("bos_token", "<|endoftext|>"),
    token("eos_token", "<|endoftext|>"),
    absent("pad_token"),
];
const QWEN_TOKENS: &[Token] = &[
    token("unk_token", "<|endoftext|>"),
    absent("bos_token"),
    token("eos_token", "<|endoftext|>"),
    token("pad_token", "<|endoftext|>"),
];
const ROBERTA_TOKENS: &[Token] = &[
    token("bos_token", "<s>"),
    token("eos_token", "</s>"),
    token("sep_token", "</s>"),
    token("cls_token", "<s>"),
    token("unk_token", "<unk>"),
    token("pad_token", "<pad>"),
    token("mask_token", "<mask>"),
];
/// RoBERTa's with a mask that takes the space before it.
const MASK_TOKENS: &[Token] = &[
    token("bos_token", "<s>"),
    token("eos_token", "</s>"),
    token("sep_token", "</s>"),
    token("cls_token", "<s>"),
    token("unk_token", "<unk>"),
    token("pad_token", "<pad>"),
    wide("mask_token", "<mask>"),
];
/// RoBERTa's without a mask.
const UNMASKED_TOKENS: &[Token] = &[
    token("bos_token", "<s>"),
    token("eos_token", "</s>"),
    token("sep_token", "</s>"),
    token("cls_token", "<s>"),
    token("unk_token", "<unk>"),
    token("pad_token", "<pad>"),
];
const GEMMA_TOKENS: &[Token] = &[
    token("unk_token", "<unk>"),
    token("bos_token", "<bos>"),
    token("eos_token", "<eos>"),
    token("pad_token", "<pad>"),
    token("mask_token", "<mask>"),
];
const ALBERT_TOKENS: &[Token] = &[
    token("bos_token", "[CLS]"),
    token("eos_token", "[SEP]"),
    token("sep_token", "[SEP]"),
    token("cls_token", "[CLS]"),
    token("unk_token", "<unk>"),
    token("pad_token", "<pad>"),
    token("mask_token", "[MASK]"),
];
const T5_TOKENS: &[Token] = &[
    token("eos_token", "</s>"),
    token("unk_token", "<unk>"),
    token("pad_token", "<pad>"),
];

const LOWER: Setting = setting("do_lower_case", "true", "normalizer");
const CASED: Setting = setting("do_lower_case", "false", "normalizer");
const ACCENTS: Setting = setting("strip_accents", "null", "normalizer");
const CHINESE: Setting = setting("tokenize_chinese_chars", "true", "normalizer");
const NO_PREFIX: Setting = setting("add_prefix_space", "false", "pre-tokenizer");
const PREFIX: Setting = setting("add_prefix_space", "true", "pre-tokenizer");
const MAYBE_PREFIX: Setting = setting("add_prefix_space", "null", "pre-tokenizer");
const TRIM: Setting = setting("trim_offsets", "true", "post-processor (offsets only)");
const EXTRA_IDS: Setting = setting("extra_ids", "100", "added tokens");
const BERT_SETTINGS: &[Setting] = &[LOWER, ACCENTS, CHINESE];

/// A row that others are variations of.
const GPT2: Class = Class {
    name: "GPT2Tokenizer",
    vocabulary: VOCAB_JSON,
    merges: MERGES,
    tokens: GPT2_TOKENS,
    settings: &[NO_PREFIX],
    model: PLAIN,
    normalizer: none,
    pre_tokenizer: byte_level,
    entries: None,
    before: None,
    extra: None,
    finish: None,
    post_processor: "the file's",
};
const BERT: Class = Class {
    name: "BertTokenizer",
    vocabulary: VOCAB_TXT,
    merges: None,
    tokens: BERT_TOKENS,
    settings: BERT_SETTINGS,
    model: Model::WordPiece,
    normalizer: bert_normalizer,
    pre_tokenizer: bert_words,
    finish: Some(finish::bert),
    post_processor: "[CLS] A [SEP] (B [SEP])",
    ..GPT2
};
const DPR: Class = Class {
    settings: &[ACCENTS, CHINESE],
    normalizer: lower_case_always,
    ..BERT
};
const LLAMA_ROW: Class = Class {
    name: "LlamaTokenizer",
    vocabulary: TOKENIZER_MODEL,
    merges: None,
    tokens: &[
        token("unk_token", "<unk>"),
        token("bos_token", "<s>"),
        token("eos_token", "</s>"),
    ],
    settings: &[MAYBE_PREFIX, setting("legacy", "false", "pre-tokenizer")],
    model: LLAMA,
    pre_tokenizer: llama_words,
    ..GPT2
};
const GEMMA: Class = Class {
    name: "GemmaTokenizer",
    vocabulary: None,
    merges: None,
    tokens: GEMMA_TOKENS,
    settings: &[],
    model: PIECES_AND_BYTES,
    normalizer: gemma_normalizer,
    pre_tokenizer: gemma_words,
    ..GPT2
};
const XLM_ROBERTA: Class = Class {
    name: "XLMRobertaTokenizer",
    vocabulary: SENTENCEPIECE,
    merges: None,
    tokens: ROBERTA_TOKENS,
    settings: &[PREFIX],
    model: Model::Unigram(Unknown::Id(3)),
    normalizer: characters,
    pre_tokenizer: marked_words,
    finish: Some(finish::xlm_roberta),
    post_processor: "<s> A </s> (</s> B </s>)",
    ..GPT2
};
const ALBERT: Class = Class {
    name: "AlbertTokenizer",
    vocabulary: SPIECE,
    tokens: ALBERT_TOKENS,
    settings: &[
        LOWER,
        setting("keep_accents", "false", "normalizer"),
        PREFIX,
    ],
    model: Model::Unigram(Unknown::Id(1)),
    normalizer: albert_normalizer,
    before: Some(finish::albert_before),
    finish: None,
    post_processor: "the file's; without one, [CLS] A [SEP] (B [SEP])",
    ..XLM_ROBERTA
};
const T5: Class = Class {
    name: "T5Tokenizer",
    vocabulary: SPIECE,
    tokens: T5_TOKENS,
    settings: &[EXTRA_IDS],
    model: Model::Unigram(Unknown::Id(2)),
    pre_tokenizer: always_marked_words,
    extra: Some(finish::extra_ids),
    finish: Some(finish::t5),
    post_processor: "A </s> (B </s>)",
    ..XLM_ROBERTA
};

/// The classes of transformers 5.23 that build their pipeline.
pub static CLASSES: &[Class] = &[
    ALBERT,
    Class {
        name: "BarthezTokenizer",
        tokens: MASK_TOKENS,
        normalizer: lines_and_spaces,
        pre_tokenizer: marked,
        finish: None,
        post_processor: "the file's",
        ..XLM_ROBERTA
    },
    BERT,
    Class {
        name: "BigBirdTokenizer",
        vocabulary: SPIECE,
        tokens: &[
            token("bos_token", "<s>"),
            token("eos_token", "</s>"),
            token("unk_token", "<unk>"),
            token("pad_token", "<pad>"),
            wide("mask_token", "[MASK]"),
            token("cls_token", "[CLS]"),
            token("sep_token", "[SEP]"),
        ],
        model: Model::Unigram(Unknown::ScoreZeroOr(100)),
        normalizer: big_bird_normalizer,
        pre_tokenizer: marked,
        finish: Some(finish::big_bird),
        post_processor: "[CLS] A [SEP] (B [SEP])",
        ..XLM_ROBERTA
    },
    Class {
        name: "BlenderbotTokenizer",
        tokens: MASK_TOKENS,
        settings: &[PREFIX],
        ..GPT2
    },
    Class {
        name: "CLIPTokenizer",
        tokens: &[
            token("unk_token", "<|endoftext|>"),
            token("bos_token", "<|startoftext|>"),
            token("eos_token", "<|endoftext|>"),
            token("pad_token", "<|endoftext|>"),
        ],
        settings: &[],
        model: WORDS,
        normalizer: clip_normalizer,
        pre_tokenizer: clip_words,
        finish: Some(finish::clip),
        post_processor: "<|startoftext|> A <|endoftext|> (<|endoftext|> B <|endoftext|>)",
        ..GPT2
    },
    Class {
        name: "CamembertTokenizer",
        tokens: MASK_TOKENS,
        model: Model::Unigram(Unknown::EntryOr(0)),
        extra: Some(finish::camembert_extra),
        ..XLM_ROBERTA
    },
    Class {
        name: "CodeGenTokenizer",
        settings: &[
            NO_PREFIX,
            setting("return_token_type_ids", "false", "token types"),
        ],
        before: Some(finish::codegen_before),
        ..GPT2
    },
    Class {
        name: "CodeLlamaTokenizer",
        tokens: &[
            token("unk_token", "<unk>"),
            token("bos_token", "<s>"),
            token("eos_token", "</s>"),
            token("prefix_token", "▁<PRE>"),
            token("middle_token", "▁<MID>"),
            token("suffix_token", "▁<SUF>"),
            token("eot_token", "▁<EOT>"),
            token("fill_token", "<FILL_ME>"),
        ],
        settings: &[MAYBE_PREFIX],
        model: PIECES_AND_BYTES,
        extra: Some(finish::code_llama_extra),
        post_processor: "<s> A (<s> B)",
        ..LLAMA_ROW
    },
    Class {
        name: "CohereTokenizer",
        tokens: &[
            token("unk_token", "<UNK>"),
            token("bos_token", "<BOS_TOKEN>"),
            token("eos_token", "<|END_OF_TURN_TOKEN|>"),
            token("pad_token", "<PAD>"),
            token("cls_token", "<CLS>"),
            token("sep_token", "<SEP>"),
            token("mask_token", "<MASK_TOKEN>"),
        ],
        normalizer: nfc,
        pre_tokenizer: cohere_words,
        finish: Some(finish::add_all),
        ..GPT2
    },
    Class {
        name: "DPRContextEncoderTokenizer",
        ..DPR
    },
    Class {
        name: "DPRQuestionEncoderTokenizer",
        ..DPR
    },
    Class {
        name: "DPRReaderTokenizer",
        ..DPR
    },
    Class {
        name: "DebertaTokenizer",
        tokens: &[
            token("bos_token", "[CLS]"),
            token("eos_token", "[SEP]"),
            token("unk_token", "[UNK]"),
            token("sep_token", "[SEP]"),
            token("cls_token", "[CLS]"),
            token("pad_token", "[PAD]"),
            token("mask_token", "[MASK]"),
        ],
        finish: Some(finish::deberta),
        post_processor: "[CLS] A [SEP] ([SEP] B [SEP])",
        ..GPT2
    },
    Class {
        name: "DebertaV2Tokenizer",
        vocabulary: Some("spm.model"),
        tokens: &[
            token("bos_token", "[CLS]"),
            token("eos_token", "[SEP]"),
            token("unk_token", "[UNK]"),
            token("sep_token", "[SEP]"),
            token("cls_token", "[CLS]"),
            token("pad_token", "[PAD]"),
            token("mask_token", "[MASK]"),
        ],
        settings: &[
            CASED,
            setting("split_by_punct", "false", "pre-tokenizer"),
            PREFIX,
            setting("unk_id", "1", "model"),
        ],
        model: Model::Unigram(Unknown::ScoreZeroOrSetting),
        normalizer: deberta_v2_normalizer,
        pre_tokenizer: deberta_v2_words,
        finish: Some(finish::deberta_v2),
        post_processor: "[CLS] A [SEP] (B [SEP])",
        ..XLM_ROBERTA
    },
    Class {
        name: "DistilBertTokenizer",
        ..BERT
    },
    Class {
        name: "FunnelTokenizer",
        tokens: &[
            token("unk_token", "<unk>"),
            token("sep_token", "<sep>"),
            token("pad_token", "<pad>"),
            token("cls_token", "<cls>"),
            token("mask_token", "<mask>"),
            token("bos_token", "<s>"),
            token("eos_token", "</s>"),
        ],
        settings: &[
            LOWER,
            ACCENTS,
            CHINESE,
            setting("clean_text", "true", "normalizer"),
        ],
        normalizer: funnel_normalizer,
        finish: Some(finish::funnel),
        post_processor: "<cls> A <sep> (B <sep>), <cls> of type 2",
        ..BERT
    },
    GPT2,
    Class {
        name: "GPTNeoXTokenizer",
        tokens: &[
            token("unk_token", "<|endoftext|>"),
            token("bos_token", "<|endoftext|>"),
            token("eos_token", "<|endoftext|>"),
            token("pad_token", "<|padding|>"),
        ],
        settings: &[NO_PREFIX, TRIM],
        normalizer: nfc,
        finish: Some(finish::by_settings),
        post_processor: "A (B); beside vocab.json, with `add_bos_token` and `add_eos_token`",
        ..GPT2
    },
    GEMMA,
    Class {
        name: "HerbertTokenizer",
        tokens: &[
            token("cls_token", "<s>"),
            token("unk_token", "<unk>"),
            token("pad_token", "<pad>"),
            token("mask_token", "<mask>"),
            token("sep_token", "</s>"),
        ],
        settings: &[],
        model: WORDS,
        normalizer: herbert_normalizer,
        pre_tokenizer: bert_words,
        finish: Some(finish::herbert),
        post_processor: "<s> A </s> (B </s>), by the ids 0 and 2",
        ..GPT2
    },
    Class {
        name: "LasrTokenizer",
        model: Model::Unigram(Unknown::Id(3)),
        ..T5
    },
    LLAMA_ROW,
    Class {
        name: "MBart50Tokenizer",
        tokens: &[
            token("eos_token", "</s>"),
            token("sep_token", "</s>"),
            token("cls_token", "<s>"),
            token("unk_token", "<unk>"),
            token("pad_token", "<pad>"),
            wide("mask_token", "<mask>"),
        ],
        settings: &[
            setting("src_lang", "\"en_XX\"", "post-processor"),
            setting("tgt_lang", "null", "post-processor of labels"),
        ],
        normalizer: single_spaces,
        pre_tokenizer: always_marked,
        entries: Some(finish::mbart50_entries),
        extra: Some(finish::mbart50_extra),
        finish: Some(finish::mbart50),
        post_processor: "language A (B) </s>",
        ..XLM_ROBERTA
    },
    Class {
        name: "MBartTokenizer",
        tokens: MASK_TOKENS,
        settings: &[
            setting("src_lang", "\"en_XX\"", "post-processor"),
            setting("tgt_lang", "null", "post-processor of labels"),
        ],
        normalizer: none,
        pre_tokenizer: always_marked_words,
        extra: Some(finish::mbart_extra),
        finish: Some(finish::mbart),
        post_processor: "A (B) </s> language",
        ..XLM_ROBERTA
    },
    Class {
        name: "MPNetTokenizer",
        tokens: &[
            token("bos_token", "<s>"),
            token("eos_token", "</s>"),
            token("sep_token", "</s>"),
            token("cls_token", "<s>"),
            token("unk_token", "[UNK]"),
            token("pad_token", "<pad>"),
            wide("mask_token", "<mask>"),
        ],
        finish: Some(finish::mpnet),
        post_processor: "<s> A </s> (</s> B </s>)",
        ..BERT
    },
    Class {
        name: "NllbTokenizer",
        tokens: MASK_TOKENS,
        settings: &[
            setting("src_lang", "\"eng_Latn\"", "post-processor"),
            setting("tgt_lang", "null", "post-processor of labels"),
            setting("legacy_behaviour", "false", "post-processor"),
        ],
        model: PIECES,
        normalizer: characters_and_spaces,
        pre_tokenizer: always_marked,
        extra: Some(finish::nllb_extra),
        finish: Some(finish::nllb),
        post_processor: "language A (B) </s>; legacy: A (B) </s> language",
        ..XLM_ROBERTA
    },
    Class {
        name: "NougatTokenizer",
        tokens: &[
            token("unk_token", "<unk>"),
            token("bos_token", "<s>"),
            token("eos_token", "</s>"),
            token("pad_token", "<pad>"),
        ],
        settings: &[],
        normalizer: nfkc,
        pre_tokenizer: nougat_words,
        finish: Some(finish::nougat),
        post_processor: "<s> A </s> (pairs: A B)",
        ..GPT2
    },
    Class {
        name: "OpenAIGPTTokenizer",
        tokens: &[token("unk_token", "<unk>")],
        settings: &[],
        model: WORDS,
        normalizer: openai_normalizer,
        pre_tokenizer: bert_words,
        ..GPT2
    },
    Class {
        name: "PegasusTokenizer",
        vocabulary: SPIECE,
        tokens: &[
            token("pad_token", "<pad>"),
            token("eos_token", "</s>"),
            token("unk_token", "<unk>"),
            token("mask_token", "<mask_2>"),
        ],
        settings: &[
            setting("mask_token_sent", "\"<mask_1>\"", "added tokens"),
            setting("offset", "103", "added tokens"),
        ],
        model: Model::Unigram(Unknown::ScoreZeroAfterFirst),
        normalizer: pegasus_normalizer,
        pre_tokenizer: always_marked,
        extra: Some(finish::pegasus_extra),
        finish: Some(finish::pegasus),
        post_processor: "A (B) </s>",
        ..XLM_ROBERTA
    },
    Class {
        name: "Qwen2Tokenizer",
        tokens: QWEN_TOKENS,
        settings: &[MAYBE_PREFIX],
        normalizer: nfc,
        pre_tokenizer: qwen2_words,
        finish: Some(finish::qwen2),
        ..GPT2
    },
    Class {
        name: "Qwen3_5Tokenizer",
        vocabulary: TOKENIZER_MODEL,
        merges: None,
        tokens: QWEN_TOKENS,
        settings: &[MAYBE_PREFIX],
        normalizer: nfc,
        pre_tokenizer: qwen3_5_words,
        ..GPT2
    },
    Class {
        name: "ReformerTokenizer",
        vocabulary: SPIECE,
        merges: None,
        tokens: &[token("eos_token", "</s>"), token("unk_token", "<unk>")],
        settings: &[],
        model: PIECES,
        normalizer: characters_and_spaces,
        pre_tokenizer: always_marked,
        finish: Some(finish::add_all),
        ..GPT2
    },
    Class {
        name: "RemBertTokenizer",
        vocabulary: Some("sentencepiece.model"),
        tokens: ALBERT_TOKENS,
        settings: &[CASED, setting("keep_accents", "true", "normalizer"), PREFIX],
        model: Model::Unigram(Unknown::Id(2)),
        normalizer: rembert_normalizer,
        pre_tokenizer: marked,
        finish: Some(finish::rembert),
        post_processor: "[CLS] A [SEP] (B [SEP]); without one in the file, A (B)",
        ..XLM_ROBERTA
    },
    Class {
        name: "RobertaTokenizer",
        tokens: ROBERTA_TOKENS,
        settings: &[NO_PREFIX, TRIM],
        finish: Some(finish::roberta),
        post_processor: "<s> A </s> (</s> B </s>)",
        ..GPT2
    },
    Class {
        name: "SeamlessM4TTokenizer",
        vocabulary: SENTENCEPIECE,
        merges: None,
        tokens: UNMASKED_TOKENS,
        settings: &[
            setting("src_lang", "\"eng\"", "post-processor"),
            setting("tgt_lang", "\"fra\"", "post-processor of labels"),
        ],
        model: PIECES,
        normalizer: seamless_normalizer,
        pre_tokenizer: first_marked,
        finish: Some(finish::seamless),
        post_processor: "language A (B) </s>",
        ..GPT2
    },
    Class {
        name: "Siglip2Tokenizer",
        normalizer: gemma_normalizer,
        finish: Some(finish::siglip2),
        ..GEMMA
    },
    Class {
        name: "SplinterTokenizer",
        tokens: &[
            token("unk_token", "[UNK]"),
            token("sep_token", "[SEP]"),
            token("pad_token", "[PAD]"),
            token("cls_token", "[CLS]"),
            token("mask_token", "[MASK]"),
            token("question_token", "[QUESTION]"),
        ],
        finish: Some(finish::splinter),
        post_processor: "[CLS] A [SEP] (pairs: with [QUESTION] . )",
        ..BERT
    },
    T5,
    Class {
        name: "Tipsv2Tokenizer",
        vocabulary: TOKENIZER_MODEL,
        merges: None,
        tokens: &[
            token("unk_token", "<unk>"),
            token("pad_token", "<pad>"),
            absent("bos_token"),
            absent("eos_token"),
        ],
        settings: &[LOWER],
        model: LLAMA,
        normalizer: tipsv2_normalizer,
        pre_tokenizer: always_marked_words,
        ..GPT2
    },
    Class {
        name: "VideoPrismTokenizer",
        finish: None,
        post_processor: "the file's",
        ..T5
    },
    Class {
        name: "WhisperTokenizer",
        settings: &[
            NO_PREFIX,
            setting("language", "null", "post-processor"),
            setting("task", "null", "post-processor"),
            setting("predict_timestamps", "false", "post-processor"),
        ],
        finish: Some(finish::whisper),
        post_processor: "start language task no-timestamps A (B) end",
        ..GPT2
    },
    Class {
        name: "XGLMTokenizer",
        vocabulary: None,
        tokens: UNMASKED_TOKENS,
        normalizer: single_spaces,
        pre_tokenizer: marked,
        extra: Some(finish::xglm_extra),
        finish: Some(finish::xglm),
        post_processor: "</s> A (</s> </s> B)",
        ..XLM_ROBERTA
    },
    XLM_ROBERTA,
    Class {
        name: "XLNetTokenizer",
        vocabulary: SPIECE,
        tokens: &[
            token("bos_token", "<s>"),
            token("eos_token", "</s>"),
            token("unk_token", "<unk>"),
            token("sep_token", "<sep>"),
            token("pad_token", "<pad>"),
            token("cls_token", "<cls>"),
            wide("mask_token", "<mask>"),
        ],
        settings: &[CASED, setting("unk_id", "0", "model")],
        model: Model::Unigram(Unknown::Setting),
        normalizer: xlnet_normalizer,
        pre_tokenizer: always_marked_words,
        extra: Some(finish::xlnet_extra),
        finish: Some(finish::xlnet),
        post_processor: "A <sep> (B <sep>) <cls>, <cls> of type 2",
        ..XLM_ROBERTA
    },
];

/// Classes that build something else, and why they are refused.
pub static REFUSED: &[(&str, &str)] = &[
    ("EsmcTokenizer", "it has a vocabulary of its own"),
    ("LayoutLMv2Tokenizer", "it reads words with boxes"),
    ("LayoutLMv3Tokenizer", "it reads words with boxes"),
    ("LayoutXLMTokenizer", "it reads words with boxes"),
    ("LukeTokenizer", "it reads entities"),
    ("MLukeTokenizer", "it reads entities"),
    ("MarkupLMTokenizer", "it reads nodes of pages"),
    (
        "RoFormerTokenizer",
        "it splits Chinese words with a dictionary of its own",
    ),
    ("UdopTokenizer", "it reads words with boxes"),
];

impl Class {
    /// The row of a class that builds its pipeline.
    pub fn find(name: &str) -> Option<&'static Self> {
        CLASSES.iter().find(|class| class.name == name)
    }
}
