//! Pictures of records: what a processor made of them becomes patches with their places.

use sli_engine::records::Record;
use sli_spec::{AskedRows, ModelSpec, Pictures, Place, PreparedPictures, Scattered};

use crate::input::{Content, InputError, RawRecord, Tensors};
use crate::tensors::{Prepared, TensorReader};

/// The pictures of a record.
#[derive(Debug)]
pub struct PictureRecord {
    /// Their patches.
    pub record: Record,
    /// 1 where a token sees a part of them, where the record says so.
    pub seen: Option<Vec<u32>>,
    /// 1 for tokens at which they stand, where the record says so.
    pub marks: Option<Vec<u32>>,
    /// They were prepared here.
    pub is_made: bool,
}

/// What a model demands of a record's pictures.
#[derive(Clone, Copy, Debug)]
pub struct PictureRules<'a> {
    /// What becomes of them.
    pictures: &'a Pictures,
    /// They come beside tokens.
    pub beside: bool,
    spec: &'a ModelSpec,
}

impl<'a> PictureRules<'a> {
    /// Those of a model, where its records have pictures.
    pub fn of(spec: &'a ModelSpec) -> Option<Self> {
        let pictures = spec.stacks[spec.picture_stack()?].input.pictures()?;
        Some(Self {
            pictures,
            beside: spec.has_pictures_beside(),
            spec,
        })
    }

    /// What its records ask of their pictures in a second text, where the model reads such.
    pub fn asked(self) -> Option<AskedRows> {
        self.spec.asked()
    }

    /// The patches of a record's pictures under its id and row: as many tokens of 0 as rows, their places, their numbers.
    pub fn read(
        self,
        tensors: &mut TensorReader,
        raw: &RawRecord,
    ) -> Result<PictureRecord, InputError> {
        let name = self.pictures.layout.name();
        let none = Record {
            id: raw.id.clone(),
            row: raw.row,
            ..Record::default()
        };
        let Some(given) = &raw.tensors else {
            if self.beside {
                return Ok(PictureRecord {
                    record: none,
                    seen: None,
                    marks: None,
                    is_made: false,
                });
            }
            return refused(
                raw,
                &format!(
                    "the model reads `{name}`, and the record has neither `images` nor `tensors`"
                ),
                "name a safetensors file that holds it: {\"tensors\": \"FILE\", \"tensor_prefix\": \"...\"}",
            );
        };
        if !self.beside && raw.content != Content::None {
            return refused(
                raw,
                &format!("the model reads pictures, not `{}`", raw.content.key()),
                "remove the key",
            );
        }
        let Some(Prepared { shape, values }) = tensors.tensor(given, name, raw)? else {
            return refused(
                raw,
                &format!("{} has no tensor `{}`", given.source(), given.name(name)),
                "a tensor's name is `tensor_prefix` and the name of the input",
            );
        };
        // Nothing beside pictures has more numbers than these, unless they are tiny.
        let most = values.len().max(1 << 17);
        let mut prepared = PreparedPictures {
            pixels: (shape, values),
            ..PreparedPictures::default()
        };
        let layout = &self.pictures.layout;
        if let Some(name) = layout.grids() {
            prepared.grids = numbers(tensors, (given, name, most), raw, "times, rows, columns")?;
        }
        if let Some(name) = layout.sizes()
            && (layout.needs_sizes() || tensors.whole_numbers(given, (name, most), raw)?.is_some())
        {
            prepared.sizes = numbers(tensors, (given, name, most), raw, "height, width")?;
        }
        if let Some(name) = layout.counts() {
            let counts = tensors.whole_numbers(given, (name, most), raw)?;
            prepared.counts = counts.unwrap_or_default();
        }
        if let Some(mask) = layout.shown() {
            let shown = tensors.whole_numbers(given, (mask, most), raw)?;
            prepared.shown = there(shown, (given, mask), raw)?;
        }
        if let Some(name) = layout.merges() {
            let merges = numbers::<1>(
                tensors,
                (given, name, most),
                raw,
                "rows and columns of a block",
            )?;
            prepared.merges = merges.into_iter().flatten().collect();
        }
        if let Some(name) = layout.places() {
            let places = tensors.signed_numbers(given, (name, most), raw)?;
            let places = there(places, (given, name), raw)?;
            prepared.places = places.as_chunks().0.to_vec();
        }
        if let Some(name) = layout.points() {
            let points = tensors.whole_numbers(given, (name, most), raw)?;
            prepared.points = points.unwrap_or_default();
        }
        if let Some(name) = layout.shapes() {
            let shapes = tensors.whole_numbers(given, (name, most), raw)?;
            prepared.shapes = there(shapes, (given, name), raw)?;
        }
        let seen = self.spec.seen_pictures();
        let seen = seen.map(|(mask, _)| tensors.whole_numbers(given, (mask, most), raw));
        let seen = seen.transpose()?.flatten();
        let marks = self.spec.scattered().and_then(|(own, _)| own.marks);
        let marks = marks.map(|name| tensors.whole_numbers(given, (name, most), raw));
        let marks = marks.transpose()?.flatten();
        if let Some(mask) = layout.mask() {
            prepared.has_padding = tensors.has_zeros(given, mask, raw)?;
        }
        let (places, patches) = match self.pictures.unfold(&prepared) {
            Ok(unfolded) => unfolded,
            Err(problem) => {
                return refused(
                    raw,
                    &format!("`{name}` of {} {problem}", given.source()),
                    "prepare it as the model's processor does",
                );
            }
        };
        let asked = match self.spec.asked() {
            Some(asked) => asked_of(&asked, &places, tensors, (given, most), raw)?,
            None => Vec::new(),
        };
        let record = Record {
            asked,
            tokens: vec![0; places.len()],
            inputs: Some(places.into_iter().flat_map(Place::numbers).collect()),
            features: Some(patches),
            ..none
        };
        let is_made = matches!(given, Tensors::Made(_));
        Ok(PictureRecord {
            record,
            seen,
            marks,
            is_made,
        })
    }

