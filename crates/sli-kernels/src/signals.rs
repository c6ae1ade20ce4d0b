//! Signals that are errors of a call as well.

/// Makes a write beyond the limit of a file's size (`ulimit -f`) an error, instead of the end of the process;
/// for programs, once at their start.
pub fn survive_file_size_limit() {
    #[cfg(unix)]
    {
        // SAFETY: ignoring a signal installs no handler; nothing runs at odd times because of it.
        let _ = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    }
}
