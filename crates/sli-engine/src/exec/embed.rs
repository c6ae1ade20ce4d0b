//! Token ids to the input of the first layer. Of the tables only the rows that occur are read.

use sli_checkpoint::BoundLeaf;
use sli_kernels::{Mat, MatMut, MatRef};
use sli_spec::{
    Becomes, Embedding, HeadNorm, HeadTransform, Linear, LookedUp, NormSpan, PositionTable,
    Sinusoidal, TokenDropout, WeightIndex,
};

use super::batch::Batch;
use super::{BoundLayer, EndRows, Slots};
use crate::error::EngineError;
use crate::mixers::end_of;
use crate::weights::load::{self, STAGING_BYTES};

/// Threads that read rows of a table at a time: what keeps a solid-state disk busy.
const GATHER_READERS: usize = 8;

/// Rows of a table that a thread reads in one go: few, as it holds them and the gaps between them.
const GATHER_ROWS: usize = 16;

/// Rows whose inputs of the layers are computed together.
pub(crate) const SPREAD_ROWS: usize = 256;

/// What stands beside the tokens' own rows, if anything does.
fn beside(embedding: &Embedding) -> Option<&LookedUp> {
    let looked_up = embedding.looked_up.as_ref();
    looked_up.filter(|looked_up| looked_up.becomes == Becomes::Beside)
}

