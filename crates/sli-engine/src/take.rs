//! What a run is asked to take from a model: the values of `--take`.
//!
//! A [`Take`] is parsed and printed in one spelling; [`combine`] settles what several of them mean together;
//! [`LayerSelection::resolve`] turns the layers of `hidden` into boundaries of the model at hand.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// One result that a run writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Take {
    /// Hidden states at the selected boundaries: `hidden[:LAYERS]`.
    Hidden(LayerSelection),
    /// The whole `[tokens, vocabulary]` output of the head: `logits`.
    Logits,
    /// Log-probability of every token given those before it: `scores`.
    Scores,
    /// The K most probable next tokens at every position: `topk:K`.
    TopK(usize),
    /// One vector a record: `embedding[:mean|cls|last|pooler]`; without a value as the model's files say.
    Embedding(Option<Pooling>),
    /// The experts that each token was sent to: `router`.
    Router,
    /// Statistics of the activations: `profile`.
    Profile,
    /// Of which class a record, or every token, is: `classes`.
    Classes,
    /// Weights of the vocabulary's tokens for a record: `sparse`.
    Sparse,
    /// What the head says of the states at the selected boundaries, with the K most probable tokens: `lens[:K[:LAYERS]]`.
    Lens(usize, LayerSelection),
    /// Squares of what enters every matrix, for llama.cpp's quantiser: `imatrix`.
    Imatrix,
    /// Products of what enters every matrix of the selected layers with itself: `hessian[:LAYERS]`.
    Hessian(LayerSelection),
    /// All that is between the layers, and the logits: what [`Self::Drift`] is compared with. Nobody can ask for it by name.
    Trace,
    /// How far the model is from a reference, over records that run twice ([`crate::unlike`]). Nobody can ask for it by name.
    Drift,
}

/// How the hidden states of a record become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pooling {
    /// The mean over the tokens.
    Mean,
    /// The first token.
    Cls,
    /// The last token.
    Last,
    /// The model's own pooling layer.
    Pooler,
}

impl Pooling {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Mean, Self::Cls, Self::Last, Self::Pooler];

    /// As written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
            Self::Last => "last",
            Self::Pooler => "pooler",
        }
    }
}

/// Boundaries between layers, as a user names them; empty means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LayerSelection {
    items: Vec<LayerItem>,
}

/// One element of the list in `hidden:0,8-12,encoder.norm`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LayerItem {
    /// `None`: every stack that has such a boundary.
    stack: Option<String>,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// From one boundary to another, both included; 0 is what enters the first layer.
    Layers(usize, usize),
    /// The output of the last layer, before the final norm.
    Last,
    /// After the final norm.
    Norm,
}

/// A place in a model where a hidden state can be observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boundary {
    /// Index of the stack.
    pub stack: usize,
    /// Which boundary of it.
    pub kind: BoundaryKind,
}

/// Which boundary of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BoundaryKind {
    /// 0: what enters the first layer; i: the output of layer i, counted from 1, before the final norm.
    Layer(usize),
    /// The output of the final norm.
    Norm,
}

impl BoundaryKind {
    /// The part of a file name that says which boundary: `000`, `017`, `norm`.
    pub fn file_part(self) -> String {
        match self {
            Self::Layer(layer) => format!("{layer:03}"),
            Self::Norm => "norm".to_owned(),
        }
    }
}

/// A `--take` that means nothing, or that this model does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TakeError {
    /// The name is none of the known ones.
    #[error("`{0}` is not something that can be taken")]
    Unknown(String),
    /// The part after the colon is missing, superfluous or wrong.
    #[error("`--take {take}`: {problem}")]
    Argument {
        /// The value as given.
        take: String,
        /// What is wrong and what is allowed.
        problem: String,
    },
    /// The same result was asked for twice, differently.
    #[error("`--take {first}` and `--take {second}` contradict each other")]
    Contradiction {
        /// The earlier one.
        first: Take,
        /// The later one.
        second: Take,
    },
    /// The model has no such boundary.
    #[error("`{item}` is not a boundary of this model")]
    NoSuchLayer {
        /// The element of the list.
        item: String,
        /// What there is, for people.
        available: String,
    },
}

impl TakeError {
    /// What the reader of the message can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown(_) | Self::Argument { .. } => {
                format!("takes are {}", Take::SPELLINGS.join(", "))
            }
            Self::Contradiction { .. } if self.concerns_layers() => {
                "list all layers in one: `hidden:0,8-12,norm`".into()
            }
            Self::Contradiction { .. } => "give one of them, or run twice into two folders".into(),
            Self::NoSuchLayer { available, .. } => format!("there are {available}"),
        }
    }

    fn concerns_layers(&self) -> bool {
        matches!(
            self,
            Self::Contradiction {
                first: Take::Hidden(_) | Take::Hessian(_),
                ..
            }
        )
    }

    /// The exit code of the program: 2, usage.
    pub fn exit_code(&self) -> i32 {
        2
    }
}

