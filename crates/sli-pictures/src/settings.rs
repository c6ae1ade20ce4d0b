//! The settings of a processor: what its file says, over the defaults of its class.

use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::error::DescriptionError;
use crate::resample::Filter;
use crate::size::Size;

/// The classes of transformers: defaults and keys, by `tools/pictures/classes.py`.
const CLASSES: &str = include_str!("classes.json");
/// Keys that say nothing of pictures, though code of the reference has these names: what made the file, what its caller says,
/// what is the business of a text or of a whole batch.
const INERT: [&str; 17] = [
    "_valid_processor_keys",
    "auto_map",
    "data_format",
    "device",
    "disable_grouping",
    "feature_extractor_type",
    "image_processor_type",
    "image_seq_length",
    "input_data_format",
    "num_additional_image_tokens",
    "processor_class",
    "return_tensors",
    "transformers_version",
    "use_fast",
    "video_processor_type",
    "vision_feature_select_strategy",
    "_name_or_path",
];

/// The table of classes.
fn table() -> &'static Map<String, Value> {
    static TABLE: OnceLock<Map<String, Value>> = OnceLock::new();
    // The file is part of the program; a test reads it.
    TABLE.get_or_init(|| serde_json::from_str(CLASSES).unwrap_or_default())
}

fn rows(part: &str) -> Option<&'static Map<String, Value>> {
    table().get(part)?.as_object()
}

/// The class that prepares pictures for a model type where no file says which.
pub fn class_of_model(model_type: &str) -> Option<&'static str> {
    rows("models")?.get(model_type)?.as_str()
}

/// The class that prepares records for a model type where no file says which.
pub fn processor_of_model(model_type: &str) -> Option<&'static str> {
    rows("processors")?.get(model_type)?.as_str()
}

/// The model types whose pictures a class prepares where no file says which class.
pub fn models_of(class: &str) -> Vec<&'static str> {
    let all = rows("models").into_iter().flatten();
    let fitting = all.filter(|(_, name)| name.as_str() == Some(class));
    fitting.map(|(model, _)| model.as_str()).collect()
}

/// The settings of one processor.
#[derive(Clone, Debug)]
pub struct Settings {
    class: String,
    given: Map<String, Value>,
    defaults: Map<String, Value>,
}

impl Settings {
    /// Those of a class, with what a file says. A key that the class knows not changes nothing there; one of a name that its code
    /// reads elsewhere could, and is refused.
    pub fn new(class: &str, given: Map<String, Value>) -> Result<Self, DescriptionError> {
        let unknown = || DescriptionError::Class(class.to_owned());
        let row = rows("classes").and_then(|rows| rows.get(class));
        let row = row.and_then(Value::as_object).ok_or_else(unknown)?;
        let list =
            |value: Option<&'static Value>| value.and_then(Value::as_array).into_iter().flatten();
        let of_both = |part: &str| list(row.get(part)).chain(list(table().get(part)));
        let known = of_both("keys").chain(list(row.get("computed")));
        let known: Vec<&str> = known.filter_map(Value::as_str).chain(INERT).collect();
        let read: Vec<&str> = of_both("reads").filter_map(Value::as_str).collect();
        let is_refused = |key: &str| read.contains(&key) && !known.contains(&key);
        if let Some(key) = given.keys().find(|key| is_refused(key)) {
            return Err(DescriptionError::Key {
                class: class.to_owned(),
                key: key.clone(),
            });
        }
        let defaults = row.get("defaults").and_then(Value::as_object);
        Ok(Self {
            class: class.to_owned(),
            given,
            defaults: defaults.cloned().unwrap_or_default(),
        })
    }

    /// The class.
    pub fn class(&self) -> &str {
        &self.class
    }