impl BoundLayer<'_> {
    /// Fills `hidden`, `[tokens, hidden]`.
    pub fn embed(
        &self,
        embedding: &Embedding,
        batch: &Batch,
        ends: &[EndRows],
        hidden: &mut Mat,
    ) -> Result<(), EngineError> {
        let rows = batch.rows();
        let mut narrow = Mat::default();
        let x = if embedding.projection.is_some() {
            &mut narrow
        } else {
            &mut *hidden
        };
        x.reset(rows, embedding.width);
        match embedding.tokens {
            Some(table) => self.gather(table, &batch.tokens, x, false)?,
            None => x.as_mut_slice().fill(0.0),
        }
        if embedding.scale != 1.0 {
            self.kernels
                .scale_in_place(embedding.scale as f32, x.view_mut());
        }
        for &(token, vector) in &embedding.own_vectors {
            let vector = self.owned(Some(vector))?;
            for (row, _) in (batch.tokens.iter().enumerate()).filter(|(_, id)| **id == token) {
                x.row_mut(row)
                    .copy_from_slice(vector.as_deref().unwrap_or_default());
            }
        }
        if let Some(scattered) = embedding.scattered {
            let factor = if scattered.is_scaled {
                embedding.scale as f32
            } else {
                1.0
            };
            for (row, source) in batch.rows_scattered(&batch.whole(), scattered)? {
                let end = end_of(ends, scattered.stack)?;
                let pairs = x.row_mut(row).iter_mut().zip(end.row(source));
                pairs.for_each(|(target, value)| *target = factor * value);
            }
        }
        if let Some(rule) = &embedding.token_dropout {
            self.drop_tokens(rule, batch, x);
        }
        if let Some(norm) = &embedding.token_norm {
            self.norm_in_place(norm, x.view_mut())?;
        }
        let mut projected = false;
        if let Some(projection) = &embedding.projection
            && embedding.projection_first
        {
            hidden.reset(rows, projection.out_features);
            if embedding.trigrams {
                self.project_trigrams(projection, batch, &narrow, hidden)?;
            } else if let Some(beside) = beside(embedding) {
                self.project_beside((projection, beside), batch, &narrow, hidden)?;
            } else {
                self.linear(narrow.view(), projection, hidden.view_mut())?;
            }
            projected = true;
        }
        let x = if embedding.projection.is_some() && !projected {
            &mut narrow
        } else {
            &mut *hidden
        };
        self.add_positions(embedding.positions.as_ref(), batch, x)?;
        if let Some(types) = &embedding.token_types {
            match &batch.token_types {
                Some(given) => self.gather(types.weight, given, x, true)?,
                None => self.gather(types.weight, &vec![0; rows], x, true)?,
            }
        }
        if let Some(looked_up) = &embedding.looked_up
            && looked_up.becomes == Becomes::Added
        {
            self.add_looked_up(looked_up, batch, x)?;
        }
        for constant in &embedding.constant_rows {
            self.gather(constant.weight, &vec![constant.row as u32; rows], x, true)?;
        }
        if let Some(norm) = &embedding.norm {
            self.norm_in_place(norm, x.view_mut())?;
        }
        if let Some(projection) = &embedding.projection
            && !projected
        {
            hidden.reset(rows, projection.out_features);
            self.linear(narrow.view(), projection, hidden.view_mut())?;
        }
        match embedding.prompt {
            Some(table) => self.lead_in(table, batch, hidden),
            None => Ok(()),
        }
    }

    /// The projection of every token's embedding between those of the next token and of the one before.
    fn project_trigrams(
        &self,
        projection: &Linear,
        batch: &Batch,
        tokens: &Mat,
        hidden: &mut Mat,
    ) -> Result<(), EngineError> {
        let width = tokens.cols();
        let mut unfolded = Mat::default();
        for record in batch.branches_of(&batch.whole()) {
            for start in record.clone().step_by(SPREAD_ROWS) {
                let block = start..record.end.min(start + SPREAD_ROWS);
                unfolded.reset(block.len(), 3 * width);
                for (place, row) in block.clone().enumerate() {
                    let neighbours = [Some(row + 1), Some(row), row.checked_sub(1)];
                    let parts = unfolded.row_mut(place).chunks_exact_mut(width);
                    for (part, neighbour) in parts.zip(neighbours) {
                        match neighbour.filter(|row| record.contains(row)) {
                            Some(row) => part.copy_from_slice(tokens.row(row)),
                            None => part.fill(0.0),
                        }
                    }
                }
                self.linear(unfolded.view(), projection, hidden.rows_view_mut(block))?;
            }
        }
        Ok(())
    }

    /// Puts the rows of a prompt that has a table of its own in front of every record.
    fn lead_in(
        &self,
        table: WeightIndex,
        batch: &Batch,
        hidden: &mut Mat,
    ) -> Result<(), EngineError> {
        let ids: Vec<u32> = (0..batch.lead() as u32).collect();
        let mut prompt = Mat::new(ids.len(), hidden.cols());
        self.gather(table, &ids, &mut prompt, false)?;
        for record in batch.branches_of(&batch.whole()) {
            let front = record.start..record.start + ids.len();
            self.kernels
                .copy(prompt.view(), hidden.rows_view_mut(front));
        }
        Ok(())
    }

    /// Fills what comes of the embedding beside the hidden state: further streams, inputs of the
    /// layers.
    pub fn spread(
        &self,
        embedding: &Embedding,
        batch: &Batch,
        slots: &mut Slots,
    ) -> Result<(), EngineError> {
        for (linear, stream) in embedding.streams.iter().zip(&mut slots.stashes) {
            self.linear(slots.hidden.view(), linear, stream.view_mut())?;
            self.kernels
                .match_magnitudes(slots.hidden.view(), stream.view_mut());
        }
        for stream in slots.stashes.iter_mut().take(embedding.copies) {
            self.kernels.copy(slots.hidden.view(), stream.view_mut());
        }
        if let Some(start) = &embedding.start {
            let mut kept = std::mem::take(slots.get_mut(start.kept));
            self.kernels.copy(slots.hidden.view(), kept.view_mut());
            *slots.get_mut(start.kept) = kept;
            if let Some(addend) = self.optional(start.addend)? {
                self.kernels.add_bias(&addend, slots.hidden.view_mut());
            }
        }
        if let Some(looked_up) = &embedding.looked_up
            && let Becomes::Stream { positions, norm } = &looked_up.becomes
            && let Some(stream) = slots.stashes.first_mut()
        {
            self.layout_stream(looked_up, (*positions, norm), batch, stream)?;
        }
        if let (Some(ngrams), Some(inputs)) = (&embedding.ngrams, &mut slots.kept.layer_inputs) {
            return self.look_up_ngrams(ngrams, batch, inputs);
        }
        let (Some(rule), Some(inputs)) = (&embedding.layer_inputs, &mut slots.kept.layer_inputs)
        else {
            return Ok(());
        };
        // Tokens of pictures may have the row of another one.
        let shared = embedding.scattered;
        let shared = shared.and_then(|own| Some((own.token, own.inputs_of?)));
        let ids: Vec<u32> = batch
            .tokens
            .iter()
            .map(|&id| match shared {
                Some((token, other)) if id == token => other,
                _ => id,
            })
            // Where a token needs a row of its own, the dataset was checked for it.
            .map(|id| if (id as usize) < rule.rows { id } else { 0 })
            .collect();
        match rule.table {
            Some(table) => self.gather(table, &ids, inputs, false)?,
            None => inputs.as_mut_slice().fill(0.0),
        }
        self.kernels
            .scale_in_place(rule.table_scale as f32, inputs.view_mut());
        let Some(made) = &rule.projected else {
            return Ok(());
        };
        let norm = HeadNorm {
            norm: made.norm.clone(),
            span: NormSpan::Head,
            after_rotation: false,
        };
        let mut projected = Mat::default();
        for start in (0..inputs.rows()).step_by(SPREAD_ROWS) {
            let range = start..(start + SPREAD_ROWS).min(inputs.rows());
            projected.reset(range.len(), inputs.cols());
            let hidden = slots.hidden.rows_view(range.clone());
            self.linear(hidden, &made.projection, projected.view_mut())?;
            self.kernels
                .scale_in_place(made.scale as f32, projected.view_mut());
            self.head_norm(&norm, rule.layers, projected.view_mut())?;
            let mut target = inputs.rows_view_mut(range);
            self.kernels.add(projected.view(), 1.0, target.reborrow());
            self.kernels.scale_in_place(rule.scale as f32, target);
        }
        Ok(())
    }

    fn drop_tokens(&self, rule: &TokenDropout, batch: &Batch, x: &mut Mat) {
        for rows in batch.branches_of(&batch.whole()) {
            let is_mask = |row: &usize| batch.tokens[*row] == rule.mask;
            let masked = rows.clone().filter(is_mask).count() as f32 / rows.len() as f32;
            let factor = |row: usize| {
                if is_mask(&row) {
                    0.0
                } else {
                    rule.kept as f32 / (1.0 - masked)
                }
            };
            let factors: Vec<f32> = rows.clone().map(factor).collect();
            self.kernels.scale_rows(&factors, x.rows_view_mut(rows));
        }
    }

    /// Adds what positions have to the rows of a batch.
    pub(super) fn add_positions(
        &self,
        positions: Option<&PositionTable>,
        batch: &Batch,
        x: &mut Mat,
    ) -> Result<(), EngineError> {
        match positions {
            None => Ok(()),
            Some(PositionTable::Learned {
                weight,
                offset,
                rows,
                otherwise: _,
            }) => {
                let ids: Vec<u32> = batch
                    .position_ids
                    .iter()
                    .map(|id| id + *offset as u32)
                    .collect();
                if let Some(&beyond) = ids.iter().find(|&&id| id as usize >= *rows) {
                    return Err(EngineError::Internal(format!(
                        "position {beyond} is beyond the {rows} rows of the position table"
                    )));
                }
                self.gather(*weight, &ids, x, true)
            }
            Some(PositionTable::Stretched { weight, rows }) => {
                self.add_stretched((*weight, *rows), batch, x)
            }
            Some(PositionTable::Sinusoidal(sinusoidal)) => {
                for (row, &id) in batch.position_ids.iter().enumerate() {
                    add_sinusoidal(sinusoidal, id, x.row_mut(row));
                }
                Ok(())
            }
        }
    }

    /// Adds rows of a table that the positions of a record share out, in f32 as the reference does.
    fn add_stretched(
        &self,
        (table, rows): (WeightIndex, usize),
        batch: &Batch,
        x: &mut Mat,
    ) -> Result<(), EngineError> {
        let ids: Vec<u32> = (0..rows as u32).collect();
        let mut all = Mat::new(rows, x.cols());
        self.gather(table, &ids, &mut all, false)?;
        for record in batch.branches_of(&batch.whole()) {
            let step = rows as f32 / record.len() as f32;
            for (position, row) in record.enumerate() {
                let place = (step * (position as f32 + 0.5) - 0.5).max(0.0);
                let first = (place as usize).min(rows - 1);
                let share = place - first as f32;
                let next = all.row((first + 1).min(rows - 1)).iter();
                let mixed = all.row(first).iter().zip(next);
                let mixed = mixed.map(|(&one, &other)| one * (1.0 - share) + other * share);
                let row = x.row_mut(row).iter_mut();
                row.zip(mixed).for_each(|(sum, value)| *sum += value);
            }
        }
        Ok(())
    }

    /// Row `ids[i]` of a table, to row i of `out`: set or added.
    pub fn gather(
        &self,
        table: WeightIndex,
        ids: &[u32],
        out: &mut Mat,
        add: bool,
    ) -> Result<(), EngineError> {
        self.gather_at(table, ids, out.view_mut(), add)
    }

    /// The same to some columns.
    pub(super) fn gather_at(
        &self,
        table: WeightIndex,
        ids: &[u32],
        mut out: MatMut<'_>,
        add: bool,
    ) -> Result<(), EngineError> {
        let key = self.key(table);
        let leaf = self.bound(table);
        let columns = leaf.columns();
        let element = load::element(leaf.float());
        let row_bytes = columns * element.size();
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_unstable_by_key(|&row| (ids[row], row));
        let mut wanted: Vec<usize> = ids.iter().map(|&id| id as usize).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let (mut raw, mut values) = (Vec::new(), vec![0.0; columns]);
        let mut order = order.into_iter().peekable();
        for block in wanted.chunks((STAGING_BYTES / row_bytes.max(1)).max(1)) {
            raw.resize(block.len() * row_bytes, 0);
            gather_block(leaf, block, &mut raw)?;
            for (&id, bytes) in block.iter().zip(raw.chunks_exact(row_bytes)) {
                if let Some(index) = sli_kernels::first_non_finite(bytes, element) {
                    let index = id * columns + index;
                    return Err(EngineError::NonFinite {
                        leaf: key.describe(self.model),
                        index,
                    });
                }
                load::decode(bytes, element, &mut values);
                while let Some(row) = order.next_if(|&row| ids[row] as usize == id) {
                    let target = out.row_mut(row);
                    if add {
                        target
                            .iter_mut()
                            .zip(&values)
                            .for_each(|(sum, value)| *sum += value);
                    } else {
                        target.copy_from_slice(&values);
                    }
                }
            }
        }
        Ok(())
    }

    /// `y = activation(dense(x))` of a few rows.
    pub fn dense(
        &self,
        dense: &Linear,
        activation: sli_spec::Activation,
        x: MatRef<'_>,
        mut out: MatMut<'_>,
    ) -> Result<(), EngineError> {
        self.linear(x, dense, out.reborrow())?;
        self.kernels
            .activation(crate::mixers::kernel(activation), out);
        Ok(())
    }

    /// What rows become in a dense layer with what stands behind it.
    pub fn transformed(
        &self,
        transform: &HeadTransform,
        x: MatRef<'_>,
    ) -> Result<Mat, EngineError> {
        let HeadTransform {
            dense,
            gated,
            limit,
            activation,
            norm,
            norm_first,
            shares,
        } = transform;
        let mut out = Mat::new(x.rows(), dense.out_features);
        if *gated {
            self.linear(x, dense, out.view_mut())?;
            let activation = crate::mixers::kernel(*activation);
            let (mut up, gate) = out.view_mut().split_cols(transform.width());
            let mut halves = Mat::new(x.rows(), transform.width());
            self.kernels.copy(gate.as_ref(), halves.view_mut());
            if let Some(limit) = limit.map(|limit| limit as f32) {
                self.kernels.clamp_in_place(-limit, limit, up.reborrow());
                let gate = halves.view_mut();
                self.kernels.clamp_in_place(f32::NEG_INFINITY, limit, gate);
            }
            self.kernels
                .gated(activation, halves.view_mut(), up.as_ref());
            out = halves;
        } else if *norm_first {
            self.linear(x, dense, out.view_mut())?;
            if let Some(norm) = norm {
                self.norm_in_place(norm, out.view_mut())?;
            }
            let activation = crate::mixers::kernel(*activation);
            self.kernels.activation(activation, out.view_mut());
        } else {
            self.dense(dense, *activation, x, out.view_mut())?;
        }
        if let Some(norm) = norm
            && (*gated || !*norm_first)
        {
            self.norm_in_place(norm, out.view_mut())?;
        }
        if *shares {
            self.kernels.softmax_parts(1, out.view_mut());
        }
        Ok(out)
    }

    /// The numbers of an optional vector, owned.
    pub fn owned(&self, index: Option<WeightIndex>) -> Result<Option<Vec<f32>>, EngineError> {
        let vector = self.optional(index)?;
        Ok(vector.as_deref().map(<[f32]>::to_vec))
    }
}