    /// What stands beside the tokens of a record with pictures, where the model has such: their positions, or what they see of
    /// the pictures: by `sight`, where the processor says from which token on up to which.
    pub fn beside_tokens(
        self,
        raw: &Record,
        (pictures, sight): (&PictureRecord, Option<(u32, Option<u32>)>),
        place: &crate::input::Place,
    ) -> Result<Option<Vec<u32>>, InputError> {
        let Some(numbers) = pictures.record.inputs.as_deref() else {
            return Ok(None);
        };
        let places = Place::all(numbers);
        if let Some((name, placeholder)) = self.spec.seen_pictures() {
            let tokens = raw.tokens.len();
            let behind = sight.or_else(|| Some((placeholder?, None)));
            let behind = behind.filter(|_| pictures.is_made);
            let made = behind.map(|sight| ModelSpec::seen_behind(&raw.tokens, sight, &places));
            let seen = made.transpose().and_then(|made| {
                let mask = made.as_deref().or(pictures.seen.as_deref());
                self.spec.seen_beside(tokens, mask, &places)
            });
            return seen.map(Some).map_err(|problem| {
                let problem = format!("record `{}`: `{name}` {problem}", raw.id);
                let hint = "prepare it as the model's processor does, or give pictures a token each; --max-length may have cut some";
                InputError::record(place, problem).with_hint(hint)
            });
        }
        if let Some((own, rule)) = self.spec.scattered()
            && let Some(name) = own.marks
        {
            let marks = pictures.marks.as_ref();
            let rows = rule.sources(&places).len() / rule.parts();
            return marks_of(raw, (name, marks), rows, place).map(Some);
        }
        let positions = self.spec.positions_beside(&raw.tokens, &places);
        Ok(positions.map(Vec::into_flattened))
    }

