//! Every source keeps the contract; the wrappers do what they are for.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sli_checkpoint::source::contract::{self, Fixture};
use sli_checkpoint::source::{
    CacheUse, CountingSource, FailingSource, LocalSource, MemorySource, ReadMode, ThrottledSource,
    Within,
};
use sli_checkpoint::{ByteSource, SourceError};

fn memory(files: &Fixture) -> MemorySource {
    files
        .iter()
        .fold(MemorySource::new(), |source, (name, content)| {
            source.with(name.clone(), content.clone())
        })
}

fn write(folder: &Path, files: &Fixture) {
    for (name, content) in files {
        let path = folder.join(name);
        fs_err::create_dir_all(path.parent().expect("a folder")).expect("created");
        fs_err::write(path, content).expect("written");
    }
}

#[test]
fn memory_keeps_the_contract() {
    contract::check(|files| Box::new(memory(files))).expect("holds");
}

#[test]
fn local_keeps_the_contract_in_every_mode() {
    for mode in [
        ReadMode::Buffered,
        ReadMode::BufferedDropBehind,
        ReadMode::Direct,
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        contract::check(|files| {
            write(folder.path(), files);
            Box::new(LocalSource::with_mode(folder.path(), mode))
        })
        .unwrap_or_else(|sentence| panic!("{mode:?}: {sentence}"));
    }
}

#[test]
fn wrappers_keep_the_contract() {
    contract::check(|files| Box::new(CountingSource::new(memory(files)))).expect("counting");
    contract::check(|files| {
        let kind = io::ErrorKind::TimedOut;
        Box::new(FailingSource::new(memory(files), u64::MAX, kind))
    })
    .expect("failing");
    contract::check(|files| {
        let inside = files
            .iter()
            .map(|(name, content)| (format!("a/b/{name}"), content.clone()));
        let inner = memory(&inside.collect()).with("outside.bin", [1]);
        Box::new(Within::new(Arc::new(inner), "a/b/"))
    })
    .expect("within");
    contract::check(|files| Box::new(ThrottledSource::new(memory(files), Duration::ZERO, 1 << 40)))
        .expect("throttled");
}

#[test]
fn counting_knows_every_range() {
    let source = CountingSource::new(MemorySource::new().with("a", vec![0; 100]));
    source.read_at("a", 10, &mut [0; 5]).expect("read");
    source.read_at("a", 50, &mut [0; 50]).expect("read");
    assert!(source.read_at("a", 99, &mut [0; 2]).is_err());
    assert_eq!(source.counts()["a"].ranges, [10..15, 50..100]);
    assert_eq!(source.bytes(), 55);
    source.reset();
    assert_eq!(source.bytes(), 0);
}

#[test]
fn failing_fails_for_good_after_its_reads() {
    let kind = io::ErrorKind::ConnectionReset;
    let source = FailingSource::new(MemorySource::new().with("a", vec![0; 100]), 2, kind);
    for wanted in [true, true, false, false] {
        let read = source.read_at("a", 0, &mut [0]);
        assert_eq!(read.is_ok(), wanted);
        assert!(read.err().is_none_or(|error| error.is_io()));
    }
}

#[test]
fn throttled_takes_the_time_of_its_bytes() {
    let inner = MemorySource::new().with("a", vec![0; 10_000]);
    let source = ThrottledSource::new(inner, Duration::from_millis(5), 1_000_000);
    let start = Instant::now();
    source.read_at("a", 0, &mut vec![0; 10_000]).expect("read");
    assert!(start.elapsed() >= Duration::from_millis(15));
}

