//! Tensors of what a pickle describes, checked against the bytes of their storages.

use std::ops::Range;

use super::pickle::{Object, Pickle, Place, Tensor};
use super::problem::TorchError;
use crate::dtype::Dtype;
use crate::tensors::{FileIndex, TensorInfo};

/// Most axes of a tensor.
const MAX_AXES: usize = 32;

/// Where whole files of training keep the weights.
const WRAPPERS: [&str; 5] = [
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "model_state",
];

/// Where the bytes of storages are.
pub(super) struct Storages<'f> {
    /// By key.
    pub find: &'f dyn Fn(&str) -> Result<Range<u64>, TorchError>,
}

/// A part of the bytes of a storage.
#[derive(Clone, Debug)]
struct Storage {
    dtype: Option<Dtype>,
    /// Elements of that type; bytes where it has none.
    elements: u64,
    start: u64,
}

/// A storage as a pickle names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'p> {
    pub key: &'p str,
    pub class: Dtype,
    /// Whether its elements are bytes of any type.
    pub untyped: bool,
    pub elements: u64,
    /// Old files: the elements of which it consists, from the first.
    pub view: Option<(u64, u64)>,
}

impl Storages<'_> {
    /// All tensors of a pickle by their names.
    pub fn tensors(&self, pickle: &Pickle) -> Result<Vec<TensorInfo>, TorchError> {
        let entries = entries(pickle)?;
        let tensors = entries.into_iter().map(|(name, tensor)| {
            let info = self.tensor(pickle, name, tensor)?;
            Ok(TensorInfo {
                name: name.into(),
                ..info
            })
        });
        tensors.collect()
    }

    fn tensor(
        &self,
        pickle: &Pickle,
        name: &str,
        tensor: &Tensor,
    ) -> Result<TensorInfo, TorchError> {
        let wrong = |rule| TorchError::Tensor {
            tensor: name.to_owned(),
            rule,
        };
        let named = named(pickle, tensor.storage)
            .ok_or_else(|| wrong("its storage is not one of torch's"))?;
        let storage = self.storage(&named)?;
        let own = match tensor.dtype {
            None => None,
            Some(dtype) => Some(
                dtype_of(pickle, dtype)
                    .ok_or_else(|| wrong("the type of its numbers is not known"))?,
            ),
        };
        let dtype = own.or(storage.dtype);
        let dtype = dtype.ok_or_else(|| wrong("the type of its numbers is not said"))?;
        let element = dtype
            .size_bytes()
            .ok_or_else(|| wrong("its numbers are no whole bytes"))? as u64;
        let elements = match storage.dtype {
            Some(of_storage) if of_storage == dtype => storage.elements,
            Some(_) => return Err(wrong("its type is not that of its storage")),
            None => storage.elements / element,
        };
        let numbers = |place, rule| pickle.numbers(place).ok_or_else(|| wrong(rule));
        let shape = numbers(tensor.shape, "its shape is not of whole numbers")?;
        let strides = numbers(tensor.strides, "its strides are not of whole numbers")?;
        let offset = pickle.number(tensor.offset);
        let offset = offset.ok_or_else(|| wrong("its first element is no whole number"))?;
        if shape.len() != strides.len() || shape.len() > MAX_AXES {
            return Err(wrong("its shape and its strides are not of the same axes"));
        }
        let span = span(&shape, &strides);
        let last = span.and_then(|span| offset.checked_add(span));
        let (Some(span), true) = (span, last.is_some_and(|end| end <= elements)) else {
            return Err(TorchError::OutsideStorage {
                tensor: name.to_owned(),
                shape,
                strides,
                offset,
                elements,
            });
        };
        let sides: Option<Vec<usize>> = shape
            .iter()
            .map(|&side| usize::try_from(side).ok())
            .collect();
        let sides = sides.ok_or_else(|| wrong("its shape is too large to count"))?;
        let in_bytes: Vec<u64> = strides
            .iter()
            .map(|stride| stride.saturating_mul(element))
            .collect();
        // Below the bytes of the storage, all of which are in the file.
        Ok(TensorInfo {
            name: "".into(),
            file: FileIndex(0),
            dtype,
            shape: sides.into(),
            offset: storage.start + offset * element,
            strides: (!is_row_major(&shape, &strides)).then(|| in_bytes.into()),
            bytes: span * element,
        })
    }

    fn storage(&self, named: &Named<'_>) -> Result<Storage, TorchError> {
        let place = (self.find)(named.key)?;
        let element = named.class.size_bytes().unwrap_or(1) as u64;
        let found = place.end - place.start;
        let needed = named.elements.saturating_mul(element);
        if needed > found {
            return Err(TorchError::ShortStorage {
                key: named.key.to_owned(),
                elements: named.elements,
                needed,
                found,
            });
        }
        let dtype = (!named.untyped).then_some(named.class);
        let (start, elements) = match named.view {
            None => (0, named.elements),
            Some((first, count)) => {
                let end = first.checked_add(count);
                if end.is_none_or(|end| end > named.elements) {
                    return Err(TorchError::ShortStorage {
                        key: named.key.to_owned(),
                        elements: first.saturating_add(count),
                        needed: first.saturating_add(count).saturating_mul(element),
                        found,
                    });
                }
                (first, count)
            }
        };
        Ok(Storage {
            dtype,
            elements,
            start: place.start + start * element,
        })
    }
}