    /// Refuses a record whose tokens do not stand for what is seen of its pictures.
    pub fn check(
        self,
        raw: &Record,
        pictures: &Record,
        place: &crate::input::Place,
    ) -> Result<(), InputError> {
        let Some((Scattered { token, .. }, rule)) = self.spec.scattered() else {
            if self.spec.is_pair() && !raw.tokens.is_empty() && !pictures.tokens.is_empty() {
                let problem = format!(
                    "record `{}`: a text and pictures, of each of which the model makes an embedding",
                    raw.id
                );
                let hint = "give them as two records";
                return Err(InputError::record(place, problem).with_hint(hint));
            }
            if self.spec.sees_one_picture() {
                return one_picture(raw, pictures, place);
            }
            return Ok(());
        };
        if let Some(reason) = self.spec.demands_pictures() {
            if !pictures.tokens.is_empty() || raw.tokens.is_empty() {
                return Ok(());
            }
            let problem = format!("record `{}`: {reason}, and there is none", raw.id);
            let hint = "give what the model's processor makes of its pictures in `tensors`";
            return Err(InputError::record(place, problem).with_hint(hint));
        }
        let places = Place::all(pictures.inputs.as_deref().unwrap_or_default());
        let rows = rule.sources(&places).len() / rule.parts();
        let count = raw.tokens.iter().filter(|&&own| own == token).count();
        let embeddings = self.spec.stacks.iter();
        let mut embeddings = embeddings.filter_map(|stack| stack.input.embedding());
        let around = embeddings.find(|own| own.scattered.is_some());
        let around = around.into_iter().flat_map(|own| &own.own_vectors);
        if let Some((own, _)) = around
            .filter(|_| rows == 0)
            .find(|(own, _)| raw.tokens.contains(own))
        {
            let problem = format!(
                "record `{}`: token {own} stands around pictures, and there are none; its input is another one there",
                raw.id
            );
            let hint = "give the record's pictures, or leave the token out";
            return Err(InputError::record(place, problem).with_hint(hint));
        }
        if rows == count {
            return Ok(());
        }
        let problem = format!(
            "record `{}`: token {token} stands for what is seen of pictures; it is there {count} times, and its pictures have {rows} rows",
            raw.id
        );
        let hint = if rows == 0 {
            "give the record's pictures in `images`, or what the model's processor makes of them in `tensors`"
        } else {
            "the model's own processor writes the token once for every row; --max-length may have cut some"
        };
        Err(InputError::record(place, problem).with_hint(hint))
    }
}

/// 1 for each token of a record at which one of so many rows of its pictures stands.
fn marks_of(
    raw: &Record,
    (name, marks): (&str, Option<&Vec<u32>>),
    rows: usize,
    place: &crate::input::Place,
) -> Result<Vec<u32>, InputError> {
    let tokens = raw.tokens.len();
    let problem = match marks {
        None => format!("no `{name}`, which says where its pictures stand"),
        Some(marks) if marks.len() != tokens || marks.iter().any(|&one| one > 1) => {
            format!(
                "`{name}` of {} numbers, for {tokens} tokens a one or a zero",
                marks.len()
            )
        }
        Some(marks) => {
            let count = marks.iter().filter(|&&one| one == 1).count();
            if count == rows {
                return Ok(marks.clone());
            }
            format!("`{name}` with {count} ones, and its pictures have {rows} rows")
        }
    };
    let problem = format!("record `{}`: {problem}", raw.id);
    let hint = "prepare it as the model's processor does; --max-length may have cut some tokens";
    Err(InputError::record(place, problem).with_hint(hint))
}

