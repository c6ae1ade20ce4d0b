//! A machine for the instructions of a pickle that has no way to execute anything.
//!
//! Objects lie in one list and refer to one another by their places in it, so nothing is ever copied or expanded and
//! depth costs nothing. A name of a module's object is kept as a name; what is called has to be one of
//! [`Function`], whose results are plain data. Every instruction makes at most one object, and there are bounds on
//! objects, on the stack and on the marks in it.

use std::collections::HashMap;

use super::problem::TorchError;

/// Most objects of a pickle: a tensor takes about twenty.
const MAX_OBJECTS: usize = 4 << 20;
/// Most values on the stack, and most marks.
const MAX_STACK: usize = 1 << 20;
const MAX_MARKS: usize = 1 << 12;
/// Most bytes of a whole number that is looked at; longer ones are kept as something else.
const WIDE: usize = 8;

/// The rule that a pickle breaks which goes on behind the bytes that are there.
pub(super) const CUT_OFF: &str = "it ends within an instruction";

/// A place in the list of objects.
pub(super) type Place = u32;

/// An object.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Object {
    None,
    Bool(bool),
    Int(i64),
    Text(Box<str>),
    Tuple(Box<[Place]>),
    List(Vec<Place>),
    Dict(Vec<(Place, Place)>),
    /// Something named in a module.
    Name(Box<str>),
    Storage(Place),
    Tensor(Tensor),
    /// What weights never depend on: a float, bytes, a set, a device.
    Other,
}

/// A tensor as it is described.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    pub storage: Place,
    pub offset: Place,
    pub shape: Place,
    pub strides: Place,
    /// The type, where the storage does not say it.
    pub dtype: Option<Place>,
}

/// What may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Dict,
    Size,
    Tensor,
    /// With the type behind the usual arguments.
    TypedTensor,
    Parameter,
    /// What makes something that weights do not depend on.
    Other,
}

impl Function {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "collections OrderedDict" | "builtins dict" | "__builtin__ dict" => Self::Dict,
            "torch Size" => Self::Size,
            "torch._utils _rebuild_tensor" | "torch._utils _rebuild_tensor_v2" => Self::Tensor,
            "torch._utils _rebuild_tensor_v3" => Self::TypedTensor,
            "torch._utils _rebuild_parameter" | "torch._utils _rebuild_parameter_with_state" => {
                Self::Parameter
            }
            "torch device"
            | "_codecs encode"
            | "builtins set"
            | "__builtin__ set"
            | "collections Counter" => Self::Other,
            _ => return None,
        })
    }
}

/// What a pickle describes.
#[derive(Debug, Default)]
pub(super) struct Pickle {
    objects: Vec<Object>,
    pub root: Place,
    /// Bytes of it, to its end.
    pub length: usize,
}

