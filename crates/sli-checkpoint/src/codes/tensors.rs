//! The tensors of a checkpoint, as those see them who look for the parts of a coded one.

use std::fmt::Debug;

use crate::codes::code::Part;
use crate::codes::widths::Widths;
use crate::dtype::Dtype;
use crate::error::CheckpointError;
use crate::problem::LeafProblem;
use crate::tensors::TensorInfo;

/// What has tensors by the names in its files: a checkpoint, which itself is told what its tensors' codes are.
pub(crate) trait Holder: Debug {
    /// The place of a tensor.
    fn position_of(&self, name: &str) -> Option<usize>;

    /// The tensor at a place.
    fn tensor_in(&self, place: usize) -> Option<&TensorInfo>;

    /// Reads bytes of a tensor that is no weight.
    fn look(&self, tensor: &TensorInfo, out: &mut [u8]) -> Result<(), CheckpointError>;

    /// For messages.
    fn description(&self) -> String;
}

/// The tensors of a checkpoint by the names in its files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tensors<'c> {
    pub holder: &'c dyn Holder,
    /// What the model knows of them.
    pub widths: &'c Widths,
}

/// A tensor and its place.
pub(super) type Placed<'c> = (u32, &'c TensorInfo);

impl<'c> Tensors<'c> {
    /// The tensor of this name.
    pub fn get(self, name: &str) -> Option<Placed<'c>> {
        let at = self.holder.position_of(name)?;
        Some((at as u32, self.holder.tensor_in(at)?))
    }

    /// The tensor of this name, without which another one cannot be decoded.
    pub fn need(self, name: &str) -> Result<Placed<'c>, LeafProblem> {
        self.get(name).ok_or_else(|| LeafProblem::Missing {
            names: vec![name.to_owned()],
            partly: true,
        })
    }

    /// The bytes of a small tensor that says how others are coded.
    pub fn read(self, tensor: &TensorInfo) -> Result<Vec<u8>, CheckpointError> {
        const LIMIT: u64 = 64 << 10;
        if tensor.bytes > LIMIT || tensor.strides.is_some() {
            let problem = structure(tensor, format!("at most {LIMIT} bytes in a row are wanted"));
            let place = self.holder.description();
            return Err(CheckpointError::Leaf { place, problem });
        }
        let mut bytes = vec![0; tensor.bytes as usize];
        self.holder.look(tensor, &mut bytes)?;
        Ok(bytes)
    }
}

/// A tensor whose shape is not what it is to be.
pub(super) fn structure(tensor: &TensorInfo, reason: impl Into<String>) -> LeafProblem {
    LeafProblem::Structure {
        name: tensor.name.to_string(),
        shape: tensor.shape.to_vec(),
        reason: reason.into(),
    }
}

/// A tensor of a type that it cannot have.
pub(super) fn mistyped(tensor: &TensorInfo, wanted: &str) -> LeafProblem {
    LeafProblem::Dtype {
        name: tensor.name.to_string(),
        found: tensor.dtype,
        wanted: wanted.to_owned(),
    }
}

/// Refuses a tensor of another type.
pub(super) fn of_type(tensor: &TensorInfo, dtype: Dtype) -> Result<(), LeafProblem> {
    if tensor.dtype == dtype {
        Ok(())
    } else {
        Err(mistyped(tensor, dtype.name()))
    }
}

/// The sides of a tensor that is a matrix.
pub(super) fn matrix(tensor: &TensorInfo) -> Result<[usize; 2], LeafProblem> {
    let sides = (*tensor.shape).try_into();
    sides.map_err(|_| structure(tensor, "a matrix is wanted"))
}

/// The axes of a stack of matrices and the sides of each.
pub(super) fn matrices(tensor: &TensorInfo) -> Result<(&[usize], [usize; 2]), LeafProblem> {
    let found = tensor.shape.split_last_chunk();
    let (leading, sides) = found.ok_or_else(|| structure(tensor, "a coded weight is a matrix"))?;
    Ok((leading, *sides))
}

/// A tensor as a part, seen as matrices of these sides, whatever its shape is.
pub(super) fn seen((tensor, info): Placed<'_>, sides: [usize; 2]) -> Part {
    Part {
        tensor,
        sides,
        element: element(info.dtype),
    }
}

/// What is wanted of a scale of a whole matrix.
pub(super) const ONE_SCALE: &str = "one scale for all is wanted";

/// A tensor as a part, if it has so many numbers, whatever its axes.
pub(super) fn list(
    tensor: Placed<'_>,
    count: usize,
    wanted: impl FnOnce() -> String,
) -> Result<Part, LeafProblem> {
    if tensor.1.elements() == count as u64 {
        Ok(seen(tensor, [1, count]))
    } else {
        Err(structure(tensor.1, wanted()))
    }
}

/// A tensor as a part, seen as matrices of these sides, if its shape is `leading` and then `shape`.
pub(super) fn part(
    tensor: Placed<'_>,
    leading: &[usize],
    shape: &[usize],
    sides: [usize; 2],
) -> Result<Part, LeafProblem> {
    let info = tensor.1;
    let wanted = [leading, shape].concat();
    if *info.shape != *wanted {
        return Err(LeafProblem::Shape {
            name: info.name.to_string(),
            found: info.shape.to_vec(),
            wanted,
        });
    }
    Ok(seen(tensor, sides))
}

/// Bytes of an element; where several share a byte, the byte is the element.
pub(super) fn element(dtype: Dtype) -> usize {
    dtype.size_bytes().unwrap_or(1)
}
