//! Cosines and sines of the positions of a batch's rows.

use sli_kernels::Mat;
use sli_spec::rope::{Pairs, PositionAxis, Rope, RopeFrequencies, StoredTurns, TurnsForm};
use sli_spec::{Blocks, Place, Stack};

use super::{Batch, Coordinates, RopeTable};

/// Every different rotation of a stack.
pub(crate) fn distinct_ropes(stack: &Stack) -> Vec<Rope> {
    let mut ropes: Vec<Rope> = Vec::new();
    for rope in stack.mechanisms().flat_map(|mechanism| mechanism.ropes()) {
        if !ropes.contains(rope) {
            ropes.push(rope.clone());
        }
    }
    ropes
}

impl Batch {
    /// Cosines and sines `[rows, dims / 2]` of a rotation of this stack.
    pub fn rotation(&self, rope: &Rope) -> Option<(&Mat, &Mat)> {
        let table = self.ropes.iter().find(|table| &table.rope == rope)?;
        Some((&table.cos, &table.sin))
    }

    pub(super) fn make_ropes(&mut self, stack: &Stack) {
        let tables = distinct_ropes(stack).into_iter().map(|rope| {
            let (cos, sin) = self.turns(&rope, stack.turns.as_ref());
            RopeTable { rope, cos, sin }
        });
        self.ropes = tables.collect();
    }

    /// Cosines and sines of every row. Angles are products in f32, as the reference computes them;
    /// records of one length class share the angles of a position.
    fn turns(&self, rope: &Rope, stored: Option<&StoredTurns>) -> (Mat, Mat) {
        let (rows, half) = (self.rows(), rope.dims / 2);
        let (mut cos, mut sin) = (Mat::new(rows, half), Mat::new(rows, half));
        if let PositionAxis::Coordinates(pairs) = rope.axis {
            self.turn_by_coordinates((rope, pairs), &mut cos, &mut sin);
            return (cos, sin);
        }
        // First row of every position that some record of the class already has.
        let mut known: Vec<(usize, Vec<usize>)> = Vec::new();
        for (index, blocks) in self.blocks.iter().enumerate() {
            let rows = self.branch(index);
            // Where branches go on from others, all lengths are of one class.
            let length = self.length_of(index);
            let class = rope.length_class(length);
            let slot = known
                .iter()
                .position(|(other, _)| *other == class)
                .unwrap_or_else(|| {
                    known.push((class, Vec::new()));
                    known.len() - 1
                });
            let turn = turns_of(rope, stored, length);
            for row in rows {
                let position = self.positions[row] as usize;
                if let Some(blocks) = *blocks {
                    let position = axis_position(rope.axis, blocks, position);
                    turn(position, cos.row_mut(row), sin.row_mut(row));
                    continue;
                }
                if self.piece.is_some() {
                    turn(position, cos.row_mut(row), sin.row_mut(row));
                    continue;
                }
                if let Some(&source) = known[slot].1.get(position) {
                    cos.as_mut_slice()
                        .copy_within(source * half..(source + 1) * half, row * half);
                    sin.as_mut_slice()
                        .copy_within(source * half..(source + 1) * half, row * half);
                    continue;
                }
                known[slot].1.push(row);
                turn(position, cos.row_mut(row), sin.row_mut(row));
            }
        }
        (cos, sin)
    }
}

impl Batch {
    /// Cosines and sines of rows whose pairs turn by time, row and column; in f32, as the reference multiplies.
    fn turn_by_coordinates(&self, (rope, pairs): (&Rope, Pairs), cos: &mut Mat, sin: &mut Mat) {
        let half = rope.dims / 2;
        let turned: Vec<(usize, usize)> = (0..half).map(|pair| pairs.of(pair, half)).collect();
        for index in 0..self.blocks.len() {
            let frequencies = rope.frequencies(self.length_of(index));
            for row in self.branch(index) {
                let coordinates = self.coordinates(row, pairs);
                let own = cos.row_mut(row).iter_mut().zip(sin.row_mut(row));
                for ((cos, sin), &(axis, speed)) in own.zip(&turned) {
                    let angle = frequencies.inverse[speed] * coordinates[axis];
                    let angle = f64::from(angle);
                    *cos = angle.cos() as f32 * frequencies.attention_factor;
                    *sin = angle.sin() as f32 * frequencies.attention_factor;
                }
            }
        }
    }

