//! The sweep: plan, stream, run, journal, results.
