//! A hub on the loopback line: repositories, a second host with the large files, and every fault that a line has.

mod hub;
mod objects;
mod wire;

pub use hub::{COMMIT, Fault, Hub, LARGE, Repo};
pub use wire::Request;