/// Reads some rows of a table. They lie anywhere in it, so a disk is asked for several at a time.
fn gather_block(leaf: &BoundLeaf, rows: &[usize], out: &mut [u8]) -> Result<(), EngineError> {
    let row_bytes = leaf.row_bytes().max(1);
    let part = rows.len().div_ceil(GATHER_READERS).max(GATHER_ROWS);
    let parts = rows.chunks(part).zip(out.chunks_mut(part * row_bytes));
    let read = |(rows, out): (&[usize], &mut [u8])| {
        let mut groups = rows
            .chunks(GATHER_ROWS)
            .zip(out.chunks_mut(GATHER_ROWS * row_bytes));
        groups.try_for_each(|(rows, out)| leaf.gather_rows(0, rows, out))
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = parts.map(|part| scope.spawn(move || read(part))).collect();
        for reader in readers {
            match reader.join() {
                Ok(read) => read?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(())
    })
}

/// Adds the sinusoidal embedding of one position.
fn add_sinusoidal(rule: &Sinusoidal, position: u32, row: &mut [f32]) {
    let half = row.len() / 2;
    if rule.zero_row == Some(position as usize + rule.offset) {
        return;
    }
    let position = f64::from(position) + rule.offset as f64;
    for index in 0..half {
        let frequency = (-(10_000_f64.ln()) * index as f64 / rule.denominator).exp();
        let (sin, cos) = (position * frequency).sin_cos();
        let places = if rule.interleaved {
            [2 * index, 2 * index + 1]
        } else {
            [index, half + index]
        };
        row[places[0]] += (rule.scale * sin) as f32;
        row[places[1]] += (rule.scale * cos) as f32;
    }
}
