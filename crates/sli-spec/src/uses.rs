//! Which weights a step uses. The matches are exhaustive and destructure everything, so that a new
//! field cannot be forgotten.

use crate::model::{
    Attention, Branch, Differential, DynamicMask, FeedForward, Gain, HeadNorm, Indexer,
    KeySelection, KeyValue, LatentAttention, LayerInput, Linear, LowRank, Mixer,
    MixtureOfAttention, MixtureOfExperts, Norm, OutputGate, Position, RelativeBuckets, Router,
    SparseFeedForward, Step, StreamUpdate, Streams, Write, Xielu,
};
use crate::source::WeightIndex;

impl Step {
    /// Every weight that the step uses, in the order of use, without repetitions.
    pub fn weights(&self) -> Vec<WeightIndex> {
        let mut uses = Uses(Vec::new());
        let Self {
            read: _,
            pre,
            branches,
            post,
            write,
        } = self;
        uses.norm(pre.as_ref());
        for Branch {
            pre,
            mixer,
            post,
            gain,
        } in branches
        {
            uses.norm(pre.as_ref());
            uses.mixer(mixer);
            uses.norm(post.as_ref());
            uses.gain(gain);
        }
        uses.norm(post.as_ref());
        match write {
            Write::Add | Write::Set(_) | Write::AddTo(_) => {}
            Write::AddScaled(gain) => uses.gain(gain),
            Write::AddNorm(norm, gain) => {
                uses.gain(gain);
                uses.norm(Some(norm));
            }
        }
        uses.0
    }
}

struct Uses(Vec<WeightIndex>);

impl Uses {
    fn weight(&mut self, index: WeightIndex) {
        if !self.0.contains(&index) {
            self.0.push(index);
        }
    }

    fn optional(&mut self, index: Option<WeightIndex>) {
        if let Some(index) = index {
            self.weight(index);
        }
    }

    fn linear(&mut self, linear: &Linear) {
        let Linear {
            weight,
            bias,
            out_features: _,
            in_features: _,
        } = linear;
        self.weight(*weight);
        self.optional(*bias);
    }

    fn norm(&mut self, norm: Option<&Norm>) {
        if let Some(Norm {
            kind: _,
            weight,
            bias,
            epsilon: _,
        }) = norm
        {
            self.optional(*weight);
            self.optional(*bias);
        }
    }

    fn head_norm(&mut self, norm: Option<&HeadNorm>) {
        if let Some(HeadNorm {
            norm,
            span: _,
            after_rotation: _,
        }) = norm
        {
            self.norm(Some(norm));
        }
    }

    fn gain(&mut self, gain: &Gain) {
        match gain {
            Gain::One | Gain::Constant(_) => {}
            Gain::Vector(index) => self.weight(*index),
        }
    }

    fn mixer(&mut self, mixer: &Mixer) {
        match mixer {
            Mixer::Attention(attention) => self.attention(attention),
            Mixer::LatentAttention(attention) => self.latent_attention(attention),
            Mixer::MixtureOfExperts(experts) => self.experts(experts),
            Mixer::MixtureOfAttention(attention) => self.attention_experts(attention),
            Mixer::Linear(linear) => self.linear(linear),
            Mixer::FeedForward(network)
            | Mixer::SparseFeedForward(SparseFeedForward {
                network,
                deviations: _,
            }) => self.feed_forward(network),
            Mixer::LowRank(LowRank { down, up }) => {
                self.linear(down);
                self.linear(up);
            }
            Mixer::LayerInput(LayerInput {
                gate,
                activation: _,
                projection,
            }) => {
                self.linear(gate);
                self.linear(projection);
            }
            Mixer::Streams(streams) => self.streams(streams),
            Mixer::Identity => {}
        }
    }

    fn streams(&mut self, streams: &Streams) {
        let Streams {
            streams: _,
            active: _,
            norm,
            router,
            update,
        } = streams;
        self.norm(Some(norm));
        self.linear(router);
        match update {
            StreamUpdate::Predict { coefficients }
            | StreamUpdate::Correct {
                coefficients,
                computed: _,
            } => self.linear(coefficients),
        }
    }

