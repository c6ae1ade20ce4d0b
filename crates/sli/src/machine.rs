//! What is known of this machine: where `sli bench` remembers it, and how it is said.

use std::path::PathBuf;

use sli_engine::ceilings::{CeilingsCache, Origin, Roofline};

/// Where measurements are remembered; `None` where the system names no such place.
pub fn cache() -> Option<CeilingsCache> {
    let absolute = |name: &str| {
        let path = std::env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let home = || absolute("HOME").map(|home| home.join(".cache"));
    let folder = absolute("XDG_CACHE_HOME").or_else(home)?;
    Some(CeilingsCache::new(folder.join("sli")))
}

/// What a roofline is limited by and where that is known from.
pub fn limited_by(roofline: &Roofline) -> String {
    let (limit, origin) = if roofline.is_reading() {
        ("reading", roofline.limits.bytes_from)
    } else {
        ("arithmetic", roofline.limits.operations_from)
    };
    match origin {
        Origin::Bench => limit.to_owned(),
        Origin::Probe => format!("{limit}, by a quick probe; `sli bench` measures better"),
    }
}

#[cfg(test)]
mod tests {
    use super::limited_by;
    use sli_engine::ceilings::{Limits, Origin, Roofline};

    #[test]
    fn a_guess_is_called_one() {
        let roofline = |operations_from| Roofline {
            operations: 10.0,
            bytes: 1,
            limits: Limits {
                operations_per_second: 1.0,
                operations_from,
                products_per_second: 1.0,
                memory_per_second: 1.0,
                bytes_per_second: None,
                bytes_from: Origin::Bench,
                line: None,
            },
            seconds: 10.0,
        };
        assert_eq!(limited_by(&roofline(Origin::Bench)), "arithmetic");
        assert!(limited_by(&roofline(Origin::Probe)).contains("quick probe"));
    }
}
