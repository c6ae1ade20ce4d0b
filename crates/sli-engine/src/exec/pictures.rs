//! Patches of pictures to the input of the first layer.

use std::ops::Range;

use sli_kernels::Mat;
use sli_spec::{FrontRow, Interpolation, Pictures, Place, PlaceTable, WeightIndex};

use super::BoundLayer;
use super::batch::Batch;
use crate::error::EngineError;
use crate::records::RecordSpool;

/// Patches that are projected together.
const PATCHES: usize = 1024;

/// Values that are held while a record of up to `longest` rows passes through its stem.
pub(crate) fn picture_values(pictures: &Pictures, longest: usize) -> usize {
    let (patch, width) = (pictures.patch_values(), pictures.width());
    let table = match &pictures.positions {
        Some(PlaceTable::Grid {
            grid: [rows, columns],
            first,
            ..
        }) => (first + rows * columns) * width,
        None => 0,
    };
    2 * longest * patch + longest.min(PATCHES) * width + table
}

impl BoundLayer<'_> {
    /// Fills `hidden`, `[rows, hidden]`, with the rows of a batch's records.
    pub fn embed_pictures(
        &self,
        pictures: &Pictures,
        batch: &Batch,
        records: &RecordSpool,
        hidden: &mut Mat,
    ) -> Result<(), EngineError> {
        hidden.reset(batch.rows(), pictures.width());
        let places: Vec<Place> = (0..batch.rows())
            .map(|row| batch.inputs.of(row).try_into().map(Place::of))
            .collect::<Result<_, _>>()
            .map_err(|_| EngineError::Internal("patches without places".into()))?;
        let mut start = 0;
        for (offset, record) in batch.records.iter().enumerate() {
            if record.tokens == 0 {
                continue;
            }
            let own = start..start + record.tokens;
            start = own.end;
            let patches: Vec<usize> = own.filter(|&row| !places[row].is_front()).collect();
            let values = records.features(batch.first_record + offset)?;
            let width = pictures.patch_values();
            if values.len() != patches.len() * width {
                return Err(EngineError::Record {
                    id: record.id.clone(),
                    problem: format!(
                        "{} numbers for {} patches of {width}",
                        values.len(),
                        patches.len()
                    ),
                });
            }
            let values = Mat::from_vec(patches.len(), width, values);
            self.project_patches(pictures, &values, &patches, hidden)?;
        }
        self.put_front(&pictures.front, &places, hidden)?;
        if let Some(table) = &pictures.positions {
            self.add_places(table, &pictures.front, &places, hidden)?;
        }
        match &pictures.norm {
            Some(norm) => self.norm_in_place(norm, hidden.view_mut()),
            None => Ok(()),
        }
    }

    fn project_patches(
        &self,
        pictures: &Pictures,
        values: &Mat,
        targets: &[usize],
        hidden: &mut Mat,
    ) -> Result<(), EngineError> {
        let mut out = Mat::default();
        for start in (0..values.rows()).step_by(PATCHES) {
            let rows = start..values.rows().min(start + PATCHES);
            out.reset(rows.len(), pictures.width());
            let own = values.rows_view(rows.clone());
            self.linear(own, &pictures.projection, out.view_mut())?;
            for (row, &target) in targets[rows].iter().enumerate() {
                hidden.row_mut(target).copy_from_slice(out.row(row));
            }
        }
        Ok(())
    }

    /// Puts the rows in front of the patches of every view.
    fn put_front(
        &self,
        front: &[FrontRow],
        places: &[Place],
        hidden: &mut Mat,
    ) -> Result<(), EngineError> {
        for (number, own) in front.iter().enumerate() {
            let mut row = Mat::new(1, hidden.cols());
            self.gather(own.weight, &[own.row as u32], &mut row, false)?;
            for (place, target) in places.iter().zip(0..) {
                if place.is_front() && place.column as usize == number {
                    hidden.row_mut(target).copy_from_slice(row.row(0));
                }
            }
        }
        Ok(())
    }

    /// Adds the rows of a table by place.
    fn add_places(
        &self,
        table: &PlaceTable,
        front: &[FrontRow],
        places: &[Place],
        hidden: &mut Mat,
    ) -> Result<(), EngineError> {
        let PlaceTable::Grid {
            weight,
            first,
            grid,
            otherwise,
        } = table;
        for (number, own) in front.iter().enumerate() {
            let Some(position) = own.position else {
                continue;
            };
            let mut row = Mat::new(1, hidden.cols());
            self.gather(*weight, &[position as u32], &mut row, false)?;
            for (place, target) in places.iter().zip(0..) {
                if place.is_front() && place.column as usize == number {
                    add(row.row(0), hidden.row_mut(target));
                }
            }
        }
        let mut stretched = Stretched::new(*grid, *otherwise);
        for views in view_ranges(places) {
            let own: Vec<usize> = views.filter(|&row| !places[row].is_front()).collect();
            let Some(&any) = own.first() else { continue };
            let table = stretched.of(self, (*weight, *first), places[any].grid)?;
            let columns = places[any].grid[1] as usize;
            for row in own {
                let place = places[row];
                let at = place.row as usize * columns + place.column as usize;
                add(table.row(at), hidden.row_mut(row));
            }
        }
        Ok(())
    }
}

