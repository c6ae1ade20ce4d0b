//! What mechanisms and models are described with: plain data that knows nothing of either.

mod activation;
mod connection;
mod convolution;
mod distance;
mod key_convolution;
mod length;
mod linear;
mod mask;
mod norm;
mod position;
mod profiles;
mod residual;
pub mod rope;

pub use self::activation::Activation;
pub use self::connection::{GatedMean, HyperConnection, StreamReading, StreamWeights};
pub(crate) use self::convolution::rows_of;
pub use self::convolution::{Convolution, DenseConvolution};
pub use self::distance::{
    DistanceKeys, DistanceRule, DistanceTable, DistanceVectors, QueryBiases, RowPlaces, Segments,
};
pub use self::key_convolution::{KeyConvolution, RowWeights};
pub use self::length::LengthLimit;
pub use self::linear::{Adapter, Limits, Linear};
pub use self::mask::{Cut, Mask};
pub use self::norm::{HeadNorm, Norm, NormKind, NormSpan, StoredNorm};
pub use self::position::{
    Alibi, Apart, AxisDistances, BoxBuckets, BoxTerm, CornerSines, HeadTemperature, Position,
    QueryTemperature, RelativeBuckets, SparseBlocks,
};
pub use self::profiles::DistanceProfiles;
pub use self::residual::{Gain, ResidualGate, Slot};
