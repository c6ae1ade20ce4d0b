//! Norms of whole rows and of heads.

use sli_kernels::{MatMut, MatRef};
use sli_spec::{HeadNorm, Norm, NormKind, NormSpan, StoredNorm};

use super::BoundLayer;
use crate::error::EngineError;

impl BoundLayer<'_> {
    /// `out = norm(x)`, row by row.
    pub fn norm(&self, norm: &Norm, x: MatRef<'_>, mut out: MatMut<'_>) -> Result<(), EngineError> {
        let (weight, bias) = (self.optional(norm.weight)?, self.optional(norm.bias)?);
        let (weight, bias) = (weight.as_deref(), bias.as_deref());
        let epsilon = norm.epsilon as f32;
        match norm.kind {
            NormKind::Rms => {
                self.kernels.rms_norm(x, weight, epsilon, out.reborrow());
                self.add(bias, out);
            }
            NormKind::Layer => self.kernels.layer_norm(x, weight, bias, epsilon, out),
            NormKind::L2 => {
                self.kernels.copy(x, out.reborrow());
                self.kernels.l2_norm_in_place(epsilon, out);
            }
            NormKind::RmsOfScaled => {
                self.kernels.copy(x, out.reborrow());
                self.kernels.rms_norm_of_scaled(weight, epsilon, out);
            }
            NormKind::AtMost(longest) => {
                self.kernels.copy(x, out.reborrow());
                let bounds = (longest as f32, epsilon);
                self.kernels.shorten_heads(1, weight, bounds, out);
            }
            NormKind::Affine => {
                self.kernels.copy(x, out.reborrow());
                self.affine(weight, bias, out);
            }
            NormKind::Shifted => {
                self.kernels.copy(x, out.reborrow());
                self.shifted([weight, bias], out);
            }
        }
        Ok(())
    }

    /// `x = norm(x)`, row by row.
    pub fn norm_in_place(&self, norm: &Norm, x: MatMut<'_>) -> Result<(), EngineError> {
        self.norm_parts(norm, 1, x)
    }

    /// Normalises queries, keys or values `[rows, heads * dim]` head by head or as a whole.
    pub fn head_norm(
        &self,
        head_norm: &HeadNorm,
        heads: usize,
        x: MatMut<'_>,
    ) -> Result<(), EngineError> {
        let parts = match head_norm.span {
            NormSpan::Full => 1,
            NormSpan::Head | NormSpan::HeadOwnWeight => heads,
        };
        self.norm_parts(&head_norm.norm, parts, x)
    }

    /// Normalises each of `parts` equal parts of every row.
    pub fn norm_parts(
        &self,
        norm: &Norm,
        parts: usize,
        mut x: MatMut<'_>,
    ) -> Result<(), EngineError> {
        let (weight, bias) = (self.optional(norm.weight)?, self.optional(norm.bias)?);
        let (weight, bias) = (weight.as_deref(), bias.as_deref());
        let epsilon = norm.epsilon as f32;
        match norm.kind {
            NormKind::Rms => {
                let kernels = self.kernels;
                kernels.rms_norm_heads(parts, weight, epsilon, x.reborrow());
                self.add(bias, x);
            }
            NormKind::Layer => self
                .kernels
                .layer_norm_heads(parts, weight, bias, epsilon, x),
            NormKind::L2 => self.kernels.l2_norm_heads(parts, epsilon, x),
            NormKind::RmsOfScaled => self.kernels.rms_norm_of_scaled(weight, epsilon, x),
            NormKind::AtMost(longest) => {
                let bounds = (longest as f32, epsilon);
                self.kernels.shorten_heads(parts, weight, bounds, x);
            }
            NormKind::Affine => {
                let of_row = |own: Option<&[f32]>| own.map(|own| own.repeat(x.cols() / own.len()));
                let (weight, bias) = (of_row(weight), of_row(bias));
                self.affine(weight.as_deref(), bias.as_deref(), x);
            }
            NormKind::Shifted => self.shifted([weight, bias], x),
        }
        Ok(())
    }

    /// What a norm of fixed statistics multiplies every column with.
    pub fn stored_factors(&self, norm: &StoredNorm) -> Result<Vec<f64>, EngineError> {
        let (weight, variance) = (self.vector(norm.weight)?, self.vector(norm.variance)?);
        let columns = weight.iter().zip(&*variance);
        let factors = columns.map(|(&weight, &variance)| {
            f64::from(weight) / (f64::from(variance) + norm.epsilon).sqrt()
        });
        Ok(factors.collect())
    }

    fn affine(&self, weight: Option<&[f32]>, bias: Option<&[f32]>, mut x: MatMut<'_>) {
        if let Some(weight) = weight {
            self.kernels.scale_columns(weight, x.reborrow());
        }
        self.add(bias, x);
    }

    /// `x + bias`, where there is one.
    fn add(&self, bias: Option<&[f32]>, x: MatMut<'_>) {
        if let Some(bias) = bias {
            self.kernels.add_bias(bias, x);
        }
    }

    /// `weight (x + bias)`.
    fn shifted(&self, [weight, bias]: [Option<&[f32]>; 2], mut x: MatMut<'_>) {
        self.add(bias, x.reborrow());
        if let Some(weight) = weight {
            self.kernels.scale_columns(weight, x);
        }
    }
}
