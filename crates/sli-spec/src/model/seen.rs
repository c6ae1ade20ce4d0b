//! What the tokens of a record see of its pictures.

use super::pictures::{PictureRows, Place};

/// Which rows of its pictures the tokens of a record see, `[tokens, 2]`: the first and the one behind the last of those of
/// [`PictureRows::Shown`], or of so many of every view, both 0 where it sees none. `mask` is `[tokens, pictures, tiles]` of ones and zeros; without
/// one all tokens see all.
pub(super) fn seen(
    tokens: usize,
    mask: Option<&[u32]>,
    (places, of_view): (&[Place], Option<usize>),
) -> Result<Vec<u32>, String> {
    // Tiles in the order of their rows, with the number of these.
    let shown: Vec<Place> = PictureRows::Shown
        .sources(places)
        .into_iter()
        .map(|row| places[row as usize])
        .collect();
    let tile = |place: &Place| (place.picture as usize, place.tile as usize);
    let tiles = shown.chunk_by(|one, other| tile(one) == tile(other));
    let tiles: Vec<((usize, usize), usize)> = tiles
        .map(|rows| (tile(&rows[0]), of_view.unwrap_or(rows.len())))
        .collect();
    let all: usize = tiles.iter().map(|(_, rows)| rows).sum();
    let Some(mask) = mask else {
        return Ok([0, all as u32].repeat(tokens));
    };
    let pictures = places
        .iter()
        .map(|place| place.picture as usize + 1)
        .max()
        .unwrap_or(0);
    let own = tiles
        .iter()
        .map(|((_, tile), _)| tile + 1)
        .max()
        .unwrap_or(0);
    if mask.len() != tokens * pictures * own {
        return Err(format!(
            "has {} numbers, for {tokens} tokens and {pictures} pictures of {own} tiles",
            mask.len()
        ));
    }
    if mask.iter().any(|&one| one > 1) {
        return Err("has other numbers than ones and zeros".into());
    }
    let mut seen = Vec::with_capacity(2 * tokens);
    for row in mask.chunks_exact((pictures * own).max(1)) {
        let (mut first, mut end, mut at) = (None, 0, 0);
        for &((picture, tile), rows) in &tiles {
            if row[picture * own + tile] == 1 {
                if first.is_some() && end != at {
                    return Err("shows a token pictures that do not follow each other".into());
                }
                first = first.or(Some(at));
                end = at + rows;
            }
            at += rows;
        }
        seen.extend([first.unwrap_or(0) as u32, end as u32]);
    }
    Ok(seen)
}

/// The mask `[tokens, pictures, tiles]` of tokens that see pictures from their placeholders on, up to the next one; those that
/// stand side by side are seen as far as the last of them is (MllamaProcessor). Behind a token `last` none is seen
/// (IdeficsProcessor).
pub(super) fn seen_behind(
    tokens: &[u32],
    (placeholder, last): (u32, Option<u32>),
    places: &[Place],
) -> Result<Vec<u32>, String> {
    let count = |number: fn(&Place) -> u32| {
        let numbers = places.iter().map(number);
        numbers.max().map_or(0, |last| last as usize + 1)
    };
    let (pictures, tiles) = (count(|place| place.picture), count(|place| place.tile));
    let mut is_shown = vec![false; pictures * tiles];
    for place in places.iter().filter(|place| !place.is_blank) {
        is_shown[place.picture as usize * tiles + place.tile as usize] = true;
    }
    let at: Vec<usize> = (0..tokens.len())
        .filter(|&row| tokens[row] == placeholder)
        .collect();
    if at.len() != pictures {
        return Err(format!(
            "is for {pictures} pictures, and token {placeholder} is there {} times",
            at.len()
        ));
    }
    let mut mask = vec![0; tokens.len() * pictures * tiles];
    let mut end = tokens.len();
    for (picture, &start) in at.iter().enumerate().rev() {
        let next = at.get(picture + 1).copied().unwrap_or(tokens.len());
        if next != start + 1 {
            end = next;
        }
        let mut rows = start..end;
        if let Some(first) =
            last.and_then(|last| tokens[start..end].iter().position(|&own| own == last))
        {
            rows.end = start + first + 1;
        }
        for row in rows {
            for tile in 0..tiles {
                let own = picture * tiles + tile;
                mask[row * pictures * tiles + own] = u32::from(is_shown[own]);
            }
        }
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::{Place, seen, seen_behind};

    /// Two pictures of two tiles of two rows, the second tile of the second blank.
    fn places() -> Vec<Place> {
        let row = |picture, tile, column, is_blank| Place {
            view: picture,
            picture,
            tile,
            column,
            is_blank,
            ..Place::default()
        };
        let tiles = [(0, 0, false), (0, 1, false), (1, 0, false), (1, 1, true)];
        let rows = tiles.into_iter().flat_map(|(picture, tile, is_blank)| {
            (0..2).map(move |column| row(picture, tile, column, is_blank))
        });
        rows.collect()
    }

    #[test]
    fn tokens_see_what_stands_in_front_of_them() {
        let places = places();
        let ranges = |tokens: &[u32]| {
            let mask = seen_behind(tokens, (9, None), &places).unwrap();
            seen(tokens.len(), Some(&mask), (&places, None)).unwrap()
        };
        assert_eq!(ranges(&[1, 9, 1, 9, 1]), [0, 0, 0, 4, 0, 4, 4, 6, 4, 6]);
        assert_eq!(ranges(&[9, 9, 1]), [0, 4, 0, 6, 0, 6]);
        assert_eq!(ranges(&[1, 9, 9]), [0, 0, 0, 4, 0, 6]);
        assert!(seen_behind(&[1, 9], (9, None), &places).is_err());
        let mask = seen_behind(&[9, 1, 2, 1, 9, 1], (9, Some(2)), &places);
        let first: Vec<u32> = mask.unwrap().into_iter().step_by(4).collect();
        assert_eq!(first, [1, 1, 1, 0, 0, 0]);
    }

    #[test]
    fn what_is_seen_is_a_range() {
        let places = places();
        let of = |mask: &[u32]| seen(1, Some(mask), (&places, None));
        assert_eq!(of(&[0, 0, 1, 1]).unwrap(), [4, 8]);
        assert_eq!(of(&[0, 1, 1, 0]).unwrap(), [2, 6]);
        assert!(of(&[1, 0, 1, 0]).is_err() && of(&[1, 0]).is_err() && of(&[2, 0, 0, 0]).is_err());
        assert_eq!(seen(1, None, (&places, None)).unwrap(), [0, 8]);
        // Three rows of each view, and a mask of pictures.
        let mut whole = places.clone();
        for place in &mut whole {
            place.tile = 0;
        }
        assert_eq!(seen(1, Some(&[0, 1]), (&whole, Some(3))).unwrap(), [3, 6]);
    }
}