impl Take {
    /// Every spelling, as a user may write it.
    pub const SPELLINGS: [&'static str; 12] = [
        "hidden[:LAYERS]",
        "logits",
        "scores",
        "topk:K",
        "embedding[:mean|cls|last|pooler]",
        "router",
        "profile",
        "classes",
        "sparse",
        "imatrix",
        "lens[:K[:LAYERS]]",
        "hessian[:LAYERS]",
    ];

    /// What a run takes if it is not told: statistics and scores.
    pub fn defaults() -> Vec<Self> {
        vec![Self::Scores, Self::Profile]
    }

    /// The part before the colon.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hidden(_) => "hidden",
            Self::Logits => "logits",
            Self::Scores => "scores",
            Self::TopK(_) => "topk",
            Self::Embedding(_) => "embedding",
            Self::Router => "router",
            Self::Profile => "profile",
            Self::Classes => "classes",
            Self::Sparse => "sparse",
            Self::Imatrix => "imatrix",
            Self::Hessian(_) => "hessian",
            Self::Lens(..) => "lens",
            Self::Trace => "trace",
            Self::Drift => "drift",
        }
    }
}

/// The takes of one run, each once and in a fixed order, from the values of `--take` in any order.
///
/// The same take given twice counts once; two takes of one kind that differ are an error.
pub fn combine(takes: &[Take]) -> Result<Vec<Take>, TakeError> {
    let mut combined: BTreeMap<&'static str, &Take> = BTreeMap::new();
    for take in takes {
        match combined.insert(take.name(), take) {
            Some(first) if first != take => {
                return Err(TakeError::Contradiction {
                    first: first.clone(),
                    second: take.clone(),
                });
            }
            _ => {}
        }
    }
    let mut takes: Vec<Take> = combined.into_values().cloned().collect();
    takes.sort();
    Ok(takes)
}

impl FromStr for Take {
    type Err = TakeError;

    fn from_str(text: &str) -> Result<Self, TakeError> {
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        let wrong = |problem: String| TakeError::Argument {
            take: text.to_owned(),
            problem,
        };
        let plain = |take: Self| match argument {
            None => Ok(take),
            Some(_) => Err(wrong(format!("`{name}` takes no value"))),
        };
        let layers = || match argument {
            None => Ok(LayerSelection::default()),
            Some(list) => list.parse().map_err(wrong),
        };
        match name {
            "hidden" => layers().map(Self::Hidden),
            "hessian" => layers().map(Self::Hessian),
            "logits" => plain(Self::Logits),
            "scores" => plain(Self::Scores),
            "router" => plain(Self::Router),
            "profile" => plain(Self::Profile),
            "classes" => plain(Self::Classes),
            "sparse" => plain(Self::Sparse),
            "imatrix" => plain(Self::Imatrix),
            "lens" => {
                let Some(argument) = argument else {
                    return Ok(Self::Lens(1, LayerSelection::default()));
                };
                let (k, layers) = argument.split_once(':').unwrap_or((argument, ""));
                let k = number(k).filter(|&k| k > 0).ok_or_else(|| {
                    wrong("write `lens:K` with a whole number K of at least 1".into())
                })?;
                let layers = match argument.split_once(':') {
                    Some(_) => layers.parse().map_err(wrong)?,
                    None => LayerSelection::default(),
                };
                Ok(Self::Lens(k, layers))
            }
            "topk" => match argument.map(number) {
                Some(Some(k)) if k > 0 => Ok(Self::TopK(k)),
                _ => Err(wrong(
                    "write `topk:K` with a whole number K of at least 1".into(),
                )),
            },
            "embedding" => {
                let Some(argument) = argument else {
                    return Ok(Self::Embedding(None));
                };
                let pooling = Pooling::ALL
                    .into_iter()
                    .find(|pooling| pooling.name() == argument);
                pooling
                    .map(|pooling| Self::Embedding(Some(pooling)))
                    .ok_or_else(|| {
                        wrong(format!(
                            "`{argument}` is not one of mean, cls, last, pooler"
                        ))
                    })
            }
            _ => Err(TakeError::Unknown(text.to_owned())),
        }
    }
}

