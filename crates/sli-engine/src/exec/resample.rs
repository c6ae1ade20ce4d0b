//! Rows that are made of the ends of earlier stacks, a record at a time.

use std::ops::Range;

use sli_kernels::{Mat, MatMut, MatRef};
use sli_spec::{
    Activation, AskedRows, Halving, Joining, PictureRows, PlacedRows, Resampled, Resampling,
    Standard, WeightIndex,
};

use super::batch::Batch;
use super::convolve::convolved_values;
use super::pictures::{Stretched, add};
use super::{BoundLayer, EndRows};
use crate::error::EngineError;
use crate::mixers::end_of;

/// Values that are held while the rows of a record of up to `longest` rows are made.
pub(crate) fn resampled_values(input: &Resampled, width: usize, longest: usize) -> usize {
    let made = match &input.rule {
        Resampling::Strided { convolution, .. } => convolved_values(convolution, longest),
        Resampling::Repeated { convolution, .. } => {
            let read = convolution.projection.in_features / convolution.kernel;
            longest * (read + 1) + convolved_values(convolution, longest)
        }
        Resampling::Spread { .. } => width + longest,
        Resampling::Table { asked, .. } => width * asked.map_or(1, |asked| asked.longest),
        Resampling::Halved { .. } | Resampling::Either { .. } => width,
        Resampling::Gathered {
            columns: [_, own],
            parts,
            joining,
            ..
        } => {
            // What goes in and what comes out.
            let mut before = own * sides(*joining, *parts);
            let mut most = before;
            for layer in &input.layers {
                let (all, width) = (layer.dense.out_features, layer.width());
                most = most.max(before + all + if layer.gated { width } else { 0 });
                before = width;
            }
            longest.min(GATHERED_ROWS) * most + input.vectors().len() * before
        }
    };
    let waves = input.waves.map_or(0, |_| width);
    made + waves + input.placed.map_or(0, |own| placed_values(&own, width))
}

/// Values of the places of rows, and of a row beside another of so many features.
fn placed_values(own: &PlacedRows, width: usize) -> usize {
    let width = width / if own.beside { 2 } else { 1 };
    let of = |grid: [usize; 2]| grid[0] * grid[1] * width;
    // A grid is stretched by rows and then by columns.
    2 * of(own.table.grid) + 2 * of(own.grid) + width
}

/// The sines and cosines of a column, then of a row; in f64, as the reference computes them.
fn wave([row, column]: [usize; 2], out: &mut [f32]) {
    let quarter = (out.len() / 4).max(1);
    for (place, pair) in [column, row].into_iter().zip(out.chunks_mut(2 * quarter)) {
        let (sines, cosines) = pair.split_at_mut(quarter.min(pair.len()));
        for (at, (sine, cosine)) in sines.iter_mut().zip(cosines).enumerate() {
            let speed = 1.0 / 10_000_f64.powf(at as f64 / quarter as f64);
            let (own_sine, own_cosine) = (place as f64 * speed).sin_cos();
            (*sine, *cosine) = (own_sine as f32, own_cosine as f32);
        }
    }
}

/// Rows whose features stand side by side where so many are joined.
fn sides(joining: Joining, parts: usize) -> usize {
    match joining {
        Joining::Beside | Joining::EachNormed | Joining::ByTurns => parts,
        Joining::Mean | Joining::Mixed | Joining::KeptByTurns(_) => 1,
    }
}

/// Rows that are gathered together.
const GATHERED_ROWS: usize = 1024;

