//! Patches of pictures to the input of the first layer.

use std::ops::Range;

use sli_kernels::Mat;
use sli_spec::{Interpolation, Pictures, Place, PlaceTable, TileTables, WeightIndex};

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
        Some(PlaceTable {
            grid: [rows, columns],
            otherwise,
            ..
        }) => {
            let stretched = match otherwise {
                Interpolation::None => 0,
                _ => longest,
            };
            (rows * columns + stretched) * width
        }
        None => 0,
    };
    let normed = pictures.input_norm.as_ref().map_or(0, |_| patch);
    let of_tiles = pictures.tiles.map_or(0, |_| width);
    2 * longest * patch + longest.min(PATCHES) * (width + normed + of_tiles) + table
}

impl BoundLayer<'_> {
    /// Fills `hidden`, `[rows, hidden]`, with the rows of a batch's records. Every branch of it is a view.
    pub fn embed_pictures(
        &self,
        pictures: &Pictures,
        batch: &Batch,
        records: &RecordSpool,
        hidden: &mut Mat,
    ) -> Result<(), EngineError> {
        hidden.reset(batch.rows(), pictures.width());
        let views = batch.branches_of(&batch.whole());
        let (mut rest, mut end) = (&views[..], 0);
        for (offset, record) in batch.records.iter().enumerate() {
            if record.tokens == 0 || record.is_repeated {
                continue;
            }
            end += record.tokens;
            let (own, others) = rest.split_at(rest.partition_point(|view| view.end <= end));
            rest = others;
            let mut patches = Vec::new();
            for row in own.iter().cloned().flatten() {
                if batch.place(row)?.is_patch() {
                    patches.push(row);
                }
            }
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
        if let Some(tables) = &pictures.tiles {
            return self.join_tiles(tables, pictures, batch, hidden);
        }
        self.put_front(pictures, &views, hidden)?;
        if let Some(table) = &pictures.positions {
            self.add_places(table, pictures, batch, hidden)?;
        }
        if let Some(axes) = &pictures.axes {
            let places = (0..batch.rows()).map(|row| batch.place(row));
            let places = places.collect::<Result<Vec<_>, _>>()?;
            let columns = places.iter().map(|place| (axes.columns, place.column));
            let rows = places.iter().map(|place| (axes.rows, place.row));
            let of = |([first, step], at): ([usize; 2], u32)| (first + step * at as usize) as u32;
            for ids in [columns.map(of).collect::<Vec<_>>(), rows.map(of).collect()] {
                self.gather(axes.weight, &ids, hidden, true)?;
            }
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
        let (mut out, mut normed) = (Mat::default(), Mat::default());
        for start in (0..values.rows()).step_by(PATCHES) {
            let rows = start..values.rows().min(start + PATCHES);
            out.reset(rows.len(), pictures.width());
            let mut own = values.rows_view(rows.clone());
            if let Some(norm) = &pictures.input_norm {
                normed.reset(rows.len(), values.cols());
                self.kernels.copy(own, normed.view_mut());
                self.norm_in_place(norm, normed.view_mut())?;
                own = normed.view();
            }
            self.linear(own, &pictures.projection, out.view_mut())?;
            if let Some(norm) = &pictures.patch_norm {
                self.norm_in_place(norm, out.view_mut())?;
            }
            for (row, &target) in targets[rows].iter().enumerate() {
                hidden.row_mut(target).copy_from_slice(out.row(row));
            }
        }
        Ok(())
    }

    /// Puts the rows in front of the patches of every view, or behind them, with their own rows of the table of places.
    fn put_front(
        &self,
        pictures: &Pictures,
        views: &[Range<usize>],
        hidden: &mut Mat,
    ) -> Result<(), EngineError> {
        for (number, own) in pictures.front.iter().enumerate() {
            let mut row = Mat::new(1, hidden.cols());
            self.gather(own.weight, &[0], &mut row, false)?;
            if let (Some(position), Some(table)) = (own.position, &pictures.positions) {
                let PlaceTable { weight, .. } = table;
                self.gather(*weight, &[position as u32], &mut row, true)?;
            }
            for view in views {
                let [_, front] = pictures.parts_of(view.len());
                let target = hidden.row_mut(view.start + front.start + number);
                target.copy_from_slice(row.row(0));
            }
        }
        Ok(())
    }

    /// Rows of tiles that are one view: rows in front, what places and tiles add, the norm of all but rows of zeros.
    fn join_tiles(
        &self,
        tables: &TileTables,
        pictures: &Pictures,
        batch: &Batch,
        hidden: &mut Mat,
    ) -> Result<(), EngineError> {
        let (Some(places), Some(norm)) = (&pictures.positions, &pictures.norm) else {
            let problem = "tiles without places or without a norm";
            return Err(EngineError::Internal(problem.into()));
        };
        let [rows, columns] = places.grid;
        let front = pictures.front.len();
        let of_tile = front + rows * columns;
        // Its number among the rows of its tile.
        let at = |place: Place| {
            if place.is_patch() {
                front + place.row as usize * columns + place.column as usize
            } else {
                place.column as usize
            }
        };
        let tile = |place: Place| place.shape as usize * tables.tiles + place.tile as usize;
        let mut out = Mat::default();
        for start in (0..batch.rows()).step_by(PATCHES) {
            let rows = start..batch.rows().min(start + PATCHES);
            let all = rows.clone().map(|row| Ok((row, batch.place(row)?)));
            let all: Vec<(usize, Place)> = all.collect::<Result<_, EngineError>>()?;
            for &(row, place) in &all {
                if !place.is_patch() {
                    hidden.row_mut(row).fill(0.0);
                }
            }
            let (made, zeros): (Vec<_>, Vec<_>) =
                (all.into_iter()).partition(|(_, place)| place.row != Place::ZEROS);
            // A table, the rows of it that are added, and by what they are multiplied.
            let mut add = |table, of: Vec<(usize, usize)>, factor| -> Result<(), EngineError> {
                let ids: Vec<u32> = of.iter().map(|&(_, id)| id as u32).collect();
                out.reset(ids.len(), hidden.cols());
                self.gather(table, &ids, &mut out, false)?;
                let factor = match factor {
                    Some(factor) => self.vector(factor)?.first().copied().unwrap_or(1.0),
                    None => 1.0,
                };
                for (number, (row, _)) in of.into_iter().enumerate() {
                    let sum = hidden.row_mut(row).iter_mut();
                    let pairs = sum.zip(out.row(number));
                    pairs.for_each(|(sum, value)| *sum += factor * value);
                }
                Ok(())
            };
            let patches = made.iter().filter(|(_, place)| place.is_patch());
            let patches = patches.map(|&(row, place)| (row, tile(place))).collect();
            add(tables.of_tiles.table, patches, Some(tables.of_tiles.factor))?;
            for (number, own) in pictures.front.iter().enumerate() {
                let rows = made.iter().filter(|(_, place)| !place.is_patch());
                let rows = rows.filter(|(_, place)| place.column as usize == number);
                add(own.weight, rows.map(|&(row, _)| (row, 0)).collect(), None)?;
            }
            let own = made.iter().map(|&(row, place)| (row, at(place))).collect();
            add(places.weight, own, Some(tables.of_places))?;
            let own = made.iter();
            let own = own.map(|&(row, place)| (row, tile(place) * of_tile + at(place)));
            add(
                tables.of_rows.table,
                own.collect(),
                Some(tables.of_rows.factor),
            )?;
            self.norm_in_place(norm, hidden.rows_view_mut(rows))?;
            for (row, _) in zeros {
                hidden.row_mut(row).fill(0.0);
            }
        }
        Ok(())
    }

    /// Adds the rows of a table by place to the patches of every view.
    fn add_places(
        &self,
        table: &PlaceTable,
        pictures: &Pictures,
        batch: &Batch,
        hidden: &mut Mat,
    ) -> Result<(), EngineError> {
        let PlaceTable {
            weight,
            first,
            grid,
            otherwise,
            turned,
        } = table;
        let mut stretched = Stretched::new(*grid, *otherwise);
        for view in batch.branches_of(&batch.whole()) {
            let grid = batch.place(view.start)?.grid;
            let [rows, columns] = grid;
            let wanted = if *turned { [columns, rows] } else { grid };
            let table = stretched.of(self, (*weight, *first), wanted)?;
            let [patches, _] = pictures.parts_of(view.len());
            for row in view.start + patches.start..view.start + patches.end {
                let place = batch.place(row)?;
                let at = place.row * grid[1] + place.column;
                add(table.row(at as usize), hidden.row_mut(row));
            }
        }
        Ok(())
    }
}

pub(super) fn add(row: &[f32], sum: &mut [f32]) {
    for (sum, value) in sum.iter_mut().zip(row) {
        *sum += value;
    }
}

/// A grid of positions for views of any size, of which the last is kept.
pub(super) struct Stretched {
    grid: [usize; 2],
    otherwise: Interpolation,
    last: Option<([u32; 2], Mat)>,
}

impl Stretched {
    pub fn new(grid: [usize; 2], otherwise: Interpolation) -> Self {
        Self {
            grid,
            otherwise,
            last: None,
        }
    }

    /// The rows for a view of so many rows and columns of patches.
    pub fn of(
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
            let to = wanted.map(|count| count as usize);
            if to != self.grid || self.otherwise == Interpolation::Buckets {
                let [Some(down), Some(across)] =
                    [0, 1].map(|axis| shares(self.otherwise, self.grid[axis], to[axis]))
                else {
                    return Err(EngineError::Internal(format!(
                        "no places for {to:?} patches"
                    )));
                };
                table = stretch(&table, self.grid[1], [&down[..], &across[..]]);
            }
            self.last = Some((wanted, table));
        }
        match &self.last {
            Some((_, table)) => Ok(table),
            None => Err(EngineError::Internal("no table of places".into())),
        }
    }
}

