//! How much memory is free, for runs that are not told how much to take.

use std::path::{Path, PathBuf};

/// The part of the free memory that a run takes if it is not told.
const SHARE: f64 = 0.8;

/// The budget of a run that is not told: 80 % of what the machine and the process's control groups have free.
pub fn default_budget() -> Option<u64> {
    free_memory().map(|bytes| (bytes as f64 * SHARE) as u64)
}

/// Bytes that the machine and the process's control groups have free, page cache included.
pub fn free_memory() -> Option<u64> {
    free(Path::new("/"))
}

/// Free memory in bytes as the files below `root` say; `None` if they say nothing.
fn free(root: &Path) -> Option<u64> {
    machine(root).into_iter().chain(groups(root)).min()
}

/// `MemAvailable`.
fn machine(root: &Path) -> Option<u64> {
    let text = fs_err::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// What each memory-limited control group above the process leaves it.
fn groups(root: &Path) -> Vec<u64> {
    let memberships = fs_err::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut found = Vec::new();
    for line in memberships.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (mount, files) = if controllers.is_empty() {
            ("sys/fs/cgroup", V2)
        } else if controllers.split(',').any(|name| name == "memory") {
            ("sys/fs/cgroup/memory", V1)
        } else {
            continue;
        };
        let mount = root.join(mount);
        // Inside a container the path may be that of the host; then the group is the mount itself.
        let own = mount.join(path.trim_start_matches('/'));
        let ancestors: Vec<PathBuf> = own
            .ancestors()
            .take_while(|folder| folder.starts_with(&mount))
            .map(Path::to_path_buf)
            .collect();
        found.extend(ancestors.iter().filter_map(|folder| files.free(folder)));
    }
    found
}

/// Names of a control group's files.
#[derive(Clone, Copy)]
struct Files {
    limit: &'static str,
    usage: &'static str,
    /// Entries of `memory.stat` that are page cache, which the kernel gives back.
    cache: [&'static str; 2],
}

const V2: Files = Files {
    limit: "memory.max",
    usage: "memory.current",
    cache: ["inactive_file", "active_file"],
};

const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache: ["total_inactive_file", "total_active_file"],
};

impl Files {
    /// Limit minus use without page cache; `None` without a limit.
    fn free(self, folder: &Path) -> Option<u64> {
        let read = |name: &str| fs_err::read_to_string(folder.join(name)).ok();
        let limit: u64 = read(self.limit)?.trim().parse().ok()?;
        let usage: u64 = read(self.usage)?.trim().parse().ok()?;
        let statistics = read("memory.stat").unwrap_or_default();
        let cache: u64 = statistics
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(name, _)| self.cache.contains(name))
            .filter_map(|(_, value)| value.trim().parse::<u64>().ok())
            .sum();
        Some(limit.saturating_sub(usage.saturating_sub(cache)))
    }
}

#[cfg(test)]
mod tests {
    use super::free;

    fn free_with(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, content).unwrap();
        }
        free(root.path())
    }

    const MEMINFO: (&str, &str) = (
        "proc/meminfo",
        "MemTotal: 2000 kB\nMemAvailable:    1000 kB\n",
    );

    #[test]
    fn the_machine() {
        assert_eq!(free_with(&[]), None);
        assert_eq!(free_with(&[MEMINFO]), Some(1_024_000));
        let unlimited = [
            MEMINFO,
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "max\n"),
            ("sys/fs/cgroup/memory.current", "5\n"),
        ];
        assert_eq!(free_with(&unlimited), Some(1_024_000));
    }

    #[test]
    fn the_tightest_group_counts() {
        let nested = [
            MEMINFO,
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", "5000\n"),
            ("sys/fs/cgroup/a/memory.current", "4000\n"),
            (
                "sys/fs/cgroup/a/memory.stat",
                "anon 1000\nfile 3500\ninactive_file 2000\nactive_file 500\n",
            ),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "1\n"),
        ];
        assert_eq!(free_with(&nested), Some(3500));
        let old = [
            MEMINFO,
            ("proc/self/cgroup", "5:cpu,memory:/docker/x\n2:freezer:/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "6000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "4000\n"),
            (
                "sys/fs/cgroup/memory/memory.stat",
                "cache 9\ntotal_inactive_file 1000\n",
            ),
        ];
        assert_eq!(free_with(&old), Some(3000));
        let full = [
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "10\n"),
            ("sys/fs/cgroup/memory.current", "20\n"),
        ];
        assert_eq!(free_with(&full), Some(0));
    }
}
