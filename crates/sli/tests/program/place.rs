//! The program in a temporary folder with tiny models.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sli_loopback::Hub;
use sli_spec::{Config, Options, Source, Split};

/// A temporary folder in which the program runs.
pub struct Place {
    folder: tempfile::TempDir,
}

/// How the program ended and what it said.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A place with a tiny llama in `model`, which knows a few words.
    pub fn with_llama() -> Self {
        let place = Self::new();
        place.write_model("model", &llama());
        place.write_tokenizer("model");
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, content).unwrap();
        path
    }

    /// Writes `config.json` and a `model.safetensors` that fits it.
    pub fn write_model(&self, name: &str, config: &Value) {
        self.write(&format!("{name}/config.json"), config.to_string());
        let tensors = tensors_of(config);
        self.write(&format!("{name}/model.safetensors"), safetensors(&tensors));
    }

    /// The same with all matrices but routers and the ends of the model in fp8, a scale for each block of 128 x 128.
    pub fn write_fp8_model(&self, name: &str, config: &Value) {
        let quantised = json!({"quant_method": "fp8", "weight_block_size": [128, 128]});
        let config = with(config.clone(), &json!({"quantization_config": quantised}));
        self.write(&format!("{name}/config.json"), config.to_string());
        let tensors = tensors_of(&config);
        self.write(&format!("{name}/model.safetensors"), fp8_tensors(tensors));
    }

    /// The same in bf16, where tensors beyond 4 MiB are zeros that take no room on the disk: for models of
    /// real sizes.
    pub fn write_large_model(&self, name: &str, config: &Value) {
        use std::os::unix::fs::FileExt;
        const WRITTEN: usize = 4 << 20;
        let path = self.write(&format!("{name}/config.json"), config.to_string());
        let tensors = tensors_of(config);
        let (header, starts) = header(&tensors, |_| ("BF16", 2));
        let file = fs_err::File::create(path.with_file_name("model.safetensors")).unwrap();
        file.file().write_all_at(&header, 0).unwrap();
        let mut end = header.len();
        for (shape, start) in tensors.values().zip(starts) {
            let elements: usize = shape.iter().product();
            let place = header.len() + start;
            end = end.max(place + 2 * elements);
            if 2 * elements <= WRITTEN {
                let mut state = 1 + start as u32;
                let values = (0..elements).flat_map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    // Either sign, sizes between 2^-8 and 1.
                    (0x3b80 + (state >> 16 & 0x83ff) as u16).to_le_bytes()
                });
                let values: Vec<u8> = values.collect();
                file.file().write_all_at(&values, place as u64).unwrap();
            }
        }
        file.set_len(end as u64).unwrap();
    }

    /// Writes a tokenizer of words: `<s>` in front, padded to 16, cut to 4.
    pub fn write_tokenizer(&self, name: &str) {
        self.write(&format!("{name}/tokenizer.json"), tokenizer().to_string());
        let template = "{% for m in messages %}<s> {{ m.role }} {{ m.content }} {% endfor %}";
        let config = json!({"bos_token": "<s>", "chat_template": template});
        self.write(&format!("{name}/tokenizer_config.json"), config.to_string());
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.settled(program());
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Another program, which starts ours.
    pub fn other(&self, program: &str) -> Command {
        self.settled(Command::new(program))
    }

    /// What it starts here finds nothing of the machine it is on.
    fn settled(&self, mut command: Command) -> Command {
        command
            .current_dir(self.folder.path())
            // What the machine remembers of itself is no part of a test.
            .env("XDG_CACHE_HOME", self.path("cache"))
            // Nothing is asked of a hub, unless a test says of which.
            .env("HF_HOME", self.path("hub"))
            .env("HF_HUB_OFFLINE", "1");
        command
    }

    /// Runs a line of shell in a folder of the place; `$SLI` is the program.
    pub fn shell(&self, folder: &str, line: &str) -> Outcome {
        let mut command = self.other("sh");
        command
            .current_dir(self.path(folder))
            .args(["-c", line])
            .env("SLI", env!("CARGO_BIN_EXE_sli"))
            .stdin(Stdio::null());
        Self::outcome(&mut command)
    }

    /// Copies a folder and all that is in it.
    pub fn copy(&self, from: &Path, name: &str) {
        for entry in fs_err::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{name}/{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                self.copy(&entry.path(), &name);
            } else {
                self.write(&name, fs_err::read(entry.path()).unwrap());
            }
        }
    }

    /// Runs the program with this hub, as nobody or by a token.
    pub fn sli_at(&self, hub: &Hub, arguments: &[&str]) -> Outcome {
        Self::outcome(&mut self.command_at(hub, arguments))
    }

    pub fn command_at(&self, hub: &Hub, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command
            .env_remove("HF_HUB_OFFLINE")
            .env("HF_ENDPOINT", hub.endpoint());
        command
    }

    pub fn sli(&self, arguments: &[&str]) -> Outcome {
        Self::outcome(&mut self.command(arguments))
    }

    pub fn outcome(command: &mut Command) -> Outcome {
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        let outcome = Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout,
            stderr,
        };
        assert!(!outcome.stderr.contains("panicked"), "{outcome:?}");
        outcome
    }
}

