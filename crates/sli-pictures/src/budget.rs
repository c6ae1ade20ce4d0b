//! What preparing the pictures of a record may hold.

use crate::error::PictureError;
use crate::picture::Picture;

/// Bytes that may be held, and those that are.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    allowed: u64,
    held: u64,
}

impl Budget {
    /// Of so many bytes.
    pub fn new(allowed: u64) -> Self {
        Self { allowed, held: 0 }
    }

    /// Bytes that are left.
    pub fn left(&self) -> u64 {
        self.allowed - self.held
    }

    /// Holds `bytes` more.
    pub fn hold(&mut self, what: impl FnOnce() -> String, bytes: u64) -> Result<(), PictureError> {
        let needed = self.held.saturating_add(bytes);
        if needed > self.allowed {
            return Err(PictureError::Memory {
                what: what(),
                needed,
                allowed: self.allowed,
            });
        }
        self.held = needed;
        Ok(())
    }

    /// Holds a picture of this size more.
    pub fn hold_pixels(&mut self, height: u32, width: u32) -> Result<(), PictureError> {
        let bytes = u64::from(height) * u64::from(width) * Picture::CHANNELS as u64;
        self.hold(|| format!("a picture of {width} x {height} pixels"), bytes)
    }

    /// Holds so many numbers of 4 bytes more.
    pub fn hold_numbers(&mut self, shape: &[usize]) -> Result<usize, PictureError> {
        let numbers = shape
            .iter()
            .try_fold(1_u64, |all, &axis| all.checked_mul(axis as u64));
        let numbers = numbers.unwrap_or(u64::MAX);
        self.hold(
            || format!("a tensor of shape {shape:?}"),
            numbers.saturating_mul(4),
        )?;
        Ok(numbers as usize)
    }

    /// Gives back what was held since it was `before`.
    pub fn back_to(&mut self, before: Self) {
        self.held = before.held;
    }
}
