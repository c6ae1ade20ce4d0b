//! What a placeholder becomes.

use crate::processor::Facts;
use crate::size::Area;
use crate::ways::anyres::best_resolution;

/// What a placeholder becomes.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// A number of tokens.
    Times {
        /// The token.
        token: String,
        /// How often.
        count: Count,
    },
    /// Between two texts: for each view of a picture, or for all of its rows, some tokens.
    Between {
        /// In front.
        start: String,
        /// For each view.
        view: String,
        /// The same at its end.
        view_end: String,
        /// How often `view` stands for a view.
        count: Count,
        /// Behind.
        end: String,
    },
    /// Gemma 3's: one text for the whole, further ones for parts.
    Parts(String),
    /// Idefics3's: a tile by row and column, then the whole.
    Rows {
        /// Around everything.
        fake: String,
        /// In front of the whole.
        global: String,
        /// For a row of the model.
        token: String,
        /// Rows of the model for a view.
        count: usize,
    },
    /// LFM2-VL's: tiles by row and column, then the whole, a token for each square of patches.
    Views {
        /// For a row of the model.
        token: String,
        /// In front, in front of the whole behind tiles, behind; with them tiles have numbers.
        marks: Option<[String; 3]>,
        /// Pixels of a patch's side.
        patch: u32,
        /// Patches of the side of a square.
        merge: u32,
        /// The whole stands behind its tiles.
        shows_whole: bool,
    },
    /// Aya's: tiles by number, then the whole.
    Numbered {
        /// In front.
        start: String,
        /// In front of a tile's number.
        tile: String,
        /// In front of the whole.
        global: String,
        /// For a row of the model.
        token: String,
        /// Rows of the model for a view.
        count: usize,
        /// Behind.
        end: String,
    },
    /// Llama 4's: tiles with separators, then the whole.
    Separated {
        /// Pixels of a patch's side.
        patch: u32,
        /// Patches of a row of the model.
        ratio: u64,
    },
    /// Ovis2's: the whole, then tiles with separators.
    Grid(usize),
    /// Pixtral's: rows of patches with breaks.
    Breaks {
        /// For a row of the model.
        token: String,
        /// Behind rows.
        line: String,
        /// Behind the last row.
        end: String,
        /// Pixels of the side that becomes a row of the model.
        patch: u32,
    },
}

/// How many.
#[derive(Clone, Debug, PartialEq)]
pub enum Count {
    /// Always the same for a picture.
    Fixed(usize),
    /// For every view.
    Views(usize),
    /// Patches by squares of them.
    Merged(u64),
    /// Patches of the view.
    Patches {
        /// Pixels of a patch's side.
        patch: u32,
        /// Beside them.
        more: usize,
        /// Less.
        less: usize,
    },
    /// LLaVA-NeXT's.
    AnyResolution(AnyResolution),
}

/// Rows of a picture in tiles whose margins are cut away.
#[derive(Clone, Debug, PartialEq)]
pub struct AnyResolution {
    /// Resolutions to choose from.
    pub resolutions: Vec<Area>,
    /// Patches of a tile's side, or pixels of a patch's.
    pub patches: Patches,
    /// Beside them.
    pub more: usize,
    /// Less.
    pub less: usize,
    /// Tiles beyond which rows are made fewer.
    pub most: Option<u32>,
}

/// Patches of a tile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Patches {
    /// Pixels of a patch's side.
    Pixels(u32),
    /// A whole tile has so many; several pictures of a record have one tile each.
    Whole(usize),
}

/// A text of limited length.
pub struct Text {
    written: String,
    most: usize,
    is_long: bool,
}

impl Text {
    pub fn new(most: usize) -> Self {
        Self {
            written: String::new(),
            most,
            is_long: false,
        }
    }

    pub fn add(&mut self, part: &str) {
        self.repeat(part, 1);
    }

