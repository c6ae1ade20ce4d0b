//! A layer: residual steps, and what they are made of.

use serde::Serialize;

use super::transform::is_default;
use crate::mechanisms::{Mechanism, Mixer, TokenKind, Uses};
use crate::parts::{Cut, Gain, HyperConnection, Norm, Slot, StreamReading};
use crate::source::{Leaf, WeightIndex};

/// One layer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Layer {
    /// Prefix of its tensor names.
    pub prefix: String,
    /// Its weights, in order of use.
    pub leaves: Vec<Leaf>,
    /// What it does.
    pub steps: Vec<Step>,
}

impl Layer {
    /// The mechanisms of all steps, in order.
    pub fn mechanisms(&self) -> impl Iterator<Item = &dyn Mechanism> + Clone {
        self.steps.iter().flat_map(Step::mechanisms)
    }
}

/// One residual step:
/// `y = post(sum_b gain_b * post_b(mixer_b(scale_b * pre_b(pre(read)))))`, then `write`.
///
/// One branch with `pre` is pre-norm; [`Write::AddNorm`] is post-norm (BERT); `pre` and `post` is a
/// sandwich (Gemma 2); two branches are a parallel residual (Cohere, GPT-NeoX).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Where the input comes from.
    pub read: Slot,
    /// The input is a mixture of all residual streams, and the sum is written to all of them; then `read` is the hidden
    /// state and `write` a sum.
    pub connection: Option<Box<HyperConnection>>,
    /// Where columns come from that stand beside those of the input (Zamba).
    pub beside: Option<Slot>,
    /// Norm in front of all branches.
    pub pre: Option<Norm>,
    /// The mixers; their outputs are summed.
    pub branches: Vec<Branch>,
    /// Norm of the sum.
    pub post: Option<Norm>,
    /// What becomes of the sum.
    pub write: Write,
    /// The rows for which that happens, where it is some: those of a kind, or (`false`) all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<(TokenKind, bool)>,
}

impl Step {
    /// Whether its rows need the keys and values of later ones.
    pub fn takes_keys_first(&self) -> bool {
        let mut mechanisms = self.mechanisms();
        mechanisms.any(|mechanism| mechanism.cut() == Cut::KeysFirst)
    }

    /// The mechanisms of all branches, in order.
    pub fn mechanisms(&self) -> impl Iterator<Item = &dyn Mechanism> + Clone {
        self.branches.iter().map(|branch| branch.mixer.facts())
    }

    /// Why it cannot be computed as it stands: what would be left out of account.
    pub fn contradiction(&self) -> Option<&'static str> {
        let in_place = self.mechanisms().any(Mechanism::is_in_place);
        let is_bare = |branch: &Branch| {
            branch.pre.is_none()
                && branch.scale == 1.0
                && branch.post.is_none()
                && branch.gain == Gain::One
                && !branch.of_seeing
        };
        let alone = self.branches.len() == 1 && self.branches.iter().all(is_bare);
        let has_norms = self.pre.is_some() || self.post.is_some();
        let of_mechanisms = self.mechanisms().find_map(Mechanism::contradiction);
        let own = "norms or factors around a change of all residual streams";
        let connected = self.connection.is_some();
        let is_plain = self.read == Slot::Hidden && self.write == Write::Add && !in_place;
        let is_plain = is_plain && self.beside.is_none();
        let is_more = has_norms || !alone || self.beside.is_some();
        let written_apart = matches!(self.write, Write::Set(_) | Write::AddNorm(_, Gain::One));
        let apart = self.only.is_some();
        of_mechanisms
            .or(
                (apart && (in_place || connected || !written_apart)).then_some(
                    "rows of one kind are written in a way that is known for all rows alone",
                ),
            )
            .or((in_place && is_more).then_some(own))
            .or((connected && !is_plain).then_some("streams that are read or written in two ways"))
    }

    /// Every weight that the step uses, in the order of use, without repetitions.
    pub fn weights(&self) -> Vec<WeightIndex> {
        self.uses().collected()
    }

    /// Features inside the widest adapter of its linear maps.
    pub fn rank(&self) -> usize {
        self.uses().rank()
    }

    /// Columns of its input, of slots of `hidden` features.
    pub fn input_columns(&self, hidden: usize) -> usize {
        hidden * (1 + usize::from(self.beside.is_some()))
    }

    fn uses(&self) -> Uses {
        let mut uses = Uses::default();
        let Self {
            read: _,
            connection,
            beside: _,
            pre,
            branches,
            post,
            write,
            only: _,
        } = self;
        if let Some(HyperConnection {
            reading,
            write: _,
            rounds: _,
        }) = connection.as_deref()
        {
            match reading {
                StreamReading::Weighed(weights) => uses.streams(weights),
                StreamReading::Gated { mean, write } => {
                    uses.mean(mean);
                    for write in write {
                        uses.linear(write);
                    }
                }
            }
        }
        uses.norm(pre.as_ref());
        for Branch {
            pre,
            scale: _,
            mixer,
            post,
            gain,
            of_seeing: _,
        } in branches
        {
            uses.norm(pre.as_ref());
            mixer.facts().weights(&mut uses);
            uses.norm(post.as_ref());
            uses.gain(gain);
        }
        uses.norm(post.as_ref());
        match write {
            Write::Add | Write::Set(_) | Write::AddTo(_) => {}
            Write::AddScaled(gain) => uses.gain(gain),
            Write::AddToNormed(norm) => uses.norm(Some(norm)),
            Write::AddNorm(norm, gain) => {
                uses.gain(gain);
                uses.norm(Some(norm));
            }
        }
        uses
    }
}

/// One mixer of a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Branch {
    /// Norm of its input, after the step's own.
    pub pre: Option<Norm>,
    /// Factor on its input (Falcon H1).
    pub scale: f64,
    /// The mixer.
    pub mixer: Mixer,
    /// Norm of its output.
    pub post: Option<Norm>,
    /// Factor on its output.
    pub gain: Gain,
    /// Its output is 0 for tokens that see no picture ([`crate::InputKind::Seen`]).
    #[serde(skip_serializing_if = "is_default")]
    pub of_seeing: bool,
}

/// What becomes of a step's sum `y`; `r` is the hidden state before the step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Write {
    /// `h = r + y`.
    Add,
    /// `h = gain * r + y`.
    AddScaled(Gain),
    /// `h = norm(r) + y` (ZAYA).
    AddToNormed(Norm),
    /// `h = norm(gain * r + y)` (post-norm: BERT, openai-gpt).
    AddNorm(Norm, Gain),
    /// The slot becomes `y`.
    Set(Slot),
    /// The slot is increased by `y`.
    AddTo(Slot),
}