/// The storage that a persistent id names.
pub(super) fn named(pickle: &Pickle, place: Place) -> Option<Named<'_>> {
    let &Object::Storage(id) = pickle.get(place) else {
        return None;
    };
    let Object::Tuple(id) = pickle.get(id) else {
        return None;
    };
    let &[word, class, key, _device, elements, ref rest @ ..] = &**id else {
        return None;
    };
    if pickle.text(word) != Some("storage") {
        return None;
    }
    let Object::Name(class) = pickle.get(class) else {
        return None;
    };
    let (class, untyped) = class_of(class)?;
    let view = match rest.first().map(|view| pickle.get(*view)) {
        None | Some(Object::None) => None,
        Some(Object::Tuple(view)) => {
            let &[_key, first, count] = &**view else {
                return None;
            };
            Some((pickle.number(first)?, pickle.number(count)?))
        }
        Some(_) => return None,
    };
    Some(Named {
        key: pickle.text(key)?,
        class,
        untyped,
        elements: pickle.number(elements)?,
        view,
    })
}

/// The type of a class of storages, and whether it holds bytes of any type.
fn class_of(name: &str) -> Option<(Dtype, bool)> {
    let dtype = match name {
        "torch DoubleStorage" => Dtype::F64,
        "torch FloatStorage" => Dtype::F32,
        "torch HalfStorage" => Dtype::F16,
        "torch BFloat16Storage" => Dtype::Bf16,
        "torch LongStorage" => Dtype::I64,
        "torch IntStorage" => Dtype::I32,
        "torch ShortStorage" => Dtype::I16,
        "torch CharStorage" => Dtype::I8,
        "torch ByteStorage" => Dtype::U8,
        "torch BoolStorage" => Dtype::Bool,
        "torch ComplexFloatStorage" => Dtype::C64,
        "torch.storage UntypedStorage" | "torch UntypedStorage" => return Some((Dtype::U8, true)),
        _ => return None,
    };
    Some((dtype, false))
}

fn dtype_of(pickle: &Pickle, place: Place) -> Option<Dtype> {
    let Object::Name(name) = pickle.get(place) else {
        return None;
    };
    Some(match name.strip_prefix("torch ")? {
        "float64" | "double" => Dtype::F64,
        "float32" | "float" => Dtype::F32,
        "float16" | "half" => Dtype::F16,
        "bfloat16" => Dtype::Bf16,
        "float8_e4m3fn" => Dtype::F8E4M3,
        "float8_e5m2" => Dtype::F8E5M2,
        "float8_e4m3fnuz" => Dtype::F8E4M3Fnuz,
        "float8_e5m2fnuz" => Dtype::F8E5M2Fnuz,
        "float8_e8m0fnu" => Dtype::F8E8M0,
        "int64" | "long" => Dtype::I64,
        "int32" | "int" => Dtype::I32,
        "int16" | "short" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint8" => Dtype::U8,
        "uint16" => Dtype::U16,
        "uint32" => Dtype::U32,
        "uint64" => Dtype::U64,
        "bool" => Dtype::Bool,
        "complex64" => Dtype::C64,
        _ => return None,
    })
}