impl fmt::Display for Take {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Hidden(layers) | Self::Hessian(layers) if layers.is_all() => Ok(()),
            Self::Hidden(layers) | Self::Hessian(layers) => write!(f, ":{layers}"),
            Self::TopK(k) => write!(f, ":{k}"),
            Self::Lens(k, layers) if layers.items.is_empty() => write!(f, ":{k}"),
            Self::Lens(k, layers) => write!(f, ":{k}:{layers}"),
            Self::Embedding(Some(pooling)) => write!(f, ":{}", pooling.name()),
            Self::Embedding(None)
            | Self::Logits
            | Self::Scores
            | Self::Router
            | Self::Profile
            | Self::Classes
            | Self::Sparse
            | Self::Imatrix
            | Self::Trace
            | Self::Drift => Ok(()),
        }
    }
}

/// Decimal digits only: no sign, no blanks.
fn number(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

impl FromStr for LayerSelection {
    /// What is wrong, in words.
    type Err = String;

    /// A list of `N`, `A-B`, `last`, `norm`, each optionally after `stack.`; order and repetition mean nothing.
    fn from_str(list: &str) -> Result<Self, String> {
        let mut items = list
            .split(',')
            .map(str::parse)
            .collect::<Result<Vec<LayerItem>, _>>()?;
        items.sort();
        items.dedup();
        Ok(Self { items })
    }
}

impl FromStr for LayerItem {
    type Err = String;

    fn from_str(item: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{item}` is not a layer; write N, A-B, `last` or `norm`, each optionally after \
                 `stack.`, separated by commas"
            )
        };
        let (stack, place) = match item.rsplit_once('.') {
            Some(("", _)) => return Err(wrong()),
            Some((stack, place)) => (Some(stack.to_owned()), place),
            None => (None, item),
        };
        let place = match (place, place.split_once('-')) {
            ("last", _) => Place::Last,
            ("norm", _) => Place::Norm,
            (_, Some((first, last))) => {
                let first = number(first).ok_or_else(wrong)?;
                let last = number(last).ok_or_else(wrong)?;
                if first > last {
                    return Err(format!("`{item}` runs backwards"));
                }
                Place::Layers(first, last)
            }
            (single, None) => {
                let layer = number(single).ok_or_else(wrong)?;
                Place::Layers(layer, layer)
            }
        };
        Ok(Self { stack, place })
    }
}

impl fmt::Display for LayerSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.items.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{item}")?;
        }
        Ok(())
    }
}

impl fmt::Display for LayerItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(stack) = &self.stack {
            write!(f, "{stack}.")?;
        }
        match self.place {
            Place::Layers(first, last) if first == last => write!(f, "{first}"),
            Place::Layers(first, last) => write!(f, "{first}-{last}"),
            Place::Last => f.write_str("last"),
            Place::Norm => f.write_str("norm"),
        }
    }
}

impl LayerSelection {
    /// Whether it names nothing, which means all.
    pub fn is_all(&self) -> bool {
        self.items.is_empty()
    }

    /// Every boundary of every stack.
    pub fn all() -> Self {
        Self::default()
    }

    /// The boundaries of a model, in order and each once.
    ///
    /// `stacks`: name, number of layers, and whether a final norm follows them. An element without a stack
    /// means every stack that has such a boundary; one that fits nowhere is an error.
    pub fn resolve(&self, stacks: &[(&str, usize, bool)]) -> Result<Vec<Boundary>, TakeError> {
        let mut boundaries = Vec::new();
        if self.items.is_empty() {
            for (stack, &(_, layers, has_norm)) in stacks.iter().enumerate() {
                boundaries.extend((0..=layers).map(|layer| layer_of(stack, layer)));
                boundaries.extend(has_norm.then_some(norm_of(stack)));
            }
        }
        for item in &self.items {
            let before = boundaries.len();
            for (stack, &(name, layers, has_norm)) in stacks.iter().enumerate() {
                if item.stack.as_deref().is_some_and(|wanted| wanted != name) {
                    continue;
                }
                match item.place {
                    Place::Layers(first, last) if last <= layers => {
                        boundaries.extend((first..=last).map(|layer| layer_of(stack, layer)));
                    }
                    Place::Layers(..) => {}
                    Place::Last => boundaries.push(layer_of(stack, layers)),
                    Place::Norm => boundaries.extend(has_norm.then_some(norm_of(stack))),
                }
            }
            if boundaries.len() == before {
                return Err(TakeError::NoSuchLayer {
                    item: item.to_string(),
                    available: available(stacks),
                });
            }
        }
        boundaries.sort_unstable();
        boundaries.dedup();
        Ok(boundaries)
    }
}

fn layer_of(stack: usize, layer: usize) -> Boundary {
    Boundary {
        stack,
        kind: BoundaryKind::Layer(layer),
    }
}

fn norm_of(stack: usize) -> Boundary {
    Boundary {
        stack,
        kind: BoundaryKind::Norm,
    }
}

fn available(stacks: &[(&str, usize, bool)]) -> String {
    let describe = |&(name, layers, has_norm): &(&str, usize, bool)| {
        let norm = if has_norm {
            format!(" and {name}.norm")
        } else {
            String::new()
        };
        format!("{name}.0-{layers}{norm}")
    };
    stacks.iter().map(describe).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn take(text: &str) -> Take {
        text.parse().unwrap()
    }

    #[test]
    fn every_spelling_reads_and_prints() {
        for text in [
            "hidden",
            "hidden:0",
            "hidden:0,8-12,norm",
            "hidden:last",
            "hidden:0,encoder.4,encoder.norm",
            "logits",
            "classes",
            "sparse",
            "scores",
            "topk:64",
            "embedding",
            "embedding:mean",
            "embedding:cls",
            "embedding:last",
            "embedding:pooler",
            "hessian",
            "hessian:1-4,last",
            "router",
            "profile",
        ] {
            assert_eq!(take(text).to_string(), text);
        }
        assert_eq!(take("hidden:norm,8-12,0,0"), take("hidden:0,8-12,norm"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, says) in [
            ("", "not something"),
            ("attention", "not something"),
            ("Logits", "not something"),
            ("logits:1", "takes no value"),
            ("scores:", "takes no value"),
            ("topk", "topk:K"),
            ("topk:0", "at least 1"),
            ("topk:-1", "at least 1"),
            ("topk:+1", "at least 1"),
            ("topk:99999999999999999999999", "at least 1"),
            ("embedding:max", "mean, cls, last, pooler"),
            ("embedding:", "mean, cls, last, pooler"),
            ("hidden:", "not a layer"),
            ("hidden:1,", "not a layer"),
            ("hidden: 1", "not a layer"),
            ("hidden:4-2", "backwards"),
            ("hidden:-2", "not a layer"),
            ("hidden:.3", "not a layer"),
            ("hidden:encoder.", "not a layer"),
        ] {
            let error = text.parse::<Take>().unwrap_err();
            assert!(error.to_string().contains(says), "{text}: {error}");
            assert_eq!(error.exit_code(), 2);
        }
        let hint = "x".parse::<Take>().unwrap_err().hint();
        assert!(hint.contains("topk:K"), "{hint}");
    }

    #[test]
    fn several_takes_together() {
        let takes = [
            take("profile"),
            take("hidden:1"),
            take("profile"),
            take("scores"),
        ];
        let expected = vec![take("hidden:1"), take("scores"), take("profile")];
        assert_eq!(combine(&takes).unwrap(), expected);
        assert_eq!(combine(&Take::defaults()).unwrap(), Take::defaults());
        let error = combine(&[take("topk:4"), take("topk:8")]).unwrap_err();
        assert!(error.to_string().contains("topk:4"), "{error}");
        let error = combine(&[take("hidden:4"), take("hidden")]).unwrap_err();
        assert!(error.hint().contains("one: `hidden"), "{error}");
    }

    #[test]
    fn layers_become_boundaries() {
        let stacks = [("encoder", 3, false), ("decoder", 5, true)];
        let resolve = |text: &str| {
            let Take::Hidden(layers) = take(text) else {
                panic!("{text}")
            };
            layers.resolve(&stacks)
        };
        assert_eq!(resolve("hidden").unwrap().len(), 4 + 7);
        assert_eq!(resolve("hidden:5").unwrap(), [layer_of(1, 5)]);
        assert_eq!(
            resolve("hidden:0").unwrap(),
            [layer_of(0, 0), layer_of(1, 0)]
        );
        assert_eq!(
            resolve("hidden:last").unwrap(),
            [layer_of(0, 3), layer_of(1, 5)]
        );
        assert_eq!(resolve("hidden:norm").unwrap(), [norm_of(1)]);
        assert_eq!(
            resolve("hidden:encoder.1-2,encoder.2-3").unwrap(),
            [layer_of(0, 1), layer_of(0, 2), layer_of(0, 3)]
        );
        for wrong in [
            "6",
            "encoder.4",
            "encoder.norm",
            "vision.0",
            "0-99999999999",
        ] {
            let error = resolve(&format!("hidden:{wrong}")).unwrap_err();
            assert!(error.to_string().contains(wrong), "{error}");
            assert!(error.hint().contains("decoder.0-5 and decoder.norm"));
        }
        assert_eq!(BoundaryKind::Layer(7).file_part(), "007");
        assert_eq!(BoundaryKind::Layer(1234).file_part(), "1234");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(hidden|topk|embedding|logits)?:?[a-z0-9.,-]{0,12}") {
            if let Ok(take) = text.parse::<Take>() {
                prop_assert_eq!(take.to_string().parse::<Take>(), Ok(take));
            }
        }
    }
}