impl BoundLayer<'_> {
    /// Fills `hidden`, `[rows, hidden]`, with the rows of a batch's records.
    pub fn resample(
        &self,
        input: &Resampled,
        batch: &Batch,
        ends: &[EndRows],
        hidden: &mut Mat,
    ) -> Result<(), EngineError> {
        if let Resampling::Gathered {
            stack,
            columns,
            parts,
            joining,
            ..
        } = input.rule
        {
            let of = (stack, columns, parts, joining);
            self.gather_places(of, input, batch, ends, hidden)?;
            return self.place_rows(input, batch, hidden);
        }
        if let Resampling::Table {
            weight,
            rows,
            asked: Some(asked),
        } = &input.rule
        {
            self.put_asked((*weight, *rows), asked, batch, hidden)?;
        } else if let Resampling::Table { weight, rows, .. } = &input.rule {
            let positions = &batch.positions;
            if let Some(beyond) = positions.iter().find(|&&row| row as usize >= *rows) {
                return Err(EngineError::Internal(format!(
                    "row {beyond} is beyond the {rows} rows of the table"
                )));
            }
            self.gather(*weight, positions, hidden, false)?;
        } else {
            let records = batch.branches_of(&batch.whole());
            for (branch, own) in records.into_iter().enumerate() {
                let of = |stack: usize| -> Result<MatRef<'_>, EngineError> {
                    let rows = batch.source_of(stack, branch);
                    Ok(end_of(ends, stack)?.rows_view(rows))
                };
                self.resample_record(&input.rule, of, hidden.rows_view_mut(own))?;
            }
        }
        if let Some(norm) = &input.norm {
            self.norm_in_place(norm, hidden.view_mut())?;
        }
        self.place_rows(input, batch, hidden)
    }

    /// The rows of a table for every view, and behind them those of the tokens of what is asked of it.
    fn put_asked(
        &self,
        (table, rows): (WeightIndex, usize),
        asked: &AskedRows,
        batch: &Batch,
        hidden: &mut Mat,
    ) -> Result<(), EngineError> {
        let mut made = Mat::default();
        for view in batch.branches_of(&batch.whole()) {
            let numbers = view
                .clone()
                .map(|row| batch.inputs.of(row).first().copied());
            let numbers: Vec<u32> = numbers.map(Option::unwrap_or_default).collect();
            let (learned, tokens) = numbers.split_at(rows.min(numbers.len()));
            let known = rows as u32..(rows + asked.vocab_size) as u32;
            if tokens.iter().any(|token| !known.contains(token)) || tokens.len() > asked.longest {
                let problem = "what is asked of a picture is beyond the tables";
                return Err(EngineError::Internal(problem.into()));
            }
            let tokens: Vec<u32> = tokens.iter().map(|token| token - rows as u32).collect();
            let places: Vec<u32> = (0..tokens.len() as u32).collect();
            for (ids, place, from) in [
                (learned, None, table),
                (&tokens, Some(asked.positions), asked.tokens),
            ] {
                made.reset(ids.len(), hidden.cols());
                self.gather(from, ids, &mut made, false)?;
                if let Some(positions) = place {
                    self.gather(positions, &places, &mut made, true)?;
                }
                let first = if place.is_some() { learned.len() } else { 0 };
                for (at, row) in (view.start + first..).take(ids.len()).enumerate() {
                    hidden.row_mut(row).copy_from_slice(made.row(at));
                }
            }
        }
        Ok(())
    }

    /// Adds their places to rows, which stand in the first half of `hidden` where they are kept without them too.
    fn place_rows(
        &self,
        input: &Resampled,
        batch: &Batch,
        hidden: &mut Mat,
    ) -> Result<(), EngineError> {
        if let Some([rows, columns]) = input.waves {
            let mut waves = vec![0.0; hidden.cols()];
            for own in batch.branches_of(&batch.whole()) {
                for (at, row) in own.enumerate() {
                    let at = at % (rows * columns).max(1);
                    wave([at / columns.max(1), at % columns.max(1)], &mut waves);
                    add(&waves, hidden.row_mut(row));
                }
            }
        }
        let Some(PlacedRows {
            table,
            grid,
            beside,
        }) = &input.placed
        else {
            return Ok(());
        };
        let mut places = Stretched::new(table.grid, table.otherwise);
        let grid = grid.map(|count| count as u32);
        let places = places.of(self, (table.weight, table.first), grid)?;
        for own in batch.branches_of(&batch.whole()) {
            for (at, row) in own.enumerate() {
                let row = hidden.row_mut(row);
                let width = row.len() / if *beside { 2 } else { 1 };
                let (placed, without) = row.split_at_mut(width);
                if *beside {
                    without.copy_from_slice(placed);
                }
                add(places.row(at % places.rows()), placed);
            }
        }
        Ok(())
    }

    /// Fills `hidden` with the rows of an end that places say, so many joined, some rows at a time.
    fn gather_places(
        &self,
        (stack, [first, width], parts, joining): (usize, [usize; 2], usize, Joining),
        input: &Resampled,
        batch: &Batch,
        ends: &[EndRows],
        hidden: &mut Mat,
    ) -> Result<(), EngineError> {
        let records = batch.branches_of(&batch.whole());
        let mut gathered = Mat::default();
        let vectors = input.vectors().iter();
        let vectors: Vec<Vec<f32>> = vectors
            .map(|&own| Ok(self.vector(own)?.to_vec()))
            .collect::<Result<_, EngineError>>()?;
        let standard = match input.standard() {
            None => None,
            Some(Standard {
                scale,
                bias,
                factor,
            }) => {
                let [bias, factor] = [self.owned(Some(bias))?, self.owned(Some(factor))?];
                bias.zip(factor)
                    .map(|(bias, factor)| (scale as f32, bias, factor))
            }
        };
        for (branch, own) in records.into_iter().enumerate() {
            let source = batch.source_of(stack, branch);
            let end = end_of(ends, stack)?.rows_view(source);
            for start in own.clone().step_by(GATHERED_ROWS) {
                let rows = start..own.end.min(start + GATHERED_ROWS);
                let of = |source: u32| match source as usize {
                    source if source < end.rows() => Ok(&end.row(source)[first..first + width]),
                    _ => {
                        let problem = format!("row {source} of an end of {}", end.rows());
                        Err(EngineError::Internal(problem))
                    }
                };
                gathered.reset(rows.len(), sides(joining, parts) * width);
                for (place, row) in rows.clone().enumerate() {
                    let sources = batch.inputs.of(row).iter();
                    let joined = gathered.row_mut(place);
                    // A vector stands behind all else in its place.
                    let first = batch.inputs.of(row).first().copied();
                    if first.is_some_and(|own| PictureRows::vector_of(own, vectors.len()).is_some())
                    {
                        joined.fill(0.0);
                        continue;
                    }
                    match joining {
                        Joining::Mean => average(sources.map(|&source| of(source)), joined)?,
                        Joining::Mixed => {
                            let (rows, shares) = batch.inputs.of(row).split_at(parts / 2);
                            joined.fill(0.0);
                            for (&source, &share) in rows.iter().zip(shares) {
                                if source == PictureRows::NONE {
                                    continue;
                                }
                                let share = f32::from_bits(share);
                                let pairs = joined.iter_mut().zip(of(source)?);
                                pairs.for_each(|(sum, value)| *sum += share * value);
                            }
                        }
                        Joining::ByTurns => {
                            for (first, &source) in sources.enumerate() {
                                let targets = joined.iter_mut().skip(first).step_by(parts);
                                if source == PictureRows::NONE {
                                    targets.for_each(|target| *target = 0.0);
                                    continue;
                                }
                                let pairs = targets.zip(of(source)?);
                                pairs.for_each(|(target, value)| *target = *value);
                            }
                        }
                        Joining::KeptByTurns(kept) => {
                            let own = width / (1 + kept);
                            for &source in sources {
                                let (end, beside) = of(source)?.split_at(own);
                                let (target, turns) = joined.split_at_mut(own);
                                target.copy_from_slice(end);
                                for (number, layer) in beside.chunks_exact(own).enumerate() {
                                    let targets = turns.iter_mut().skip(number).step_by(kept);
                                    targets
                                        .zip(layer)
                                        .for_each(|(target, value)| *target = *value);
                                }
                            }
                        }
                        Joining::Beside | Joining::EachNormed => {
                            let targets = joined.chunks_exact_mut(width);
                            for (target, &source) in targets.zip(sources) {
                                target.copy_from_slice(of(source)?);
                            }
                        }
                    }
                }
                if let Some(standard) = &standard {
                    for row in 0..gathered.rows() {
                        standardise(standard, gathered.row_mut(row));
                    }
                }
                if let Some(norm) = &input.norm {
                    let each = if joining == Joining::EachNormed {
                        parts
                    } else {
                        1
                    };
                    let (rows, columns) = (gathered.rows() * each, gathered.cols() / each);
                    let normed = MatMut::from_slice(gathered.as_mut_slice(), rows, columns);
                    self.norm_in_place(norm, normed)?;
                }
                if input.activation != Activation::Linear {
                    let activation = crate::mixers::kernel(input.activation);
                    self.kernels.activation(activation, gathered.view_mut());
                }
                let mut x = gathered;
                for layer in &input.layers {
                    x = self.transformed(layer, x.view())?;
                }
                let wide = x.cols().min(hidden.cols());
                let (own, _) = hidden.rows_view_mut(rows.clone()).split_cols(wide);
                self.kernels.copy(x.view(), own);
                for row in rows {
                    let source = batch.inputs.of(row).first();
                    let number = source.and_then(|&own| PictureRows::vector_of(own, vectors.len()));
                    if let Some(vector) = number.and_then(|number| vectors.get(number)) {
                        hidden.row_mut(row)[..wide].copy_from_slice(vector);
                    }
                }
                gathered = x;
            }
        }
        Ok(())
    }

    /// The rows of one record; `of` has those of earlier stacks.
    fn resample_record<'e>(
        &self,
        rule: &Resampling,
        of: impl Fn(usize) -> Result<MatRef<'e>, EngineError>,
        mut out: MatMut<'_>,
    ) -> Result<(), EngineError> {
        match rule {
            Resampling::Table { .. } | Resampling::Gathered { .. } => {}
            Resampling::Either {
                stacks: [one, other],
            } => {
                let (one, other) = (of(*one)?, of(*other)?);
                if one.rows() + other.rows() != out.rows() {
                    let problem = "a record with a text and pictures";
                    return Err(EngineError::Internal(problem.into()));
                }
                let rows = if one.rows() > 0 { one } else { other };
                self.kernels.copy(rows, out);
            }
            Resampling::Strided { stack, convolution } => {
                let end = of(*stack)?;
                let (first, rest) = out.split_rows(1);
                self.kernels.copy(end.rows_range(0..1), first);
                self.convolve(convolution, end, rest)?;
            }
            Resampling::Repeated {
                stack,
                shorter,
                times,
                convolution,
            } => {
                let (end, short) = (of(*stack)?, of(*shorter)?);
                let mut both = Mat::new(end.rows(), end.cols() + short.cols());
                let (own, beside) = both.view_mut().split_cols(end.cols());
                self.kernels.copy(end, own);
                let last = short.rows().saturating_sub(1);
                let rows = 0..end.rows();
                let rows: Vec<u32> = rows.map(|row| (1 + row / times).min(last) as u32).collect();
                self.kernels.gather_rows(short, &rows, beside);
                self.convolve(convolution, both.view(), out)?;
            }
            Resampling::Halved {
                stack,
                halving,
                largest,
            } => {
                let end = of(*stack)?;
                for row in 0..out.rows() {
                    halve(end, halving.of(row, end.rows()), *largest, out.row_mut(row));
                }
            }
            Resampling::Spread {
                stack,
                shorter,
                times,
                halving,
            } => {
                let (end, short) = (of(*stack)?, of(*shorter)?);
                let rows = (0..out.rows()).map(|row| spread(*halving, *times, row));
                let rows = rows.take_while(|&row| row < short.rows());
                let rows: Vec<u32> = rows.map(|row| row as u32).collect();
                let (own, mut beyond) = out.reborrow().split_rows(rows.len());
                self.kernels.gather_rows(short, &rows, own);
                for row in 0..beyond.rows() {
                    beyond.row_mut(row).fill(0.0);
                }
                self.kernels.add(end, 1.0, out);
            }
        }
        Ok(())
    }
}

