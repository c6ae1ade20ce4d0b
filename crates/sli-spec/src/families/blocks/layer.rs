//! Layers: the norms around the sublayers, and how what they compute is added up.

use super::Blocks;
use super::names::{Form, Norms};
use super::streams::{GatedStreams, Hyper};
use crate::build::Leaves;
use crate::{Branch, Gain, Identity, Layer, Mixer, Norm, Shard, Slot, Step, Write};

/// How what a sublayer computes is added to the residual stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Residual {
    /// As it is.
    Plain,
    /// Times a factor.
    Scaled(f64),
    /// The residual stream times a factor.
    Carried(f64),
    /// The residual stream times learned factors per feature, in front of the attention's and of the feed-forward
    /// network's sum.
    Learned([&'static str; 2]),
    /// `[the residual stream, what is added]` times factors, in the attention's and in the feed-forward network's sum
    /// (MiniMax-01).
    Weighed([[f64; 2]; 2]),
    /// There are several streams, of which every sublayer reads a mixture and to all of which it writes.
    Hyper(Hyper),
    /// The same of a gated mean.
    Gated(GatedStreams),
    /// The mean square stays what it is: in sublayer `n` of all, counted from 2, the stream times
    /// `sqrt((n - 1) / n)` and the addend divided by `sqrt(n)` (Beam).
    ByDepth,
}

/// A sublayer and the norms around it.
struct Sublayer {
    before: Option<Norm>,
    mixer: Mixer,
    output: Option<Norm>,
    sum: Option<Norm>,
    gain: f64,
}

impl Sublayer {
    /// Its step; the norm in front stands before all branches.
    fn step(self) -> Step {
        let mut step = Step {
            pre: self.before,
            post: self.output,
            write: self
                .sum
                .map_or(Write::Add, |norm| Write::AddNorm(norm, Gain::One)),
            ..Step::residual(self.mixer)
        };
        if self.gain != 1.0 {
            multiply(&mut step, self.gain);
        }
        step
    }

    /// Its step behind one that leaves the normed stream.
    fn steps_in_stream(mut self) -> Vec<Step> {
        let normed = Step {
            pre: self.before.take(),
            write: Write::Set(Slot::Hidden),
            ..Step::residual(Mixer::Identity(Identity))
        };
        vec![normed, self.step()]
    }
}

impl Blocks<'_> {
    pub(super) fn layer(&self, number: usize) -> Layer {
        let name = self.names.layers;
        let place = match &self.places {
            Some(places) => places[number].clone(),
            None => format!("{name}.{}", number + self.names.first_layer),
        };
        let mut leaves = self.leaves(format!("{}{place}.", self.prefix));
        let own = self.by_layer.as_ref().map(|change| {
            let mut own = self.clone();
            change(&mut own, number);
            own
        });
        let blocks = own.as_ref().unwrap_or(self);
        let steps = match &blocks.layer_of {
            Some(steps) => steps(blocks, &mut leaves, number),
            None => blocks.steps(&mut leaves, number),
        };
        leaves.layer(steps)
    }

    /// The usual steps of a layer, their names relative to it.
    pub fn steps(&self, leaves: &mut Leaves, number: usize) -> Vec<Step> {
        let mut sublayers = Vec::new();
        if let Some(norms) = self.arrangement.attention {
            let attention = |leaves: &mut Leaves| self.attention(leaves, number);
            sublayers.push(Sublayer {
                gain: self.attention_gain,
                ..self.sublayer(leaves, norms, attention)
            });
        }
        if let Some(cross) = self.cross {
            let attention = |leaves: &mut Leaves| self.cross_attention(leaves, cross);
            sublayers.push(self.sublayer(leaves, cross.norms, attention));
        }
        if let Some(norms) = self.arrangement.feed_forward {
            let network = |leaves: &mut Leaves| self.feed_forward(leaves, number);
            sublayers.push(self.sublayer(leaves, norms, network));
        }
        let mut steps: Vec<Step> = match self.arrangement.form {
            Form::Sequential => sublayers.into_iter().map(Sublayer::step).collect(),
            Form::InStream => {
                let steps = sublayers.into_iter().map(Sublayer::steps_in_stream);
                steps.flatten().collect()
            }
            Form::Parallel => parallel(sublayers).into_iter().collect(),
        };
        self.add_up(leaves, number, &mut steps);
        steps
    }

    fn sublayer(
        &self,
        leaves: &mut Leaves,
        norms: Norms,
        mixer: impl FnOnce(&mut Leaves) -> Mixer,
    ) -> Sublayer {
        let norm = |leaves: &mut Leaves, name: Option<&str>| {
            name.map(|name| leaves.norm(name, self.hidden_size, self.norm))
        };
        Sublayer {
            before: norm(leaves, norms.before),
            mixer: mixer(leaves),
            output: norm(leaves, norms.output),
            sum: norm(leaves, norms.sum),
            gain: 1.0,
        }
    }

    /// Sets the factors on what is added, and on what it is added to.
    fn add_up(&self, leaves: &mut Leaves, number: usize, steps: &mut [Step]) {
        match self.residual {
            Residual::Hyper(hyper) => return hyper.connect(leaves, self.hidden_size, steps),
            Residual::Gated(gated) => return gated.connect(leaves, self, steps),
            _ => {}
        }
        let is_added = |step: &&mut Step| matches!(step.write, Write::Add);
        for (index, step) in steps.iter_mut().filter(is_added).enumerate() {
            match self.residual {
                Residual::Plain
                | Residual::Scaled(1.0)
                | Residual::Hyper(_)
                | Residual::Gated(_) => {}
                Residual::Scaled(factor) => {
                    // The factor is on what is added, after the norm.
                    if let [branch] = step.branches.as_mut_slice() {
                        branch.post = step.post.take();
                    }
                    multiply(step, factor);
                }
                Residual::Carried(factor) => {
                    step.write = Write::AddScaled(Gain::Constant(factor));
                }
                Residual::Learned(names) => {
                    let source = leaves.tensor(names[index]);
                    let weight = leaves.weight(source, &[self.hidden_size], Shard::Replicate);
                    step.write = Write::AddScaled(Gain::Vector(weight));
                }
                Residual::Weighed(factors) => {
                    let [stream, output] = factors[index];
                    step.write = Write::AddScaled(Gain::Constant(stream));
                    multiply(step, output);
                }
                Residual::ByDepth => {
                    let depth = (2 * number + index + 2) as f64;
                    step.write = Write::AddScaled(Gain::Constant(((depth - 1.0) / depth).sqrt()));
                    multiply(step, 1.0 / depth.sqrt());
                }
            }
        }
    }
}

fn multiply(step: &mut Step, factor: f64) {
    for branch in &mut step.branches {
        branch.gain = Gain::Constant(factor);
    }
}

/// Sublayers side by side: one norm in front of all, or one in front of each.
fn parallel(sublayers: Vec<Sublayer>) -> Option<Step> {
    let norms = sublayers.iter().filter(|one| one.before.is_some()).count();
    let mut sublayers = sublayers.into_iter();
    let mut step = sublayers.next()?.step();
    for sublayer in sublayers {
        step.branches.push(Branch {
            pre: sublayer.before,
            ..Branch::plain(sublayer.mixer)
        });
    }
    if norms > 1 {
        step.branches[0].pre = step.pre.take();
    }
    Some(step)
}
