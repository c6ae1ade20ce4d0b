//! FNet (Lee-Thorp et al. 2021): BERT with a Fourier transform in the place of attention.

use super::{BERT, as_encoder, set_head, table};
use crate::build::NormStyle;
use crate::families::blocks::{Arrangement, Blocks, Classifier, MixerOf, Narrow, Types};
use crate::{Config, Described, Fourier, Mixer, SpecError, TypeRule};

/// FNet.
pub fn fnet(config: &Config) -> Result<Described, SpecError> {
    config.off(
        "use_tpu_fourier_optimizations",
        "it pads records to `tpu_short_seq_length`",
    )?;
    config.ignore(&["tpu_short_seq_length", "is_decoder", "add_cross_attention"]);
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let arrangement = Arrangement::after_sum("fourier.output.LayerNorm", "output.LayerNorm");
    let hidden = config.size("hidden_size")?;
    let model = Blocks::classic_of(config, [hidden, 1, hidden], norm)?;
    let mut model = as_encoder(model, norm);
    (model.family, model.names, model.arrangement) = ("fnet", BERT, arrangement);
    model.intermediate_size = config.size("intermediate_size")?;
    model.activation = config.activation("hidden_act")?;
    model.pooler = Some("pooler.dense");
    model.types = Some(Types {
        name: "embeddings.token_type_embeddings",
        count: config.size("type_vocab_size")?,
        rule: TypeRule::Given,
    });
    model.sequence_classifier = Some(Classifier::POOLED);
    let width = model.hidden_size;
    model.narrow = Some(Narrow {
        width,
        inward: "embeddings.projection",
        bias: true,
        sum_is_narrow: true,
        trigrams: false,
        beside: 0,
        outward: None,
    });
    model.attention_of =
        MixerOf::new(move |_, _, _| Some(Mixer::Fourier(Fourier { columns: width })));
    set_head(&mut model, width);
    table(config, &mut model, 0)?;
    model.build()
}