/// The program; `SLI_PROGRAM` names another one, with what runs it in front: an emulator and its options.
fn program() -> Command {
    let other = std::env::var("SLI_PROGRAM").unwrap_or_default();
    let mut words = other.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or(env!("CARGO_BIN_EXE_sli")));
    command.args(words);
    command
}

impl Outcome {
    /// Ended well.
    #[track_caller]
    pub fn success(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Ended with this code and one clear error that says all of this, and what to do about it.
    #[track_caller]
    pub fn failure(self, code: i32, says: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.stderr.contains("error: "), "{self:?}");
        assert!(self.stderr.contains("\nhint: "), "{self:?}");
        for part in says {
            assert!(
                self.stderr.contains(part),
                "{part:?} is not in {}",
                self.stderr
            );
        }
        self
    }
}

pub fn llama() -> Value {
    json!({
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 20,
        "max_position_embeddings": 12,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": false
    })
}

/// A configuration with keys replaced and added.
pub fn with(mut config: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

pub fn bert() -> Value {
    json!({
        "model_type": "bert",
        "architectures": ["BertForMaskedLM"],
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 20,
        "max_position_embeddings": 12,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "pad_token_id": 0
    })
}

fn tokenizer() -> Value {
    let words = [
        "<s>",
        "<unk>",
        "</s>",
        "the",
        "cat",
        "sat",
        "on",
        "a",
        "mat",
        "user",
        "assistant",
        "dog",
        "ran",
    ];
    let mut vocabulary: serde_json::Map<String, Value> = words
        .iter()
        .enumerate()
        .map(|(id, word)| ((*word).to_owned(), id.into()))
        .collect();
    // A token that the model does not have.
    vocabulary.insert("unicorn".into(), 500.into());
    json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 16},
            "direction": "Right",
            "pad_to_multiple_of": null,
            "pad_id": 2,
            "pad_type_id": 0,
            "pad_token": "</s>"
        },
        "added_tokens": [{
            "id": 0,
            "content": "<s>",
            "single_word": false,
            "lstrip": false,
            "rstrip": false,
            "normalized": false,
            "special": true
        }],
        "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}
        },
        "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
    })
}

/// The tensor that a weight of this shape lies in, and the shape of the tensor.
fn stored(source: &Source, mut shape: Vec<usize>) -> (String, Vec<usize>) {
    match source {
        Source::Tensor(name) => (name.clone(), shape),
        Source::OneOf(spellings)
        | Source::Tied {
            own: _,
            all: spellings,
        } => stored(&spellings[0], shape),
        // Of any shape with as many elements, the logical one too.
        Source::Reshape(of) => stored(of, shape),
        Source::Transpose(of) => {
            shape.reverse();
            stored(of, shape)
        }
        Source::Part {
            of,
            split: Split::Rows(rows),
            ..
        } => {
            shape[0] = rows.iter().sum();
            stored(of, shape)
        }
        other => panic!("these models hold no {other:?}"),
    }
}

