//! Code that only the start of a run needed does not stay in its memory.

/// Gives the pages of the program's code and constants back to the system, as the start has touched most of a large
/// program: tokenizers, readers of formats, help texts. Those that are used again come again from the file.
#[cfg(target_os = "linux")]
pub fn forget() {
    use rustix::mm::{Advice, madvise};

    // Where the system does not say, all stays as it is.
    let Ok(program) = fs_err::read_link("/proc/self/exe") else {
        return;
    };
    let maps = fs_err::read_to_string("/proc/self/maps").unwrap_or_default();
    let program = program.to_string_lossy();
    for (start, length) in maps.lines().filter_map(|line| pages(line, &program)) {
        let start = std::ptr::without_provenance_mut(start);
        #[expect(
            unsafe_code,
            reason = "there is no safe call for pages of the program itself"
        )]
        // SAFETY: these pages are mapped from the program's file and were never written, so they read the same when they
        // come again; nothing is unmapped. It is advice: where the system will not take it, the pages stay.
        let _ = unsafe { madvise(start, length, Advice::LinuxDontNeed) };
    }
}

/// Other systems have no such files.
#[cfg(not(target_os = "linux"))]
pub fn forget() {}

/// The address and length of a mapping of the program's file that nobody writes to, relocations included: its code, and the
/// constants at its beginning.
#[cfg(target_os = "linux")]
fn pages(line: &str, program: &str) -> Option<(usize, usize)> {
    let mut parts = line.split_ascii_whitespace();
    let (range, rights, offset) = (parts.next()?, parts.next()?, parts.next()?);
    let is_own = line.ends_with(program) && line.split_once('/')?.1 == program.strip_prefix('/')?;
    let is_first = u64::from_str_radix(offset, 16) == Ok(0);
    if !is_own || !(rights == "r-xp" || rights == "r--p" && is_first) {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let (start, end) = (
        usize::from_str_radix(start, 16).ok()?,
        usize::from_str_radix(end, 16).ok()?,
    );
    Some((start, end.checked_sub(start)?))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_writes_is_given_back() {
        let code = "55d0c0cff000-55d0c2f52000 r-xp 00cff000 fe:00 1234 /a b/sli";
        assert_eq!(
            pages(code, "/a b/sli"),
            Some((0x55d0_c0cf_f000, 0x225_3000))
        );
        let constants = "55d0c0000000-55d0c0cff000 r--p 00000000 fe:00 1234 /a b/sli";
        assert_eq!(
            pages(constants, "/a b/sli"),
            Some((0x55d0_c000_0000, 0xcf_f000))
        );
        for other in [
            // Relocated once.
            "55d0c2f52000-55d0c3100000 r--p 02f52000 fe:00 1234 /a b/sli",
            "55d0c2f52000-55d0c3100000 rw-p 00000000 fe:00 1234 /a b/sli",
            "7f0000000000-7f0000100000 r-xp 00026000 fe:00 99 /usr/lib/libc.so.6",
            "7f0000000000-7f0000100000 r-xp 00026000 fe:00 99 /other/a b/sli",
            "7f0000000000-7f0000100000 r-xp 00000000 00:00 0",
            "nonsense",
            "",
        ] {
            assert_eq!(pages(other, "/a b/sli"), None, "{other}");
        }
    }

    #[test]
    fn the_program_goes_on() {
        forget();
        assert_eq!(format!("{:.3}", 2.0_f64.sqrt()), "1.414");
    }
}
