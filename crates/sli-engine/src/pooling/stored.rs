//! A weight of a module that is known to be there.

use std::path::PathBuf;

use sli_kernels::Element;

/// A tensor that is known to be in a file, with this shape.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(super) file: PathBuf,
    pub(super) name: &'static str,
    pub(super) shape: Vec<usize>,
    pub(super) element: Element,
}
