//! Access to `config.json` that knows what was read.
//!
//! Every getter logs its key. A key that nothing read may change the forward pass, so the registry
//! refuses the file ([`Config::unread`]) unless the key is on the short list of those known not to
//! matter (`ignorable.rs`) or no class of the reference reads it (`known_keys.rs`). Keys that the file omits have the default of their class
//! (`defaults.rs`); a `null` in the file stays `None`, as in the reference.

mod json;
mod unread;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use serde_json::{Map, Value};

pub use self::json::quote_non_finite;
use self::json::shown;
pub use self::unread::Unread;
use crate::defaults::{self, Row, Task};
use crate::error::SpecError;
use crate::ignorable::MASK_SWITCH;
use crate::parts::Activation;

/// Most layers a configuration may ask for.
const MAX_LAYERS: usize = 10_000;
/// Most experts, heads or groups.
const MAX_COUNT: usize = 65_536;
/// Longest axis of a weight.
const MAX_SIZE: usize = 1 << 28;

/// What files without a `model_type` are told by: keys that stand together in no others, and the type.
const UNTYPED: [([&str; 3], &str); 2] = [
    (["d_model", "n_layer", "ssm_cfg"], "mamba_ssm"),
    (
        ["hidden_size", "template_version", "vision_config"],
        "cogvlm",
    ),
];

/// One JSON object of a configuration; nested ones share the log of the outermost.
#[derive(Clone, Debug)]
pub struct Config {
    /// The object, its keys spelled as the class of `row` spells them.
    object: Rc<Map<String, Value>>,
    /// Dotted path of the object with a trailing dot; empty for the outermost.
    path: String,
    row: Option<&'static Row>,
    log: Rc<RefCell<Log>>,
}

#[derive(Debug, Default)]
struct Log {
    /// Dotted paths that were read.
    read: BTreeSet<String>,
    /// Dotted paths of objects that were opened: their keys count one by one.
    opened: BTreeSet<String>,
}