/// Rows, or columns, of a grid that one of a stretched grid is made of, with their shares.
type Shares = Vec<(usize, f32)>;

/// The two that one lies between, the first on the first and the last on the last; in f32 as the reference computes it.
fn between(from: usize, to: usize) -> Vec<Shares> {
    let step = match to {
        0 | 1 => 0.0,
        _ => (from - 1) as f32 / (to - 1) as f32,
    };
    let of = |place: usize| {
        let at = step * place as f32;
        let first = (at as usize).min(from - 1);
        let second = at - first as f32;
        vec![(first, 1.0 - second), ((first + 1).min(from - 1), second)]
    };
    (0..to).map(of).collect()
}

/// The two around one, edges on edges, the rows at the edges beyond them, or nothing; in f32 as the reference computes it.
fn linear(from: usize, to: usize, is_inside: bool) -> Vec<Shares> {
    let of = |place: usize| {
        let at = (place as f32 + 0.5) * from as f32 / to as f32 - 0.5;
        let (first, last) = (at.floor(), (from - 1) as f32);
        let tap = |beside: f32| {
            let place = first + beside;
            let is_left_out = is_inside && !(0.0..=last).contains(&place);
            let share = (1.0 - (at - first - beside).abs()).max(0.0);
            let share = if is_left_out { 0.0 } else { share };
            (place.clamp(0.0, last) as usize, share)
        };
        vec![tap(0.0), tap(1.0)]
    };
    (0..to).map(of).collect()
}

