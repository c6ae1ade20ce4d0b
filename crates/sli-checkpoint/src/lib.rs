//! Checkpoint files: bytes, tensors, coverage.