/// The tokens of what is asked of each view of a record, without those of padding.
fn asked_of(
    asked: &AskedRows,
    places: &[Place],
    tensors: &mut TensorReader,
    (given, most): (&Tensors, usize),
    raw: &RawRecord,
) -> Result<Vec<Vec<u32>>, InputError> {
    let views = places.last().map_or(0, |place| place.view as usize + 1);
    let ids = tensors.whole_numbers(given, (asked.name, most), raw)?;
    let ids = there(ids, (given, asked.name), raw)?;
    let mask = tensors.whole_numbers(given, (asked.mask, most), raw)?;
    let refuse = |name: &str, problem: &str| {
        let problem = format!("`{}` of {} {problem}", given.name(name), given.source());
        refused(raw, &problem, "prepare it as the model's processor does")
    };
    if views == 0 {
        return Ok(Vec::new());
    }
    if !ids.len().is_multiple_of(views) {
        let problem = format!("has {} numbers, for {views} pictures", ids.len());
        return refuse(asked.name, &problem);
    }
    let length = ids.len() / views;
    if length > asked.longest {
        let most = asked.longest;
        let problem = format!("has {length} tokens, and the model has positions for {most}");
        return refuse(asked.name, &problem);
    }
    if let Some(id) = ids.iter().find(|&&id| id as usize >= asked.vocab_size) {
        let problem = format!(
            "has token {id}, beyond the vocabulary of {}",
            asked.vocab_size
        );
        return refuse(asked.name, &problem);
    }
    let mask = mask.unwrap_or_else(|| vec![1; ids.len()]);
    if mask.len() != ids.len() || mask.iter().any(|&one| one > 1) {
        let problem = "has other numbers than a one or a zero for every token";
        return refuse(asked.mask, problem);
    }
    let mut texts = Vec::with_capacity(views);
    for view in 0..views {
        let own = view * length..(view + 1) * length;
        let shown = mask[own.clone()].iter().filter(|&&one| one == 1).count();
        if mask[own.clone()][..shown].contains(&0) {
            return refuse(asked.mask, "has padding in front of tokens");
        }
        texts.push(ids[own][..shown].to_vec());
    }
    Ok(texts)
}

/// Refuses a record that has not one picture, which its class needs.
fn one_picture(
    raw: &Record,
    pictures: &Record,
    place: &crate::input::Place,
) -> Result<(), InputError> {
    let places = Place::all(pictures.inputs.as_deref().unwrap_or_default());
    let count = places
        .iter()
        .map(|place| place.picture + 1)
        .max()
        .unwrap_or(0);
    if count == 1 || (count == 0 && raw.tokens.is_empty()) {
        return Ok(());
    }
    let problem = format!(
        "record `{}`: {count} pictures, and the reference's class reads one with every text",
        raw.id
    );
    let hint = "give its picture in `images`, or what the model's processor makes of it in `tensors`; texts of several pictures are several records";
    Err(InputError::record(place, problem).with_hint(hint))
}

/// So many numbers for every picture, of which `what` says what they are.
fn numbers<const N: usize>(
    tensors: &mut TensorReader,
    (given, name, most): (&Tensors, &str, usize),
    raw: &RawRecord,
    what: &str,
) -> Result<Vec<[u32; N]>, InputError> {
    let numbers = tensors.whole_numbers(given, (name, most), raw)?;
    let numbers = there(numbers, (given, name), raw)?;
    let (rows, rest) = numbers.as_chunks();
    if rest.is_empty() {
        return Ok(rows.to_vec());
    }
    refused(
        raw,
        &format!(
            "`{}` of {} has {} numbers",
            given.name(name),
            given.source(),
            numbers.len()
        ),
        &format!("it has {N} for every picture: {what}"),
    )
}

/// What a record must have beside its pictures.
fn there<T>(
    found: Option<T>,
    (given, name): (&Tensors, &str),
    raw: &RawRecord,
) -> Result<T, InputError> {
    if let Some(found) = found {
        return Ok(found);
    }
    refused(
        raw,
        &format!("{} has no tensor `{}`", given.source(), given.name(name)),
        "the model's processor makes it beside the pictures",
    )
}

fn refused<T>(raw: &RawRecord, problem: &str, hint: &str) -> Result<T, InputError> {
    let problem = format!("record `{}`: {problem}", raw.id);
    Err(InputError::record(&raw.place, problem).with_hint(hint))
}