    pub fn repeat(&mut self, part: &str, times: usize) {
        let bytes = part
            .len()
            .checked_mul(times)
            .and_then(|bytes| bytes.checked_add(self.written.len()));
        if bytes.is_none_or(|bytes| bytes > self.most) {
            self.is_long = true;
            return;
        }
        for _ in 0..times {
            self.written.push_str(part);
        }
    }

    pub fn done(self) -> Option<String> {
        (!self.is_long).then_some(self.written)
    }
}

impl Count {
    fn of(&self, facts: &Facts, all: &[Facts]) -> usize {
        let grid = u64::from(facts.grid.0) * u64::from(facts.grid.1);
        match self {
            Self::Fixed(count) => *count,
            Self::Views(count) => count.saturating_mul(facts.views),
            Self::Merged(square) => (grid / square) as usize,
            Self::Patches { patch, more, less } => {
                let (rows, columns) = (facts.size.height / patch, facts.size.width / patch);
                let patches = rows as usize * columns as usize;
                (patches + more).saturating_sub(*less)
            }
            Self::AnyResolution(rule) => rule.count(facts, all),
        }
    }
}

impl AnyResolution {
    fn count(&self, facts: &Facts, all: &[Facts]) -> usize {
        let size = all.first().map_or(facts.size, |first| first.size);
        let (rows, columns) = match self.patches {
            Patches::Pixels(side) => (size.height / side, size.width / side),
            // Several pictures are not divided: a row for each patch, and one for their end.
            Patches::Whole(count) if all.len() > 1 => return (count + 1).saturating_sub(self.less),
            Patches::Whole(count) => {
                let side = (count as f64).sqrt() as u32;
                (side, side)
            }
        };
        let base = match self.patches {
            Patches::Pixels(_) => rows as usize * columns as usize,
            Patches::Whole(count) => count,
        };
        let best = best_resolution(facts.from, &self.resolutions);
        let tiles = (
            best.height / size.height.max(1),
            best.width / size.width.max(1),
        );
        let cut = self.cut(
            facts.from,
            (rows, columns),
            (rows * tiles.0, columns * tiles.1),
        );
        (cut + base + self.more).saturating_sub(self.less)
    }

    /// Rows of what is left without margins, with one more at the end of each of its lines.
    fn cut(&self, from: Area, patches: (u32, u32), whole: (u32, u32)) -> usize {
        let (height, width) = from.sides();
        let (mut rows, mut columns) = (f64::from(whole.0), f64::from(whole.1));
        if rows == 0.0 || columns == 0.0 {
            return 0;
        }
        // Rounded to 7 places first, which keeps what is nearly whole.
        let whole = |exact: f64| {
            format!("{exact:.7}")
                .parse::<f64>()
                .unwrap_or(exact)
                .trunc()
        };
        let margins = |side: f64, exact: f64| 2.0 * ((side - whole(exact)) / 2.0).floor();
        if width / height > columns / rows {
            rows -= margins(rows, height * (columns / width));
        } else {
            columns -= margins(columns, width * (rows / height));
        }
        let (mut lines, mut shown) = (rows, rows * columns);
        if let Some(most) = self.most {
            let tile = f64::from(patches.0) * f64::from(patches.0);
            let ratio = (rows * columns / (f64::from(most) * tile)).sqrt();
            if ratio > 1.1 {
                let fewer = |side: f64| (side / ratio).floor();
                (lines, shown) = (fewer(rows), fewer(rows) * fewer(columns));
            }
        }
        (lines + shown) as usize
    }
}

