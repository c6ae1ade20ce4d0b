//! Pictures of goldens.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read or write its files has failed"
)]

use sli_engine::Model;
use sli_engine::records::Record;
use sli_spec::{Place, PreparedPictures};
use sli_testing::{GoldenPictures, GoldenRecord};

/// Positions of the tokens of a record with pictures, or what they see of these as was given, or all, where the model has such.
pub fn positions_of(
    own: &Record,
    (given, pictures): (Option<&GoldenPictures>, &Record),
    model: &Model,
) -> Option<Vec<u32>> {
    let places = Place::all(pictures.inputs.as_deref()?);
    if model.spec.seen_pictures().is_some() {
        let mask = given.and_then(|given| given.seen.as_deref());
        let seen = model.spec.seen_beside(own.tokens.len(), mask, &places);
        return Some(seen.unwrap());
    }
    if let Some((scattered, rule)) = model.spec.scattered()
        && scattered.marks.is_some()
    {
        // The first tokens where nothing is said.
        let rows = rule.sources(&places).len() / rule.parts();
        let first = (0..own.tokens.len()).map(|at| u32::from(at < rows));
        let marks = given.and_then(|given| given.marks.clone());
        return Some(marks.unwrap_or_else(|| first.collect()));
    }
    let positions = model.spec.positions_beside(&own.tokens, &places)?;
    Some(positions.into_flattened())
}

/// The patches of the pictures of a record.
pub fn pictures_of(record: &GoldenRecord, model: &Model) -> Option<Record> {
    let stack = &model.spec.stacks[model.spec.picture_stack()?];
    let pictures = stack.input.pictures()?;
    let given = record.pictures.clone()?;
    let asked = given.asked;
    let given = PreparedPictures {
        pixels: (given.shape, given.values.into()),
        grids: given.grids,
        sizes: given.sizes,
        counts: given.counts,
        shapes: given.shapes,
        shown: given.shown,
        merges: given.merges,
        places: given.places,
        points: given.points,
        has_padding: false,
    };
    let (places, patches) = pictures.unfold(&given).unwrap();
    let views = places.last().map_or(1, |place| place.view as usize + 1);
    let asked = asked.unwrap_or_default();
    let texts = asked.chunks((asked.len() / views).max(1));
    Some(Record {
        asked: texts.map(<[u32]>::to_vec).collect(),
        id: record.id.clone(),
        tokens: vec![0; places.len()],
        inputs: Some(places.into_iter().flat_map(Place::numbers).collect()),
        features: Some(patches),
        ..Record::default()
    })
}
