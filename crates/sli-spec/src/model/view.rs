//! What is known of a picture, or of a tile of one, before its rows are made.

/// A view of a picture: what is known of it before its rows are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Rows and columns of patches.
    pub grid: [usize; 2],
    /// The number of the picture in the record.
    pub picture: u32,
    /// Height and width of the picture before it became views, where that is known; else 0.
    pub size: [u32; 2],
    /// Rows and columns of tiles that the picture was cut to, where it was; else 0.
    pub tiles: [u32; 2],
}
