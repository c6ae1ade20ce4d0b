//! What a code is.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value};
use sli_kernels::{Isa, Vectorized, Vectors};

use crate::problem::LeafProblem;

/// How a code's matrix and its parts lie.
pub(crate) trait Areas: Debug + Send + Sync {
    /// Rows and columns of a block: those of one block are best read together.
    fn block(&self) -> [usize; 2];

    /// Rows and columns of a part that these rows and columns of the matrix need.
    fn area(&self, part: usize, rows: &Range<usize>, columns: &Range<usize>) -> [Range<usize>; 2];

    /// A part that all numbers need whole.
    fn whole_part(&self) -> Option<usize> {
        None
    }

    /// Whether the inputs of products with it are rounded to 8 bits a row, which is then part of the model.
    fn rounds_inputs(&self) -> bool {
        false
    }
}

/// What turns stored bytes into numbers: of a matrix, or of each of a stack of them.
pub(crate) trait Code: Areas {
    /// Decodes rows and columns of the matrix. The numbers are the same on every instruction set.
    ///
    /// # Errors
    /// What is stored cannot be decoded.
    fn decode(&self, isa: Isa, wanted: Wanted<'_>) -> Result<(), Fault>;
}

/// A [`Code`] as it is written: decoding is compiled for every instruction set.
pub(super) trait Decode: Areas {
    /// As [`Code::decode`]. Implementations are `#[inline(always)]`, as is all in them that runs for every number.
    fn decode<V: Vectors>(&self, vectors: V, wanted: Wanted<'_>) -> Result<(), Fault>;
}

/// Where rows and columns begin and end in a matrix of some width that is seen flat, row after row.
pub(super) fn flat(width: usize, rows: &Range<usize>, columns: &Range<usize>) -> Range<usize> {
    let last = rows.end.saturating_sub(1) * width;
    rows.start * width + columns.start..last + columns.end
}

/// The groups of so many that a range has some of.
#[inline(always)]
pub(super) fn groups(range: &Range<usize>, size: usize) -> Range<usize> {
    range.start / size..range.end.div_ceil(size)
}

/// Rows and columns that are to be decoded.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub rows: Range<usize>,
    pub columns: Range<usize>,
    /// The areas that they need, of every part.
    pub parts: &'a [Stored<'a>],
    /// Where their numbers go, row-major.
    pub out: &'a mut [f32],
}

impl<D: Decode> Code for D {
    fn decode(&self, isa: Isa, wanted: Wanted<'_>) -> Result<(), Fault> {
        isa.vectorize(Decoding { code: self, wanted })
    }
}

struct Decoding<'a, D> {
    code: &'a D,
    wanted: Wanted<'a>,
}

impl<D: Decode> Vectorized for Decoding<'_, D> {
    type Output = Result<(), Fault>;

    #[inline(always)]
    fn run<V: Vectors>(self, vectors: V) -> Result<(), Fault> {
        self.code.decode(vectors, self.wanted)
    }
}

/// Why stored bytes are no numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Which part is wrong.
    pub part: usize,
    pub reason: &'static str,
}

/// An area of a part, as stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'a> {
    /// From its first byte on.
    pub bytes: &'a [u8],
    /// Bytes from a row to the next.
    pub stride: usize,
}

impl<'a> Stored<'a> {
    /// A row from its first byte on.
    pub fn row(&self, row: usize) -> &'a [u8] {
        &self.bytes[row * self.stride..]
    }
}

/// A stored tensor as a code sees it: matrices of elements that are whole bytes, one for each matrix of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its place in the checkpoint.
    pub tensor: u32,
    /// Rows and columns of a matrix.
    pub sides: [usize; 2],
    /// Bytes of an element.
    pub element: usize,
}

/// Numbers that several tensors hold together.
#[derive(Clone, Debug)]
pub(crate) struct Coded {
    /// Shape of the numbers, as the model knows the tensor.
    pub shape: Box<[usize]>,
    /// The code's matrices are the transposes of the tensor's.
    pub turned: bool,
    /// It is the weight of a linear module, `[out, in]`, also where the model's own module stores the transpose
    /// (`Conv1D` of GPT-2): quantisers put linear ones in place of those.
    pub linear: bool,
    /// What it takes to decode it. The first has the codes and bears the tensor's name.
    pub parts: Box<[Part]>,
    /// Tensors that belong to it and that decoding does not read.
    pub beside: Box<[u32]>,
    pub code: Arc<dyn Code>,
}

impl Coded {
    /// Numbers whose matrices are the code's own, with nothing beside the parts.
    pub fn new(
        shape: impl Into<Box<[usize]>>,
        parts: impl Into<Box<[Part]>>,
        code: Arc<dyn Code>,
    ) -> Self {
        Self {
            shape: shape.into(),
            turned: false,
            linear: false,
            parts: parts.into(),
            beside: [].into(),
            code,
        }
    }

    /// Rows and columns of the code's matrices.
    pub fn sides(&self) -> [usize; 2] {
        match (self.shape.split_last_chunk(), self.turned) {
            (Some((_, &[rows, columns])), false) => [rows, columns],
            (Some((_, &[rows, columns])), true) => [columns, rows],
            (None, _) => [1, self.shape.first().copied().unwrap_or(1)],
        }
    }

    /// Bytes of the part that all numbers need whole.
    pub fn whole_bytes(&self) -> usize {
        let part = self.code.whole_part().and_then(|at| self.parts.get(at));
        part.map_or(0, |part| part.sides[0] * part.sides[1] * part.element)
    }

