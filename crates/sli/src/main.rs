//! The `sli` program.

fn main() {}
