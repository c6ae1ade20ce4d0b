//! Batch files of the OpenAI API: requests for embeddings and for log-probabilities of given texts, a line each.

mod answer;
mod problem;
mod request;
mod tables;

pub use answer::{Answers, Asked, refusal_line};
pub use problem::Problem;
pub use request::{Ask, Reader, Request};