/// The stored tensors of a model and their shapes.
fn tensors_of(config: &Value) -> BTreeMap<String, Vec<usize>> {
    let config = Config::parse(&config.to_string()).unwrap();
    let built = sli_spec::describe(&config, &Options::default()).unwrap();
    let mut tensors = BTreeMap::new();
    for leaf in built.spec.leaves() {
        match &leaf.source {
            Source::Each { of, count } => {
                let (of, shape) = stored(of, leaf.shape[1..].to_vec());
                let each = (0..*count).map(|item| of.replace("{}", &item.to_string()));
                tensors.extend(each.map(|name| (name, shape.clone())));
            }
            plain => tensors.extend([stored(plain, leaf.shape.clone())]),
        }
    }
    tensors
}

/// The front of a file with these tensors, and where each of them begins behind it.
fn header(
    tensors: &BTreeMap<String, Vec<usize>>,
    dtype: impl Fn(&str) -> (&'static str, usize),
) -> (Vec<u8>, Vec<usize>) {
    let mut header = serde_json::Map::new();
    let (mut starts, mut end) = (Vec::new(), 0);
    for (name, shape) in tensors {
        let start = end;
        let (dtype, size) = dtype(name);
        starts.push(start);
        end += size * shape.iter().product::<usize>();
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]});
        header.insert(name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut front = (header.len() as u64).to_le_bytes().to_vec();
    front.extend(header);
    (front, starts)
}

/// A file with f32 tensors of small numbers.
pub fn safetensors(tensors: &BTreeMap<String, Vec<usize>>) -> Vec<u8> {
    let (mut file, _) = header(tensors, |_| ("F32", 4));
    let mut state = 1_u32;
    for shape in tensors.values() {
        for _ in 0..shape.iter().product() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = (state >> 8) as f32 / (1 << 24) as f32 - 0.5;
            file.extend(value.to_le_bytes());
        }
    }
    file
}

/// A file of these tensors, matrices in fp8 and the rest in bf16.
fn fp8_tensors(plain: BTreeMap<String, Vec<usize>>) -> Vec<u8> {
    let mut tensors = BTreeMap::new();
    for (name, shape) in plain {
        let ends = ["embed_tokens.weight", "lm_head.weight", ".gate.weight"];
        if shape.len() == 2 && !ends.iter().any(|end| name.ends_with(end)) {
            let grid = shape.iter().map(|side| side.div_ceil(128)).collect();
            tensors.insert(format!("{name}_scale_inv"), grid);
        }
        tensors.insert(name, shape);
    }
    let dtype = |name: &str| match name {
        scales if scales.ends_with("_scale_inv") => ("F32", 4),
        coded if tensors.contains_key(&format!("{coded}_scale_inv")) => ("F8_E4M3", 1),
        _ => ("BF16", 2),
    };
    let (mut file, _) = header(&tensors, dtype);
    let mut state = 1_u32;
    for (name, shape) in &tensors {
        for _ in 0..shape.iter().product() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let bits = (state >> 16) as u16;
            match dtype(name) {
                // Between 1/16 and 1/8.
                ("F32", _) => {
                    file.extend((0.0625 + f32::from(bits) * 2.0_f32.powi(-20)).to_le_bytes());
                }
                // Either sign, below 2.
                ("F8_E4M3", _) => file.push(bits as u8 & 0xbf),
                // Either sign, sizes between 2^-8 and 1.
                _ => file.extend((0x3b80 + (bits & 0x83ff)).to_le_bytes()),
            }
        }
    }
    file
}

/// Whether a folder holds the file.
pub fn has(folder: &Path, name: &str) -> bool {
    folder.join(name).is_file()
}
