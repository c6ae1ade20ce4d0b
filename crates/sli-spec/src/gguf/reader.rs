//! Keys of a file, read as keys of a configuration.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::stored::Stored;
use crate::SpecError;

/// What reading keys gives.
pub(super) type Read = Result<(), SpecError>;

/// Keys of an architecture that change no number.
const IDLE: &[&str] = &[
    // The converter writes it for every type of vocabulary; the table of tokens says it too.
    "vocab_size",
    // Of drafts and of how others run the model.
    "nextn_predict_layers",
    "leading_dense_block_count",
    // How sentences are made of tokens is said by who asks for them.
    "pooling_type",
];

/// Most layers of a model, as in the configurations of other files.
pub(super) const MOST_LAYERS: u64 = 10_000;

/// Reads keys of a file and makes a configuration of them.
pub(super) struct Reader<'s> {
    pub stored: &'s Stored,
    /// The architecture, which the keys begin with.
    prefix: &'s str,
    read: BTreeSet<String>,
    /// Keys whose lists are read by who knows what they mean.
    by_layer: BTreeSet<String>,
    config: Map<String, Value>,
}

impl<'s> Reader<'s> {
    pub fn new(stored: &'s Stored, prefix: &'s str) -> Self {
        Self {
            stored,
            prefix,
            read: BTreeSet::new(),
            by_layer: BTreeSet::new(),
            config: Map::new(),
        }
    }

    fn path(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    /// The value of a key of the architecture.
    pub fn value(&mut self, key: &str) -> Option<Value> {
        let path = self.path(key);
        let value = self.stored.values.get(&path).cloned();
        self.read.insert(path);
        value
    }

    /// The same, which has to be there.
    pub fn needed(&mut self, key: &str) -> Result<Value, SpecError> {
        let path = self.path(key);
        self.value(key).ok_or(SpecError::Missing { key: path })
    }

    /// A whole number; a list of one number again and again is that number.
    pub fn number(&mut self, key: &str) -> Result<Option<u64>, SpecError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let number = match &value {
            Value::Array(values) => {
                let first = values.first().and_then(Value::as_u64);
                let same = |value: &Value| value.as_u64() == first;
                first.filter(|_| values.iter().all(same))
            }
            value => value.as_u64(),
        };
        match number {
            Some(number) => Ok(Some(number)),
            None => Err(self.unsupported(key, &value, "one whole number for all layers is read")),
        }
    }

    /// A whole number; of a list of one for every layer the one that is in it beside 0, which is that of layers of
    /// another kind.
    pub fn count(&mut self, key: &str) -> Result<Option<u64>, SpecError> {
        let Some(Value::Array(values)) = self.value(key) else {
            return self.number(key);
        };
        let mut some = values.iter().filter(|value| value.as_u64() != Some(0));
        let first = some.next().map_or(Some(0), Value::as_u64);
        match first {
            Some(first)
                if self.by_layer.contains(&self.path(key))
                    || some.all(|value| value.as_u64() == Some(first)) =>
            {
                Ok(Some(first))
            }
            _ => {
                let reason = "one whole number for all layers that have any is read";
                Err(self.unsupported(key, &Value::Array(values), reason))
            }
        }
    }

    /// A whole number that has to be there.
    pub fn size(&mut self, key: &str) -> Result<u64, SpecError> {
        let path = self.path(key);
        self.number(key)?.ok_or(SpecError::Missing { key: path })
    }

    /// A number.
    pub fn float(&mut self, key: &str) -> Option<f64> {
        self.value(key)?.as_f64()
    }

    /// A limit, which lists have for every layer: one for all.
    pub fn limit(&mut self, key: &str) -> Result<Value, SpecError> {
        let found = self.value(key).unwrap_or_default();
        let Value::Array(limits) = &found else {
            return Ok(found);
        };
        match limits.first() {
            Some(first) if limits.iter().all(|limit| limit == first) => Ok(first.clone()),
            _ => Err(self.unsupported(key, &found, "one limit for all layers is read")),
        }
    }

    /// A value that cannot be what it is.
    pub fn unsupported(&self, key: &str, found: &Value, reason: &str) -> SpecError {
        SpecError::Unsupported {
            key: self.path(key),
            found: found.to_string(),
            reason: reason.to_owned(),
        }
    }

    /// Lists of these keys may differ from layer to layer; [`Self::count`] is that of the first.
    pub fn by_layer(&mut self, keys: &[&str]) {
        for key in keys {
            self.by_layer.insert(self.path(key));
        }
    }

    /// These keys change no number here.
    pub fn ignore(&mut self, keys: &[&str]) {
        for key in keys {
            self.read.insert(self.path(key));
        }
    }

