//! How texts are divided before pairs are merged: the `pre` of a file names the model whose way that is.

use serde_json::{Value, json};

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pre {
    /// Divided by these, one after the other.
    patterns: &'static [&'static str],
    /// And then as GPT-2 does.
    gpt2: bool,
    /// A word that is a token is not merged from its parts.
    pub ignore_merges: bool,
    /// Texts begin with the token of the beginning where the file does not say.
    pub add_bos: bool,
}

const GPT2: Pre = Pre {
    patterns: &[],
    gpt2: true,
    ignore_merges: false,
    add_bos: false,
};

/// GPT-2's with every digit by itself.
const DIGITS: Pre = Pre {
    patterns: &[r"\p{N}"],
    ..GPT2
};

const fn by(patterns: &'static [&'static str]) -> Pre {
    Pre {
        patterns,
        gpt2: false,
        ..GPT2
    }
}

const LLAMA3_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN_PATTERN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O_PATTERN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3_PATTERN: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
/// Words in capitals and not, as GPT-4o has them, digits by themselves.
const YOUTU_PATTERN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const EAST_ASIAN: &str = r"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+";
const JAIS2_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}";
const MINICPM5_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING_PATTERN: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const SEED_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const EXAONE_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+";
/// Words in capitals and not, as GPT-4o has them, without Chinese ones.
const KIMI_PATTERN: &str = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const UFAKZEKA_PATTERN: &str =
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const SPARK_PATTERN: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"##;
/// Letters of scripts with two cases; some would be others if the text were normalised.
const DEEPSEEK_LETTERS: &str = r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\x{1f7d}ᾀ-ᾴᾶ-ᾼ\x{1fbe}ῂ-ῄῆ-ῌῐ-\x{1fd3}ῖ-\x{1fdb}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\x{2126}ℨ\x{212a}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
/// Scripts of East and South-East Asia.
const ASIAN: &str = r"[一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+";
/// Three digits at a time, counted from the end of a number.
const FROM_THE_END: &str = r"\p{N}{1,2}(?=(?:\p{N}{3})+(?!\p{N}))|\p{N}{1,3}";
/// Three digits at a time, counted from the end.
const THOUSANDS: &str = r"\d{1,3}(?=(?:\d{3})*\b)";
const LINES: &str = r"[^\n]+|[\n]+";
const CHINESE_AND_KANA: &str = r"[一-龥぀-ゟ゠-ヿ]+";
const BLOOM_PATTERN: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";

const LLAMA3: Pre = Pre {
    ignore_merges: true,
    add_bos: true,
    ..by(&[LLAMA3_PATTERN])
};
const QWEN2: Pre = by(&[QWEN2_PATTERN]);
const GPT4O: Pre = by(&[GPT4O_PATTERN]);

/// Names and what they stand for.
const NAMES: &[(&[&str], Pre)] = &[
    (
        &[
            "llama3",
            "llama-v3",
            "llama-bpe",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        LLAMA3,
    ),
    (
        &["glm4", "glm5"],
        Pre {
            add_bos: false,
            ..LLAMA3
        },
    ),
    (&["dbrx", "smaug-bpe", "chatglm-bpe"], by(&[LLAMA3_PATTERN])),
    (
        &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "megrez",
            "stablelm2",
            "hunyuan",
            "solar-open",
            "grok-2",
        ],
        QWEN2,
    ),
    (&["qwen35"], by(&[QWEN35_PATTERN])),
    (
        &["tekken"],
        Pre {
            ignore_merges: true,
            add_bos: true,
            ..by(&[TEKKEN_PATTERN])
        },
    ),
    (
        &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        GPT4O,
    ),
    (
        &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "gigachat",
            "jina-v2-es",
            "jina-v2-de",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "jina-v1-en",
            "jina-v2-code",
            "roberta-bpe",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
        ],
        GPT2,
    ),
    (
        &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        DIGITS,
    ),
    (
        &["falcon"],
        Pre {
            patterns: &[r"[\p{P}\$\+<=>\^~\|`]+"],
            ..GPT2
        },
    ),
    (
        &["deepseek-v3", "hunyuan-dense", "hy_v4", "joyai-llm"],
        by(&[r"\p{N}{1,3}", CHINESE_AND_KANA, DEEPSEEK3_PATTERN]),
    ),
    (
        &["deepseek-coder"],
        by(&[
            r"[\r\n]",
            r"\s?\p{L}+",
            r"\s?\p{P}+",
            r"[一-龥ࠀ-一가-퟿]+",
            r"\p{N}",
        ]),
    ),
    (
        &["bloom", "poro-chat", "gpt3-finnish"],
        by(&[BLOOM_PATTERN]),
    ),
    (&["viking"], by(&[BLOOM_PATTERN, r"\p{N}"])),
    (
        &["youtu"],
        Pre {
            ignore_merges: true,
            ..by(&[EAST_ASIAN, YOUTU_PATTERN])
        },
    ),
    (&["jais-2"], by(&[JAIS2_PATTERN])),
    (
        &["minicpm5"],
        Pre {
            ignore_merges: true,
            ..by(&[r"\p{N}{1,3}", MINICPM5_PATTERN])
        },
    ),
    (
        &["bailingmoe", "bailingmoe2", "llada-moe"],
        by(&[BAILING_PATTERN]),
    ),
    (&["seed-coder"], by(&[SEED_PATTERN])),
    (&["exaone-moe"], by(&[EXAONE_PATTERN])),
    (&["tiny_aya", "cohere2moe"], by(&[THOUSANDS, GPT4O_PATTERN])),
    (
        &["granite-embed-multi-97m"],
        Pre {
            ignore_merges: true,
            ..GPT4O
        },
    ),
    (&["kimi-k2"], by(&[KIMI_PATTERN])),
    (&["ufakzeka"], by(&[UFAKZEKA_PATTERN])),
    (&["superbpe"], by(&[r"\p{N}+", r"(?=(\d{3})+(?!\d))"])),
    (
        &["spark2_5"],
        by(&[r"\p{N}{1,3}", CHINESE_AND_KANA, SPARK_PATTERN, r"\p{N}"]),
    ),
    (
        &["deepseek-llm"],
        by(&[
            r"[\r\n]",
            DEEPSEEK_LETTERS,
            r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
            r"\s+$",
            r"[一-龥ࠀ-一가-퟿]+",
            r"\p{N}+",
        ]),
    ),
    (&["afmoe"], by(&[FROM_THE_END, ASIAN, DEEPSEEK3_PATTERN])),
    (&["laguna"], by(&[LINES, QWEN2_PATTERN])),
];

/// Three digits at a time, behind GPT-2's way (Falcon).
const THREE_DIGITS: &str = "[0-9][0-9][0-9]";

impl Pre {
    /// What a name stands for; `None`: it is not known.
    pub fn named(name: &str) -> Option<Self> {
        let known = NAMES.iter().find(|(names, _)| names.contains(&name));
        known.map(|(_, pre)| *pre)
    }

    /// The steps of a `tokenizer.json`.
    pub fn steps(self, name: &str) -> Value {
        let split = |pattern: &str| {
            json!({
                "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false
            })
        };
        let bytes = |divides: bool| {
            json!({
                "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": divides
            })
        };
        let mut steps: Vec<Value> = self.patterns.iter().map(|pattern| split(pattern)).collect();
        if name == "falcon" {
            // The bytes of a space hide it from nothing here: only digits are looked for.
            steps.push(bytes(true));
            steps.push(split(THREE_DIGITS));
        } else {
            steps.push(bytes(self.gpt2));
        }
        json!({"type": "Sequence", "pretokenizers": steps})
    }
}
