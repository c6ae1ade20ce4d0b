//! What a file's words say of its coded tensors, and what can be wrong with them.

use std::fmt::Debug;

use super::code::{Coded, Found};
use super::tensors::{Placed, Tensors};
use crate::error::CheckpointError;
use crate::problem::LeafProblem;
use crate::tensors::TensorInfo;

/// What files say of the code of their tensors.
pub(super) trait Declared: Debug + Send + Sync {
    /// The coded tensor of which a stored one is the first part; `None`: it is something else.
    fn find(
        &self,
        tensor: &TensorInfo,
        tensors: Tensors<'_>,
    ) -> Result<Option<Found>, CheckpointError>;

    /// Whether the kernels that it was made for round the inputs of products too.
    fn rounds_inputs(&self) -> bool {
        false
    }

    /// Whether it has to be told the columns of the model's matrices.
    fn needs_widths(&self) -> bool {
        false
    }
}

/// Why a coded tensor cannot be had.
pub(super) enum Trouble {
    /// It does not fit.
    Problem(LeafProblem),
    /// What says how it is coded cannot be read.
    Unread(CheckpointError),
}

impl From<LeafProblem> for Trouble {
    fn from(problem: LeafProblem) -> Self {
        Self::Problem(problem)
    }
}

impl From<CheckpointError> for Trouble {
    fn from(error: CheckpointError) -> Self {
        Self::Unread(error)
    }
}

/// A [`Declared`] by which the weights of modules are coded, each of which is found by the name of its codes.
pub(super) trait OfModules: Debug + Send + Sync {
    /// How the name of codes ends, behind that of the module.
    const CODES: &'static str;

    /// Whether a tensor of such a name has codes.
    fn is_coded(&self, _tensor: &TensorInfo) -> bool {
        true
    }

    /// The coded weight of a module.
    fn coded(
        &self,
        module: &str,
        codes: Placed<'_>,
        tensors: Tensors<'_>,
    ) -> Result<Coded, Trouble>;

    /// As [`Declared::rounds_inputs`].
    fn rounds_inputs(&self) -> bool {
        false
    }
}

impl<D: OfModules> Declared for D {
    fn find(
        &self,
        tensor: &TensorInfo,
        tensors: Tensors<'_>,
    ) -> Result<Option<Found>, CheckpointError> {
        let module = tensor.name.strip_suffix(D::CODES);
        let Some(module) = module.filter(|_| self.is_coded(tensor)) else {
            return Ok(None);
        };
        let codes = tensors.need(&tensor.name).map_err(Trouble::from);
        let coded = codes.and_then(|codes| self.coded(module, codes, tensors));
        found(&format!("{module}.weight"), coded)
    }

    fn rounds_inputs(&self) -> bool {
        OfModules::rounds_inputs(self)
    }
}

/// A coded tensor that the model knows by this name.
pub(super) fn found(
    name: &str,
    coded: Result<Coded, Trouble>,
) -> Result<Option<Found>, CheckpointError> {
    let coded = match coded {
        Ok(coded) => Ok(coded),
        Err(Trouble::Problem(problem)) => Err(problem),
        Err(Trouble::Unread(error)) => return Err(error),
    };
    let name = name.to_owned();
    Ok(Some(Found { name, coded }))
}
