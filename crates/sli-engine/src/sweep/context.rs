//! What does not change during a run.

use sli_kernels::Kernels;

use crate::entering::Entering;
use crate::exec::{BoundLayer, Enters, Residency};
use crate::model::Model;
use crate::plan::division::Division;
use crate::plan::phases::Phase;
use crate::plan::{Grain, Plan};
use crate::records::RecordSpool;
use crate::settings::{Observer, Settings};
use crate::weights::Section;
use crate::weights::store::WeightStore;

/// What does not change during a run.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) model: &'a Model,
    pub(super) records: &'a RecordSpool,
    pub(super) settings: &'a Settings,
    pub(super) observer: &'a dyn Observer,
    pub(super) plan: &'a Plan,
    pub(super) division: Division<'a>,
    pub(super) kernels: &'a Kernels,
    pub(super) phases: &'a [Phase],
    pub(super) entering: Option<&'a Entering<'a>>,
}

impl<'a> Context<'a> {
    pub(super) fn layer(
        self,
        store: &'a WeightStore<'a>,
        stack: usize,
        part: Section,
    ) -> BoundLayer<'a> {
        let residency = match (self.plan.grain, part) {
            (Grain::Tile, Section::Layer(_)) => Residency::Tiled(self.plan.tile_bytes),
            _ => Residency::Resident,
        };
        BoundLayer {
            model: self.model,
            kernels: self.kernels,
            store,
            stack,
            part,
            residency,
            entering: self.entering,
            enters: Enters::Rows,
            these: None,
            only: None,
        }
    }
}
