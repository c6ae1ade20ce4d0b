//! X-MOD (Pfeiffer et al. 2022): RoBERTa with an adapter for each language in every layer.

use std::rc::Rc;

use super::BERT;
use super::roberta::of_names;
use crate::build::Leaves;
use crate::families::blocks::{Arrangement, Blocks, Form, Names, Norms};
use crate::{
    Config, Described, FeedForward, Gain, Identity, Mixer, Shard, Slot, SpecError, Step, Write,
};

/// X-MOD in its default language.
pub fn xmod(config: &Config) -> Result<Described, SpecError> {
    let names = Names {
        final_norm: "encoder.LayerNorm",
        ..BERT
    };
    let adapter = Adapter::read(config)?;
    let pre_norm = config.flag("pre_norm")?;
    let mut model = of_names(config, &names)?;
    let attention = "attention.output.LayerNorm";
    let (attention, feed_forward) = if pre_norm {
        (Norms::before(attention), Norms::before("output.LayerNorm"))
    } else {
        // The one behind the network's sum stands behind the adapter.
        (Norms::sum(attention), Norms::default())
    };
    model.arrangement = Arrangement {
        attention: Some(attention),
        feed_forward: Some(feed_forward),
        form: Form::Sequential,
    };
    model.final_norm = pre_norm.then_some(model.norm);
    model.ignored.push("*.adapter_modules.*");
    model.layer_of = Some(Rc::new(move |own, leaves, layer| {
        let mut steps = own.steps(leaves, layer);
        steps.extend(adapter.steps(own, leaves));
        if let (false, Some(last)) = (pre_norm, steps.last_mut()) {
            let norm = leaves.norm("output.LayerNorm", own.hidden_size, own.norm);
            last.write = Write::AddNorm(norm, Gain::One);
        }
        steps
    }));
    model.build()
}

/// What stands behind the feed-forward network.
struct Adapter {
    /// Name of the language's.
    name: String,
    width: usize,
    /// Norm in front of it.
    norm: Option<&'static str>,
    /// The residual stream continues from that norm.
    norm_in_stream: bool,
}

impl Adapter {
    fn read(config: &Config) -> Result<Self, SpecError> {
        const KEY: &str = "default_language";
        let languages = config.texts("languages")?.unwrap_or_default();
        let language = config
            .optional_text(KEY)?
            .ok_or_else(|| config.missing(KEY))?;
        if !languages.contains(&language) {
            return Err(config.invalid(KEY, "one of `languages`"));
        }
        if language.contains('*') {
            return Err(config.invalid(KEY, "a name without `*`"));
        }
        let reduction = config.size("adapter_reduction_factor")?;
        let hidden = config.size("hidden_size")?;
        let width = match hidden / reduction {
            0 => {
                return Err(config.invalid("adapter_reduction_factor", format!("at most {hidden}")));
            }
            width => width,
        };
        let reuses = config.flag("adapter_reuse_layer_norm")?;
        let norm = if config.flag("adapter_layer_norm")? {
            Some("output.adapter_layer_norm")
        } else {
            reuses.then_some("output.LayerNorm")
        };
        Ok(Self {
            name: format!("output.adapter_modules.{language}"),
            width,
            norm,
            norm_in_stream: config.flag("ln_before_adapter")?,
        })
    }

    fn steps(&self, own: &Blocks<'_>, leaves: &mut Leaves) -> Vec<Step> {
        let hidden = own.hidden_size;
        let norm = self.norm.map(|name| leaves.norm(name, hidden, own.norm));
        let [up, down] = ["dense1", "dense2"].map(|part| format!("{}.{part}", self.name));
        let up = leaves.linear(&up, [self.width, hidden], true, Shard::Column);
        let down = leaves.linear(&down, [hidden, self.width], true, Shard::Row);
        let network = FeedForward::plain(None, up, down, own.activation);
        let adapter = Step::residual(Mixer::FeedForward(network));
        if self.norm_in_stream && norm.is_some() {
            let normed = Step {
                pre: norm,
                write: Write::Set(Slot::Hidden),
                ..Step::residual(Mixer::Identity(Identity))
            };
            return vec![normed, adapter];
        }
        vec![Step {
            pre: norm,
            ..adapter
        }]
    }
}