impl Config {
    /// Reads the text of a `config.json`.
    ///
    /// Accepts what Python's `json` writes beyond the standard: bare `Infinity`, `-Infinity` and
    /// `NaN` (and `{"__float__": "Infinity"}`, which transformers 5 writes for them).
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        match json::parse(text)? {
            Value::Object(object) => Ok(Self::of_object(typed(object))),
            other => Err(SpecError::Syntax(format!("it holds {}", shown(&other)))),
        }
    }

    /// The configuration that the class of this type has without any file; where that describes no
    /// model, with what it lacks from a published one.
    pub fn of_defaults(model_type: &str) -> Self {
        let mut object = Map::from_iter([("model_type".to_owned(), Value::from(model_type))]);
        if let Some(row) = defaults::row(model_type) {
            object.extend(row.example.clone());
        }
        Self::of_object(object)
    }

    /// The outermost object of a configuration.
    pub(crate) fn of_object(object: Map<String, Value>) -> Self {
        Self::new(object, String::new(), Rc::default())
    }

    /// The object itself.
    pub(crate) fn into_object(self) -> Map<String, Value> {
        Rc::unwrap_or_clone(self.object)
    }

    fn new(object: Map<String, Value>, path: String, log: Rc<RefCell<Log>>) -> Self {
        let row = object
            .get("model_type")
            .and_then(Value::as_str)
            .and_then(defaults::row);
        let object = match row {
            Some(row) => canonical(object, row),
            None => object,
        };
        Self {
            object: Rc::new(object),
            path,
            row,
            log,
        }
    }

    /// The type's defaults, where its class is known.
    pub(crate) fn row(&self) -> Result<&'static Row, SpecError> {
        self.row.ok_or_else(|| self.missing("model_type"))
    }

    fn path_of(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    /// The value of a key, from the file or the class; `None` for `null`. Logs the key.
    pub fn value(&self, key: &str) -> Option<&Value> {
        let key = self.row.map_or(key, |row| row.spelling(key));
        self.log.borrow_mut().read.insert(self.path_of(key));
        let value = self
            .object
            .get(key)
            .or_else(|| self.row.and_then(|row| row.defaults.get(key)))?;
        (!value.is_null()).then_some(value)
    }

    /// Whether the file itself holds the key with a value other than `null`. Does not log.
    pub fn in_file(&self, key: &str) -> bool {
        let key = self.row.map_or(key, |row| row.spelling(key));
        self.object.get(key).is_some_and(|value| !value.is_null())
    }

    /// Whether the file itself holds the key, `null` included. Does not log.
    pub fn mentions(&self, key: &str) -> bool {
        self.object
            .contains_key(self.row.map_or(key, |row| row.spelling(key)))
    }

    /// Whether the type's class has this key. Does not log.
    pub fn declares(&self, key: &str) -> bool {
        self.row.is_some_and(|row| row.defaults.contains_key(key))
    }

    /// Keys of the object, as the class spells them.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.object.keys().map(String::as_str)
    }

    /// Error: the key is absent and has no default.
    pub fn missing(&self, key: &str) -> SpecError {
        SpecError::Missing {
            key: self.path_of(key),
        }
    }

    /// Error: the key's value is not what it must be.
    pub fn invalid(&self, key: &str, expected: impl Into<String>) -> SpecError {
        let found = self.value(key).map_or_else(|| "null".to_owned(), shown);
        SpecError::Invalid {
            key: self.path_of(key),
            found,
            expected: expected.into(),
        }
    }

    /// Error: the key's value names something that is not implemented.
    pub fn unsupported(&self, key: &str, reason: impl Into<String>) -> SpecError {
        let found = self.value(key).map_or_else(|| "null".to_owned(), shown);
        SpecError::Unsupported {
            key: self.path_of(key),
            found,
            reason: reason.into(),
        }
    }

    fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, SpecError> {
        value.ok_or_else(|| self.missing(key))
    }

    fn count(&self, key: &str, least: usize, most: usize) -> Result<Option<usize>, SpecError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        match whole(value).and_then(|n| usize::try_from(n).ok()) {
            Some(n) if (least..=most).contains(&n) => Ok(Some(n)),
            _ => Err(self.invalid(key, format!("a whole number from {least} to {most}"))),
        }
    }

    /// A number of layers.
    pub fn layers(&self, key: &str) -> Result<usize, SpecError> {
        self.required(key, self.count(key, 1, MAX_LAYERS)?)
    }

    /// A number of heads, experts or groups.
    pub fn heads(&self, key: &str) -> Result<usize, SpecError> {
        self.required(key, self.optional_heads(key)?)
    }

    /// A number of heads, experts or groups, or `None`.
    pub fn optional_heads(&self, key: &str) -> Result<Option<usize>, SpecError> {
        self.count(key, 1, MAX_COUNT)
    }

    /// The length of an axis, a window or a position table.
    pub fn size(&self, key: &str) -> Result<usize, SpecError> {
        self.required(key, self.optional_size(key)?)
    }

    /// The length of an axis, a window or a position table, or `None`.
    pub fn optional_size(&self, key: &str) -> Result<Option<usize>, SpecError> {
        self.count(key, 1, MAX_SIZE)
    }

    /// So many times the factor of `key`, in whole numbers: the features of a network.
    pub fn scaled(&self, key: &str, of: usize) -> Result<usize, SpecError> {
        let scaled = self.positive(key)? * of as f64;
        if !(1.0..=MAX_SIZE as f64).contains(&scaled) {
            let expected = format!("a factor of {of} that gives 1 to {MAX_SIZE}");
            return Err(self.invalid(key, expected));
        }
        Ok(scaled as usize)
    }

    /// A number that may be zero (a layer index, a number of dense layers).
    pub fn index(&self, key: &str) -> Result<usize, SpecError> {
        self.required(key, self.count(key, 0, MAX_SIZE)?)
    }

    /// A number that may be zero, or `None`.
    pub fn optional_index(&self, key: &str) -> Result<Option<usize>, SpecError> {
        self.count(key, 0, MAX_SIZE)
    }

    /// The lengths of some axes: one number, or a list.
    pub fn sizes(&self, key: &str) -> Result<Vec<usize>, SpecError> {
        let Some(Value::Array(list)) = self.value(key) else {
            return Ok(vec![self.size(key)?]);
        };
        let size = |value: &Value| {
            let size = whole(value).and_then(|n| usize::try_from(n).ok());
            size.filter(|size| (1..=MAX_SIZE).contains(size))
        };
        list.iter()
            .map(size)
            .collect::<Option<_>>()
            .ok_or_else(|| self.invalid(key, "sizes of at least 1"))
    }

    /// A token id, or `None`.
    pub fn token_id(&self, key: &str) -> Result<Option<u32>, SpecError> {
        Ok(self.count(key, 0, MAX_SIZE)?.map(|id| id as u32))
    }

    /// A number.
    pub fn number(&self, key: &str) -> Result<f64, SpecError> {
        self.required(key, self.optional_number(key)?)
    }

    /// A number, or `None`.
    pub fn optional_number(&self, key: &str) -> Result<Option<f64>, SpecError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        float(value)
            .map(Some)
            .ok_or_else(|| self.invalid(key, "a number"))
    }

    /// A finite number above zero.
    pub fn positive(&self, key: &str) -> Result<f64, SpecError> {
        self.required(key, self.optional_positive(key)?)
    }

    /// A finite number above zero, or `None`.
    pub fn optional_positive(&self, key: &str) -> Result<Option<f64>, SpecError> {
        match self.optional_number(key)? {
            Some(number) if !(number.is_finite() && number > 0.0) => {
                Err(self.invalid(key, "a finite number above 0"))
            }
            number => Ok(number),
        }
    }

    /// A switch; absent and `null` are off.
    pub fn flag(&self, key: &str) -> Result<bool, SpecError> {
        match self.value(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.invalid(key, "true or false")),
        }
    }

    /// Whether the tokens of a decoder that may look ahead do. The reference asks `not config.is_causal`,
    /// so `null` is not the same as nothing.
    pub(crate) fn looks_ahead(&self) -> Result<bool, SpecError> {
        Ok(!self.flag(MASK_SWITCH)? && self.mentions(MASK_SWITCH))
    }

    /// Whether this window is as long as the longest record that the model was trained for. Does not log.
    pub(crate) fn beyond_positions(&self, key: &str) -> bool {
        let number = |key| self.object.get(key).and_then(whole);
        let usual = || {
            self.row?
                .defaults
                .get("max_position_embeddings")
                .and_then(whole)
        };
        number(key) >= number("max_position_embeddings").or_else(usual)
    }

    /// A string, or `None`.
    pub fn optional_text(&self, key: &str) -> Result<Option<String>, SpecError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.invalid(key, "a string")),
        }
    }

    /// An activation by its name.
    pub fn activation(&self, key: &str) -> Result<Activation, SpecError> {
        let name = self.required(key, self.optional_text(key)?)?;
        Activation::from_name(&name).ok_or_else(|| self.unsupported(key, "unknown activation"))
    }

    fn list(&self, key: &str) -> Result<Option<&[Value]>, SpecError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(_) => Err(self.invalid(key, "a list")),
        }
    }

    /// A list of numbers, or `None`.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>, SpecError> {
        let Some(list) = self.list(key)? else {
            return Ok(None);
        };
        let numbers = list.iter().map(float).collect::<Option<_>>();
        numbers
            .map(Some)
            .ok_or_else(|| self.invalid(key, "a list of numbers"))
    }

    /// A list of strings, or `None`.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<String>>, SpecError> {
        let Some(list) = self.list(key)? else {
            return Ok(None);
        };
        let texts = list
            .iter()
            .map(|text| text.as_str().map(str::to_owned))
            .collect::<Option<_>>();
        texts
            .map(Some)
            .ok_or_else(|| self.invalid(key, "a list of strings"))
    }

    /// A list of switches, written as booleans or as 0 and 1, or `None`.
    pub fn flags(&self, key: &str) -> Result<Option<Vec<bool>>, SpecError> {
        let Some(list) = self.list(key)? else {
            return Ok(None);
        };
        let flag = |value: &Value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => whole(value).filter(|n| (0..=1).contains(n)).map(|n| n == 1),
        };
        let flags = list.iter().map(flag).collect::<Option<_>>();
        flags
            .map(Some)
            .ok_or_else(|| self.invalid(key, "a list of 0 and 1"))
    }

    /// A nested object, or `None`. Its keys are logged one by one.
    pub fn nested(&self, key: &str) -> Result<Option<Self>, SpecError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Object(object)) => {
                let path = self.path_of(key);
                self.log.borrow_mut().opened.insert(path.clone());
                Ok(Some(Self::new(
                    object.clone(),
                    format!("{path}."),
                    Rc::clone(&self.log),
                )))
            }
            Some(_) => Err(self.invalid(key, "an object")),
        }
    }

    /// The configuration of a part of the model: the object under `key`, or the defaults of its class; of the type `usual`
    /// unless it names another; of the class that is for `task`, whatever class it names. `assumed`: what it is
    /// where there is no such key.
    pub(crate) fn part(
        &self,
        key: &str,
        usual: &str,
        task: Option<Task>,
        assumed: &[(&str, Value)],
    ) -> Result<Self, SpecError> {
        self.part_of(key, usual, task, assumed, false)
    }

    /// The same, where what is assumed stands for every key that the object lacks.
    pub(crate) fn part_over(
        &self,
        key: &str,
        usual: &str,
        assumed: &[(&str, Value)],
    ) -> Result<Self, SpecError> {
        self.part_of(key, usual, None, assumed, true)
    }

    fn part_of(
        &self,
        key: &str,
        usual: &str,
        task: Option<Task>,
        assumed: &[(&str, Value)],
        always: bool,
    ) -> Result<Self, SpecError> {
        let path = self.path_of(key);
        let mut object = match self.value(key) {
            None => assumed
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone()))
                .collect(),
            Some(Value::Object(object)) => {
                self.log.borrow_mut().opened.insert(path.clone());
                object.clone()
            }
            Some(_) => return Err(self.invalid(key, "an object")),
        };
        for (key, value) in assumed.iter().filter(|_| always) {
            object.entry(*key).or_insert_with(|| value.clone());
        }
        object
            .entry("model_type")
            .or_insert_with(|| Value::from(usual));
        let mut part = Self::new(object, format!("{path}."), Rc::clone(&self.log));
        if let (Some(row), Some(task)) = (part.row, task) {
            let mut classes = row.classes.iter();
            let class = classes.find_map(|(name, of)| (*of == task).then(|| name.clone()));
            let class = class.ok_or_else(|| {
                part.unsupported("model_type", "it has no class for this part of a model")
            })?;
            Rc::make_mut(&mut part.object).insert("architectures".to_owned(), vec![class].into());
        }
        Ok(part)
    }

    /// The configuration of a part that is of one type, whatever it says itself.
    pub(crate) fn part_as(&self, key: &str, model_type: &str) -> Result<Self, SpecError> {
        let Some(Value::Object(object)) = self.value(key) else {
            return self.part(key, model_type, None, &[]);
        };
        let mut object = object.clone();
        object.insert("model_type".to_owned(), model_type.into());
        let whole = Self {
            object: Rc::new(Map::from_iter([(key.to_owned(), object.into())])),
            path: self.path.clone(),
            row: self.row,
            log: Rc::clone(&self.log),
        };
        whole.part(key, model_type, None, &[])
    }

    /// The configuration of a part whose keys stand beside those of the whole, as a type and for a task.
    pub(crate) fn flat_part(
        &self,
        usual: &str,
        task: Task,
        others: &[&str],
    ) -> Result<Self, SpecError> {
        let mut object = Map::clone(&self.object);
        object.retain(|key, _| !others.contains(&key.as_str()));
        object.insert("model_type".to_owned(), usual.into());
        object.remove("architectures");
        let mut part = Self::new(object, self.path.clone(), Rc::clone(&self.log));
        let classes = part.row()?.classes.iter();
        let mut classes = classes.filter(|(_, of)| **of == task);
        let class = classes.next().map(|(name, _)| name.clone());
        let class = class
            .ok_or_else(|| self.unsupported("architectures", "the part has no class for this"))?;
        Rc::make_mut(&mut part.object).insert("architectures".to_owned(), vec![class].into());
        Ok(part)
    }

    /// The same part with another value of a key, which the file does not decide here: it counts as read.
    pub(crate) fn decided(mut self, key: &str, value: Value) -> Self {
        self.value(key);
        Rc::make_mut(&mut self.object).insert(key.to_owned(), value);
        self
    }

    /// The same configuration, where a part under `key` that is called by an older name of its type has the type's own.
    pub(crate) fn renamed(&self, key: &str, older: &[&str], own: &str) -> Self {
        let mut renamed = self.clone();
        let part = Rc::make_mut(&mut renamed.object).get_mut(key);
        let name = part.and_then(|part| part.get_mut("model_type"));
        if let Some(name) =
            name.filter(|name| name.as_str().is_some_and(|name| older.contains(&name)))
        {
            *name = own.into();
        }
        renamed
    }

    /// The same configuration, whose part under `key` is of this type, whatever it says itself.
    pub(crate) fn retyped(&self, key: &str, own: &str) -> Self {
        let mut retyped = self.clone();
        let part = Rc::make_mut(&mut retyped.object).get_mut(key);
        if let Some(part) = part.and_then(Value::as_object_mut) {
            part.insert("model_type".to_owned(), own.into());
        }
        retyped
    }

    /// Whether it describes a part of a model.
    pub(crate) fn is_part(&self) -> bool {
        !self.path.is_empty()
    }

    /// An object that the class assumes for a key that the file does not have.
    pub(crate) fn assumed(&self, key: &str, value: &Value) -> Self {
        let object = value.as_object().cloned().unwrap_or_default();
        Self::new(object, format!("{}.", self.path_of(key)), Rc::default())
    }

    /// A list of objects, or `None`. Their keys are logged one by one.
    pub fn objects(&self, key: &str) -> Result<Option<Vec<Self>>, SpecError> {
        let Some(list) = self.list(key)? else {
            return Ok(None);
        };
        let item = |(index, value): (usize, &Value)| {
            let path = format!("{}.{index}", self.path_of(key));
            let object = value.as_object()?.clone();
            self.log.borrow_mut().opened.insert(path.clone());
            Some(Self::new(object, format!("{path}."), Rc::clone(&self.log)))
        };
        let objects = list.iter().enumerate().map(item).collect::<Option<_>>();
        objects
            .map(Some)
            .ok_or_else(|| self.invalid(key, "a list of objects"))
    }

    /// The key must be absent, `null`, or equal to one of these values, at which it has no effect.
    pub fn neutral(&self, key: &str, values: &[Value], reason: &str) -> Result<(), SpecError> {
        match self.value(key) {
            Some(value) if !values.iter().any(|neutral| same(neutral, value)) => {
                Err(self.unsupported(key, reason))
            }
            _ => Ok(()),
        }
    }

    /// What the file says of how its weights are stored, key by key; not the keys that are `allowed` to say
    /// anything.
    pub fn storage(&self, allowed: &[String]) -> Vec<(String, Value)> {
        let keys = ["quantization_config", "quantization", "compression_config"];
        let keys = keys
            .into_iter()
            .filter(|key| !allowed.contains(&self.path_of(key)));
        let said = keys.filter_map(|key| Some((key.to_owned(), self.value(key)?.clone())));
        let is_empty = |value: &Value| value.as_object().is_some_and(Map::is_empty);
        said.filter(|(_, value)| !is_empty(value)).collect()
    }

    /// A switch that must be off.
    pub fn off(&self, key: &str, reason: &str) -> Result<(), SpecError> {
        self.neutral(key, &[Value::Bool(false)], reason)
    }

    /// Marks keys as read that another key switches off or that the forward pass does not use.
    pub fn ignore(&self, keys: &[&str]) {
        for key in keys {
            self.value(key);
        }
    }

    /// The `model_type`.
    pub fn model_type(&self) -> Result<String, SpecError> {
        self.required("model_type", self.optional_text("model_type")?)
    }

    /// Whether the file says that the head is not the token table. Logs nothing.
    pub(crate) fn tells_own_head(&self) -> bool {
        self.object.get("tie_word_embeddings") == Some(&Value::Bool(false))
    }

    /// What the file says under a key. Logs nothing.
    pub(crate) fn said(&self, key: &str) -> Option<&Value> {
        self.object.get(key)
    }

    /// The same configuration with another value of a key, and a log of its own.
    pub(crate) fn saying(&self, key: &str, value: Value) -> Self {
        let mut object = Map::clone(&self.object);
        object.insert(key.to_owned(), value);
        Self::new(object, self.path.clone(), Rc::default())
    }
}