#[cfg(unix)]
#[test]
fn links_of_a_hub_cache_are_followed_and_pipes_are_not_opened() {
    let cache = tempfile::tempdir().expect("a folder");
    let blobs = cache.path().join("blobs");
    let snapshot = cache.path().join("snapshots/main");
    fs_err::create_dir_all(&blobs).expect("created");
    fs_err::create_dir_all(&snapshot).expect("created");
    fs_err::write(blobs.join("0123"), b"weights").expect("written");
    fs_err::os::unix::fs::symlink("../../blobs/0123", snapshot.join("model.safetensors"))
        .expect("linked");
    let source = LocalSource::new(&snapshot);
    let mut out = [0; 7];
    source
        .read_at("model.safetensors", 0, &mut out)
        .expect("read");
    assert_eq!(&out, b"weights");
    assert_eq!(source.list("").expect("listed"), ["model.safetensors"]);

    let pipe = snapshot.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    if made.is_ok_and(|status| status.success()) {
        assert!(matches!(
            source.len("pipe"),
            Err(SourceError::NotAFile { .. })
        ));
        assert!(source.read_at("pipe", 0, &mut out).is_err());
    }
    assert!(matches!(
        LocalSource::new(cache.path()).len("blobs"),
        Err(SourceError::NotAFile { .. })
    ));
}

