//! Python's `range`.

/// `range(start, stop, step)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub start: i64,
    pub stop: i64,
    pub step: i64,
}

impl Range {
    pub fn len(self) -> i64 {
        let (start, stop, step) = (
            i128::from(self.start),
            i128::from(self.stop),
            i128::from(self.step),
        );
        let length = if step > 0 {
            (stop - start + step - 1).div_euclid(step)
        } else {
            (start - stop - step - 1).div_euclid(-step)
        };
        i64::try_from(length.max(0)).unwrap_or(i64::MAX)
    }

    pub fn get(self, index: i64) -> i64 {
        self.start + index * self.step
    }

    /// Whether an integer is one of its items.
    pub fn contains(self, item: i64) -> bool {
        let offset = i128::from(item) - i128::from(self.start);
        let step = i128::from(self.step);
        offset % step == 0 && (0..i128::from(self.len())).contains(&(offset / step))
    }
}