impl Pickle {
    /// Follows the instructions at the beginning of `bytes`.
    pub fn read(bytes: &[u8]) -> Result<Self, TorchError> {
        let mut machine = Machine {
            bytes,
            at: 0,
            objects: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        let root = machine.run()?;
        Ok(Self {
            objects: machine.objects,
            root,
            length: machine.at,
        })
    }

    pub fn get(&self, place: Place) -> &Object {
        self.objects.get(place as usize).unwrap_or(&Object::None)
    }

    /// Every storage.
    pub fn storages(&self) -> impl Iterator<Item = Place> {
        let objects = (0..).zip(&self.objects);
        objects.filter_map(|(place, object)| matches!(object, Object::Storage(_)).then_some(place))
    }

    pub fn text(&self, place: Place) -> Option<&str> {
        match self.get(place) {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A number that is not negative.
    pub fn number(&self, place: Place) -> Option<u64> {
        match self.get(place) {
            Object::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// Numbers that are not negative.
    pub fn numbers(&self, place: Place) -> Option<Vec<u64>> {
        let items: &[Place] = match self.get(place) {
            Object::Tuple(items) => items,
            Object::List(items) => items,
            _ => return None,
        };
        items.iter().map(|item| self.number(*item)).collect()
    }
}

struct Machine<'b> {
    bytes: &'b [u8],
    at: usize,
    objects: Vec<Object>,
    stack: Vec<Place>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Place>,
}

type Step<T = ()> = Result<T, TorchError>;

impl<'b> Machine<'b> {
    fn wrong(&self, rule: &'static str) -> TorchError {
        TorchError::Pickle { at: self.at, rule }
    }

    /// To the end of the pickle, whose object it gives.
    fn run(&mut self) -> Step<Place> {
        loop {
            let begin = self.at;
            let opcode = self.number::<1>()? as u8;
            if opcode == b'.' {
                return self.pop();
            }
            match self.step(opcode) {
                Err(TorchError::Opcode { opcode, .. }) => {
                    return Err(TorchError::Opcode { at: begin, opcode });
                }
                other => other?,
            }
        }
    }

    fn step(&mut self, opcode: u8) -> Step {
        match opcode {
            0x80 => self.protocol(),
            // The length of a frame, which says nothing new.
            0x95 => self.take_bytes(8).map(drop),
            b'(' => self.mark(),
            b'0' => self.pop().map(drop),
            b'1' => self.items().map(drop),
            b'2' => self.top().and_then(|top| self.push_place(top)),
            b'N' => self.push(Object::None),
            0x88 => self.push(Object::Bool(true)),
            0x89 => self.push(Object::Bool(false)),
            b'K' | b'M' | b'J' | 0x8a | 0x8b => self.whole_number(opcode),
            b'G' => self.take_bytes(8).and_then(|_| self.push(Object::Other)),
            b'U' | b'T' | b'X' | 0x8c | 0x8d => self.text(opcode),
            b'C' | b'B' | 0x8e => self.byte_string(opcode),
            b']' => self.push(Object::List(Vec::new())),
            b')' => self.push(Object::Tuple(Box::default())),
            b'}' => self.push(Object::Dict(Vec::new())),
            0x8f => self.push(Object::Other),
            b't' | b'l' | b'd' | 0x91 => self.collection(opcode),
            0x85..=0x87 => self.short_tuple(usize::from(opcode - 0x84)),
            b'a' | b'e' | b's' | b'u' | 0x90 => self.add(opcode),
            b'c' => self.name_of_lines(),
            0x93 => self.name_of_stack(),
            b'R' => self.call(),
            b'b' => self.build(),
            b'Q' => self.storage(),
            b'q' | b'r' | 0x94 => self.keep(opcode),
            b'h' | b'j' => self.recall(opcode),
            opcode => Err(TorchError::Opcode {
                at: self.at,
                opcode,
            }),
        }
    }

    fn take_bytes(&mut self, count: usize) -> Step<&'b [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let bytes = rest.get(..count);
        let bytes = bytes.ok_or_else(|| self.wrong(CUT_OFF))?;
        self.at += count;
        Ok(bytes)
    }

    fn number<const N: usize>(&mut self) -> Step<u64> {
        let bytes = self.take_bytes(N)?;
        let mut whole = [0; 8];
        whole
            .iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
        Ok(u64::from_le_bytes(whole))
    }

    /// As many bytes as a number of `N` bytes says.
    fn counted<const N: usize>(&mut self) -> Step<&'b [u8]> {
        let count = self.number::<N>()?;
        let count = usize::try_from(count).map_err(|_| self.wrong("a length is too large"))?;
        self.take_bytes(count)
    }

    fn line(&mut self) -> Step<&'b str> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|&byte| byte == b'\n');
        let end = end.ok_or_else(|| self.wrong(CUT_OFF))?;
        let line = self.take_bytes(end + 1)?;
        let line = line.get(..end).unwrap_or_default();
        std::str::from_utf8(line).map_err(|_| self.wrong("a name is not UTF-8"))
    }

    fn protocol(&mut self) -> Step {
        match self.number::<1>()? {
            2..=5 => Ok(()),
            _ => Err(self.wrong("its protocol is not known")),
        }
    }

    fn push_place(&mut self, place: Place) -> Step {
        if self.stack.len() >= MAX_STACK {
            return Err(self.wrong("its stack grows without end"));
        }
        self.stack.push(place);
        Ok(())
    }

    fn push(&mut self, object: Object) -> Step {
        if self.objects.len() >= MAX_OBJECTS {
            return Err(self.wrong("it has more objects than any real one"));
        }
        let place = self.objects.len() as Place;
        self.objects.push(object);
        self.push_place(place)
    }

    fn mark(&mut self) -> Step {
        if self.marks.len() >= MAX_MARKS {
            return Err(self.wrong("its marks are nested without end"));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// What the stack has above its last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Step<Place> {
        let place = (self.stack.len() > self.floor()).then(|| self.stack.pop());
        place
            .flatten()
            .ok_or_else(|| self.wrong("its stack is empty"))
    }

    fn top(&self) -> Step<Place> {
        let top = self.stack.get(self.floor()..).and_then(<[_]>::last);
        top.copied().ok_or_else(|| self.wrong("its stack is empty"))
    }

    /// What is above the last mark, which is taken off with it.
    fn items(&mut self) -> Step<Vec<Place>> {
        let mark = self.marks.pop();
        let mark = mark.ok_or_else(|| self.wrong("there is no mark on its stack"))?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn whole_number(&mut self, opcode: u8) -> Step {
        let bytes = match opcode {
            b'K' => {
                return self
                    .number::<1>()
                    .and_then(|n| self.push(Object::Int(n as i64)));
            }
            b'M' => {
                return self
                    .number::<2>()
                    .and_then(|n| self.push(Object::Int(n as i64)));
            }
            b'J' => self.take_bytes(4)?,
            0x8a => self.counted::<1>()?,
            _ => self.counted::<4>()?,
        };
        if bytes.len() > WIDE {
            return self.push(Object::Other);
        }
        // The sign is that of the last byte.
        let sign = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut whole = [if sign { 0xff } else { 0 }; 8];
        whole
            .iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
        self.push(Object::Int(i64::from_le_bytes(whole)))
    }

    fn text(&mut self, opcode: u8) -> Step {
        let bytes = match opcode {
            b'U' | 0x8c => self.counted::<1>()?,
            b'T' | b'X' => self.counted::<4>()?,
            _ => self.counted::<8>()?,
        };
        match std::str::from_utf8(bytes) {
            Ok(text) => self.push(Object::Text(text.into())),
            // A string of Python 2 may be any bytes.
            Err(_) if matches!(opcode, b'U' | b'T') => self.push(Object::Other),
            Err(_) => Err(self.wrong("a text is not UTF-8")),
        }
    }

    fn byte_string(&mut self, opcode: u8) -> Step {
        match opcode {
            b'C' => self.counted::<1>()?,
            b'B' => self.counted::<4>()?,
            _ => self.counted::<8>()?,
        };
        self.push(Object::Other)
    }

    fn collection(&mut self, opcode: u8) -> Step {
        let items = self.items()?;
        let object = match opcode {
            b't' => Object::Tuple(items.into()),
            b'l' => Object::List(items),
            b'd' => Object::Dict(self.pairs(&items)?),
            _ => Object::Other,
        };
        self.push(object)
    }

    fn pairs(&self, items: &[Place]) -> Step<Vec<(Place, Place)>> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.wrong("a key has no value"));
        }
        Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
    }

