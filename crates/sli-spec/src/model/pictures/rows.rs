//! Rows that are made of those of a tower.

use serde::{Deserialize, Serialize};

use super::Place;
use crate::model::tiling::unpadded;

/// How rows are made of those of the views of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PictureRows {
    /// The rows of every view without so many in front.
    Patches {
        /// Rows that are left out.
        front: usize,
    },
    /// Of every whole block of `side` rows and columns of patches one, from left to right and from top to bottom; in it rows
    /// of the block one after the other.
    Blocks {
        /// Rows and columns of a block.
        side: usize,
    },
    /// Of every picture the rows of the view of the whole, then those of its tiles side by side as far as the picture
    /// covers them, line by line, with a vector of the model behind every line. Rows in front of patches are left out.
    Tiles,
    /// The same without the vectors.
    Covered,
    /// Of rows that are [`Self::Covered`]: where a picture's tiles cover more patches than so many of them have, as many fewer
    /// lines and columns, each row a mixture of four; a vector of the model behind every line. Four rows and the bits of
    /// their shares stand for one.
    Shrunk {
        /// Tiles whose patches are kept.
        most: usize,
    },
    /// The rows that [`Self::Blocks`] made, as they are.
    Made {
        /// Rows and columns of such a block.
        side: usize,
    },
    /// [`Self::Blocks`] of every view between two vectors of the model. The tokens between those have one position.
    Framed {
        /// Rows and columns of a block.
        side: usize,
    },
    /// Of every view three rows and columns of patches around each, or around every second one of every second row; beyond the
    /// edges there is nothing. The rows are those of every view line by line, after so many halvings.
    Around {
        /// How often rows and columns were halved.
        halved: u32,
        /// Around every second one.
        halves: bool,
    },
    /// All rows but those of zeros: first those that are not blank, then those that are.
    Shown,
    /// So many for every view, each of its own number: rows of a table, or the first rows of the view. They see each other
    /// and, of another stack, the view.
    Views {
        /// How many.
        rows: usize,
    },
    /// The same, and behind them those of the tokens of a text that the record asks of the view: from this number on, each
    /// the number of its token further.
    Asked {
        /// How many there are in front of the text.
        rows: usize,
    },
}

impl PictureRows {
    /// Rows that one is made of.
    pub fn parts(self) -> usize {
        match self {
            Self::Patches { .. }
            | Self::Tiles
            | Self::Covered
            | Self::Shown
            | Self::Made { .. }
            | Self::Views { .. }
            | Self::Asked { .. } => 1,
            Self::Blocks { side } | Self::Framed { side } => side * side,
            Self::Shrunk { .. } => 8,
            Self::Around { .. } => 9,
        }
    }

    /// Whether its rows see those of their view alone.
    pub fn keeps_views(self) -> bool {
        matches!(self, Self::Views { .. } | Self::Asked { .. })
    }

    /// Rows of every view, where views stay apart and all have as many.
    pub fn of_view(self) -> Option<usize> {
        match self {
            Self::Views { rows } => Some(rows),
            _ => None,
        }
    }

    /// [`Self::sources`] of views of each of which something may be asked.
    pub fn asking(self, places: &[Place], texts: &[Vec<u32>]) -> Vec<u32> {
        let Self::Asked { rows } = self else {
            return self.sources(places);
        };
        let views = places.chunk_by(|one, other| one.view == other.view);
        let of_view = |number: usize| {
            let text = texts.get(number).into_iter().flatten();
            (0..rows as u32).chain(text.map(move |token| rows as u32 + token))
        };
        (0..views.count()).flat_map(of_view).collect()
    }

    /// How many rows each view has, and what is asked of it, by the numbers of [`Self::asking`].
    pub fn views_of(self, sources: &[u32]) -> Option<Vec<(usize, Vec<u32>)>> {
        let (Self::Views { rows } | Self::Asked { rows }) = self else {
            return None;
        };
        // Every view begins with the first row of the table.
        let views = sources.chunk_by(|_, next| *next != 0);
        let of_view = |view: &[u32]| {
            let text = view.iter().skip(rows).map(|row| row - rows as u32);
            (view.len(), text.collect())
        };
        Some(views.map(of_view).collect())
    }

