//! What is read: kinds of files with sound ones to begin with.

use std::collections::BTreeMap;

use serde_json::Value;
use sli_checkpoint::source::MemorySource;
use sli_checkpoint::{Checkpoint, CheckpointError};
use sli_spec::gguf::{self, Stored};

use crate::support::made::{Made, archive, list, pickled, pickled_tensor};

/// A kind of file.
pub struct Kind {
    pub name: &'static str,
    /// How many of a round are of it: what is slow has fewer.
    pub turns: usize,
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// What tensors and keys there are, or what the error says.
    pub read: fn(&[u8]) -> Result<String, String>,
}

pub const KINDS: &[Kind] = &[
    Kind {
        name: "GGUF",
        turns: 16,
        seeds: gguf_files,
        read: |file| open("model.gguf", file.to_vec()).map(|checkpoint| shape(&checkpoint)),
    },
    Kind {
        name: "GGUF, described",
        turns: 1,
        seeds: || vec![llama()],
        read: described,
    },
    Kind {
        name: "pickles",
        turns: 16,
        seeds: pickles,
        // In an archive that is sound.
        read: |pickle| open("model.bin", pickled(pickle)).map(|checkpoint| shape(&checkpoint)),
    },
    Kind {
        name: "archives",
        turns: 16,
        seeds: archives,
        read: |file| open("model.bin", file.to_vec()).map(|checkpoint| shape(&checkpoint)),
    },
    Kind {
        name: "torch's older",
        turns: 2,
        seeds: || vec![stored("legacy.bin")],
        read: |file| open("model.bin", file.to_vec()).map(|checkpoint| shape(&checkpoint)),
    },
];

fn open(name: &str, file: Vec<u8>) -> Result<Checkpoint, String> {
    let size = file.len() as u64;
    let source = MemorySource::new().with(name, file);
    match Checkpoint::open_file(Box::new(source), name) {
        Ok(checkpoint) => {
            for tensor in checkpoint.tensors() {
                let end = tensor.offset.checked_add(tensor.bytes);
                assert!(end.is_some_and(|end| end <= size), "{tensor:?}");
            }
            Ok(checkpoint)
        }
        Err(error) => {
            assert!(!error.hint().is_empty() && !error.is_io(), "{error}");
            Err(match error {
                CheckpointError::Gguf { problem, .. } => problem.to_string(),
                CheckpointError::Torch { problem, .. } => problem.to_string(),
                other => other.to_string(),
            })
        }
    }
}

/// Types and axes of the tensors, and what the metadata are.
fn shape(checkpoint: &Checkpoint) -> String {
    let mut shape = String::new();
    for tensor in checkpoint.tensors() {
        shape += tensor.dtype.name();
        shape.push(char::from(b'0' + tensor.shape.len() as u8));
        shape.push(if tensor.strides.is_some() { 's' } else { ' ' });
    }
    let Some(metadata) = checkpoint.metadata() else {
        return shape;
    };
    for value in metadata.values.values() {
        shape.push(match value {
            Value::Null => '0',
            Value::Bool(_) => 'b',
            Value::Number(_) => 'n',
            Value::String(_) => 't',
            Value::Array(_) => 'l',
            Value::Object(_) => 'o',
        });
    }
    shape.extend(metadata.lists.keys().map(|_| 'L'));
    shape
}

/// Reads a file and describes the model in it.
fn described(file: &[u8]) -> Result<String, String> {
    let checkpoint = open("model.gguf", file.to_vec())?;
    let mut stored = Stored::default();
    if let Some(metadata) = checkpoint.metadata() {
        stored.values.clone_from(&metadata.values);
        let lists = metadata.lists.iter();
        let lists = lists.map(|(key, list)| (key.clone(), Value::from(list.count)));
        stored.lists = lists.collect::<BTreeMap<_, _>>();
    }
    for tensor in checkpoint.tensors() {
        let shape = tensor.shape.to_vec();
        stored.tensors.insert(tensor.name.to_string(), shape);
    }
    // Thousands of layers that are alike say nothing new, and take the time of as many files.
    let blocks = stored.values.get("llama.block_count");
    if blocks
        .and_then(Value::as_u64)
        .is_some_and(|blocks| blocks > 64)
    {
        return Err("many layers".to_owned());
    }
    let said = |error: sli_spec::SpecError| error.to_string();
    let (text, architecture) = gguf::configuration(&stored).map_err(said)?;
    let options = sli_spec::Options::default();
    gguf::describe(&text, architecture, &stored, &options).map_err(said)?;
    Ok(text)
}

fn stored(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/torch/");
    fs_err::read(format!("{folder}{name}")).expect("a file of the project")
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn gguf_files() -> Vec<Vec<u8>> {
    let texts = [list(8, 2), text("a"), text("")].concat();
    let numbers = [list(6, 2), vec![0; 8]].concat();
    let many = Made::new()
        .key("general.architecture", 8, &text("llama"))
        .key("general.alignment", 4, &32_u32.to_le_bytes())
        .key("llama.block_count", 4, &1_u32.to_le_bytes())
        .key("tokens", 9, &texts)
        .key("scores", 9, &numbers)
        .key("yes", 7, &[1])
        .key("wide", 10, &[0; 8])
        .tensor("a", &[8], 0, 0)
        .tensor("b", &[32, 1], 2, 32);
    let axes = Made::new()
        .tensor("a", &[1, 2, 1, 2], 1, 0)
        .tensor("b", &[], 24, 32);
    vec![many.file(), axes.file(), Made::new().file()]
}

/// A model of one layer.
fn llama() -> Vec<u8> {
    let mut made = Made::new().key("general.architecture", 8, &text("llama"));
    let sizes = [
        ("block_count", 1_u32),
        ("context_length", 16),
        ("embedding_length", 2),
        ("feed_forward_length", 2),
        ("attention.head_count", 1),
        ("rope.dimension_count", 2),
    ];
    for (key, size) in sizes {
        made = made.key(&format!("llama.{key}"), 4, &size.to_le_bytes());
    }
    let epsilon = 1e-5_f32.to_le_bytes();
    made = made.key("llama.attention.layer_norm_rms_epsilon", 6, &epsilon);
    made.tensor("token_embd.weight", &[2, 2], 0, 0)
        .tensor("blk.0.attn_q.weight", &[2, 2], 0, 32)
        .file()
}

fn pickles() -> Vec<Vec<u8>> {
    let tensor = |class, elements, offset, shape: &[i64], strides: &[i64]| {
        pickled_tensor(class, elements, offset, shape, strides)
    };
    vec![
        tensor("FloatStorage", 8, 1, &[2, 3], &[3, 1]),
        tensor("BFloat16Storage", 16, 0, &[4], &[1]),
        tensor("LongStorage", 4, 0, &[], &[]),
        b"\x80\x02}X\x05\0\0\0modelccollections\nOrderedDict\n)Rs.".to_vec(),
        b"\x80\x04\x95\x05\0\0\0\0\0\0\0}\x94(NNu.".to_vec(),
    ]
}

fn archives() -> Vec<Vec<u8>> {
    let pickle = pickled_tensor("FloatStorage", 8, 1, &[2, 3], &[3, 1]);
    let members: [(&str, &[u8]); 4] = [
        ("x/data.pkl", &pickle),
        ("x/byteorder", b"little"),
        ("x/data/0", &[0; 32]),
        ("x/version", b"3\n"),
    ];
    vec![archive(&members), pickled(&pickle)]
}