    fn short_tuple(&mut self, length: usize) -> Step {
        let start = self.stack.len().checked_sub(length);
        let start = start.filter(|start| *start >= self.floor());
        let start = start.ok_or_else(|| self.wrong("its stack is empty"))?;
        let items = self.stack.split_off(start);
        self.push(Object::Tuple(items.into()))
    }

    /// Adds to the list, dictionary or set below.
    fn add(&mut self, opcode: u8) -> Step {
        let items = match opcode {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.items()?,
        };
        let pairs = match opcode {
            b's' | b'u' => self.pairs(&items)?,
            _ => Vec::new(),
        };
        let into = self.top()?;
        match (opcode, self.objects.get_mut(into as usize)) {
            (b'a' | b'e', Some(Object::List(list))) => list.extend(items),
            (b's' | b'u', Some(Object::Dict(dict))) => dict.extend(pairs),
            (0x90 | b's' | b'u', Some(Object::Other)) => {}
            _ => return Err(self.wrong("something is added to what is no collection")),
        }
        Ok(())
    }

    fn name_of_lines(&mut self) -> Step {
        let (module, name) = (self.line()?, self.line()?);
        self.push(Object::Name(format!("{module} {name}").into()))
    }

    fn name_of_stack(&mut self) -> Step {
        let (name, module) = (self.pop()?, self.pop()?);
        let text = |place: Place| match self.objects.get(place as usize) {
            Some(Object::Text(text)) => Ok(text),
            _ => Err(self.wrong("a name is no text")),
        };
        let name = format!("{} {}", text(module)?, text(name)?);
        self.push(Object::Name(name.into()))
    }