    /// Sets a key of the configuration.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.config.insert(key.to_owned(), value.into());
    }

    /// Takes a key of the configuration back, which the class does not have.
    pub fn unset(&mut self, key: &str) {
        self.config.remove(key);
    }

    /// Calls a key of the configuration otherwise.
    pub fn rename(&mut self, key: &str, to: &str) {
        if let Some(value) = self.config.remove(key) {
            self.config.insert(to.to_owned(), value);
        }
    }

    /// What was set.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.config.get(key)
    }

    /// Sets a key of the configuration to the value of a key of the file, which has to be there.
    pub fn copy(&mut self, key: &str, to: &str) -> Result<(), SpecError> {
        let value = self.needed(key)?;
        self.set(to, value);
        Ok(())
    }

    /// The same where the key is there.
    pub fn copy_if(&mut self, key: &str, to: &str) {
        if let Some(value) = self.value(key) {
            self.set(to, value);
        }
    }

    /// Sets a key of the configuration to the name of each layer's kind: the second one of `names` where it holds.
    pub fn kinds(
        &mut self,
        key: &str,
        holds: impl IntoIterator<Item = bool>,
        names: [&'static str; 2],
    ) {
        let kinds = holds.into_iter().map(|holds| names[usize::from(holds)]);
        self.set(key, kinds.collect::<Vec<_>>());
    }

    /// Sets the epsilon of norms of either kind.
    pub fn epsilon(&mut self, to: &str) {
        self.copy_if("attention.layer_norm_rms_epsilon", to);
        self.copy_if("attention.layer_norm_epsilon", to);
    }

    /// Sets how many experts there are and how wide they are under these keys, and how many of them a token has.
    pub fn experts(&mut self, count: &str, width: &str) -> Result<(), SpecError> {
        self.copy("expert_count", count)?;
        self.copy("expert_used_count", "num_experts_per_tok")?;
        self.copy("expert_feed_forward_length", width)
    }

    /// Sets the window, which is none where it is 0, and returns it.
    pub fn window(&mut self) -> Result<Option<u64>, SpecError> {
        let window = self.number("attention.sliding_window")?;
        let window = window.filter(|window| *window > 0);
        self.set("sliding_window", window);
        Ok(window)
    }

    /// Whether there is a tensor.
    pub fn has(&self, tensor: &str) -> bool {
        self.stored.tensors.contains_key(tensor)
    }

    /// Whether any tensor's name ends so.
    pub fn has_any(&self, ending: &str) -> bool {
        self.stored
            .tensors
            .keys()
            .any(|name| name.ends_with(ending))
    }

    /// Sets a flag that says whether there is a tensor.
    pub fn set_where(&mut self, key: &str, tensor: &str) {
        let there = self.has(tensor);
        self.set(key, there);
    }

    /// The shape of a tensor that has to be there.
    pub fn shape(&self, tensor: &str) -> Result<&'s [usize], SpecError> {
        let shape = self.stored.tensors.get(tensor).map(Vec::as_slice);
        shape.ok_or_else(|| SpecError::Missing {
            key: format!("the tensor {tensor}"),
        })
    }

    /// What most models have: layers, width, heads, vocabulary, ties. `names` are the reference's for the first four.
    pub fn sizes(&mut self) -> Result<(), SpecError> {
        let layers = self.layers()?;
        self.set("num_hidden_layers", layers);
        self.copy("context_length", "max_position_embeddings")?;
        self.copy("embedding_length", "hidden_size")?;
        if let Some(width) = self.count("feed_forward_length")? {
            self.set("intermediate_size", width);
        }
        let heads = self.count("attention.head_count")?;
        let path = self.path("attention.head_count");
        let heads = heads.ok_or(SpecError::Missing { key: path })?;
        let kv_heads = self.count("attention.head_count_kv")?;
        self.set("num_attention_heads", heads);
        self.set("num_key_value_heads", kv_heads.unwrap_or(heads));
        self.table()
    }

    /// How many tokens there are, and whether their table is the head as well.
    pub fn table(&mut self) -> Result<(), SpecError> {
        let table = self.shape("token_embd.weight")?;
        self.set("vocab_size", table.first().copied().unwrap_or(0));
        let is_tied = !self.has("output.weight");
        self.set("tie_word_embeddings", is_tied);
        Ok(())
    }

    /// Which layers have a tensor.
    pub fn layers_with(&mut self, ending: &str) -> Result<Vec<bool>, SpecError> {
        let layers = self.layers()?;
        let has = |layer| self.has(&format!("blk.{layer}.{ending}"));
        Ok((0..layers).map(has).collect())
    }

    /// How many layers there are. Blocks behind them draft tokens, or have no tensors where those were left out.
    pub fn layers(&mut self) -> Result<u64, SpecError> {
        let blocks = self.size("block_count")?.min(MOST_LAYERS);
        let drafts = self.number("nextn_predict_layers")?.unwrap_or(0);
        let is_layer = |block: &u64| !self.stored.is_draft(*block);
        let behind = (0..blocks).rev().take(drafts.min(blocks) as usize);
        let last = behind.take_while(|block| !is_layer(block)).count();
        Ok(blocks - last as u64)
    }

    /// Keys and queries of all tokens meet where the file says so.
    pub fn look_ahead(&mut self) {
        if self.value("attention.causal") == Some(false.into()) {
            self.set("is_causal", false);
        }
    }

    /// Features of a head: of a key of the file, else what the width leaves for each.
    pub fn head_dim(&mut self) -> Result<u64, SpecError> {
        let own = self.number("attention.key_length")?;
        let of_values = self.number("attention.value_length")?;
        let (width, heads) = (
            self.size("embedding_length")?,
            self.size("attention.head_count")?,
        );
        let dim = own.unwrap_or(width / heads.max(1));
        match of_values {
            Some(of_values) if of_values != dim => {
                let found = Value::from(of_values);
                let reason = "values of another width than keys are not read";
                Err(self.unsupported("attention.value_length", &found, reason))
            }
            _ => Ok(dim),
        }
    }

    /// The configuration, where no key of the architecture was left.
    pub fn finish(self) -> Result<Map<String, Value>, SpecError> {
        let begins = format!("{}.", self.prefix);
        let unread = |(key, _): &(&String, &Value)| {
            let own = key.strip_prefix(&begins);
            !self.read.contains(*key) && own.is_some_and(|own| !IDLE.contains(&own))
        };
        match self.stored.values.iter().find(unread) {
            Some((key, value)) => Err(SpecError::Unsupported {
                key: key.clone(),
                found: value.to_string(),
                reason: "nothing is known of this key for this architecture".to_owned(),
            }),
            None => Ok(self.config),
        }
    }
}