    /// The value of a key; null in a file is the default, as in the reference.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let given = self.given.get(key).filter(|value| !value.is_null());
        given.or_else(|| self.defaults.get(key))
    }

    /// What is wrong with a key.
    pub fn refused(&self, key: &str, problem: impl Into<String>) -> DescriptionError {
        DescriptionError::Value {
            class: self.class.clone(),
            key: key.to_owned(),
            problem: problem.into(),
        }
    }

    /// A switch; off where nothing says it.
    pub fn switch(&self, key: &str) -> Result<bool, DescriptionError> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(on)) => Ok(*on),
            // As Python takes it.
            Some(Value::Number(number)) => Ok(number.as_f64() != Some(0.0)),
            Some(other) => Err(self.refused(key, format!("{other} is neither true nor false"))),
        }
    }

    /// A whole number above 0, where there is one.
    pub fn count_if(&self, key: &str) -> Result<Option<u32>, DescriptionError> {
        self.get(key)
            .map(|value| self.count_of(key, value))
            .transpose()
    }

    /// A whole number above 0, of things of which there are few: the side of a patch, tiles.
    pub fn few(&self, key: &str) -> Result<u32, DescriptionError> {
        const FEW: u32 = 4096;
        let count = self.count(key)?;
        if count > FEW {
            return Err(self.refused(key, format!("{count} is more than {FEW}")));
        }
        Ok(count)
    }

    /// A whole number above 0.
    pub fn count(&self, key: &str) -> Result<u32, DescriptionError> {
        let count = self.count_if(key)?;
        count.ok_or_else(|| self.refused(key, "it is not there"))
    }

    fn count_of(&self, key: &str, value: &Value) -> Result<u32, DescriptionError> {
        let whole = value.as_u64().or_else(|| {
            let number = value.as_f64()?;
            (number >= 0.0 && number.fract() == 0.0 && number < 1e9).then_some(number as u64)
        });
        let count = whole.and_then(|count| u32::try_from(count).ok());
        let count = count.filter(|&count| (1..=1 << 30).contains(&count));
        count
            .ok_or_else(|| self.refused(key, format!("{value} is no number from 1 to {}", 1 << 30)))
    }

    /// A finite number, where there is one.
    pub fn number(&self, key: &str) -> Result<Option<f64>, DescriptionError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let number = value.as_f64().filter(|number| number.is_finite());
        let number = number.ok_or_else(|| self.refused(key, format!("{value} is no number")))?;
        Ok(Some(number))
    }

    /// A number a channel; one for all of them counts three times.
    pub fn channels(&self, key: &str) -> Result<Option<[f64; 3]>, DescriptionError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let wrong = || self.refused(key, format!("{value} is not one number a channel"));
        if let Some(number) = value.as_f64() {
            return Ok(Some([number; 3]));
        }
        let list = value.as_array().ok_or_else(wrong)?;
        let numbers = list.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>();
        let numbers: [f64; 3] = match numbers.as_deref() {
            Some(&[one]) => [one; 3],
            Some(&[red, green, blue]) => [red, green, blue],
            _ => return Err(wrong()),
        };
        if numbers.iter().any(|number| !number.is_finite()) {
            return Err(wrong());
        }
        Ok(Some(numbers))
    }

    /// A size, where there is one; a number alone is a square, or the shorter side where `square` is off.
    pub fn size(&self, key: &str, square: bool) -> Result<Option<Size>, DescriptionError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let mut size = Size::default();
        match value {
            Value::Object(sides) => {
                for (name, value) in sides {
                    let side = size.side_mut(name).ok_or_else(|| {
                        self.refused(key, format!("`{name}` is no part of a size"))
                    })?;
                    if !value.is_null() {
                        *side = Some(self.count_of(key, value)?);
                    }
                }
            }
            Value::Array(sides) => {
                let [height, width] = &sides[..] else {
                    return Err(self.refused(key, "a list is height and width"));
                };
                size.height = Some(self.count_of(key, height)?);
                size.width = Some(self.count_of(key, width)?);
            }
            value => {
                let side = Some(self.count_of(key, value)?);
                if square {
                    (size.height, size.width) = (side, side);
                } else {
                    size.shortest_edge = side;
                }
            }
        }
        Ok(Some(size))
    }

    /// The filter of a resize: the numbers of Pillow.
    pub fn filter(&self, key: &str) -> Result<Filter, DescriptionError> {
        match self.get(key).map(Value::as_u64) {
            Some(Some(0)) => Ok(Filter::Nearest),
            Some(Some(1)) => Ok(Filter::Lanczos),
            None | Some(Some(2)) => Ok(Filter::Bilinear),
            Some(Some(3)) => Ok(Filter::Bicubic),
            Some(_) => Err(self.refused(
                key,
                "0 (nearest), 1 (Lanczos), 2 (bilinear) and 3 (bicubic) are supported",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Settings, class_of_model, rows};

    #[test]
    fn the_table_is_sound() {
        let classes = rows("classes").expect("classes");
        assert!(classes.len() > 100);
        for class in classes.keys() {
            Settings::new(class, serde_json::Map::new()).expect(class);
        }
        assert_eq!(class_of_model("internvl"), Some("GotOcr2ImageProcessor"));
    }
}
