//! Python's values, as far as templates meet them.

use std::cell::RefCell;
use std::rc::Rc;

use num_bigint::BigInt;
use num_traits::ToPrimitive;

use crate::dict::Dict;
use crate::error::{Outcome, type_error};
use crate::iterate::Iter;
use crate::loops::Loop;
use crate::run::Closure;

/// A value. Lists and mappings never change: the sandbox refuses what would change them.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// What is not there, and why.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits.
    Big(Rc<BigInt>),
    Float(f64),
    Str(Rc<str>),
    /// A string that counts as escaped.
    Markup(Rc<str>),
    Bytes(Rc<[u8]>),
    List(Rc<Vec<Value>>),
    Tuple(Rc<Vec<Value>>),
    /// What `groupby` gives: a tuple whose items are `grouper` and `list` too.
    Group(Rc<Vec<Value>>),
    Dict(Rc<Dict>),
    View(Rc<Dict>, View),
    Range(Range),
    /// Something that is iterated once.
    Iter(Rc<RefCell<Iter>>),
    Namespace(Rc<RefCell<Dict>>),
    Macro(Rc<Closure>),
    Loop(Rc<RefCell<Loop>>),
    Cycler(Rc<(Vec<Value>, RefCell<usize>)>),
    Joiner(Rc<(Value, RefCell<bool>)>),
    /// A method of a value.
    Method(Rc<(Value, Rc<str>)>),
    Function(Function),
}

/// What a view of a mapping shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Keys,
    Values,
    Items,
}

/// Functions that every template has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Range,
    Dict,
    Namespace,
    Cycler,
    Joiner,
    Lipsum,
    RaiseException,
    StrftimeNow,
}

/// `range(start, stop, step)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub start: i64,
    pub stop: i64,
    pub step: i64,
}

impl Range {
    pub fn len(self) -> i64 {
        let (start, stop, step) = (
            i128::from(self.start),
            i128::from(self.stop),
            i128::from(self.step),
        );
        let length = if step > 0 {
            (stop - start + step - 1).div_euclid(step)
        } else {
            (start - stop - step - 1).div_euclid(-step)
        };
        i64::try_from(length.max(0)).unwrap_or(i64::MAX)
    }

    pub fn get(self, index: i64) -> Value {
        Value::Int(self.start + index * self.step)
    }
}

impl Value {
    pub fn undefined(reason: impl AsRef<str>) -> Self {
        Self::Undefined(reason.as_ref().into())
    }

    pub fn str(text: impl AsRef<str>) -> Self {
        Self::Str(text.as_ref().into())
    }

    /// A string of the same kind as this one.
    pub fn like(&self, text: impl AsRef<str>) -> Self {
        match self {
            Self::Markup(_) => Self::Markup(text.as_ref().into()),
            _ => Self::Str(text.as_ref().into()),
        }
    }

    pub fn list(items: Vec<Self>) -> Self {
        Self::List(Rc::new(items))
    }

    pub fn tuple(items: Vec<Self>) -> Self {
        Self::Tuple(Rc::new(items))
    }

    pub fn dict(dict: Dict) -> Self {
        Self::Dict(Rc::new(dict))
    }

    pub fn iter(iter: Iter) -> Self {
        Self::Iter(Rc::new(RefCell::new(iter)))
    }

    pub fn length(length: usize) -> Self {
        Self::Int(length as i64)
    }

    pub fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined(_))
    }

    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&Rc<str>> {
        match self {
            Self::Str(text) | Self::Markup(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a list or tuple.
    pub fn as_items(&self) -> Option<&Rc<Vec<Self>>> {
        match self {
            Self::List(items) | Self::Tuple(items) | Self::Group(items) => Some(items),
            _ => None,
        }
    }

    /// Python's `bool(value)`.
    pub fn is_true(&self) -> Outcome<bool> {
        Ok(match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Str(text) | Self::Markup(text) => !text.is_empty(),
            Self::Bytes(bytes) => !bytes.is_empty(),
            Self::List(items) | Self::Tuple(items) | Self::Group(items) => !items.is_empty(),
            Self::Dict(dict) | Self::View(dict, View::Keys | View::Items | View::Values) => {
                !dict.is_empty()
            }
            Self::Range(range) => range.len() > 0,
            Self::Loop(_)
            | Self::Big(_)
            | Self::Iter(_)
            | Self::Namespace(_)
            | Self::Macro(_)
            | Self::Cycler(_)
            | Self::Joiner(_)
            | Self::Method(_)
            | Self::Function(_) => true,
        })
    }

    /// The name of its type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "Undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::Big(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::Markup(_) => "Markup",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Group(_) => "_GroupTuple",
            Self::Dict(_) => "dict",
            Self::View(_, View::Keys) => "dict_keys",
            Self::View(_, View::Values) => "dict_values",
            Self::View(_, View::Items) => "dict_items",
            Self::Range(_) => "range",
            Self::Iter(_) => "generator",
            Self::Namespace(_) => "Namespace",
            Self::Macro(_) => "Macro",
            Self::Loop(_) => "LoopContext",
            Self::Cycler(_) => "Cycler",
            Self::Joiner(_) => "Joiner",
            Self::Method(_) => "method",
            Self::Function(_) => "function",
        }
    }

    /// An integer, of which booleans are two.
    pub fn as_int(&self) -> Option<BigInt> {
        match self {
            Self::Bool(value) => Some(BigInt::from(*value)),
            Self::Int(value) => Some(BigInt::from(*value)),
            Self::Big(value) => Some((**value).clone()),
            _ => None,
        }
    }

    /// An integer of 64 bits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Bool(value) => Some(i64::from(*value)),
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// An integer that an argument must be.
    pub fn to_i64(&self, what: &str) -> Outcome<i64> {
        match self {
            Self::Big(value) => {
                let beyond = if **value > BigInt::from(0) {
                    i64::MAX
                } else {
                    i64::MIN
                };
                Ok(beyond)
            }
            Self::Undefined(reason) => type_error(&**reason),
            value => match value.as_i64() {
                Some(value) => Ok(value),
                None => type_error(format!(
                    "{what}: `{}` cannot be interpreted as an integer",
                    value.type_name()
                )),
            },
        }
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Str(text.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<BigInt> for Value {
    fn from(value: BigInt) -> Self {
        match value.to_i64() {
            Some(value) => Self::Int(value),
            None => Self::Big(Rc::new(value)),
        }
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
