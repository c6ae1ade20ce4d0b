//! The Fourier transform in the place of attention (FNet).

use serde::Serialize;

use super::{Mechanism, Operations, Site, Uses};
use crate::parts::{Cut, Mask};

/// The real part of the discrete Fourier transform of a record's rows along both axes (Lee-Thorp et al. 2021).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Fourier {
    /// Features of a row.
    pub columns: usize,
}

impl Mechanism for Fourier {
    fn weights(&self, _uses: &mut Uses) {}

    fn label(&self) -> String {
        "Fourier transform".into()
    }

    fn summary(&self) -> String {
        "Fourier transform of rows and columns".into()
    }

    fn site(&self) -> Option<Site> {
        Some(Site::Attention)
    }

    fn mask(&self) -> Option<Mask> {
        Some(Mask::Full)
    }

    fn cut(&self) -> Cut {
        Cut::Nowhere("the transform is of whole records")
    }

    fn operations(&self) -> Operations {
        Operations {
            of_row: (4 * self.columns * self.columns) as f64,
            of_pair: (4 * self.columns) as f64,
            ..Operations::default()
        }
    }

    fn columns_between(&self, _hidden: usize) -> usize {
        2 * self.columns
    }
}