    /// A function of the list, on arguments.
    fn call(&mut self) -> Step {
        let at = self.at;
        let (arguments, function) = (self.pop()?, self.pop()?);
        let function = match self.objects.get(function as usize) {
            Some(Object::Name(name)) => Function::named(name).ok_or_else(|| TorchError::Call {
                at,
                name: name.replace(' ', "."),
            })?,
            _ => return Err(self.wrong("what it wants called has no name")),
        };
        let Some(Object::Tuple(arguments)) = self.objects.get(arguments as usize) else {
            return Err(self.wrong("its arguments are no tuple"));
        };
        let arguments = arguments.clone();
        let object = self.result(function, &arguments);
        let object = object.ok_or_else(|| self.wrong("a function has other arguments"))?;
        match object {
            Ok(place) => self.push_place(place),
            Err(object) => self.push(object),
        }
    }

    /// What a function gives: an object that is there, or a new one.
    fn result(&self, function: Function, arguments: &[Place]) -> Option<Result<Place, Object>> {
        let object = |place: &Place| self.objects.get(*place as usize);
        Some(match (function, arguments) {
            (Function::Dict, []) => Err(Object::Dict(Vec::new())),
            (Function::Dict, [pairs]) => {
                let Object::List(pairs) = object(pairs)? else {
                    return None;
                };
                let pair = |place: &Place| match object(place)? {
                    Object::Tuple(pair) => <[Place; 2]>::try_from(&**pair).ok(),
                    Object::List(pair) => <[Place; 2]>::try_from(&**pair).ok(),
                    _ => None,
                };
                let pairs = pairs
                    .iter()
                    .map(|place| pair(place).map(|[key, value]| (key, value)));
                Err(Object::Dict(pairs.collect::<Option<_>>()?))
            }
            (Function::Size, [sizes]) => match object(sizes)? {
                Object::Tuple(_) => Ok(*sizes),
                Object::List(items) => Err(Object::Tuple(items.clone().into())),
                _ => return None,
            },
            (Function::Tensor, &[storage, offset, shape, strides, ..]) => {
                Err(Object::Tensor(Tensor {
                    storage,
                    offset,
                    shape,
                    strides,
                    dtype: None,
                }))
            }
            (Function::TypedTensor, &[storage, offset, shape, strides, _, _, dtype, ..]) => {
                Err(Object::Tensor(Tensor {
                    storage,
                    offset,
                    shape,
                    strides,
                    dtype: Some(dtype),
                }))
            }
            (Function::Parameter, [tensor, ..]) => Ok(*tensor),
            (Function::Other, _) => Err(Object::Other),
            _ => return None,
        })
    }

    /// Attributes of an object, none of which counts: a dictionary's `_metadata`.
    fn build(&mut self) -> Step {
        self.pop()?;
        let object = self.top()?;
        match self.objects.get(object as usize) {
            Some(Object::Dict(_) | Object::Tensor(_) | Object::Other) => Ok(()),
            _ => Err(self.wrong("it gives attributes to what has none")),
        }
    }

    fn storage(&mut self) -> Step {
        let id = self.pop()?;
        self.push(Object::Storage(id))
    }

    fn keep(&mut self, opcode: u8) -> Step {
        let key = match opcode {
            b'q' => self.number::<1>()?,
            b'r' => self.number::<4>()?,
            _ => self.memo.len() as u64,
        };
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, opcode: u8) -> Step {
        let key = match opcode {
            b'h' => self.number::<1>()?,
            _ => self.number::<4>()?,
        };
        let place = self.memo.get(&key).copied();
        let place = place.ok_or_else(|| self.wrong("it recalls what it did not keep"))?;
        self.push_place(place)
    }
}
