//! Writes a checkpoint of random bf16 weights for a configuration of any supported type, and a dataset
//! of random token ids for it: what the programs in `benches/` run on.
//!
//! `cargo run --release --example synthetic-checkpoint -- CONFIG.json FOLDER [RECORDSxTOKENS]...`
//! writes `FOLDER/config.json`, `FOLDER/model.safetensors` and a `FOLDER/RECORDSxTOKENS.jsonl` for every
//! dataset that is asked for. The same arguments give the same bytes.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};
use sli_spec::{Config, Leaf, Options, Source};

/// What a tensor is filled with: uniform around a centre.
struct Fill {
    shape: Vec<usize>,
    centre: f32,
    width: f32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [config, folder, datasets @ ..] = &arguments[..] else {
        return Err("usage: synthetic-checkpoint CONFIG.json FOLDER [RECORDSxTOKENS]...".into());
    };
    let folder = Path::new(folder);
    let text = fs_err::read_to_string(config)?;
    let built = sli_spec::describe(&Config::parse(&text)?, &Options::default())?;
    fs_err::create_dir_all(folder)?;
    fs_err::write(folder.join("config.json"), &text)?;
    let mut tensors = BTreeMap::new();
    for leaf in built.spec.leaves() {
        tensors_of(leaf, &mut tensors)?;
    }
    write_tensors(&folder.join("model.safetensors"), &tensors)?;
    let vocabulary = built.spec.vocab_size;
    for dataset in datasets {
        let (records, tokens) = dataset
            .split_once('x')
            .ok_or("a dataset is RECORDSxTOKENS, for instance 8x256")?;
        let path = folder.join(format!("{dataset}.jsonl"));
        write_dataset(&path, records.parse()?, tokens.parse()?, vocabulary)?;
    }
    Ok(())
}

/// The stored tensors behind a leaf.
fn tensors_of(leaf: &Leaf, tensors: &mut BTreeMap<String, Fill>) -> Result<(), Box<dyn Error>> {
    let (source, shape, count) = match &leaf.source {
        Source::Each { of, count } => (of.as_ref(), &leaf.shape[1..], Some(*count)),
        plain => (plain, &leaf.shape[..], None),
    };
    let name = match source {
        Source::Tensor(name) => name,
        Source::OneOf(spellings) => match &spellings[0] {
            Source::Tensor(name) => name,
            other => return Err(format!("this program does not write {other:?}").into()),
        },
        other => return Err(format!("this program does not write {other:?}").into()),
    };
    for index in 0..count.unwrap_or(1) {
        let (centre, width) = match shape {
            // The variance of a uniform value is a third of its squared width.
            [.., inputs] if shape.len() > 1 => (0.0, (3.0 / *inputs as f32).sqrt()),
            _ if name.contains("bias") => (0.0, 0.02),
            _ => (1.0, 0.1),
        };
        let fill = Fill {
            shape: shape.to_vec(),
            centre,
            width,
        };
        tensors.insert(name.replace("{}", &index.to_string()), fill);
    }
    Ok(())
}

fn write_tensors(path: &Path, tensors: &BTreeMap<String, Fill>) -> Result<(), Box<dyn Error>> {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, fill) in tensors {
        let start = end;
        end += 2 * fill.shape.iter().product::<usize>();
        let entry = json!({"dtype": "BF16", "shape": fill.shape, "data_offsets": [start, end]});
        header.insert(name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = BufWriter::with_capacity(1 << 20, fs_err::File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    let mut random = Random(1);
    for fill in tensors.values() {
        for _ in 0..fill.shape.iter().product::<usize>() {
            let value = fill.centre + fill.width * random.unit();
            file.write_all(&half::bf16::from_f32(value).to_le_bytes())?;
        }
    }
    file.flush()?;
    file.get_ref().sync_all()?;
    Ok(())
}

fn write_dataset(
    path: &Path,
    records: usize,
    tokens: usize,
    vocabulary: usize,
) -> Result<(), Box<dyn Error>> {
    let mut file = BufWriter::new(fs_err::File::create(path)?);
    let mut random = Random(2);
    for _ in 0..records {
        let ids: Vec<u64> = (0..tokens)
            .map(|_| random.next() % vocabulary as u64)
            .collect();
        writeln!(file, "{}", json!({"input_ids": ids}))?;
    }
    file.flush()?;
    Ok(())
}

/// Xorshift: quick, and good enough for weights that mean nothing.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    /// In `[-1, 1)`.
    fn unit(&mut self) -> f32 {
        (self.next() & 0xff_ffff) as f32 / (1 << 23) as f32 - 1.0
    }
}
