//! Python's values, as far as templates meet them.
//!
//! What a value does stands above, by what it is for. Two kinds of values bring what they do with them, so that
//! nothing here knows a template: [`Object`]s and what is [`Iterate`]d.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use num_bigint::BigInt;
use num_traits::ToPrimitive;

use crate::dict;
use crate::error::{Error, Kind, Outcome, fail, other, type_error};
use crate::range::Range;
use crate::run::Run;

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
    Iter(Rc<RefCell<dyn Iterate>>),
    Namespace(Rc<RefCell<Dict>>),
    /// A method of a value.
    Method(Rc<(Value, Rc<str>)>),
    Object(Rc<dyn Object>),
}

/// A mapping of values.
pub(crate) type Dict = dict::Dict<Value>;

/// What a view of a mapping shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Keys,
    Values,
    Items,
}

/// Arguments of a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Args {
    pub positional: Vec<Value>,
    pub keyword: Vec<(Rc<str>, Value)>,
}

/// What is gone through once, and lazily.
pub(crate) trait Iterate: fmt::Debug {
    /// The next item, for a step at least.
    fn next(&mut self, run: &mut Run) -> Outcome<Option<Value>>;
}

/// A value that says itself what it can do: a macro, `loop`, a function and the like. One is equal to itself only.
pub(crate) trait Object: fmt::Debug {
    /// The name of its type.
    fn type_name(&self) -> &'static str;

    /// An attribute that is no method; nothing if it has none of this name.
    fn attribute(&self, _name: &str, _run: &mut Run) -> Outcome<Option<Value>> {
        Ok(None)
    }

    /// The names of its methods.
    fn methods(&self) -> &'static [&'static str] {
        &[]
    }

    /// Calls a method.
    fn call_method(&self, name: &str, _args: Args, _run: &mut Run) -> Outcome<Value> {
        other(format!("a `{}` has no method `{name}`", self.type_name()))
    }

    /// Whether it can be called itself.
    fn is_callable(&self) -> bool {
        false
    }

    /// Calls it.
    fn call(&self, _args: Args, _run: &mut Run) -> Outcome<Value> {
        type_error(format!("a `{}` cannot be called", self.type_name()))
    }

    /// `repr`.
    fn repr(&self, _run: &mut Run) -> Outcome<String> {
        let name = self.type_name();
        fail(
            Kind::Other,
            format!("a {name} is printed with its place in memory"),
        )
    }

    /// `len`.
    fn length(&self, _run: &mut Run) -> Outcome<i64> {
        type_error(format!("a `{}` has no length", self.type_name()))
    }

    /// Whether Python goes through it.
    fn is_iterable(&self) -> bool {
        false
    }

    /// Why nothing here goes through it.
    fn not_iterated(&self) -> Error {
        let name = self.type_name();
        Error::new(Kind::Type, format!("a `{name}` cannot be gone through"))
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

    pub fn iter(iter: impl Iterate + 'static) -> Self {
        Self::Iter(Rc::new(RefCell::new(iter)))
    }

    pub fn object(object: impl Object + 'static) -> Self {
        Self::Object(Rc::new(object))
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
            Self::Big(_)
            | Self::Iter(_)
            | Self::Namespace(_)
            | Self::Method(_)
            | Self::Object(_) => true,
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
            Self::Method(_) => "method",
            Self::Object(object) => object.type_name(),
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
