//! Run any Hugging Face transformer over a dataset, one layer at a time.