/// Elements from the first to the last; `None`: more than can be counted.
fn span(shape: &[u64], strides: &[u64]) -> Option<u64> {
    let elements = shape
        .iter()
        .try_fold(1_u64, |all, side| all.checked_mul(*side))?;
    if elements == 0 {
        return Some(0);
    }
    let axes = shape.iter().zip(strides);
    let mut steps = axes.map(|(side, stride)| (side - 1).checked_mul(*stride));
    steps
        .try_fold(0_u64, |all, step| all.checked_add(step?))?
        .checked_add(1)
}

fn is_row_major(shape: &[u64], strides: &[u64]) -> bool {
    let mut wanted = 1;
    let mut axes = shape.iter().zip(strides).rev();
    shape.contains(&0)
        || axes.all(|(side, stride)| {
            let is = *side == 1 || *stride == wanted;
            wanted = u64::saturating_mul(wanted, *side);
            is
        })
}

/// The tensors of the object that a file holds: it is a dictionary of them, or has one under a usual name.
fn entries(pickle: &Pickle) -> Result<Vec<(&str, &Tensor)>, TorchError> {
    let Object::Dict(root) = pickle.get(pickle.root) else {
        let found = kind(pickle.get(pickle.root)).to_owned();
        return Err(TorchError::NotTensors { found });
    };
    let is_tensors = |place: Place| match pickle.get(place) {
        Object::Dict(inner) => has_tensor(pickle, inner).then_some(inner),
        _ => None,
    };
    let inner = |(key, value): &(Place, Place)| Some((pickle.text(*key)?, is_tensors(*value)?));
    let dicts: Vec<_> = root.iter().filter_map(inner).collect();
    if has_tensor(pickle, root) {
        if !dicts.is_empty() {
            let mut names = vec!["the file's own object".to_owned()];
            names.extend(dicts.iter().map(|(name, _)| format!("`{name}`")));
            return Err(TorchError::Several { names });
        }
        return Ok(tensors_of(pickle, root));
    }
    let usual = |(name, _): &&(&str, _)| WRAPPERS.contains(name);
    let usual: Vec<_> = dicts.iter().filter(usual).collect();
    match usual[..] {
        [(_, dict)] => Ok(tensors_of(pickle, dict)),
        [] => Err(TorchError::NotTensors {
            found: match dicts.first() {
                Some((name, _)) => format!("tensors below `{name}`"),
                None => "an object without any".to_owned(),
            },
        }),
        _ => Err(TorchError::Several {
            names: usual.iter().map(|(name, _)| format!("`{name}`")).collect(),
        }),
    }
}

fn has_tensor(pickle: &Pickle, dict: &[(Place, Place)]) -> bool {
    let mut values = dict.iter().map(|(_, value)| pickle.get(*value));
    values.any(|value| matches!(value, Object::Tensor(_)))
}

/// The tensors of a dictionary; of two under one name the last counts.
fn tensors_of<'p>(pickle: &'p Pickle, dict: &[(Place, Place)]) -> Vec<(&'p str, &'p Tensor)> {
    let tensor = |(key, value): &(Place, Place)| match pickle.get(*value) {
        Object::Tensor(tensor) => Some((pickle.text(*key)?, tensor)),
        _ => None,
    };
    let all = dict.iter().filter_map(tensor);
    let by_name: std::collections::BTreeMap<_, _> = all.collect();
    by_name.into_iter().collect()
}

fn kind(object: &Object) -> &'static str {
    match object {
        Object::Tensor(_) => "a tensor without a name",
        Object::List(_) | Object::Tuple(_) => "a list",
        Object::Text(_) => "a text",
        _ => "something else",
    }
}

/// A hash of a pickle and of where its tensors are.
pub(super) fn digest(mut hasher: blake3::Hasher, tensors: &[TensorInfo]) -> String {
    for tensor in tensors {
        hasher.update(&tensor.offset.to_le_bytes());
    }
    hasher.finalize().to_hex().to_string()
}