    fn attention(&mut self, attention: &Attention) {
        let Attention {
            heads: _,
            kv_heads: _,
            head_dim: _,
            value_dim: _,
            query,
            key_value,
            output,
            clip: _,
            query_norm,
            key_norm,
            value_norm,
            positions,
            mask: _,
            scale: _,
            softcap: _,
            clamp: _,
            sinks,
            query_temperature: _,
            gate,
            differential,
            dynamic_mask,
            output_norm,
        } = attention;
        self.linear(query);
        match key_value {
            KeyValue::Own { key, value } => {
                self.linear(key);
                if let Some(value) = value {
                    self.linear(value);
                }
            }
            KeyValue::OfLayer(_) => {}
        }
        self.head_norm(query_norm.as_ref());
        self.head_norm(key_norm.as_ref());
        self.head_norm(value_norm.as_ref());
        for position in positions {
            match position {
                Position::Buckets(RelativeBuckets {
                    table,
                    buckets: _,
                    max_distance: _,
                    types: _,
                }) => self.weight(*table),
                Position::Rope(_) | Position::Alibi(_) => {}
            }
        }
        self.optional(*sinks);
        if let Some(OutputGate {
            projection,
            per_head: _,
            activation: _,
            head_bias,
        }) = gate
        {
            self.linear(projection);
            self.optional(*head_bias);
        }
        if let Some(Differential {
            lambda,
            initial: _,
            norm,
            gain: _,
        }) = differential
        {
            for &index in lambda {
                self.weight(index);
            }
            self.head_norm(Some(norm));
        }
        if let Some(DynamicMask {
            step,
            decay,
            kept: _,
        }) = dynamic_mask
        {
            self.linear(step);
            self.weight(*decay);
        }
        self.norm(output_norm.as_ref());
        self.linear(output);
    }

    fn latent_attention(&mut self, attention: &LatentAttention) {
        let LatentAttention {
            heads: _,
            nope_dim: _,
            rope_dim: _,
            value_dim: _,
            kv_rank: _,
            query_down,
            query,
            key_value_down,
            key_value_norm,
            key_value_up,
            output,
            rope: _,
            query_latent_scale: _,
            key_value_latent_scale: _,
            mask: _,
            scale: _,
            query_temperature: _,
            selection,
        } = attention;
        if let Some((down, norm)) = query_down {
            self.linear(down);
            self.norm(Some(norm));
        }
        self.linear(query);
        self.linear(key_value_down);
        self.norm(Some(key_value_norm));
        self.linear(key_value_up);
        match selection {
            Some(KeySelection::Indexer(indexer)) => self.indexer(indexer),
            Some(KeySelection::Previous { top_k: _ }) | None => {}
        }
        self.linear(output);
    }

    fn indexer(&mut self, indexer: &Indexer) {
        let Indexer {
            heads: _,
            head_dim: _,
            query,
            key,
            key_norm,
            weights,
            rope: _,
            top_k: _,
            kept: _,
        } = indexer;
        self.linear(query);
        self.linear(key);
        self.norm(Some(key_norm));
        self.linear(weights);
    }

    fn feed_forward(&mut self, network: &FeedForward) {
        let FeedForward {
            gate,
            up,
            down,
            activation: _,
            learned_activation,
            inner_norm,
            clamped: _,
        } = network;
        if let Some(gate) = gate {
            self.linear(gate);
        }
        self.linear(up);
        if let Some(Xielu {
            alpha_p,
            alpha_n,
            beta,
            eps,
        }) = learned_activation
        {
            for &index in [alpha_p, alpha_n, beta, eps] {
                self.weight(index);
            }
        }
        self.norm(inner_norm.as_ref());
        self.linear(down);
    }

    fn experts(&mut self, experts: &MixtureOfExperts) {
        let MixtureOfExperts {
            experts: _,
            identity_experts: _,
            router,
            expert_norm,
            expert,
            shared,
            shared_gate,
            output_scale: _,
            output_bias,
        } = experts;
        self.router(router);
        self.norm(expert_norm.as_ref());
        self.feed_forward(expert);
        if let Some(shared) = shared {
            self.feed_forward(shared);
        }
        if let Some(gate) = shared_gate {
            self.linear(gate);
        }
        self.optional(*output_bias);
    }

    fn attention_experts(&mut self, attention: &MixtureOfAttention) {
        let MixtureOfAttention {
            experts: _,
            router,
            heads: _,
            head_dim: _,
            query,
            key,
            value,
            output,
            output_bias,
            rope: _,
            mask: _,
            scale: _,
        } = attention;
        self.router(router);
        self.linear(query);
        self.linear(key);
        self.linear(value);
        self.linear(output);
        self.weight(*output_bias);
    }

    fn router(&mut self, router: &Router) {
        let Router {
            norm,
            projection,
            logit_scale: _,
            softcap: _,
            score: _,
            top_k: _,
            choice_bias,
            groups: _,
            renormalize: _,
            scale: _,
            expert_scale,
            weighs_input: _,
        } = router;
        self.norm(norm.as_ref());
        self.linear(projection);
        self.optional(*choice_bias);
        self.optional(*expert_scale);
    }
}
