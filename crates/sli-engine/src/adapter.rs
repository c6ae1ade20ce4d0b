//! Adapters: what peft writes is no model, and beside a model it would change it.

use serde_json::Value;
use sli_checkpoint::ModelFolder;

use crate::error::{AGAIN, EngineError};
use crate::open_options::OpenOptions;

/// What says that a folder has an adapter, and of which kind.
const CONFIG: &str = "adapter_config.json";

/// Largest such file, bytes.
const LIMIT: u64 = 16 << 20;

/// Kinds that are not a change of matrices, so that nothing can be merged.
const NOT_MERGED: [&str; 7] = [
    "PROMPT_TUNING",
    "MULTITASK_PROMPT_TUNING",
    "P_TUNING",
    "PREFIX_TUNING",
    "ADAPTION_PROMPT",
    "CPT",
    "CARTRIDGE",
];

const MERGE: &str = "merge it into that model first (peft: `merge_and_unload()`, then `save_pretrained`) and give the \
                     merged folder";
const NO_MERGE: &str =
    "adapters of this kind cannot be merged into the weights, and are not supported";
const BESIDE: &str = "transformers loads it on top of the model where peft is installed: merge it \
                      (`merge_and_unload()`, then `save_pretrained`), or run the model alone with \
                      `--allow-unread adapter_config.json`";

/// An adapter as its configuration describes it.
struct Adapter {
    /// As the configuration spells it.
    kind: String,
    base: Option<String>,
}

impl Adapter {
    fn read(folder: &ModelFolder) -> Result<Option<Self>, EngineError> {
        let Some(bytes) = folder.read(CONFIG, LIMIT)? else {
            return Ok(None);
        };
        let config: Value =
            serde_json::from_slice(&bytes).map_err(|error| EngineError::Unusable {
                path: folder.join(CONFIG),
                problem: error.to_string(),
                hint: AGAIN,
            })?;
        let text = |key: &str| config[key].as_str().map(str::to_owned);
        Ok(Some(Self {
            kind: text("peft_type").unwrap_or_default(),
            base: text("base_model_name_or_path").filter(|base| !base.is_empty()),
        }))
    }

    /// `a LoRA adapter of `org/base``.
    fn describe(&self) -> String {
        let kind = match self.kind.as_str() {
            "" => "",
            "LORA" => "LoRA ",
            "ADALORA" => "AdaLoRA ",
            "LOHA" => "LoHa ",
            "LOKR" => "LoKr ",
            "VERA" => "VeRA ",
            other => &format!("{other} "),
        };
        let article = if kind.starts_with(['A', 'E', 'I', 'O', 'a']) || kind.is_empty() {
            "an"
        } else {
            "a"
        };
        let base = match &self.base {
            Some(base) => format!("of `{base}`"),
            None => "of a model that it does not name".to_owned(),
        };
        format!("{article} {kind}adapter {base}")
    }

    fn is_merged(&self) -> bool {
        !NOT_MERGED.contains(&self.kind.as_str())
    }
}

/// The error of a folder without a model's configuration that holds an adapter; `None` if it holds none.
pub(crate) fn instead_of_model(folder: &ModelFolder) -> Result<Option<EngineError>, EngineError> {
    let adapter = match Adapter::read(folder)? {
        Some(adapter) => adapter,
        None if folder.has("adapter_model.safetensors")? || folder.has("adapter_model.bin")? => {
            Adapter {
                kind: String::new(),
                base: None,
            }
        }
        None => return Ok(None),
    };
    Ok(Some(EngineError::Unusable {
        path: folder.path().to_path_buf(),
        problem: format!("this is {}, not a model", adapter.describe()),
        hint: if adapter.is_merged() { MERGE } else { NO_MERGE },
    }))
}

/// Refuses a model beside which there is an adapter, unless that was allowed to go unread.
pub(crate) fn refuse_beside_model(
    folder: &ModelFolder,
    options: &OpenOptions,
) -> Result<(), EngineError> {
    if options.allow_unread.iter().any(|name| name == CONFIG) {
        return Ok(());
    }
    match Adapter::read(folder)? {
        None => Ok(()),
        Some(adapter) => Err(EngineError::Unusable {
            path: folder.path().to_path_buf(),
            problem: format!("there is {} beside the model", adapter.describe()),
            hint: BESIDE,
        }),
    }
}