    /// The rows that each row is made of, one after the other; [`Self::NONE`] and numbers below it: vectors of the model stand
    /// there, the first and so on.
    pub fn sources(self, places: &[Place]) -> Vec<u32> {
        match self {
            Self::Patches { front } => {
                let rows = 0_u32..;
                let kept = rows
                    .zip(places)
                    .filter(|(_, place)| !place.is_front() || place.column as usize >= front);
                kept.map(|(row, _)| row).collect()
            }
            Self::Blocks { side } => {
                let side = side as u32;
                let key = |place: &Place| {
                    let within = (place.row % side, place.column % side);
                    (place.view, place.row / side, place.column / side, within)
                };
                let mut rows: Vec<u32> = (0..places.len() as u32).collect();
                // What is left over at the edges is in no block.
                let in_block = |place: &Place| {
                    let [last, right] = place.grid.map(|count| count / side * side);
                    !place.is_front() && place.row < last && place.column < right
                };
                rows.retain(|&row| in_block(&places[row as usize]));
                rows.sort_by_key(|&row| key(&places[row as usize]));
                rows
            }
            Self::Made { side } => {
                let made = Self::Blocks { side }.sources(places).len() / (side * side);
                (0..made as u32).collect()
            }
            Self::Framed { side } => {
                let blocks = Self::Blocks { side }.sources(places);
                let of = |row: &u32| places[*row as usize].view;
                let views = blocks.chunk_by(|one, other| of(one) == of(other));
                let vector = |number: u32| std::iter::repeat_n(Self::NONE - number, side * side);
                let framed = |view: &[u32]| {
                    let first = vector(0).chain(view.iter().copied());
                    first.chain(vector(1)).collect::<Vec<u32>>()
                };
                views.flat_map(framed).collect()
            }
            Self::Around { halved, halves } => around(places, halved, halves),
            Self::Tiles => tiled(places, true),
            Self::Covered => tiled(places, false),
            Self::Shrunk { most } => shrunk(places, most),
            Self::Shown => {
                let rows = (0_u32..).zip(places);
                let made = rows.filter(|(_, place)| place.row != Place::ZEROS);
                let (blank, shown): (Vec<_>, Vec<_>) = made.partition(|(_, place)| place.is_blank);
                shown.into_iter().chain(blank).map(|(row, _)| row).collect()
            }
            Self::Views { rows } | Self::Asked { rows } => {
                let views = places.chunk_by(|one, other| one.view == other.view);
                views.flat_map(|_| 0..rows as u32).collect()
            }
        }
    }

    /// Positions of the tokens of a record by time, row and column, where `token` stands for the rows of its pictures, one
    /// picture after the other: those of a picture are its own, counted from the token in front of it; what follows goes on
    /// from the largest of its rows and columns. The number of such tokens must be that of the rows.
    pub fn positions(self, tokens: &[u32], token: u32, places: &[Place]) -> Vec<[u32; 3]> {
        if matches!(self, Self::Framed { .. }) {
            return framed(tokens, token);
        }
        let parts = self.parts();
        let sources = self.sources(places);
        let side = match self {
            Self::Blocks { side } => side as u32,
            _ => 1,
        };
        let mut rows = sources.chunks(parts.max(1)).filter_map(|row| {
            let place = places.get(*row.first()? as usize)?;
            Some((place, [place.row / side, place.column / side]))
        });
        let mut positions = Vec::with_capacity(tokens.len());
        let (mut next, mut last): (u32, Option<&Place>) = (0, None);
        let (mut start, mut first_view) = (0, 0);
        for &id in tokens {
            let row = if id == token { rows.next() } else { None };
            let Some((place, [row, column])) = row else {
                positions.push([next; 3]);
                next += 1;
                last = None;
                continue;
            };
            if last.is_none_or(|last| last.picture != place.picture) {
                (start, first_view) = (next, place.view);
                next += place
                    .grid
                    .map(|count| count / side)
                    .into_iter()
                    .max()
                    .unwrap_or(0);
            }
            last = Some(place);
            positions.push([start + place.view - first_view, start + row, start + column]);
        }
        positions
    }

    /// The first vector of the model in the place of a row.
    pub const NONE: u32 = u32::MAX;

    /// Which of so many vectors of the model stands in the place of a row that is made of this one.
    pub fn vector_of(source: u32, vectors: usize) -> Option<usize> {
        let number = (Self::NONE - source) as usize;
        (number < vectors).then_some(number)
    }
}

/// The rows of [`PictureRows::Around`].
fn around(places: &[Place], halved: u32, halves: bool) -> Vec<u32> {
    let halve = |grid: [u32; 2]| grid.map(|count| count.div_ceil(2));
    let mut sources = Vec::new();
    let mut first = 0;
    for view in places.chunk_by(|one, other| one.view == other.view) {
        let [rows, columns] = (0..halved).fold(view[0].grid, |grid, _| halve(grid));
        let (made, step) = if halves {
            (halve([rows, columns]), 2)
        } else {
            ([rows, columns], 1)
        };
        // Counted from 1, so that what lies before the first is no negative number.
        let beside = |at: u32| at * step..at * step + 3;
        for row in 0..made[0] {
            for column in 0..made[1] {
                for down in beside(row) {
                    for across in beside(column) {
                        let is_inside =
                            (1..=rows).contains(&down) && (1..=columns).contains(&across);
                        sources.push(if is_inside {
                            first + (down - 1) * columns + across - 1
                        } else {
                            PictureRows::NONE
                        });
                    }
                }
            }
        }
        first += rows * columns;
    }
    sources
}