    /// The places of all its tensors.
    pub fn tensors(&self) -> impl Iterator<Item = u32> {
        // Parts of one tensor follow one another.
        let mut last = None;
        let parts = self.parts.iter().map(|part| part.tensor);
        let parts = parts.filter(move |&tensor| last.replace(tensor) != Some(tensor));
        parts.chain(self.beside.iter().copied())
    }

    /// Gives every tensor the place that `moved` has for its present one.
    pub fn relocate(&mut self, moved: &[u32]) {
        let to = |place: &mut u32| {
            if let Some(moved) = moved.get(*place as usize) {
                *place = *moved;
            }
        };
        self.parts.iter_mut().for_each(|part| to(&mut part.tensor));
        self.beside.iter_mut().for_each(to);
    }
}

/// A coded tensor that was found by the first of its parts.
#[derive(Debug)]
pub(crate) struct Found {
    /// The name that the model has for it.
    pub name: String,
    pub coded: Result<Coded, LeafProblem>,
}

/// What files say of themselves and what is not known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCode {
    /// The key within `quantization_config`; empty: all of it.
    pub key: String,
    /// Its value.
    pub found: String,
    /// What is known instead.
    pub reason: &'static str,
}

/// Reads keys of a configuration, each of which has to be known.
pub(super) struct Keys<'c>(pub &'c Map<String, Value>);

impl Keys<'_> {
    /// A value that is not what it can be.
    pub fn unknown(key: &str, found: &Value, reason: &'static str) -> UnknownCode {
        UnknownCode {
            key: key.to_owned(),
            found: found.to_string(),
            reason,
        }
    }

    /// Refuses keys beside those that are `known`.
    pub fn only(&self, known: &[&str]) -> Result<(), UnknownCode> {
        match self
            .0
            .iter()
            .find(|(key, _)| !known.contains(&key.as_str()))
        {
            Some((key, value)) => Err(Self::unknown(
                key,
                value,
                "the key is not known with this code",
            )),
            None => Ok(()),
        }
    }

    /// A key that is absent, `null` or one of some words.
    pub fn one_of(
        &self,
        key: &str,
        words: &[&str],
        reason: &'static str,
    ) -> Result<(), UnknownCode> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(()),
            Some(Value::String(word)) if words.contains(&word.as_str()) => Ok(()),
            Some(other) => Err(Self::unknown(key, other, reason)),
        }
    }

    /// A key that is absent, `null` or a list of names. Which tensors are coded is seen on them.
    pub fn names(&self, key: &str) -> Result<(), UnknownCode> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(()),
            Some(Value::Array(names)) if names.iter().all(Value::is_string) => Ok(()),
            Some(other) => Err(Self::unknown(key, other, "a list of names is wanted")),
        }
    }

    /// A key that is absent, `null` or one of some numbers.
    pub fn number(
        &self,
        key: &str,
        numbers: &[u64],
        reason: &'static str,
    ) -> Result<(), UnknownCode> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(()),
            Some(value)
                if value
                    .as_u64()
                    .is_some_and(|number| numbers.contains(&number)) =>
            {
                Ok(())
            }
            Some(other) => Err(Self::unknown(key, other, reason)),
        }
    }

    /// A switch that is off, if it is there.
    pub fn off(&self, key: &str, reason: &'static str) -> Result<(), UnknownCode> {
        match self.0.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => Ok(()),
            Some(other) => Err(Self::unknown(key, other, reason)),
        }
    }

    /// How many share a scale; `None`: all, which the file says as −1, `null` or nothing.
    pub fn group(&self, key: &str) -> Result<Option<usize>, UnknownCode> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) if value.as_i64() == Some(-1) => Ok(None),
            Some(value) => {
                let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
                let size = size.filter(|&size| size > 0);
                let reason = "a size of at least 1 is wanted, or -1";
                size.map(Some)
                    .ok_or_else(|| Self::unknown(key, value, reason))
            }
        }
    }
}

/// A scale of zero has lost what it scales.
pub(super) const ZERO_SCALE: Fault = Fault {
    part: 1,
    reason: "a scale is zero where the numbers that it scales are not",
};

/// Whether drawn bytes are the same numbers on every instruction set: all of a matrix of these sides, and some of it.
/// Parts have elements of so many bytes.
#[cfg(test)]
pub(super) fn assert_alike(code: &dyn Code, [height, width]: [usize; 2], elements: &[usize]) {
    let some = (1..height, 3..width - 2);
    for (rows, columns) in [(0..height, 0..width), some] {
        let parts = elements.iter().enumerate().map(|(part, &element)| {
            let [down, along] = code.area(part, &rows, &columns);
            let stride = along.len() * element;
            let dice = |at: usize| (part + 1 + at).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let bytes = (0..stride * down.len()).map(|at| dice(at) as u8);
            (bytes.collect::<Vec<u8>>(), stride)
        });
        let parts: Vec<(Vec<u8>, usize)> = parts.collect();
        let stored = parts.iter().map(|(bytes, stride)| Stored {
            bytes,
            stride: *stride,
        });
        let stored: Vec<Stored<'_>> = stored.collect();
        let on = |isa: Isa| {
            let mut out = vec![0.0_f32; rows.len() * columns.len()];
            let wanted = Wanted {
                rows: rows.clone(),
                columns: columns.clone(),
                parts: &stored,
                out: &mut out,
            };
            let done = code.decode(isa, wanted);
            let bits = out.into_iter().map(|number| {
                let number = if number.is_nan() { f32::NAN } else { number };
                number.to_bits()
            });
            (done, bits.collect::<Vec<u32>>())
        };
        let plain = on(Isa::Plain);
        assert!(plain.1.iter().any(|&bits| bits != 0), "{code:?}");
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            assert!(on(isa) == plain, "{code:?} on {isa}");
        }
    }
}