    /// Time, row and column of a row: of a patch, counted from where the rotation says, of a token that brings them along, or thrice its position.
    fn coordinates(&self, row: usize, pairs: Pairs) -> [f32; 3] {
        let own = self.inputs.of(row);
        if pairs == Pairs::Centres {
            return match own.try_into().map(Place::of) {
                Ok(place) if !place.is_front() => centre(place),
                _ => [0.0; 3],
            };
        }
        let whole = match self.coordinates {
            Coordinates::None => [self.positions[row]; 3],
            // What stands in front of patches does not turn.
            Coordinates::Places => match own.try_into().map(Place::of) {
                Ok(place) if !place.is_front() => {
                    [0, pairs.first() + place.row, pairs.first() + place.column]
                }
                _ => [0; 3],
            },
            Coordinates::At(first) => [own[first], own[first + 1], own[first + 2]],
        };
        whole.map(|number| number as f32)
    }
}

/// Where the middle of a patch is in its picture, from -1 to 1, times two pi; in f32 as the reference computes it.
fn centre(place: Place) -> [f32; 3] {
    let of = |at: u32, count: u32| {
        let share = (at as f32 + 0.5) / count as f32;
        std::f32::consts::TAU * (2.0 * share - 1.0)
    };
    let [rows, columns] = place.grid;
    [0.0, of(place.row, rows), of(place.column, columns)]
}

/// Writes the cosines and sines of a position.
type Turn<'t> = Box<dyn Fn(usize, &mut [f32], &mut [f32]) + 't>;

/// What gives cosines and sines of a position in a record of this length: what the checkpoint has, or the rotation's frequencies.
fn turns_of<'t>(rope: &Rope, stored: Option<&'t StoredTurns>, length: usize) -> Turn<'t> {
    let frequencies = match stored {
        None => rope.frequencies(length),
        Some(turns) => match turns.form {
            TurnsForm::Frequencies => RopeFrequencies {
                inverse: turns.values.clone(),
                attention_factor: 1.0,
            },
            TurnsForm::LogFactors => {
                let mut frequencies = rope.frequencies(length);
                for (inverse, log) in frequencies.inverse.iter_mut().zip(&turns.values) {
                    *inverse *= f64::from(*log).exp() as f32;
                }
                frequencies
            }
            TurnsForm::SinesThenCosines => {
                return Box::new(move |position, cos, sin| {
                    let pairs = sin.len();
                    let row = &turns.values[position * 2 * pairs..(position + 1) * 2 * pairs];
                    sin.copy_from_slice(&row[..pairs]);
                    cos.copy_from_slice(&row[pairs..]);
                });
            }
        },
    };
    Box::new(move |position, cos, sin| turn(&frequencies, position, cos, sin))
}

/// Cosines and sines of one position.
fn turn(frequencies: &RopeFrequencies, position: usize, cos: &mut [f32], sin: &mut [f32]) {
    for ((&inverse, cos), sin) in frequencies.inverse.iter().zip(cos).zip(sin) {
        let angle = f64::from(inverse * position as f32);
        *cos = angle.cos() as f32 * frequencies.attention_factor;
        *sin = angle.sin() as f32 * frequencies.attention_factor;
    }
}

/// What a rotation turns the token at `position` by.
fn axis_position(axis: PositionAxis, blocks: Blocks, position: usize) -> usize {
    match axis {
        PositionAxis::Token | PositionAxis::Coordinates(_) => position,
        PositionAxis::Context if position < blocks.context => position,
        PositionAxis::Context => blocks.mask,
        PositionAxis::Block => (position + 1).saturating_sub(blocks.context),
    }
}