/// Positions of tokens, of which those between the first and the last of `token` that stand side by side have one.
fn framed(tokens: &[u32], token: u32) -> Vec<[u32; 3]> {
    let (mut next, mut was_inside) = (0, false);
    let of = |(at, own): (usize, &u32)| {
        let beside = [at.checked_sub(1), Some(at + 1)];
        let goes_on = |at: Option<usize>| at.and_then(|at| tokens.get(at)) == Some(&token);
        let is_inside = *own == token && beside.into_iter().all(goes_on);
        if !(is_inside && was_inside) {
            next += 1;
        }
        was_inside = is_inside;
        [next - 1; 3]
    };
    tokens.iter().enumerate().map(of).collect()
}

/// The rows of [`PictureRows::Tiles`], or of [`PictureRows::Covered`] without the vectors.
fn tiled(places: &[Place], has_vectors: bool) -> Vec<u32> {
    let mut sources = Vec::new();
    let mut first = 0;
    for picture in places.chunk_by(|one, other| one.picture == other.picture) {
        // Where the patches of each view are.
        let mut views: Vec<Vec<u32>> = Vec::new();
        let mut at = first;
        for view in picture.chunk_by(|one, other| one.view == other.view) {
            let own = (at..).zip(view).filter(|(_, place)| !place.is_front());
            views.push(own.map(|(row, _)| row).collect());
            at += view.len() as u32;
        }
        first = at;
        let Some((whole, tiles)) = views.split_first() else {
            continue;
        };
        sources.extend(whole);
        let Place {
            grid,
            tiles: shape,
            size,
            ..
        } = picture[0];
        let both = [0, 1].map(|axis| grid[axis] * shape[axis]);
        let [rows, columns] = unpadded(both, size);
        for row in rows {
            for column in columns.clone() {
                let tile = row / grid[0] * shape[1] + column / grid[1];
                let patch = row % grid[0] * grid[1] + column % grid[1];
                sources.extend(
                    tiles
                        .get(tile as usize)
                        .and_then(|tile| tile.get(patch as usize)),
                );
            }
            if has_vectors {
                sources.push(PictureRows::NONE);
            }
        }
        if has_vectors && tiles.is_empty() {
            // A picture that is not cut has one behind it.
            sources.push(PictureRows::NONE);
        }
    }
    sources
}

/// The rows of [`PictureRows::Shrunk`].
fn shrunk(places: &[Place], most: usize) -> Vec<u32> {
    let mut sources = Vec::new();
    let mut push = |rows: [u32; 4], shares: [f32; 4]| {
        sources.extend(rows);
        sources.extend(shares.map(f32::to_bits));
    };
    let mut first = 0;
    for picture in places.chunk_by(|one, other| one.picture == other.picture) {
        let Place {
            view,
            grid,
            tiles,
            size,
            ..
        } = picture[0];
        let whole = picture
            .iter()
            .filter(|place| place.view == view && !place.is_front());
        let whole = whole.count() as u32;
        for row in first..first + whole {
            push([row; 4], [1.0, 0.0, 0.0, 0.0]);
        }
        first += whole;
        let both = [0, 1].map(|axis| grid[axis] * tiles[axis]);
        let own = unpadded(both, size).map(|lines| lines.len());
        let kept = own[0] as f64 * own[1] as f64;
        let ratio = (kept / (most as f64 * f64::from(grid[0]) * f64::from(grid[0]))).sqrt();
        let shown = if ratio > 1.1 {
            own.map(|length| (length as f64 / ratio).floor() as usize)
        } else {
            own
        };
        let [down, across] = [0, 1].map(|axis| halfway(own[axis], shown[axis]));
        for &(above, below, lower) in &down {
            for &(left, right, later) in &across {
                let at = |row: usize, column: usize| first + (row * own[1] + column) as u32;
                let rows = [
                    at(above, left),
                    at(above, right),
                    at(below, left),
                    at(below, right),
                ];
                let shares = [
                    (1.0 - lower) * (1.0 - later),
                    (1.0 - lower) * later,
                    lower * (1.0 - later),
                    lower * later,
                ];
                push(rows, shares);
            }
            push([PictureRows::NONE; 4], [0.0; 4]);
        }
        if own[0] == 0 {
            // A picture that is not cut has one behind it.
            push([PictureRows::NONE; 4], [0.0; 4]);
        }
        first += (own[0] * own[1]) as u32;
    }
    sources
}

/// For each of `to` rows or columns in the place of `from` the two that it lies between and the share of the second; in f32
/// as torch's `interpolate` computes it.
fn halfway(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let step = from as f32 / to.max(1) as f32;
    let of = |place: usize| {
        let at = ((place as f32 + 0.5) * step - 0.5).max(0.0);
        let first = (at as usize).min(from.saturating_sub(1));
        let second = (first + 1).min(from.saturating_sub(1));
        (first, second, at - first as f32)
    };
    (0..to).map(of).collect()
}