#[test]
fn a_file_that_shrinks_is_an_io_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a");
    fs_err::write(&path, vec![1; 5 << 20]).expect("written");
    for mode in [ReadMode::Buffered, ReadMode::Direct] {
        fs_err::write(&path, vec![1; 5 << 20]).expect("written");
        let source = LocalSource::with_mode(folder.path(), mode);
        let mut out = vec![0; 3 << 20];
        source.read_at("a", 1 << 20, &mut out).expect("read");
        fs_err::write(&path, vec![1; 2 << 20]).expect("written");
        let error = source
            .read_at("a", 1 << 20, &mut out)
            .expect_err("too short now");
        assert!(
            matches!(
                error,
                SourceError::PastEnd {
                    size: 0x20_0000,
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.is_io());
    }
}

#[test]
fn many_files_stay_within_the_limit_of_open_files() {
    let folder = tempfile::tempdir().expect("a folder");
    for i in 0..300_u32 {
        fs_err::write(folder.path().join(format!("{i}")), i.to_le_bytes()).expect("written");
    }
    let source = LocalSource::new(folder.path());
    for i in (0..300_u32).chain(0..300) {
        let mut out = [0; 4];
        source.read_at(&i.to_string(), 0, &mut out).expect("read");
        assert_eq!(u32::from_le_bytes(out), i);
    }
    let open = fs_err::read_dir("/proc/self/fd").map(Iterator::count);
    assert!(open.is_ok_and(|open| open < 200) || !cfg!(target_os = "linux"));
}

#[test]
fn the_way_of_reading_is_chosen_by_measurement_and_changes_no_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let content: Vec<u8> = (0..40_u32 << 18)
        .flat_map(|value| value.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    fs_err::write(folder.path().join("large"), &content).expect("written");
    fs_err::write(folder.path().join("small"), &content[..1 << 20]).expect("written");
    let source = LocalSource::new(folder.path());
    let mut ways = Vec::new();
    for (fits, again) in [(true, true), (true, false), (false, true), (false, false)] {
        let cache = CacheUse {
            fits,
            again,
            in_pieces: None,
            enough: None,
        };
        let choice = source
            .choose_mode("large", cache)
            .expect("readable")
            .expect("a choice");
        assert_eq!(source.mode(), choice.mode, "{choice:?}");
        assert_eq!(
            choice.direct.is_some(),
            choice.buffered.is_some(),
            "{choice:?}"
        );
        if let (Some(direct), Some(buffered)) = (choice.direct, choice.buffered) {
            let faster = direct >= buffered * if fits { 1.1 } else { 1.0 };
            assert_eq!(choice.mode == ReadMode::Direct, faster, "{choice:?}");
        } else {
            assert_ne!(choice.mode, ReadMode::Direct, "{choice:?}");
        }
        ways.push(choice.mode);
        // Offsets and lengths that are not aligned.
        let mut read = vec![0; (3 << 20) + 5];
        source
            .read_at("large", 12_345, &mut read)
            .expect("readable");
        assert!(read == content[12_345..][..read.len()], "{choice:?}");
        let choice = source
            .choose_mode("small", cache)
            .expect("readable")
            .expect("a choice");
        assert_ne!(choice.mode, ReadMode::Direct, "{choice:?}");
    }
    assert_eq!(ways[0], ReadMode::Buffered);
    // Where computing takes longer anyway, what counts is what reading takes of the processor.
    let slow = CacheUse {
        fits: true,
        again: false,
        in_pieces: None,
        enough: Some(1.0),
    };
    let choice = source.choose_mode("large", slow).expect("readable");
    let choice = choice.expect("a choice");
    if let (Some(direct), Some(buffered)) = (choice.direct, choice.buffered) {
        let used = |part: Option<f64>, rate| part.expect("measured as well") / rate;
        let less =
            used(choice.direct_processor, direct) < used(choice.buffered_processor, buffered);
        let direct = less || direct >= buffered * 1.1;
        assert_eq!(choice.mode == ReadMode::Direct, direct, "{choice:?}");
    }
    // Pieces that are announced go through the cache, where several are fetched together.
    for fits in [true, false] {
        let cache = CacheUse {
            fits,
            again: false,
            in_pieces: Some("experts"),
            enough: None,
        };
        let choice = source.choose_mode("large", cache).expect("readable");
        assert_ne!(choice.expect("a choice").mode, ReadMode::Direct);
        source.advise_soon("large", 12_345..9 << 20);
        source.advise_soon("large", u64::MAX - 5..u64::MAX);
        source.advise_soon("none", 0..1);
        let mut read = vec![0; 1 << 20];
        source
            .read_at("large", 12_345, &mut read)
            .expect("readable");
        assert!(read == content[12_345..][..read.len()]);
    }
    assert!(
        source
            .choose_mode(
                "none",
                CacheUse {
                    fits: false,
                    again: false,
                    in_pieces: None,
                    enough: None,
                }
            )
            .is_err()
    );
}

#[test]
fn sources_keep_the_contract_after_they_were_switched() {
    for mode in [ReadMode::Direct, ReadMode::BufferedDropBehind] {
        let folder = tempfile::tempdir().expect("a folder");
        contract::check(|files| {
            write(folder.path(), files);
            let source = LocalSource::new(folder.path());
            for (name, _) in files {
                // Opened as it was.
                let _ = source.read_at(name, 0, &mut []);
            }
            source.set_mode(mode);
            Box::new(source)
        })
        .unwrap_or_else(|sentence| panic!("{mode:?}: {sentence}"));
    }
}

#[test]
fn where_nothing_reads_directly_the_page_cache_is_used() {
    // A file system in memory, where there is one.
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else {
        return;
    };
    fs_err::write(folder.path().join("large"), vec![1; 40 << 20]).expect("written");
    let source = LocalSource::new(folder.path());
    let cache = CacheUse {
        fits: false,
        again: false,
        in_pieces: None,
        enough: None,
    };
    let choice = source
        .choose_mode("large", cache)
        .expect("readable")
        .expect("a choice");
    let mut read = vec![0; 2 << 20];
    source.read_at("large", 1, &mut read).expect("readable");
    assert!(read.iter().all(|&byte| byte == 1), "{choice:?}");
    if choice.direct.is_none() {
        assert_eq!(choice.mode, ReadMode::BufferedDropBehind);
        assert!(choice.reason.contains("file system"), "{choice:?}");
    }
}

#[test]
fn a_path_is_wrong_where_its_links_go_round_in_circles() {
    let folder = tempfile::tempdir().expect("a folder");
    let link = folder.path().join("a");
    std::os::unix::fs::symlink(&link, &link).expect("a link");
    let error = fs_err::File::open(&link).expect_err("a circle");
    assert!(sli_checkpoint::is_wrong_path(&error), "{error}");
    for code in [5, 28, 24] {
        let error = io::Error::from_raw_os_error(code);
        assert!(!sli_checkpoint::is_wrong_path(&error), "{error}");
    }
}
