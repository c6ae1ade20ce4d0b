//! What a type calls the tensors of its blocks, and where the norms of a layer stand.

use crate::{Activation, TieOrder};

/// Names of a stack's tensors without `.weight` and `.bias`: in the stack, and in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// Token table.
    pub tokens: &'static str,
    /// A layer, without its number.
    pub layers: &'static str,
    /// The number of the first layer.
    pub first_layer: usize,
    /// The factor of a norm.
    pub norm_factor: &'static str,
    /// Queries, keys and values.
    pub projections: Projections,
    /// Norm of the queries; `{}` where every head's is a tensor of its own.
    pub query_norm: &'static str,
    /// Norm of the keys.
    pub key_norm: &'static str,
    /// Output projection of the attention.
    pub output: &'static str,
    /// Its addend, where it is called otherwise.
    pub output_bias: Option<&'static str>,
    /// Norm in front of the output projection, where there is one.
    pub output_norm: Option<&'static str>,
    /// Gate of the feed-forward network.
    pub gate: &'static str,
    /// Its upward projection.
    pub up: &'static str,
    /// Both as the halves of one tensor.
    pub gate_up: Option<&'static str>,
    /// Its first half is the upward projection.
    pub up_first: bool,
    /// Norm in front of its downward projection, where there is one.
    pub inner_norm: Option<&'static str>,
    /// Its downward projection.
    pub down: &'static str,
    /// Norm behind the last layer.
    pub final_norm: &'static str,
    /// Projection to logits, by its full name.
    pub head: &'static str,
}

impl Names {
    /// Llama's.
    pub const USUAL: Self = Self {
        tokens: "embed_tokens",
        layers: "layers",
        first_layer: 0,
        norm_factor: "weight",
        projections: Projections::Separate([
            "self_attn.q_proj",
            "self_attn.k_proj",
            "self_attn.v_proj",
        ]),
        query_norm: "self_attn.q_norm",
        key_norm: "self_attn.k_norm",
        output: "self_attn.o_proj",
        output_bias: None,
        output_norm: None,
        gate: "mlp.gate_proj",
        up: "mlp.up_proj",
        gate_up: None,
        up_first: false,
        inner_norm: None,
        down: "mlp.down_proj",
        final_norm: "norm",
        head: "lm_head",
    };
}

/// How queries, keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projections {
    /// A tensor each.
    Separate([&'static str; 3]),
    /// One behind the other.
    Rows(&'static str),
    /// `blocks` times a part of each; which of the three a query, key and value is.
    Blocks {
        /// The tensor.
        name: &'static str,
        /// Number of blocks.
        blocks: usize,
        /// Where in a block queries, keys and values are.
        order: [usize; 3],
    },
    /// In a group for every key/value head: its queries, its key, its value.
    Grouped(&'static str),
    /// Queries, and key and value of one head after another.
    KeyValue {
        /// Queries.
        query: &'static str,
        /// Keys and values.
        key_value: &'static str,
    },
}

impl Projections {
    /// Query, key and value of one head after another.
    pub fn per_head(name: &'static str, heads: usize) -> Self {
        Self::Blocks {
            name,
            blocks: heads,
            order: [0, 1, 2],
        }
    }
}

/// Where the norms of a layer stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrangement {
    /// Around the attention; `None`: there is no attention.
    pub attention: Option<Norms>,
    /// Around the feed-forward network; `None`: there is none.
    pub feed_forward: Option<Norms>,
    /// How the two follow each other.
    pub form: Form,
}

/// The norms of a sublayer, by the names of their tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Norms {
    /// In front of it.
    pub before: Option<&'static str>,
    /// On its output, in front of the residual sum.
    pub output: Option<&'static str>,
    /// On the residual sum.
    pub sum: Option<&'static str>,
}

/// How the sublayers of a layer follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One after the other.
    Sequential,
    /// One after the other, and the residual stream continues from the norm in front of each (Bloom's option).
    InStream,
    /// Side by side, their outputs summed.
    Parallel,
}

impl Arrangement {
    const fn new(attention: Norms, feed_forward: Norms, form: Form) -> Self {
        Self {
            attention: Some(attention),
            feed_forward: Some(feed_forward),
            form,
        }
    }

