//! What a model reads of pictures.

/// A tensor of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The name of the reference's argument.
    pub name: &'static str,
    /// Its axes, the outermost first.
    pub shape: Vec<usize>,
    /// Its numbers, the last axis innermost.
    pub values: Values,
}

/// Numbers of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Of single precision.
    F32(Vec<f32>),
    /// Whole numbers.
    I64(Vec<i64>),
}

impl Tensor {
    /// One of single precision.
    pub fn floats(name: &'static str, shape: &[usize], values: Vec<f32>) -> Self {
        Self {
            name,
            shape: shape.to_vec(),
            values: Values::F32(values),
        }
    }

    /// One of whole numbers.
    pub fn integers(name: &'static str, shape: &[usize], values: Vec<i64>) -> Self {
        Self {
            name,
            shape: shape.to_vec(),
            values: Values::I64(values),
        }
    }
}
