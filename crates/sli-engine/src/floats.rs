//! Numbers as bytes, little-endian.

/// Appends numbers.
pub(crate) fn write(values: &[f32], to: &mut Vec<u8>) {
    to.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

/// Reads as many numbers as there is room for.
pub(crate) fn read(raw: &[u8], to: &mut [f32]) {
    for (value, raw) in to.iter_mut().zip(raw.as_chunks().0) {
        *value = f32::from_le_bytes(*raw);
    }
}