/// Names the type of a file that is told by its keys alone.
fn typed(mut object: Map<String, Value>) -> Map<String, Value> {
    let is_told = |keys: &[&str]| keys.iter().all(|key| object.contains_key(*key));
    let told = UNTYPED.iter().find(|(keys, _)| is_told(keys));
    if let Some(&(_, model_type)) = told.filter(|_| !object.contains_key("model_type")) {
        object.insert("model_type".to_owned(), model_type.into());
    }
    object
}

/// Renames aliases (`hidden_size` in a GPT-2 file) to the spelling of the class. Where both occur,
/// the alias wins: the reference assigns it last.
fn canonical(object: Map<String, Value>, row: &Row) -> Map<String, Value> {
    if !object.keys().any(|key| row.attribute_map.contains_key(key)) {
        return object;
    }
    let (aliased, plain): (Vec<_>, Vec<_>) = object
        .into_iter()
        .partition(|(key, _)| row.attribute_map.contains_key(key));
    let renamed = aliased
        .into_iter()
        .map(|(key, value)| (row.spelling(&key).to_owned(), value));
    plain.into_iter().chain(renamed).collect()
}

/// The whole number that a value is, written as one or with a point.
pub(crate) fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let float = value.as_f64()?;
        (float.fract() == 0.0 && float.abs() < 2f64.powi(53)).then_some(float as i64)
    })
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::Object(object) if object.len() == 1 => match object.get("__float__")?.as_str()? {
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            "NaN" => Some(f64::NAN),
            _ => None,
        },
        _ => None,
    }
}

/// Equal as numbers (`1` and `1.0`) or as values.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}
