//! What a mechanism would leave out of account is refused: descriptions that every family avoids.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use sli_spec::{
    Config, Gain, KeySelection, KeyValue, Mask, Mechanism, Mixer, ModelSpec, Options, Position,
    RouterScore, Step, describe,
};

type Experts = Box<sli_spec::MixtureOfExperts>;
type Own = Box<sli_spec::Attention>;
type Latent = Box<sli_spec::LatentAttention>;

/// The default model of a type.
fn model(model_type: &str) -> ModelSpec {
    let spec = describe(&Config::of_defaults(model_type), &Options::default()).unwrap();
    assert_eq!(spec.spec.contradiction(), None, "{model_type}");
    spec.spec
}

/// The contradiction after a change of the first step for which it is one.
fn changed(model_type: &str, change: impl Fn(&mut Step) -> Option<()>) -> &'static str {
    let mut spec = model(model_type);
    let layers = spec.stacks.iter_mut().flat_map(|stack| &mut stack.layers);
    let mut steps = layers.flat_map(|layer| &mut layer.steps);
    steps.find_map(change).expect("a step that can be changed");
    spec.contradiction().unwrap_or("none")
}

#[test]
fn what_depends_on_a_records_length_is_not_cut() {
    let mut spec = model("mixtral");
    assert_eq!(spec.stacks[0].uncut(), None);
    let layers = spec.stacks.iter_mut().flat_map(|stack| &mut stack.layers);
    let branches = layers
        .flat_map(|layer| &mut layer.steps)
        .flat_map(|step| &mut step.branches);
    for branch in branches {
        if let Mixer::MixtureOfExperts(experts) = &mut branch.mixer {
            experts.router.score = RouterScore::ProductKeys(64);
        }
    }
    assert!(spec.stacks[0].uncut().is_some());
}

macro_rules! change {
    ($model_type:literal, $mixer:ident, $change:expr) => {
        changed($model_type, |step| match &mut step.branches[0].mixer {
            Mixer::$mixer(mixer) => {
                ($change)(mixer);
                Some(())
            }
            _ => None,
        })
    };
}

#[test]
fn networks_and_experts_that_cannot_be_computed_are_told() {
    let found = change!(
        "gemma3n_text",
        SparseFeedForward,
        |sparse: &mut sli_spec::SparseFeedForward| {
            sparse.network.gate = None;
        }
    );
    assert_eq!(found, "the largest gates without a gate");
    let found = change!("gpt_oss", MixtureOfExperts, |experts: &mut Experts| {
        experts.expert.gate = None;
    });
    assert_eq!(found, "a limited gate without a gate");
    let found = change!("qwen2_moe", MixtureOfExperts, |experts: &mut Experts| {
        experts.shared = None;
    });
    assert!(found.starts_with("a gate of always-on experts"), "{found}");
    for (model_type, says) in [("doge", "product keys"), ("phimoe", "a sparse mixer")] {
        let score = |score: RouterScore| match model_type {
            "doge" => RouterScore::ProductKeys(2),
            _ => match score {
                RouterScore::SparseMixer { .. } => score,
                _ => RouterScore::SparseMixer { jitter: 0.1 },
            },
        };
        let found = change!("phimoe", MixtureOfExperts, |experts: &mut Experts| {
            experts.router.score = score(experts.router.score);
            experts.router.scale = 2.0;
        });
        assert!(found.starts_with(says), "{found}");
    }
    let found = change!("jetmoe", MixtureOfAttention, |experts: &mut Box<
        sli_spec::MixtureOfAttention,
    >| {
        experts.router.weighs_input = true;
    });
    assert_eq!(found, "attention experts that weigh their input");
}

#[test]
fn attentions_that_cannot_be_computed_are_told() {
    let found = change!("qwen3", Attention, |attention: &mut Own| {
        attention.key_value = KeyValue::OfLayer(0);
    });
    assert_eq!(found, "norms of keys and values that are another layer's");
    let found = change!("doge", Attention, |attention: &mut Own| {
        attention.key_norm = None;
        attention.key_value = KeyValue::OfLayer(0);
    });
    assert_eq!(
        found,
        "a choice or pairs of values that are not the layer's own"
    );
    let found = changed("t5", |step| match &mut step.branches[0].mixer {
        Mixer::Attention(attention) if attention.stack_end().is_some() => {
            attention.mask = Mask::Causal;
            Some(())
        }
        _ => None,
    });
    assert_eq!(found, "places of rows in the rows of another stack");
    let found = change!("llama", Attention, |attention: &mut Own| {
        attention.mask = Mask::FullButPadding(0);
    });
    assert_eq!(found, "a mask of padding without kinds of tokens");
    let found = change!("bloom", Attention, |attention: &mut Own| {
        let again = attention.positions.clone();
        attention.positions.extend(again);
    });
    assert_eq!(found, "several addends by distance");
    let found = change!("bloom", Attention, |attention: &mut Own| {
        let Position::Alibi(alibi) = &mut attention.positions[0] else {
            panic!("{:?}", attention.positions);
        };
        alibi.slopes.pop();
    });
    assert_eq!(found, "not a slope for each head");
    let found = change!("diffllama", Attention, |attention: &mut Own| attention
        .heads = 3);
    assert!(found.ends_with("make no pairs"), "{found}");
    let found = change!("beam", Attention, |attention: &mut Own| {
        attention.gate.as_mut().unwrap().per_head = true;
    });
    assert_eq!(found, "an addend for each feature of a gate of heads");
    let found = change!("llama", Attention, |attention: &mut Own| {
        if let KeyValue::Own { value, .. } = &mut attention.key_value {
            *value = None;
        }
        attention.value_dim += 1;
    });
    assert_eq!(found, "keys as values of another width");
}

#[test]
fn latent_attentions_that_cannot_be_computed_are_told() {
    let found = change!("longcat_flash", LatentAttention, |latent: &mut Latent| {
        latent.query_down = None;
    });
    assert!(found.starts_with("a factor on a latent"), "{found}");
    let found = change!("deepseek_v32", LatentAttention, |latent: &mut Latent| {
        assert!(matches!(latent.selection, Some(KeySelection::Indexer(_))));
        latent.query_down = None;
    });
    assert!(found.starts_with("an indexer of a latent"), "{found}");
    let found = change!("deepseek_v3", LatentAttention, |latent: &mut Latent| {
        latent.rope.as_mut().unwrap().offset = 2;
    });
    assert_eq!(found, "a rotation in the middle of the rotated features");
}

#[test]
fn a_change_of_all_streams_stands_alone() {
    let found = changed("gemma3n_text", |step| {
        let branch = &mut step.branches[0];
        matches!(branch.mixer, Mixer::Streams(_)).then(|| branch.gain = Gain::Constant(2.0))
    });
    assert!(found.ends_with("change of all residual streams"), "{found}");
}