impl Rule {
    /// Writes what stands for a picture, one of `all` of its record.
    pub fn write(&self, facts: &Facts, all: &[Facts], out: &mut Text) {
        let (rows, columns) = facts.grid;
        match self {
            Self::Times { token, count } => out.repeat(token, count.of(facts, all)),
            Self::Between {
                start,
                view,
                view_end,
                count,
                end,
            } => {
                out.add(start);
                if view_end.is_empty() {
                    out.repeat(view, count.of(facts, all));
                } else {
                    for _ in 0..facts.views {
                        out.repeat(view, count.of(facts, all));
                        out.add(view_end);
                    }
                }
                out.add(end);
            }
            Self::Parts(whole) if facts.views == 1 => out.add(whole),
            Self::Parts(whole) => {
                out.add("Here is the original image ");
                out.add(whole);
                out.add(" and here are some crops to help you see better ");
                for part in 1..facts.views {
                    out.add(if part > 1 { " " } else { "" });
                    out.add(whole);
                }
            }
            Self::Rows {
                fake,
                global,
                token,
                count,
            } => {
                for row in 1..=rows {
                    for column in 1..=columns {
                        out.add(fake);
                        out.add(&format!("<row_{row}_col_{column}>"));
                        out.repeat(token, *count);
                    }
                    out.add("\n");
                }
                out.add(if rows > 0 { "\n" } else { "" });
                out.add(fake);
                out.add(global);
                out.repeat(token, *count);
                out.add(fake);
            }
            Self::Views {
                token,
                marks,
                patch,
                merge,
                shows_whole,
            } => {
                let side = |pixels: u32| (pixels / patch).div_ceil(*merge) as usize;
                let count = |size: Area| side(size.height) * side(size.width);
                let [start, whole, end] = marks
                    .as_ref()
                    .map_or([""; 3], |marks| marks.each_ref().map(String::as_str));
                out.add(start);
                let is_divided = rows * columns > 1;
                for row in (1..=rows).filter(|_| is_divided) {
                    for column in 1..=columns {
                        if marks.is_some() {
                            out.add(&format!("<|img_row_{row}_col_{column}|>"));
                        }
                        out.repeat(token, count(facts.size));
                    }
                }
                if !is_divided || *shows_whole {
                    out.add(if is_divided { whole } else { "" });
                    out.repeat(token, count(facts.last));
                }
                out.add(end);
            }
            Self::Numbered {
                start,
                tile,
                global,
                token,
                count,
                end,
            } => {
                out.add(start);
                for number in 1..facts.views {
                    out.add(&format!("{tile}_{number}"));
                    out.repeat(token, *count);
                }
                out.add(global);
                out.repeat(token, *count);
                out.add(end);
            }
            Self::Separated { patch, ratio } => {
                let side = |pixels: u32| u64::from(pixels / patch);
                let count = (side(facts.size.height) * side(facts.size.width) / ratio) as usize;
                out.add("<|image_start|>");
                if rows * columns > 1 {
                    for _ in 0..rows {
                        for column in 0..columns {
                            out.repeat("<|patch|>", count);
                            out.add(if column + 1 < columns {
                                "<|tile_x_separator|>"
                            } else {
                                ""
                            });
                        }
                        out.add("<|tile_y_separator|>");
                    }
                }
                out.add("<|image|>");
                out.repeat("<|patch|>", count);
                out.add("<|image_end|>");
            }
            Self::Grid(count) => {
                out.add("<IMG_START>");
                out.repeat("<IMG_ATOM>", *count);
                out.add("<IMG_GRID>");
                if rows * columns > 1 {
                    for row in 0..rows {
                        for column in 0..columns {
                            out.repeat("<IMG_ATOM>", *count);
                            out.add(if column + 1 < columns {
                                "<IMG_COL>"
                            } else {
                                ""
                            });
                        }
                        out.add(if row + 1 < rows { "<IMG_ROW>" } else { "" });
                    }
                }
                out.add("<IMG_END>");
            }
            Self::Breaks {
                token,
                line,
                end,
                patch,
            } => {
                let (rows, columns) = (facts.size.height / patch, facts.size.width / patch);
                for row in 1..=rows {
                    out.repeat(token, columns as usize);
                    out.add(if row == rows { end } else { line });
                }
            }
        }
    }
}
