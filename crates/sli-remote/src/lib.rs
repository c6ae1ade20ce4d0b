//! Models that are elsewhere: repositories of the hub, folders behind HTTP and buckets of object stores, as [`ByteSource`]s.
//!
//! What is read is kept in the hub's own cache layout, piece by piece as it arrives, or not at all
//! ([`Keep::Nothing`]). Several processes share one download, an interrupted one goes on where it was, and whole
//! files are compared with the sums that the hub has of them.
//!
//! [`ByteSource`]: sli_checkpoint::source::ByteSource

mod arriving;
mod bitmap;
mod bucket;
mod cache;
mod client;
mod contents;
mod disk;
mod error;
mod hub;
mod line;
mod location;
mod lock;
mod part;
mod repo;
mod settings;
mod shelf;
mod source;
mod store;
mod sums;
mod transfer;
mod tree;
mod web;

pub use cache::Cache;
pub use client::Policy;
pub use contents::{CachedFile, CachedRepo, FileState, Places};
pub use error::RemoteError;
pub use location::{Location, LocationError, Objects, Scheme};
pub use repo::{Kind, Repo};
pub use settings::{Settings, SettingsError, Token};
pub use source::{Keep, Progress, RemoteSource};
pub use url::Url;
