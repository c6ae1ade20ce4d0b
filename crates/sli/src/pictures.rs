//! Pictures of records: what a processor made of them becomes patches with their places.

use sli_engine::records::Record;
use sli_spec::{ModelSpec, PictureRows, Pictures, Place, PreparedPictures, Scattered};

use crate::input::{Content, InputError, RawRecord};
use crate::tensors::{Prepared, TensorReader};

/// What a model demands of a record's pictures.
#[derive(Clone, Copy, Debug)]
pub struct PictureRules<'a> {
    /// What becomes of them.
    pictures: &'a Pictures,
    /// They come beside tokens.
    pub beside: bool,
    /// What they are the rows of a token by.
    scattered: Option<(Scattered, PictureRows)>,
}

impl<'a> PictureRules<'a> {
    /// Those of a model, where its records have pictures.
    pub fn of(spec: &'a ModelSpec) -> Option<Self> {
        let pictures = spec.stacks[spec.picture_stack()?].input.pictures()?;
        Some(Self {
            pictures,
            beside: spec.has_pictures_beside(),
            scattered: spec.scattered(),
        })
    }

    /// The patches of a record's pictures under its id and row: as many tokens of 0 as rows, their places, their numbers.
    pub fn read(self, tensors: &mut TensorReader, raw: &RawRecord) -> Result<Record, InputError> {
        fn refused<T>(raw: &RawRecord, problem: &str, hint: &str) -> Result<T, InputError> {
            let problem = format!("record `{}`: {problem}", raw.id);
            Err(InputError::record(&raw.place, problem).with_hint(hint))
        }
        let name = self.pictures.layout.name();
        let none = Record {
            id: raw.id.clone(),
            row: raw.row,
            ..Record::default()
        };
        let Some(given) = &raw.tensors else {
            if self.beside {
                return Ok(none);
            }
            return refused(
                raw,
                &format!("the model reads `{name}`, and the record has no `tensors`"),
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
                &format!("{} has no tensor `{}{name}`", given.file, given.prefix),
                "a tensor's name is `tensor_prefix` and the name of the input",
            );
        };
        let mut prepared = PreparedPictures {
            pixels: (shape, values),
            ..PreparedPictures::default()
        };
        let mut numbers = |name: &str| match tensors.whole_numbers(given, name, raw)? {
            Some(numbers) => Ok(numbers),
            None => refused(
                raw,
                &format!("{} has no tensor `{}{name}`", given.file, given.prefix),
                "the model's processor makes it beside the pictures",
            ),
        };
        let layout = &self.pictures.layout;
        if let Some(grids) = layout.grids() {
            let numbers = numbers(grids)?;
            let (rows, rest) = numbers.as_chunks();
            if !rest.is_empty() {
                return refused(
                    raw,
                    &format!("`{grids}` of {} has {} numbers", given.file, numbers.len()),
                    "it has three for every picture: times, rows, columns",
                );
            }
            prepared.grids = rows.to_vec();
        }
        if let Some(sizes) = layout.sizes() {
            let numbers = numbers(sizes)?;
            let (rows, rest) = numbers.as_chunks();
            if !rest.is_empty() {
                return refused(
                    raw,
                    &format!("`{sizes}` of {} has {} numbers", given.file, numbers.len()),
                    "it has two for every picture: height, width",
                );
            }
            prepared.sizes = rows.to_vec();
        }
        if let Some(mask) = layout.mask() {
            prepared.has_padding = tensors.has_zeros(given, mask, raw)?;
        }
        let (places, patches) = match self.pictures.unfold(&prepared) {
            Ok(unfolded) => unfolded,
            Err(problem) => {
                return refused(
                    raw,
                    &format!("`{name}` of {} {problem}", given.file),
                    "prepare it as the model's processor does",
                );
            }
        };
        Ok(Record {
            tokens: vec![0; places.len()],
            inputs: Some(places.into_iter().flat_map(Place::numbers).collect()),
            features: Some(patches),
            ..none
        })
    }

    /// Positions of the tokens of a record with pictures, where the model has such.
    pub fn positions(self, tokens: &[u32], pictures: &Record) -> Option<Vec<u32>> {
        let (own, rule) = self.scattered.filter(|(own, _)| own.has_positions)?;
        let places = Place::all(pictures.inputs.as_deref()?);
        Some(rule.positions(tokens, own.token, &places).into_flattened())
    }

    /// Refuses a record whose tokens do not stand for what is seen of its pictures.
    pub fn check(
        self,
        raw: &Record,
        pictures: &Record,
        place: &crate::input::Place,
    ) -> Result<(), InputError> {
        let Some((Scattered { token, .. }, rule)) = self.scattered else {
            return Ok(());
        };
        let places = Place::all(pictures.inputs.as_deref().unwrap_or_default());
        let rows = rule.sources(&places).len() / rule.parts();
        let count = raw.tokens.iter().filter(|&&own| own == token).count();
        if rows == count {
            return Ok(());
        }
        let problem = format!(
            "record `{}`: token {token} stands for what is seen of pictures; it is there {count} times, and its pictures have {rows} rows",
            raw.id
        );
        let hint = if rows == 0 {
            "give the record's pictures in `tensors`"
        } else {
            "the model's own processor writes the token once for every row; --max-length may have cut some"
        };
        Err(InputError::record(place, problem).with_hint(hint))
    }
}
