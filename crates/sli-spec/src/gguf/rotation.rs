//! What a file says of the rotation of queries and keys.

use serde_json::{Value, json};

use super::reader::Reader;
use super::stored::FACTORS;
use crate::SpecError;

impl Reader<'_> {
    /// The rotation, of all features of a head or, where `partial`, of some.
    pub fn rotation(&mut self, head_dim: u64, partial: bool) -> Result<(), SpecError> {
        self.copy_if("rope.freq_base", "rope_theta");
        let rotated = self.number("rope.dimension_count")?.unwrap_or(head_dim);
        if rotated != head_dim && !partial {
            let found = Value::from(rotated);
            let reason = "the whole head is rotated";
            return Err(self.unsupported("rope.dimension_count", &found, reason));
        }
        if partial {
            self.set("partial_rotary_factor", rotated as f64 / head_dim as f64);
        }
        self.scaling(rotated)
    }

    /// What stretches the rotation.
    fn scaling(&mut self, rotated: u64) -> Result<(), SpecError> {
        let kind = self.value("rope.scaling.type");
        let factor = self.float("rope.scaling.factor");
        let original = self.value("rope.scaling.original_context_length");
        self.ignore(&["rope.scaling.finetuned"]);
        // The older spelling of a linear factor.
        let linear = self
            .float("rope.scale_linear")
            .filter(|scale| *scale != 1.0);
        let longest = self.value("context_length");
        let factors = |name: &str| self.stored.factors.get(name).cloned();
        let [all, long, short] = FACTORS.map(factors);
        let check = |factors: &[f64]| factors.len() as u64 == rotated / 2;
        if [&all, &long, &short]
            .into_iter()
            .flatten()
            .any(|list| !check(list))
        {
            return Err(SpecError::Unsupported {
                key: "the tensor of factors of the rotation".to_owned(),
                found: "another length".to_owned(),
                reason: format!("{} pairs are rotated", rotated / 2),
            });
        }
        let mut scaling = match kind.as_ref().and_then(Value::as_str) {
            _ if all.is_some() => {
                // Llama 3 and what else divides each frequency by a number.
                divided(&all.unwrap_or_default(), longest.as_ref())
            }
            Some("longrope") | None if long.is_some() || short.is_some() => {
                let attention = self.float("rope.scaling.attn_factor");
                json!({
                    "rope_type": "longrope", "short_factor": short, "long_factor": long,
                    "attention_factor": attention.unwrap_or(1.0), "original_max_position_embeddings": original
                })
            }
            None | Some("none") => match linear {
                Some(factor) => json!({"rope_type": "linear", "factor": factor}),
                None => return Ok(()),
            },
            Some("linear") => json!({"rope_type": "linear", "factor": factor}),
            Some("yarn") => json!({
                "rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original
            }),
            Some(_) => {
                let found = kind.unwrap_or_default();
                return Err(self.unsupported("rope.scaling.type", &found, "it is not known"));
            }
        };
        if scaling["rope_type"] == "yarn" {
            for (key, to) in [
                ("yarn_beta_fast", "beta_fast"),
                ("yarn_beta_slow", "beta_slow"),
                ("yarn_attn_factor", "attention_factor"),
                // Beside the attention's own, which is 1.
                ("yarn_log_multiplier", "mscale_all_dim"),
            ] {
                if let Some(value) = self.value(&format!("rope.scaling.{key}")) {
                    scaling[to] = value;
                }
            }
            if scaling.get("mscale_all_dim").is_some() {
                scaling["mscale"] = 1.0.into();
            }
        }
        self.set("rope_scaling", scaling);
        Ok(())
    }

    /// Sets rotations by these bases, of layers that see everything and of those with windows.
    pub fn plain_rotations(&mut self, global: &Value, local: &Value) {
        self.set(
            "rope_parameters",
            json!({
                "full_attention": {"rope_type": "default", "rope_theta": global},
                "sliding_attention": {"rope_type": "default", "rope_theta": local}
            }),
        );
    }
}

/// A rotation whose frequencies are divided by numbers of their own, for records of any length.
pub(super) fn divided(factors: &[f64], longest: Option<&Value>) -> Value {
    json!({
        "rope_type": "longrope", "short_factor": factors, "long_factor": factors, "attention_factor": 1.0,
        "factor": 1.0, "original_max_position_embeddings": longest
    })
}
