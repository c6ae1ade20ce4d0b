//! The contract of [`ByteSource`] as a program, to be run on every implementation and wrapper.

use super::{ByteSource, RangeRead, SourceError};

/// Files that a source under test must hold.
pub type Fixture = Vec<(String, Vec<u8>)>;

/// The files of the test: empty, tiny, larger than any buffer, in a folder of its own.
pub fn fixture() -> Fixture {
    let pattern = |n: usize| {
        (0..n)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 7) as u8)
            .collect()
    };
    vec![
        ("empty.bin".to_owned(), Vec::new()),
        ("one.bin".to_owned(), vec![7]),
        ("large.bin".to_owned(), pattern((9 << 20) + 4321)),
        ("sub/inner.bin".to_owned(), pattern(10_000)),
    ]
}

/// Runs the contract on the source that `make` builds from the files of [`fixture`].
///
/// # Errors
/// The sentence of the contract that does not hold.
pub fn check(make: impl Fn(&Fixture) -> Box<dyn ByteSource>) -> Result<(), String> {
    let files = fixture();
    let source = make(&files);
    ranges(&*source, &files)?;
    names(&*source)?;
    listing(&*source)?;
    concurrent(&*source, &files)?;
    holds(!source.describe().is_empty(), "a source describes itself")
}

fn holds(condition: bool, sentence: &str) -> Result<(), String> {
    if condition {
        Ok(())
    } else {
        Err(format!("does not hold: {sentence}"))
    }
}

fn read(source: &dyn ByteSource, file: &str, at: u64, n: usize) -> Result<Vec<u8>, SourceError> {
    let mut out = vec![0; n];
    source.read_at(file, at, &mut out)?;
    Ok(out)
}

fn ranges(source: &dyn ByteSource, files: &Fixture) -> Result<(), String> {
    for (file, content) in files {
        let size = content.len();
        let len = source.len(file).map_err(|error| error.to_string())?;
        holds(len == size as u64, "len is the size of the file")?;
        holds(
            source.exists(file).unwrap_or(false),
            "a file that is there exists",
        )?;
        let cuts = [
            0,
            1,
            511,
            4096,
            4097,
            size / 2,
            size.saturating_sub(1),
            size,
        ];
        for start in cuts {
            for end in cuts {
                if start > end || end > size {
                    continue;
                }
                let got = read(source, file, start as u64, end - start);
                let got = got.map_err(|error| format!("{file} {start}..{end}: {error}"))?;
                holds(
                    got == content[start..end],
                    &format!("{file} {start}..{end} as written"),
                )?;
            }
        }
        together(source, file, content)?;
        source.advise_soon(file, 0..size as u64);
        source.advise_soon(file, 5..5);
        source.advise_done(file, 0..size as u64);
        source.advise_done(file, 5..5);
        let again = read(source, file, 0, size).map_err(|error| error.to_string())?;
        holds(again == *content, "advice changes nothing")?;
        for (at, n) in [
            (0, size + 1),
            (size as u64, 1),
            (u64::MAX, 1),
            (u64::MAX - 5000, 2 << 20),
        ] {
            let past = read(source, file, at, n);
            holds(
                past.is_err(),
                &format!("{file}: reading {n} bytes at {at} is an error"),
            )?;
        }
    }
    Ok(())
}

/// Several ranges at once are the same as each by itself, in any order, overlapping or empty.
fn together(source: &dyn ByteSource, file: &str, content: &[u8]) -> Result<(), String> {
    let size = content.len();
    let wanted = [size / 2..size, 0..size / 3, size / 4..size / 2, size..size];
    let mut buffers: Vec<Vec<u8>> = wanted.iter().map(|range| vec![0; range.len()]).collect();
    let mut ranges: Vec<RangeRead<'_>> = wanted
        .iter()
        .zip(&mut buffers)
        .map(|(range, out)| RangeRead {
            offset: range.start as u64,
            out,
        })
        .collect();
    let read = source.read_ranges(file, &mut ranges);
    read.map_err(|error| format!("{file}: {error}"))?;
    let alike = wanted.into_iter().zip(&buffers);
    let alike = alike
        .into_iter()
        .all(|(range, found)| content[range] == **found);
    holds(
        alike,
        &format!("{file}: ranges read together are as written"),
    )?;
    let (mut there, mut beyond) = ([], [0]);
    let (first, last) = (0, size as u64);
    let mut ranges = [
        RangeRead {
            offset: first,
            out: &mut there,
        },
        RangeRead {
            offset: last,
            out: &mut beyond,
        },
    ];
    let past = source.read_ranges(file, &mut ranges);
    holds(
        past.is_err(),
        &format!("{file}: a range past the end is an error"),
    )
}

fn names(source: &dyn ByteSource) -> Result<(), String> {
    let missing = source.len("nothing.bin");
    holds(
        matches!(missing, Err(SourceError::NotFound { .. })),
        "a missing file is NotFound",
    )?;
    let missing = read(source, "nothing.bin", 0, 1);
    holds(
        matches!(missing, Err(SourceError::NotFound { .. })),
        "reading it is NotFound",
    )?;
    holds(
        !source.exists("nothing.bin").unwrap_or(true),
        "a missing file does not exist",
    )?;
    for name in [
        "",
        ".",
        "..",
        "/etc/hostname",
        "../one.bin",
        "sub/../../x",
        "sub/../one.bin",
    ] {
        let refused = |error| matches!(error, Some(SourceError::OutsideFolder { .. }));
        holds(
            refused(source.len(name).err()),
            &format!("the name `{name}` is refused"),
        )?;
        let error = read(source, name, 0, 1).err();
        holds(refused(error), &format!("reading `{name}` is refused"))?;
    }
    Ok(())
}

fn listing(source: &dyn ByteSource) -> Result<(), String> {
    let mut names = source.list("").map_err(|error| error.to_string())?;
    names.sort();
    holds(
        names == ["empty.bin", "large.bin", "one.bin"],
        "list names the files of the folder",
    )?;
    holds(
        matches!(source.list("nothing"), Err(SourceError::NotFound { .. })),
        "a folder that is not there is NotFound",
    )?;
    holds(
        matches!(source.list("../"), Err(SourceError::OutsideFolder { .. })),
        "a folder outside is refused",
    )?;
    let inner = source.list("sub").map_err(|error| error.to_string())?;
    holds(
        !inner.is_empty() && inner.iter().all(|name| !name.contains('/')),
        "list names the files of a folder inside",
    )
}

fn concurrent(source: &dyn ByteSource, files: &Fixture) -> Result<(), String> {
    let Some((file, content)) = files.iter().find(|(name, _)| name == "large.bin") else {
        return Ok(());
    };
    std::thread::scope(|scope| {
        let reads = (0..4).map(|worker| {
            scope.spawn(move || {
                (0..8).all(|i| {
                    let start = worker * 1_000_003 + i * 77_777;
                    let length = (1 << 20) + worker * 13;
                    let got = read(source, file, start as u64, length);
                    got.is_ok_and(|got| got == content[start..start + length])
                })
            })
        });
        let reads: Vec<_> = reads.collect();
        let right = reads.into_iter().all(|read| read.join().unwrap_or(false));
        holds(right, "concurrent reads do not disturb each other")
    })
}
