//! What a model's files say of the codes of its weights.

use serde_json::Value;
use sli_checkpoint::{Codes, ModelFolder, UnknownCode};
use sli_spec::SpecError;

use crate::error::EngineError;

/// Where it is said beside `config.json`, by those who do not say it there: the file, the key within it, and the
/// method where the file does not name it.
const BESIDE: [(&str, Option<&str>, &str); 3] = [
    ("hf_quant_config.json", Some("quantization"), "modelopt"),
    ("quantize_config.json", None, "gptq"),
    ("quanto_qmap.json", None, "quanto"),
];

/// Largest of these files that is read, bytes.
const LIMIT: u64 = 16 << 20;

/// The codes that the configuration, or a file beside it, says that the weights have. `config` is the name of its file.
///
/// # Errors
/// They are coded in a way that is not known.
pub fn codes_of(
    folder: &ModelFolder,
    config: &str,
    built: &sli_spec::Built,
) -> Result<Codes, EngineError> {
    let mut declared: Option<(&Value, Codes)> = None;
    for (key, value) in &built.storage {
        match &declared {
            // MLX says it twice.
            Some((first, _)) if *first == value => {}
            Some(_) => {
                let reason = "another key says how the weights are coded, and not the same";
                let (found, key) = (value.to_string(), String::new());
                let unknown = UnknownCode { key, found, reason };
                return Err(refused(folder, config, &built_key(&built.storage), unknown));
            }
            None => match Codes::declared(value) {
                Ok(codes) => declared = Some((value, codes)),
                Err(unknown) => return Err(refused(folder, config, key, unknown)),
            },
        }
    }
    match declared {
        Some((_, codes)) => Ok(codes),
        None => beside(folder),
    }
}

/// The keys that say it, for messages.
fn built_key(storage: &[(String, Value)]) -> String {
    let keys: Vec<&str> = storage.iter().map(|(key, _)| key.as_str()).collect();
    keys.join(", ")
}

/// The codes that another file says.
fn beside(folder: &ModelFolder) -> Result<Codes, EngineError> {
    for (name, key, method) in BESIDE {
        let Some(bytes) = folder.read(name, LIMIT)? else {
            continue;
        };
        let wrong = |error: serde_json::Error| EngineError::Unusable {
            path: folder.join(name),
            problem: format!("it is not JSON: {error}"),
            hint: "it says how the weights are quantised: download it again",
        };
        let mut said: Value = serde_json::from_slice(&bytes).map_err(wrong)?;
        if let Some(inner) = key.and_then(|key| said.get_mut(key)) {
            said = inner.take();
        }
        if let Some(said) = said.as_object_mut() {
            said.entry("quant_method").or_insert_with(|| method.into());
        }
        return Codes::declared(&said)
            .map_err(|unknown| refused(folder, name, key.unwrap_or_default(), unknown));
    }
    Ok(Codes::default())
}

fn refused(folder: &ModelFolder, file: &str, key: &str, unknown: UnknownCode) -> EngineError {
    let parts = [key, &unknown.key].map(str::to_owned);
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    EngineError::Config {
        path: folder.join(file),
        source: SpecError::Unsupported {
            key: parts.join("."),
            found: unknown.found,
            reason: unknown.reason.to_owned(),
        },
    }
}
