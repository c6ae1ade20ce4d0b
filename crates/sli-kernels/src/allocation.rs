//! What the C library keeps of memory that was given back.

/// Blocks of at least this many bytes go back to the system when they are freed.
const LARGE_BLOCK: i32 = 256 << 10;

/// Makes the memory of the process follow what it holds; for programs, once at their start.
///
/// The allocator of glibc raises the size from which it gives freed blocks back to the system whenever such
/// a block is freed, up to 32 MiB. From then on blocks of many megabytes live on its heaps, one a thread,
/// which keep them: a run would hold what it has long freed, beyond its budget. With a size of its own
/// choice (`M_MMAP_THRESHOLD`) that does not happen. Other C libraries need nothing.
pub fn return_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `mallopt` may be called at any time, from any thread; it changes how later blocks are
        // allocated and no block that there is.
        let accepted = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BLOCK) };
        debug_assert_eq!(accepted, 1, "glibc takes any size up to 32 MiB");
    }
}

/// Gives back to the system what was freed in small blocks, after something large made of them is gone.
pub fn return_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `malloc_trim` may be called at any time, from any thread; it touches free memory only.
        let _ = unsafe { libc::malloc_trim(0) };
    }
}
