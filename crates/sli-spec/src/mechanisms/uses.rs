//! Which weights a step uses. Mechanisms destructure themselves when they tell, so that a new field cannot be
//! forgotten.

use super::HeadNorm;
use crate::model::{Branch, Gain, Linear, Norm, Step, Write};
use crate::source::WeightIndex;

impl Step {
    /// Every weight that the step uses, in the order of use, without repetitions.
    pub fn weights(&self) -> Vec<WeightIndex> {
        let mut uses = Uses::default();
        let Self {
            read: _,
            pre,
            branches,
            post,
            write,
        } = self;
        uses.norm(pre.as_ref());
        for Branch {
            pre,
            mixer,
            post,
            gain,
        } in branches
        {
            uses.norm(pre.as_ref());
            mixer.facts().weights(&mut uses);
            uses.norm(post.as_ref());
            uses.gain(gain);
        }
        uses.norm(post.as_ref());
        match write {
            Write::Add | Write::Set(_) | Write::AddTo(_) => {}
            Write::AddScaled(gain) => uses.gain(gain),
            Write::AddNorm(norm, gain) => {
                uses.gain(gain);
                uses.norm(Some(norm));
            }
        }
        uses.0
    }
}

/// Collects weights in the order of use, each once.
#[derive(Debug, Default)]
pub struct Uses(Vec<WeightIndex>);

impl Uses {
    /// One weight.
    pub fn weight(&mut self, index: WeightIndex) {
        if !self.0.contains(&index) {
            self.0.push(index);
        }
    }

    /// A weight, where there is one.
    pub fn optional(&mut self, index: Option<WeightIndex>) {
        if let Some(index) = index {
            self.weight(index);
        }
    }

    /// Matrix and addend.
    pub fn linear(&mut self, linear: &Linear) {
        let Linear {
            weight,
            bias,
            out_features: _,
            in_features: _,
        } = linear;
        self.weight(*weight);
        self.optional(*bias);
    }

    /// Factor and addend of a norm, where there is one.
    pub fn norm(&mut self, norm: Option<&Norm>) {
        if let Some(Norm {
            kind: _,
            weight,
            bias,
            epsilon: _,
        }) = norm
        {
            self.optional(*weight);
            self.optional(*bias);
        }
    }

    /// The same of a norm of heads.
    pub fn head_norm(&mut self, norm: Option<&HeadNorm>) {
        if let Some(HeadNorm {
            norm,
            span: _,
            after_rotation: _,
        }) = norm
        {
            self.norm(Some(norm));
        }
    }

    /// A learned factor.
    pub fn gain(&mut self, gain: &Gain) {
        match gain {
            Gain::One | Gain::Constant(_) => {}
            Gain::Vector(index) => self.weight(*index),
        }
    }
}