/// Consecutive rows of one view each.
fn view_ranges(places: &[Place]) -> Vec<Range<usize>> {
    let mut start = 0;
    // A record's first view follows another's last: its number is no larger, and if it is the same, its places begin again.
    let follows = |one: &Place, other: &Place| {
        one.view == other.view
            && one.grid == other.grid
            && (one.is_front() || !other.is_front())
            && (one.is_front() || (one.row, one.column) < (other.row, other.column))
    };
    places
        .chunk_by(follows)
        .map(|view| {
            let first = start;
            start += view.len();
            first..start
        })
        .collect()
}

fn add(row: &[f32], sum: &mut [f32]) {
    for (sum, value) in sum.iter_mut().zip(row) {
        *sum += value;
    }
}

/// A grid of positions for views of any size, of which the last is kept.
struct Stretched {
    grid: [usize; 2],
    otherwise: Interpolation,
    last: Option<([u32; 2], Mat)>,
}

impl Stretched {
    fn new(grid: [usize; 2], otherwise: Interpolation) -> Self {
        Self {
            grid,
            otherwise,
            last: None,
        }
    }

    /// The rows for a view of so many rows and columns of patches.
    fn of(
        &mut self,
        layer: &BoundLayer<'_>,
        (weight, first): (WeightIndex, usize),
        wanted: [u32; 2],
    ) -> Result<&Mat, EngineError> {
        if self.last.as_ref().is_none_or(|(own, _)| *own != wanted) {
            let [rows, columns] = self.grid;
            let ids: Vec<u32> = (first..first + rows * columns)
                .map(|id| id as u32)
                .collect();
            let width = layer.leaf(weight).shape.last().copied().unwrap_or(0);
            let mut table = Mat::new(ids.len(), width);
            layer.gather(weight, &ids, &mut table, false)?;
            let wanted_sizes = wanted.map(|count| count as usize);
            if wanted_sizes != self.grid {
                table = stretch(&table, self.grid, wanted_sizes, self.otherwise);
            }
            self.last = Some((wanted, table));
        }
        match &self.last {
            Some((_, table)) => Ok(table),
            None => Err(EngineError::Internal("no table of places".into())),
        }
    }
}

/// What of the rows, or columns, of a grid one of a stretched grid is made of: `[place, share]` each.
fn shares(from: usize, to: usize, rule: Interpolation) -> Vec<Vec<(usize, f32)>> {
    let scale = from as f32 / to as f32;
    let clamp = |place: i64| place.clamp(0, from as i64 - 1) as usize;
    let cubic = |x: f32, a: f32| {
        let x = x.abs();
        if x <= 1.0 {
            ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
        } else if x < 2.0 {
            (((x - 5.0) * x + 8.0) * x - 4.0) * a
        } else {
            0.0
        }
    };
    let of = |place: usize| -> Vec<(usize, f32)> {
        match rule {
            Interpolation::None => vec![(clamp(place as i64), 1.0)],
            Interpolation::Bilinear => {
                let at = (scale * (place as f32 + 0.5) - 0.5).max(0.0);
                let first = (at as usize).min(from - 1);
                let share = at - first as f32;
                vec![(first, 1.0 - share), (clamp(first as i64 + 1), share)]
            }
            Interpolation::Corners => {
                let step = if to > 1 {
                    (from - 1) as f32 / (to - 1) as f32
                } else {
                    0.0
                };
                let at = step * place as f32;
                let first = (at as usize).min(from - 1);
                let share = at - first as f32;
                vec![(first, 1.0 - share), (clamp(first as i64 + 1), share)]
            }
            Interpolation::Bicubic => {
                let at = scale * (place as f32 + 0.5) - 0.5;
                let first = at.floor();
                let share = at - first;
                let places = (-1..=2_i64).map(|step| {
                    let weight = cubic(share - step as f32, -0.75);
                    (clamp(first as i64 + step), weight)
                });
                places.collect()
            }
            Interpolation::Antialiased => {
                let stretch = scale.max(1.0);
                let (support, center) = (2.0 * stretch, scale * (place as f32 + 0.5));
                let first = ((center - support + 0.5) as i64).max(0);
                let end = ((center + support + 0.5) as i64).min(from as i64);
                let weights = (first..end).map(|own| {
                    let distance = (own as f32 - center + 0.5) / stretch;
                    (own as usize, cubic(distance, -0.5))
                });
                let weights: Vec<_> = weights.collect();
                let sum: f32 = weights.iter().map(|(_, weight)| weight).sum();
                weights
                    .into_iter()
                    .map(|(place, weight)| (place, weight / sum))
                    .collect()
            }
        }
    };
    (0..to).map(of).collect()
}

/// A grid of rows as another grid: columns first, then rows, in f32 as the reference does.
fn stretch(table: &Mat, from: [usize; 2], to: [usize; 2], rule: Interpolation) -> Mat {
    let (down, across) = (shares(from[0], to[0], rule), shares(from[1], to[1], rule));
    let mut wide = Mat::new(from[0] * to[1], table.cols());
    for row in 0..from[0] {
        for (column, parts) in across.iter().enumerate() {
            let target = wide.row_mut(row * to[1] + column);
            for &(place, share) in parts {
                let source = table.row(row * from[1] + place).iter();
                let pairs = target.iter_mut().zip(source);
                pairs.for_each(|(sum, value)| *sum += share * value);
            }
        }
    }
    let mut out = Mat::new(to[0] * to[1], table.cols());
    for (row, parts) in down.iter().enumerate() {
        for column in 0..to[1] {
            let target = out.row_mut(row * to[1] + column);
            for &(place, share) in parts {
                let source = wide.row(place * to[1] + column).iter();
                let pairs = target.iter_mut().zip(source);
                pairs.for_each(|(sum, value)| *sum += share * value);
            }
        }
    }
    out
}