/// `(scale * x - bias) * factor`, feature by feature.
fn standardise((scale, bias, factor): &(f32, Vec<f32>, Vec<f32>), row: &mut [f32]) {
    let of = bias.iter().zip(factor);
    for (value, (bias, factor)) in row.iter_mut().zip(of) {
        *value = (scale * *value - bias) * factor;
    }
}

/// The row of a shorter end that stands for a row, each for so many.
fn spread(halving: Halving, times: usize, row: usize) -> usize {
    match (halving.first_apart, row) {
        (true, 0) => 0,
        (true, _) => 1 + (row - 1) / times,
        (false, _) => row / times,
    }
}

/// The mean of one or two rows, or the larger numbers of them.
fn halve(rows: MatRef<'_>, of: Range<usize>, largest: bool, out: &mut [f32]) {
    out.copy_from_slice(rows.row(of.start));
    for (value, other) in out.iter_mut().zip(rows.row(of.end - 1)) {
        *value = if largest {
            value.max(*other)
        } else {
            f32::midpoint(*value, *other)
        };
    }
}
/// Fills a row with the mean of others, which are added up in their order.
fn average<'r>(
    rows: impl ExactSizeIterator<Item = Result<&'r [f32], EngineError>>,
    mean: &mut [f32],
) -> Result<(), EngineError> {
    let count = rows.len() as f32;
    mean.fill(0.0);
    for row in rows {
        mean.iter_mut()
            .zip(row?)
            .for_each(|(sum, value)| *sum += value);
    }
    for sum in mean.iter_mut() {
        *sum /= count;
    }
    Ok(())
}
