//! Where a row of a stack of pictures is.

/// Where a row of a stack of pictures is. [`Self::COLUMNS`] numbers a row are kept beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The number of the view in the record.
    pub view: u32,
    /// Row of the patch in the view; [`Self::FRONT`]: it stands in front of them.
    pub row: u32,
    /// Column of the patch; of a row in front its number.
    pub column: u32,
    /// Rows and columns of patches of the view.
    pub grid: [u32; 2],
    /// The number of the picture in the record.
    pub picture: u32,
    /// Height and width of the picture before it became views, where that is known; else 0.
    pub size: [u32; 2],
    /// The number of the window in the view: rows of one stand one after the other.
    pub window: u32,
    /// Rows and columns of tiles that the picture was cut to, where it was; else 0.
    pub tiles: [u32; 2],
    /// The number of the tile in a view that has several.
    pub tile: u32,
    /// The number of the shape of the picture, where that is known.
    pub shape: u32,
    /// It does not see others that are blank, nor they it.
    pub is_blank: bool,
}

impl Place {
    /// Numbers of a row.
    pub const COLUMNS: usize = 14;
    /// The row of what stands in front of the patches.
    pub const FRONT: u32 = u32::MAX;
    /// The row of what is made of nothing.
    pub const ZEROS: u32 = u32::MAX - 1;

    /// As numbers.
    pub fn numbers(self) -> [u32; Self::COLUMNS] {
        let ([rows, columns], [height, width]) = (self.grid, self.size);
        let [down, across] = self.tiles;
        let Self {
            view,
            row,
            column,
            picture,
            window,
            tile,
            shape,
            is_blank,
            grid: _,
            size: _,
            tiles: _,
        } = self;
        let blank = u32::from(is_blank);
        [
            view, row, column, rows, columns, picture, height, width, window, down, across, tile,
            shape, blank,
        ]
    }

    /// Of numbers.
    pub fn of(numbers: [u32; Self::COLUMNS]) -> Self {
        let [
            view,
            row,
            column,
            rows,
            columns,
            picture,
            height,
            width,
            window,
            down,
            across,
            tile,
            shape,
            blank,
        ] = numbers;
        Self {
            view,
            row,
            column,
            grid: [rows, columns],
            picture,
            size: [height, width],
            window,
            tiles: [down, across],
            tile,
            shape,
            is_blank: blank != 0,
        }
    }

    /// Those of all rows of a record.
    pub fn all(numbers: &[u32]) -> Vec<Self> {
        let (rows, _) = numbers.as_chunks();
        rows.iter().copied().map(Self::of).collect()
    }

    /// Whether it stands in front of the patches.
    pub fn is_front(self) -> bool {
        self.row == Self::FRONT
    }

    /// Whether it is made of a patch.
    pub fn is_patch(self) -> bool {
        self.row < Self::ZEROS
    }
}

/// Rows and columns of patches in blocks of `side`, one after the other.
pub(super) fn blocks([rows, columns]: [u32; 2], side: u32) -> impl Iterator<Item = [u32; 2]> {
    let blocks =
        (0..rows / side).flat_map(move |row| (0..columns / side).map(move |column| [row, column]));
    blocks.flat_map(move |[row, column]| {
        (0..side * side).map(move |at| [row * side + at / side, column * side + at % side])
    })
}