    /// In front of each sublayer.
    pub const fn pre(attention: &'static str, feed_forward: &'static str) -> Self {
        Self::new(
            Norms::before(attention),
            Norms::before(feed_forward),
            Form::Sequential,
        )
    }

    /// In front of the second one alone.
    pub const fn pre_second(feed_forward: &'static str) -> Self {
        Self::new(Norms::NONE, Norms::before(feed_forward), Form::Sequential)
    }

    /// On the output of each sublayer (OLMo 2).
    pub const fn post(attention: &'static str, feed_forward: &'static str) -> Self {
        Self::new(
            Norms::output(attention),
            Norms::output(feed_forward),
            Form::Sequential,
        )
    }

    /// `[before, on the output]` of each sublayer (Gemma 2).
    pub const fn sandwich(attention: [&'static str; 2], feed_forward: [&'static str; 2]) -> Self {
        Self::new(
            Norms::around(attention),
            Norms::around(feed_forward),
            Form::Sequential,
        )
    }

    /// Behind each residual sum (BERT).
    pub const fn after_sum(attention: &'static str, feed_forward: &'static str) -> Self {
        Self::new(
            Norms::sum(attention),
            Norms::sum(feed_forward),
            Form::Sequential,
        )
    }

    /// One norm in front of both sublayers, which stand side by side (Cohere).
    pub const fn parallel(norm: &'static str) -> Self {
        Self::new(Norms::before(norm), Norms::NONE, Form::Parallel)
    }

    /// In front of a mixer that stands alone.
    pub const fn alone(norm: &'static str) -> Self {
        Self {
            attention: Some(Norms::before(norm)),
            feed_forward: None,
            form: Form::Sequential,
        }
    }

    /// The same with sublayers in another form.
    #[must_use]
    pub const fn in_form(self, form: Form) -> Self {
        Self { form, ..self }
    }
}

impl Norms {
    const NONE: Self = Self {
        before: None,
        output: None,
        sum: None,
    };

    /// In front of it.
    pub const fn before(name: &'static str) -> Self {
        Self {
            before: Some(name),
            ..Self::NONE
        }
    }

    const fn output(name: &'static str) -> Self {
        Self {
            output: Some(name),
            ..Self::NONE
        }
    }

    /// On the residual sum.
    pub const fn sum(name: &'static str) -> Self {
        Self {
            sum: Some(name),
            ..Self::NONE
        }
    }

    /// In front of it and on its output.
    pub const fn around([before, output]: [&'static str; 2]) -> Self {
        Self {
            before: Some(before),
            output: Some(output),
            sum: None,
        }
    }
}

/// A dense layer between the last layer and the projection to logits (BERT), by full names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transform {
    /// Dense layer.
    pub dense: &'static str,
    /// It has an addend.
    pub bias: bool,
    /// What comes out of it.
    pub width: usize,
    /// After the dense layer.
    pub activation: Activation,
    /// Norm behind that.
    pub norm: Option<&'static str>,
}

impl Transform {
    /// With an addend and a norm.
    pub const fn normed(
        dense: &'static str,
        norm: &'static str,
        width: usize,
        activation: Activation,
    ) -> Self {
        Self {
            dense,
            bias: true,
            width,
            activation,
            norm: Some(norm),
        }
    }
}

/// Whether the head is the token table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// As the configuration says; where it is, the weights may say otherwise.
    Configured,
    /// This, whatever the configuration says.
    Always(bool),
    /// It is, unless the weights say otherwise.
    UnlessStored,
}

/// A token table that stacks share where the head is tied, and what files have of it that the description does not
/// use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedTokens {
    /// Its name below the base prefix, without `.weight`.
    pub name: &'static str,
    /// Which of the tables, or the head, stands for it where it is not stored.
    pub order: TieOrder,
    /// Unused where it is shared.
    pub tied: &'static [&'static str],
    /// Unused where every stack has its own.
    pub own: &'static [&'static str],
}

/// Tensors that files have for a head and the description does not use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnusedHead {
    /// Where the class has no head.
    pub without: &'static [&'static str],
    /// Where the head is the token table.
    pub tied: &'static [&'static str],
    /// Where the head is its own.
    pub own: &'static [&'static str],
}

impl UnusedHead {
    /// These are the head's projection, which a file may have all the same.
    pub const fn projection(names: &'static [&'static str]) -> Self {
        Self {
            without: names,
            tied: names,
            own: &[],
        }
    }
}