/// The one whose bounds, at `k / from`, one lies between; both in f32 as torch computes them: it fills ranges by twice eight
/// numbers, of which each eight go on from a rounded one.
fn buckets(from: usize, to: usize) -> Vec<Shares> {
    const LANES: usize = 8;
    let step = 1.0 / from as f64;
    let count = ((1.0 - step) / step).ceil() as usize;
    let together = count / (2 * LANES) * (2 * LANES);
    let bound = |at: usize| {
        let first = if at < together {
            at / LANES * LANES
        } else {
            at
        };
        let first = f64::from((step + step * first as f64) as f32);
        if at < together {
            (first + (at % LANES) as f64 * step) as f32
        } else {
            first as f32
        }
    };
    let bounds: Vec<f32> = (0..count).map(bound).collect();
    let width = 1.0 / to as f32;
    let of = |place: usize| {
        let at = (place as f32 * width).min(1.0 - 1e-6);
        let below = bounds.partition_point(|&bound| bound <= at);
        vec![(below.min(from - 1), 1.0)]
    };
    (0..to).map(of).collect()
}

/// The four around one, edges on edges, the rows at the edges beyond them; places and distances in f32 as torch computes them.
fn cubic(from: usize, to: usize) -> Vec<Shares> {
    let of = |place: usize| {
        let at = (place as f32 + 0.5) / to as f32 * 2.0 - 1.0;
        let at = ((at + 1.0) * from as f32 - 1.0) / 2.0;
        let (first, last) = (at.floor(), (from - 1) as f32);
        let tap = |beside: i16| {
            let distance = at - first - f32::from(beside);
            let at = (first + f32::from(beside)).clamp(0.0, last);
            (at as usize, keys(-0.75, f64::from(distance)) as f32)
        };
        (-1..=2).map(tap).collect()
    };
    (0..to).map(of).collect()
}

