//! Which weights are used. Mechanisms destructure themselves when they tell, so that a new field cannot be
//! forgotten.

use crate::parts::{
    Adapter, BoxBuckets, Convolution, DistanceTable, DistanceVectors, Gain, GatedMean, HeadNorm,
    KeyConvolution, Limits, Linear, Norm, Position, QueryBiases, RelativeBuckets, RowWeights,
    Segments, StoredNorm, StreamWeights,
};
use crate::source::WeightIndex;

/// Collects weights in the order of use, each once.
#[derive(Debug, Default)]
pub struct Uses {
    weights: Vec<WeightIndex>,
    /// Features inside the widest adapter, or of the widest input that is cut.
    rank: usize,
}

impl Uses {
    /// What was collected.
    pub(crate) fn collected(self) -> Vec<WeightIndex> {
        self.weights
    }

    /// Features inside the widest adapter that was used, or of the widest input that is cut.
    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    /// One weight.
    pub fn weight(&mut self, index: WeightIndex) {
        if !self.weights.contains(&index) {
            self.weights.push(index);
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
            in_features,
            adapter,
            limits,
        } = linear;
        self.weight(*weight);
        self.optional(*bias);
        if let Some(Adapter { down, up, rank }) = adapter {
            self.weight(*down);
            self.weight(*up);
            self.rank = self.rank.max(*rank);
        }
        if let Some(Limits { input, output }) = limits.as_deref() {
            for &limit in input.iter().chain(output) {
                self.weight(limit);
            }
            self.rank = self.rank.max(*in_features);
        }
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

    /// Weights and addend of a convolution.
    pub fn convolution(&mut self, convolution: &Convolution) {
        let Convolution {
            weight,
            bias,
            columns: _,
            kernel: _,
            with_row: _,
            activation: _,
        } = convolution;
        self.weight(*weight);
        self.optional(*bias);
    }

    /// What a norm of fixed statistics has.
    pub fn stored_norm(&mut self, norm: &StoredNorm) {
        let StoredNorm {
            weight,
            bias,
            mean,
            variance,
            epsilon: _,
        } = norm;
        for &index in [weight, bias, mean, variance] {
            self.weight(index);
        }
    }

    /// Weights of a convolution of keys or values.
    pub fn key_convolution(&mut self, convolution: &KeyConvolution) {
        match convolution {
            KeyConvolution::Fixed(fixed) => self.convolution(fixed),
            KeyConvolution::OfRows(RowWeights {
                weight,
                own,
                heads: _,
                columns: _,
                kernel: _,
                scale: _,
            }) => {
                self.weight(*weight);
                self.linear(own);
            }
        }
    }

    /// How positions enter an attention.
    pub fn position(&mut self, position: &Position) {
        match position {
            Position::Buckets(RelativeBuckets {
                table,
                buckets: _,
                looks_ahead: _,
                max_distance: _,
                types: _,
            }) => self.weight(*table),
            Position::Vectors(vectors) => self.distance_vectors(vectors),
            Position::Profiles(rule) => {
                self.linear(&rule.mix);
                self.head_norm(rule.norm.as_ref());
                self.weight(rule.profiles);
            }
            Position::Boxes(BoxBuckets { terms, scale: _ }) => {
                for term in terms {
                    self.weight(term.table);
                }
            }
            Position::Corners(corners) => self.weight(corners.projection),
            Position::Axes(axes) => {
                for table in axes.vectors.into_iter().flatten() {
                    self.weight(table);
                }
            }
            Position::Rope(_) | Position::Alibi(_) | Position::SparseBlocks(_) => {}
        }
    }

    fn distance_vectors(&mut self, vectors: &DistanceVectors) {
        let DistanceVectors {
            table,
            width: _,
            norm,
            keys: _,
            queries: _,
            query_biases,
            segments,
            scale: _,
            rule: _,
            places: _,
        } = vectors;
        match table {
            DistanceTable::Learned { weight, span: _ } => self.weight(*weight),
            DistanceTable::Sines { farthest: _ } => {}
        }
        match query_biases {
            QueryBiases::Own => {}
            QueryBiases::Instead(biases) | QueryBiases::Added(biases) => {
                for &bias in biases {
                    self.weight(bias);
                }
            }
        }
        if let Some(Segments {
            vectors,
            bias,
            neutral: _,
        }) = segments
        {
            self.weight(*vectors);
            self.weight(*bias);
        }
        self.norm(norm.as_ref());
        for linear in vectors.projections() {
            self.linear(linear);
        }
    }

    /// What weights of residual streams follow from.
    pub fn streams(&mut self, weights: &StreamWeights) {
        let StreamWeights {
            projections,
            base,
            scale,
            norm_epsilon: _,
            epsilon: _,
        } = weights;
        for projection in projections {
            self.linear(projection);
        }
        self.weight(*base);
        self.weight(*scale);
    }

    /// What a gated mean of residual streams follows from.
    pub fn mean(&mut self, mean: &GatedMean) {
        let GatedMean { norms, down, up } = mean;
        for norm in norms {
            self.norm(Some(norm));
        }
        for linear in down.iter().chain(up) {
            self.linear(linear);
        }
    }

    /// A learned factor.
    pub fn gain(&mut self, gain: &Gain) {
        match gain {
            Gain::One | Gain::Constant(_) => {}
            Gain::Vector(index) => self.weight(*index),
            Gain::Gate(gate) => self.weight(gate.gate),
        }
    }
}
