//! GGUF files: every type of blocks against the Python package `gguf`, and files that were made to mislead.

mod support;

use std::sync::Arc;

use proptest::prelude::*;
use sli_checkpoint::source::{LocalSource, MemorySource};
use sli_checkpoint::{ByteSource, Checkpoint, CheckpointError, Codes, Dtype, GgufError, GgufFiles};
use sli_spec::{Source, Split};
use support::made::{Made, list};
use support::{bind, leaf};

const FILE: &str = "model.gguf";

fn blocks() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gguf/blocks.gguf");
    fs_err::read(path).expect("a file of the project")
}

fn open_of(files: &[(&str, Vec<u8>)]) -> Result<Checkpoint, CheckpointError> {
    let mut source = MemorySource::new();
    for (name, bytes) in files {
        source = source.with(*name, bytes.clone());
    }
    Checkpoint::open_with(Box::new(source))
}

fn open(bytes: Vec<u8>) -> Result<Checkpoint, CheckpointError> {
    open_of(&[(FILE, bytes)])
}

fn declared(bytes: Vec<u8>) -> Arc<Checkpoint> {
    let mut checkpoint = open(bytes).expect("a sound file");
    checkpoint.declare(&Codes::default()).expect("known codes");
    Arc::new(checkpoint)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn every_type_decodes_as_the_reference_does() {
    let checkpoint = declared(blocks());
    let types: Vec<_> = checkpoint
        .tensors()
        .filter(|tensor| tensor.dtype.is_block())
        .map(|tensor| (tensor.name.to_string(), tensor.dtype))
        .collect();
    assert_eq!(
        types.len(),
        Dtype::all().filter(|dtype| dtype.is_block()).count()
    );
    for (name, dtype) in types {
        assert_eq!(name, dtype.name());
        let tensor = || Source::tensor(name.as_str());
        let shape = [3, 512];
        let [found, expected] = [tensor(), Source::tensor(format!("{name}.decoded"))]
            .map(|source| bind(&checkpoint, &leaf(source, &shape)).expect("bound"));
        let all = expected.read_all_f32().expect("read");
        assert_eq!(
            bits(&found.read_all_f32().expect("read")),
            bits(&all),
            "{name}"
        );
        assert_eq!(
            bits(&found.read_f32(0, 1..2).expect("read")),
            bits(&all[512..1024]),
            "{name}"
        );
        // Columns that begin and end within blocks.
        let turned = bind(&checkpoint, &leaf(tensor().transpose(), &[512, 3])).expect("bound");
        for rows in [7..50, 250..300, 511..512] {
            let some: Vec<f32> = rows
                .clone()
                .flat_map(|column| [0, 1, 2].map(|row| all[row * 512 + column]))
                .collect();
            assert_eq!(
                bits(&turned.read_f32(0, rows).expect("read")),
                bits(&some),
                "{name}"
            );
        }
        let part = tensor().part(Split::Rows(vec![1, 2]), 1);
        let part = bind(&checkpoint, &leaf(part, &[2, 512])).expect("bound");
        assert_eq!(
            bits(&part.read_all_f32().expect("read")),
            bits(&all[512..]),
            "{name}"
        );
        let mut rows = vec![0; 4 * 512 * 2];
        found.gather_rows(0, &[2, 0], &mut rows).expect("read");
        let wanted: Vec<u8> = [&all[1024..], &all[..512]]
            .concat()
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        assert_eq!(rows, wanted, "{name}");
    }
}

#[test]
fn tensors_of_several_types_are_read_side_by_side() {
    let checkpoint = declared(blocks());
    let both = Source::ConcatRows(vec![Source::tensor("Q4_K"), Source::tensor("Q6_K")]);
    let both = bind(&checkpoint, &leaf(both, &[6, 512])).expect("bound");
    let decoded = ["Q4_K.decoded", "Q6_K.decoded"].map(|name| {
        let bound = bind(&checkpoint, &leaf(Source::tensor(name), &[3, 512])).expect("bound");
        bound.read_all_f32().expect("read")
    });
    assert_eq!(
        bits(&both.read_all_f32().expect("read")),
        bits(&decoded.concat())
    );
}

fn small() -> Made {
    Made::new().tensor("a", &[8], 0, 0)
}

fn problem(file: Vec<u8>) -> GgufError {
    match open(file) {
        Err(error @ CheckpointError::Gguf { .. }) => {
            assert!(error.to_string().contains(FILE), "{error} names the file");
            assert!(!error.hint().is_empty() && !error.is_io());
            let CheckpointError::Gguf { problem, .. } = error else {
                unreachable!()
            };
            *problem
        }
        other => panic!("{other:?}"),
    }
}

macro_rules! refused {
    ($($name:ident: $file:expr => $expected:pat,)*) => {
        $(
            #[test]
            fn $name() {
                let problem = problem($file);
                assert!(matches!(problem, $expected), "{problem:?}");
            }
        )*
    };
}

/// Changes bytes of a sound file.
fn changed(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = small().file();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

refused! {
    nothing_at_all: Vec::new() => GgufError::Other { .. },
    web_page: b"<!DOCTYPE html>".to_vec() => GgufError::Other { .. },
    git_lfs_pointer: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n".to_vec() => GgufError::Other { .. },
    magic_alone: b"GGUF".to_vec() => GgufError::CutOff { .. },
    first_version: changed(4, &[1]) => GgufError::Version { version: 1 },
    unknown_version: changed(4, &[9]) => GgufError::Version { version: 9 },
    big_endian: changed(4, &[0, 0, 0, 3]) => GgufError::BigEndian,
    tensors_of_2_to_the_63: changed(8, &(1_u64 << 63).to_le_bytes()) => GgufError::TooMany { what: "tensors", .. },
    more_tensors_than_there_are: changed(8, &1000_u64.to_le_bytes()) => GgufError::CutOff { .. } | GgufError::TensorType { .. }
        | GgufError::DuplicateTensor { .. },
    keys_of_2_to_the_63: changed(16, &(1_u64 << 63).to_le_bytes()) => GgufError::TooMany { what: "keys", .. },
    long_key: Made::new().key("", 4, &[0; 4]).file().into_iter().enumerate()
        .map(|(at, byte)| if at == 31 { 0x7f } else { byte }).collect() => GgufError::CutOff { .. },
    key_not_utf8: { let mut file = Made::new().key("ab", 4, &[0; 4]).file(); file[32] = 0xff; file }
        => GgufError::NotUtf8 { .. },
    key_twice: Made::new().key("a", 4, &[0; 4]).key("a", 4, &[0; 4]).file() => GgufError::DuplicateKey { .. },
    unknown_type_of_value: Made::new().key("a", 13, &[0; 8]).file() => GgufError::ValueType { found: 13, .. },
    neither_yes_nor_no: Made::new().key("a", 7, &[2]).file() => GgufError::Key { .. },
    long_text: Made::new().key("a", 8, &u64::MAX.to_le_bytes()).file() => GgufError::CutOff { .. },
    list_of_2_to_the_60: Made::new().key("a", 9, &list(0, 1 << 60)).file() => GgufError::TooMany { .. },
    texts_of_2_to_the_60: Made::new().key("a", 9, &list(8, 1 << 60)).file() => GgufError::TooMany { .. },
    texts_that_go_on: Made::new().key("a", 9, &[list(8, 2), u64::MAX.to_le_bytes().to_vec()].concat()).file()
        => GgufError::CutOff { .. },
    list_of_lists: Made::new().key("a", 9, &list(9, 1)).file() => GgufError::Key { .. },
    list_of_unknown: Made::new().key("a", 9, &list(99, 1)).file() => GgufError::ValueType { found: 99, .. },
    five_axes: Made::new().tensor("a", &[1; 5], 0, 0).file() => GgufError::Tensor { .. },
    sides_without_end: Made::new().tensor("a", &[1 << 32, 1 << 32], 0, 0).file() => GgufError::Tensor { .. },
    bytes_without_end: Made::new().tensor("a", &[1 << 62], 28, 0).file() => GgufError::Tensor { .. },
    row_within_a_block: Made::new().tensor("a", &[31], 2, 0).file() => GgufError::Tensor { .. },
    scalar_of_blocks: Made::new().tensor("a", &[], 2, 0).file() => GgufError::Tensor { .. },
    unknown_type: Made::new().tensor("a", &[32], 4, 0).file() => GgufError::TensorType { found: 4, .. },
    tensor_twice: small().tensor("a", &[8], 0, 32).file() => GgufError::DuplicateTensor { .. },
    tensors_overlap: Made::new().tensor("a", &[16], 0, 0).tensor("b", &[8], 0, 32).file() => GgufError::Tensor { .. },
    tensor_off_its_place: Made::new().tensor("a", &[8], 0, 4).file() => GgufError::Tensor { .. },
    tensor_past_the_end: Made::new().tensor("a", &[8], 0, 64).file() => GgufError::Truncated { .. },
    offset_without_end: Made::new().tensor("a", &[8], 0, u64::MAX - 31).file() => GgufError::Tensor { .. } | GgufError::Truncated { .. },
    cut_off_in_the_data: { let mut file = blocks(); file.truncate(file.len() - 1); file } => GgufError::Truncated { .. },
}

#[test]
fn alignments_that_are_none() {
    for wrong in [0_u32, 3, 33] {
        let file = Made::new()
            .key("general.alignment", 4, &wrong.to_le_bytes())
            .file();
        assert!(matches!(problem(file), GgufError::Key { .. }), "{wrong}");
    }
    let file = Made::new().key("general.alignment", 4, &8_u32.to_le_bytes());
    open(file.file()).expect("sound");
}

#[test]
fn a_model_in_parts() {
    let part = |number: u16, tensor: &str| {
        Made::new()
            .key("split.no", 2, &number.to_le_bytes())
            .key("split.count", 2, &2_u16.to_le_bytes())
            .key("split.tensors.count", 5, &2_i32.to_le_bytes())
            .tensor(tensor, &[8], 0, 0)
            .file()
    };
    let names = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
    let files = [(names[0], part(0, "a")), (names[1], part(1, "b"))];
    let checkpoint = open_of(&files).expect("sound");
    assert_eq!(checkpoint.tensors().len(), 2);
    assert_eq!(checkpoint.files().len(), 2);
    let wrong = |files: &[(&str, Vec<u8>)], says: &str| {
        let error = open_of(files).expect_err("a part is wrong").to_string();
        assert!(error.contains(says), "{error}");
    };
    wrong(&files[..1], names[1]);
    wrong(&[files[0].clone(), (names[1], part(1, "a"))], "tensor `a`");
    wrong(
        &[("m-00001-of-00001.gguf", part(0, "a"))],
        "the file says 2",
    );
    wrong(
        &[
            files[0].clone(),
            files[1].clone(),
            ("other.gguf", small().file()),
        ],
        "one of several GGUF files",
    );
}

#[test]
fn other_weights_go_first() {
    let safetensors = support::safetensors(&[support::Tensor::counting("s", &[2])]);
    let files = [(FILE, small().file()), ("model.safetensors", safetensors)];
    let choice = open_of(&files)
        .expect("sound")
        .choice()
        .cloned()
        .expect("a folder");
    assert_eq!(
        (choice.taken.as_str(), &choice.left[..]),
        ("model.safetensors", &[FILE.to_owned()][..])
    );
}

/// `FUZZ_CASES` for a long run.
fn cases() -> u32 {
    let cases = std::env::var("FUZZ_CASES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(2000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    /// Whatever a file holds ends in tensors inside it or in an error.
    #[test]
    fn damaged_files(
        changes in prop::collection::vec((0..400_usize, any::<u8>()), 1..6),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let made = Made::new()
            .key("general.architecture", 8, &[&5_u64.to_le_bytes()[..], b"llama"].concat())
            .key("llama.block_count", 4, &1_u32.to_le_bytes())
            .key("tokens", 9, &[list(8, 2), 1_u64.to_le_bytes().to_vec(), b"a".to_vec(), vec![0; 8]].concat())
            .tensor("a", &[8], 0, 0)
            .tensor("b", &[32, 1], 2, 32);
        let mut file = made.file();
        for (at, byte) in changes {
            let at = at % file.len();
            file[at] = byte;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        let size = file.len() as u64;
        if let Ok(checkpoint) = open(file) {
            for tensor in checkpoint.tensors() {
                prop_assert!(tensor.offset + tensor.bytes <= size, "{tensor:?}");
            }
        }
    }
}

/// A file on disk with a tokenizer of these tokens: text, score, kind.
fn with_tokens(
    folder: &std::path::Path,
    model: &str,
    tokens: &[(&str, f32, i32)],
    more: Made,
) -> GgufFiles {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let count = tokens.len() as u64;
    let texts: Vec<u8> = tokens.iter().flat_map(|token| text(token.0)).collect();
    let scores: Vec<u8> = tokens
        .iter()
        .flat_map(|token| token.1.to_le_bytes())
        .collect();
    let kinds: Vec<u8> = tokens
        .iter()
        .flat_map(|token| token.2.to_le_bytes())
        .collect();
    let file = more
        .key("tokenizer.ggml.model", 8, &text(model))
        .key(
            "tokenizer.ggml.tokens",
            9,
            &[list(8, count), texts].concat(),
        )
        .key(
            "tokenizer.ggml.scores",
            9,
            &[list(6, count), scores].concat(),
        )
        .key(
            "tokenizer.ggml.token_type",
            9,
            &[list(5, count), kinds].concat(),
        )
        .key("tokenizer.chat_template", 8, &text("{{ messages }}"))
        .file();
    let path = folder.join(FILE);
    fs_err::write(&path, file).expect("written");
    let checkpoint = Checkpoint::open(&path).expect("sound");
    let metadata = checkpoint.metadata().cloned().expect("there");
    let source = Arc::new(LocalSource::new(folder));
    GgufFiles::new(source, FILE, metadata, "{}".to_owned())
}

fn content(files: &GgufFiles, name: &str) -> Vec<u8> {
    let mut content = vec![0; files.len(name).expect(name) as usize];
    files.read_at(name, 0, &mut content).expect("read");
    content
}

fn json(files: &GgufFiles, name: &str) -> serde_json::Value {
    serde_json::from_slice(&content(files, name)).expect("JSON")
}

#[test]
fn a_tokenizer_of_pairs_of_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let merges = [list(8, 1), 3_u64.to_le_bytes().to_vec(), b"a b".to_vec()].concat();
    let pre = [&6_u64.to_le_bytes()[..], b"smollm"].concat();
    let made = Made::new()
        .key("tokenizer.ggml.pre", 8, &pre)
        .key("tokenizer.ggml.merges", 9, &merges)
        .key("tokenizer.ggml.bos_token_id", 4, &3_u32.to_le_bytes())
        .key("tokenizer.ggml.add_bos_token", 7, &[1]);
    let tokens = [
        ("a", 0.0, 1),
        ("b", 0.0, 1),
        ("ab", 0.0, 1),
        ("<s>", 0.0, 3),
        ("<think>", 0.0, 4),
    ];
    let files = with_tokens(folder.path(), "gpt2", &tokens, made);
    let tokenizer = json(&files, "tokenizer.json");
    assert_eq!(tokenizer["model"]["vocab"]["ab"], 2);
    assert_eq!(tokenizer["model"]["merges"][0], "a b");
    assert_eq!(tokenizer["added_tokens"][0]["special"], true);
    assert_eq!(tokenizer["added_tokens"][1]["special"], false);
    assert_eq!(
        tokenizer["post_processor"]["single"][0]["SpecialToken"]["id"],
        "<s>"
    );
    assert_eq!(
        tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"],
        r"\p{N}"
    );
    let config = json(&files, "tokenizer_config.json");
    assert_eq!(config["chat_template"], "{{ messages }}");
    assert_eq!(config["bos_token"], "<s>");
    assert!(files.len("vocab.txt").is_err() && files.len("tokenizer.model").is_err());

    // Several templates have names.
    let tools = [&7_u64.to_le_bytes()[..], b"{{ t }}"].concat();
    let made = Made::new()
        .key(
            "tokenizer.ggml.pre",
            8,
            &[&6_u64.to_le_bytes()[..], b"smollm"].concat(),
        )
        .key("tokenizer.chat_template.tool_use", 8, &tools);
    let files = with_tokens(folder.path(), "gpt2", &tokens, made);
    let config = json(&files, "tokenizer_config.json");
    let templates = serde_json::json!([
        {"name": "default", "template": "{{ messages }}"}, {"name": "tool_use", "template": "{{ t }}"}
    ]);
    assert_eq!(config["chat_template"], templates);

    let pre = [&7_u64.to_le_bytes()[..], b"unknown"].concat();
    let made = Made::new().key("tokenizer.ggml.pre", 8, &pre);
    let files = with_tokens(folder.path(), "gpt2", &tokens, made);
    let error = files
        .len("tokenizer.json")
        .expect_err("not known")
        .to_string();
    assert!(error.contains("`unknown`"), "{error}");
}

#[test]
fn a_tokenizer_of_pairs_of_pieces() {
    let folder = tempfile::tempdir().expect("a folder");
    let merge = "\u{2581} a";
    let merges = [
        list(8, 1),
        (merge.len() as u64).to_le_bytes().to_vec(),
        merge.into(),
    ];
    let made = Made::new()
        .key("tokenizer.ggml.merges", 9, &merges.concat())
        .key("tokenizer.ggml.bos_token_id", 4, &1_u32.to_le_bytes());
    let tokens = [
        ("<unk>", 0.0, 2),
        ("<bos>", 0.0, 3),
        ("\u{2581}", 0.0, 1),
        ("a", 0.0, 1),
        ("\u{2581}a", 0.0, 1),
        ("<0x0A>", 0.0, 6),
    ];
    let files = with_tokens(folder.path(), "gemma4", &tokens, made);
    let tokenizer = json(&files, "tokenizer.json");
    assert_eq!(tokenizer["model"]["vocab"]["\u{2581}a"], 4);
    assert_eq!(tokenizer["model"]["unk_token"], "<unk>");
    assert_eq!(tokenizer["model"]["byte_fallback"], true);
    assert_eq!(tokenizer["normalizer"]["content"], "\u{2581}");
    let first = &tokenizer["post_processor"]["single"][0];
    assert_eq!(first["SpecialToken"]["id"], "<bos>");
    let config = json(&files, "tokenizer_config.json");
    assert_eq!(config["tokenizer_class"], "GemmaTokenizer");
}

#[test]
fn a_tokenizer_of_pieces() {
    let folder = tempfile::tempdir().expect("a folder");
    let tokens = [
        ("<unk>", 0.0, 2),
        ("<s>", 0.0, 3),
        ("\u{2581}a", -1.5, 1),
        ("<0x0A>", 0.0, 6),
        ("  ", -3.0, 4),
    ];
    let made = Made::new().key("tokenizer.ggml.bos_token_id", 4, &1_u32.to_le_bytes());
    let files = with_tokens(folder.path(), "llama", &tokens, made);
    let model = content(&files, "tokenizer.model");
    // The third piece: text, score, kind.
    let piece = [
        &b"\x0a\x04\xe2\x96\x81a\x15"[..],
        &(-1.5_f32).to_le_bytes(),
        b"\x18\x01",
    ]
    .concat();
    assert!(model.windows(piece.len()).any(|window| window == piece));
    // Blanks are spelled as marks.
    let marks = "\u{2581}\u{2581}".as_bytes();
    assert!(model.windows(marks.len()).any(|window| window == marks));
    let config = json(&files, "tokenizer_config.json");
    assert_eq!(config["tokenizer_class"], "LlamaTokenizer");
    assert_eq!(
        (
            config["add_bos_token"].as_bool(),
            config["add_eos_token"].as_bool()
        ),
        (Some(true), Some(false))
    );
}

#[test]
fn a_tokenizer_of_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let tokens = [
        ("[PAD]", 0.0, 3),
        ("\u{2581}the", 0.0, 1),
        ("ing", 0.0, 1),
        ("\u{2581}##", 0.0, 1),
    ];
    let files = with_tokens(folder.path(), "bert", &tokens, Made::new());
    assert_eq!(content(&files, "vocab.txt"), b"[PAD]\nthe\n##ing\n##\n");
    assert_eq!(json(&files, "tokenizer_config.json")["do_lower_case"], true);
    let cased = with_tokens(
        folder.path(),
        "bert",
        &[("\u{2581}The", 0.0, 1)],
        Made::new(),
    );
    assert_eq!(
        json(&cased, "tokenizer_config.json")["do_lower_case"],
        false
    );
}