/// Those around the middle of one, by `weight` of their distance from it, which is 0 from `reach` on; where the grid becomes
/// smaller, so many more. What lies beyond the ends is left out, as torch's antialiased `interpolate` does it.
fn around([from, to]: [usize; 2], (reach, weight): (f64, fn(f64) -> f64)) -> Vec<Shares> {
    let step = from as f64 / to as f64;
    let widening = step.max(1.0);
    let of = |place: usize| {
        let middle = (place as f64 + 0.5) * step;
        let first = (middle - reach * widening + 0.5).max(0.0) as usize;
        let end = ((middle + reach * widening + 0.5) as usize).min(from);
        let share = |at: usize| weight((at as f64 - middle + 0.5) / widening);
        let sum: f64 = (first..end).map(share).sum();
        (first..end)
            .map(|at| (at, (share(at) / sum) as f32))
            .collect()
    };
    (0..to).map(of).collect()
}

/// The cubes of Keys (1981), of this slope at a distance of 1.
fn keys(a: f64, distance: f64) -> f64 {
    let x = distance.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

/// What each row, or column, of a stretched grid is made of; absent where none is to be stretched.
fn shares(how: Interpolation, from: usize, to: usize) -> Option<Vec<Shares>> {
    Some(match how {
        Interpolation::None => return None,
        Interpolation::Corners => between(from, to),
        Interpolation::Linear => linear(from, to, false),
        Interpolation::LinearInside => linear(from, to, true),
        Interpolation::Buckets => buckets(from, to),
        Interpolation::Cubic => cubic(from, to),
        Interpolation::CubicAntialiased => around([from, to], (2.0, |x| keys(-0.5, x))),
        Interpolation::LinearAntialiased => around([from, to], (1.0, |x| (1.0 - x.abs()).max(0.0))),
    })
}

/// A grid of rows, so many columns of them, as another grid.
fn stretch(table: &Mat, stride: usize, [down, across]: [&[Shares]; 2]) -> Mat {
    let mut out = Mat::new(down.len() * across.len(), table.cols());
    for (row, rows) in down.iter().enumerate() {
        for (column, columns) in across.iter().enumerate() {
            let target = out.row_mut(row * across.len() + column);
            for &(row, down) in rows {
                for &(column, across) in columns {
                    let source = table.row(row * stride + column).iter();
                    let pairs = target.iter_mut().zip(source);
                    pairs.for_each(|(sum, value)| *sum += down * across * value);
                }
            }
        }
    }
    out
}
