//! Lightning attention.

use sli_kernels::{
    Activation, BlockAttention, Decay, LinearAttention, Mat, MatMut, MatRef, Update,
};
use sli_spec::{DecayTables, LightningAttention};

use super::along::{Stretch, along, by_blocks, state_buffers};
use super::buffers::{Buffer, Buffers};
use super::{At, Mix, kernel};
use crate::error::EngineError;
use crate::exec::{BoundLayer, Vector};

impl Mix for LightningAttention {
    fn buffers(&self, _hidden: usize) -> Buffers {
        state_buffers(self)
            .block(Buffer::Up, self.input.out_features)
            .block(Buffer::Gate, self.features())
    }

    fn run(&self, at: &mut At<'_>, x: MatRef<'_>, output: &mut Mat) -> Result<(), EngineError> {
        output.reset(x.rows(), self.output.out_features);
        by_blocks(self, at, (x, output), block)
    }
}

/// `output = mixer(x)` of the rows of a block; `scratch.key` is the state in front of it and then behind it.
fn block(
    mixer: &LightningAttention,
    at: &mut At<'_>,
    stretches: &[Stretch],
    x: MatRef<'_>,
    output: MatMut<'_>,
) -> Result<(), EngineError> {
    let (layer, scratch) = (at.layer, &mut *at.scratch);
    let (kernels, features) = (layer.kernels, mixer.features());
    scratch.up.reset(x.rows(), mixer.input.out_features);
    layer.linear(x, &mixer.input, scratch.up.view_mut())?;
    kernels.activation(kernel(mixer.activation), scratch.up.view_mut());
    scratch.gate.reset(x.rows(), features);
    layer.linear(x, &mixer.gate, scratch.gate.view_mut())?;
    let decays = match &mixer.tables {
        Some(tables) => Decays::Tables(Tables::of(layer, tables)?),
        None => Decays::Rows(
            mixer
                .rates
                .iter()
                .map(|rate| (-rate).exp() as f32)
                .collect(),
        ),
    };
    let (keys, mut values) = scratch.up.view_mut().split_cols(2 * features);
    let states = (&mut scratch.states, at.mixer);
    let state = scratch.key.as_mut_slice();
    along(stretches, states, state, |stretch, state| {
        let keys = keys.as_ref().rows_range(stretch.rows.clone());
        let query = keys.cols_range(0..features);
        let key = keys.cols_range(features..2 * features);
        let values = values.reborrow().rows_range(stretch.rows.clone());
        match &decays {
            Decays::Tables(tables) => {
                let attention = BlockAttention {
                    query,
                    key,
                    heads: mixer.heads,
                    block: tables.block,
                    of_query: &tables.of_query,
                    of_key: &tables.of_key,
                    of_pair: &tables.of_pair,
                    of_block: &tables.of_block,
                };
                kernels.block_attention(attention, &stretch.starts, state, values);
            }
            Decays::Rows(decays) => {
                let attention = LinearAttention {
                    query,
                    key,
                    key_heads: mixer.heads,
                    heads: mixer.heads,
                    decay: Decay::FixedHeads(decays),
                    update: Update::Add,
                    scale: 1.0,
                };
                kernels.linear_attention(attention, &stretch.starts, state, values);
            }
        }
    })?;
    layer.norm_in_place(&mixer.norm, values.reborrow())?;
    kernels.gated(
        Activation::Sigmoid,
        scratch.gate.view_mut(),
        values.as_ref(),
    );
    layer.linear(scratch.gate.view(), &mixer.output, output)
}

/// How the states decay.
enum Decays {
    /// What is left behind every row, for each head.
    Rows(Vec<f32>),
    /// As tables say.
    Tables(Tables),
}

/// Factors of the rows of a block.
struct Tables {
    block: usize,
    of_query: Vector,
    of_key: Vector,
    of_pair: Vector,
    /// What is left of a head's state behind a block.
    of_block: Vec<f32>,
}

impl Tables {
    fn of(layer: &BoundLayer<'_>, tables: &DecayTables) -> Result<Self, EngineError> {
        let block = tables.block;
        let rates = layer.vector(tables.rates)?;
        let found = Self {
            block,
            of_query: layer.vector(tables.of_query)?,
            of_key: layer.vector(tables.of_key)?,
            of_pair: layer.vector(tables.of_pair)?,
            of_block: rates
                .iter()
                .map(|rate| (-rate * block as f32).exp())
                .collect(),
        };
        // What a row would read of later ones.
        let ahead = found
            .of_pair
            .chunks_exact(block)
            .enumerate()
            .any(|(row, factors)| {
                let behind = row % block + 1;
                factors[behind..].iter().any(|&factor| factor != 0.0)
            });
        if ahead {
            return Err(EngineError::LooksAhead {
                leaf: layer.key(tables.of_pair).describe(layer.model),
            });
        }
        Ok(found)
    }
}
