//! The zip archives that `torch.save` writes: members that are stored, not compressed, one behind the other.
//!
//! Of the format what torch writes is read: no compression, no encryption, one disk, the same name in both headers.
//! Members do not overlap and end before the directory. What is read when the file is opened is compared with its
//! checksum; numbers are not, of which a run reads what it needs, in any order.

use std::collections::BTreeMap;
use std::ops::Range;

use super::problem::{MAX_PICKLE, TorchError};
use crate::source::{ByteSource, SourceError};

/// Largest directory in bytes.
const MAX_DIRECTORY: u64 = 64 << 20;

/// Bytes of the record at the end, of the pointer to its large form, of that, of an entry and of a local header, without
/// what varies.
const END: usize = 22;
const LOCATOR: usize = 20;
const LARGE_END: usize = 56;
const ENTRY: usize = 46;
const LOCAL: usize = 30;

/// The longest comment.
const MAX_COMMENT: u64 = 0xffff;

/// Instead of a number that stands elsewhere.
const ELSEWHERE: u64 = 0xffff_ffff;

/// The members of an archive.
#[derive(Debug, Default)]
pub(super) struct Archive {
    /// Where their content is, by name.
    pub members: BTreeMap<String, Range<u64>>,
    /// Their checksums; torch leaves them out where it is told to, as 0.
    checksums: BTreeMap<String, u32>,
    /// Bytes that were read for it.
    pub read: u64,
}

/// An entry of the directory.
struct Entry {
    name: String,
    checksum: u32,
    size: u64,
    /// Where its own header begins.
    header: u64,
}

impl Archive {
    pub fn read(source: &dyn ByteSource, file: &str, size: u64) -> Result<Self, Problem> {
        let (directory, count) = find_directory(source, file, size)?;
        if directory.end - directory.start > MAX_DIRECTORY {
            return Err(broken("its directory is larger than any real one"));
        }
        let mut bytes = vec![0; (directory.end - directory.start) as usize];
        source.read_at(file, directory.start, &mut bytes)?;
        let mut entries = entries(&bytes, count)?;
        entries.sort_by_key(|entry| entry.header);
        let mut archive = Self {
            members: BTreeMap::new(),
            checksums: BTreeMap::new(),
            read: bytes.len() as u64 + END as u64,
        };
        let mut end = 0;
        for entry in entries {
            let member = |rule| TorchError::Member {
                member: entry.name.clone(),
                rule,
            };
            if entry.header < end {
                return Err(member("it overlaps the one before it").into());
            }
            let start = content(source, file, &entry, directory.start)?;
            archive.read += LOCAL as u64;
            end = start
                .checked_add(entry.size)
                .filter(|&end| end <= directory.start)
                .ok_or_else(|| member("it reaches into the directory"))?;
            let name = entry.name.clone();
            archive.checksums.insert(name.clone(), entry.checksum);
            if archive.members.insert(name, start..end).is_some() {
                return Err(member("there are two of this name").into());
            }
        }
        Ok(archive)
    }

    pub fn member(&self, name: &str) -> Result<&Range<u64>, TorchError> {
        self.members.get(name).ok_or_else(|| TorchError::NoMember {
            member: name.to_owned(),
        })
    }
}

impl Archive {
    /// The content of a small member, which has to be what its checksum is of.
    pub fn content(
        &self,
        source: &dyn ByteSource,
        file: &str,
        name: &str,
    ) -> Result<Vec<u8>, Problem> {
        let place = self.member(name)?;
        let bytes = read_pickle(source, file, place.start, place.end - place.start)?;
        let checksum = self.checksums.get(name).copied().unwrap_or(0);
        if checksum != 0 && crc32fast::hash(&bytes) != checksum {
            let member = name.to_owned();
            let rule = "its bytes are not those that its checksum is of";
            return Err(TorchError::Member { member, rule }.into());
        }
        Ok(bytes)
    }
}

/// Why an archive was not read.
pub(super) enum Problem {
    Rule(TorchError),
    Read(SourceError),
}

impl From<TorchError> for Problem {
    fn from(error: TorchError) -> Self {
        Self::Rule(error)
    }
}

impl From<SourceError> for Problem {
    fn from(error: SourceError) -> Self {
        Self::Read(error)
    }
}

fn broken(rule: &'static str) -> Problem {
    TorchError::Archive { rule }.into()
}

/// Where the directory is, and how many entries it has.
fn find_directory(
    source: &dyn ByteSource,
    file: &str,
    size: u64,
) -> Result<(Range<u64>, u64), Problem> {
    let tail = size.min(END as u64 + MAX_COMMENT);
    let mut bytes = vec![0; tail as usize];
    source.read_at(file, size - tail, &mut bytes)?;
    let is_end = |at: &usize| {
        let record = bytes.get(*at..).unwrap_or_default();
        let comment = number::<2>(record, 20);
        record.starts_with(b"PK\x05\x06") && comment == Some((record.len() - END) as u64)
    };
    let last = (bytes.len() + 1).saturating_sub(END);
    let at = (0..last).rev().find(is_end);
    let at = at.ok_or_else(|| broken("it has no end: the file is cut off"))?;
    let record = bytes.get(at..).unwrap_or_default();
    let end = size - tail + at as u64;
    let fields = || {
        let disks = number::<2>(record, 4)? | number::<2>(record, 6)?;
        let counts = [number::<2>(record, 8)?, number::<2>(record, 10)?];
        Some((
            disks,
            counts,
            number::<4>(record, 12)?,
            number::<4>(record, 16)?,
        ))
    };
    let (disks, counts, mut length, mut start) =
        fields().ok_or_else(|| broken("its end is cut off"))?;
    if !(disks == 0 || disks == 0xffff) || counts[0] != counts[1] {
        return Err(broken("it is one of several"));
    }
    let mut count = counts[0];
    let mut limit = end;
    if count == 0xffff || length == ELSEWHERE || start == ELSEWHERE {
        let large = large_end(source, file, end)?;
        (count, length, start, limit) = large;
    }
    // Between the two torch writes the end of a large archive, large or not.
    let stop = start.checked_add(length).filter(|&stop| stop <= limit);
    match stop {
        Some(stop) => Ok((start..stop, count)),
        None => Err(broken("its directory is not in front of its end")),
    }
}

/// The same for an archive of more than 4 GiB or 65534 members: entries, length and start of the directory, and where it has to end.
fn large_end(
    source: &dyn ByteSource,
    file: &str,
    end: u64,
) -> Result<(u64, u64, u64, u64), Problem> {
    let lacking = || broken("the end of a large archive is missing");
    let at = end.checked_sub(LOCATOR as u64).ok_or_else(lacking)?;
    let mut locator = [0; LOCATOR];
    source.read_at(file, at, &mut locator)?;
    let place = number::<8>(&locator, 8).filter(|place| {
        locator.starts_with(b"PK\x06\x07")
            && place
                .checked_add(LARGE_END as u64)
                .is_some_and(|end| end <= at)
    });
    let place = place.ok_or_else(lacking)?;
    let mut record = [0; LARGE_END];
    source.read_at(file, place, &mut record)?;
    let fields = || {
        let counts = [number::<8>(&record, 24)?, number::<8>(&record, 32)?];
        let (length, start) = (number::<8>(&record, 40)?, number::<8>(&record, 48)?);
        (record.starts_with(b"PK\x06\x06") && counts[0] == counts[1])
            .then_some((counts[0], length, start, place))
    };
    fields().ok_or_else(lacking)
}

/// The entries of a directory.
fn entries(bytes: &[u8], count: u64) -> Result<Vec<Entry>, Problem> {
    let mut entries = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let cut = || broken("an entry of its directory is cut off");
        let header = rest.get(..ENTRY).ok_or_else(cut)?;
        if !header.starts_with(b"PK\x01\x02") {
            return Err(broken(
                "an entry of its directory begins with something else",
            ));
        }
        let length = |at| number::<2>(header, at).unwrap_or_default() as usize;
        let [name_length, extra, comment] = [28, 30, 32].map(length);
        let extra_at = ENTRY + name_length;
        let next = extra_at + extra + comment;
        let name = rest.get(ENTRY..extra_at).ok_or_else(cut)?;
        let extra = rest.get(extra_at..extra_at + extra).ok_or_else(cut)?;
        let name = std::str::from_utf8(name)
            .map_err(|_| broken("a name in its directory is not UTF-8"))?;
        entries.push(entry(header, name, extra)?);
        rest = rest.get(next..).ok_or_else(cut)?;
    }
    if entries.len() as u64 != count {
        return Err(broken(
            "its directory has not as many entries as its end says",
        ));
    }
    Ok(entries)
}

fn entry(header: &[u8], name: &str, extra: &[u8]) -> Result<Entry, TorchError> {
    let refused = |rule| TorchError::Member {
        member: name.to_owned(),
        rule,
    };
    let field = |at| number::<4>(header, at).unwrap_or_default();
    let (flags, method) = (number::<2>(header, 8), number::<2>(header, 10));
    if flags.is_none_or(|flags| flags & 1 != 0) {
        return Err(refused("it is encrypted"));
    }
    if method != Some(0) {
        return Err(refused("it is compressed, which torch never does"));
    }
    // Numbers that do not fit stand in the large fields, in this order.
    let mut large = large_fields(extra).into_iter();
    let mut whole = |small: u64| {
        if small == ELSEWHERE {
            large.next().unwrap_or(ELSEWHERE)
        } else {
            small
        }
    };
    let (size, compressed, at) = (whole(field(24)), whole(field(20)), whole(field(42)));
    if size != compressed {
        return Err(refused("it has two sizes"));
    }
    Ok(Entry {
        name: name.to_owned(),
        checksum: field(16) as u32,
        size,
        header: at,
    })
}

/// The numbers of 64 bits of an entry.
fn large_fields(mut extra: &[u8]) -> Vec<u64> {
    while let (Some(kind), Some(length)) = (number::<2>(extra, 0), number::<2>(extra, 2)) {
        let end = 4 + length as usize;
        let Some(body) = extra.get(4..end) else {
            break;
        };
        if kind == 1 {
            let (numbers, _) = body.as_chunks::<8>();
            return numbers
                .iter()
                .map(|bytes| u64::from_le_bytes(*bytes))
                .collect();
        }
        extra = extra.get(end..).unwrap_or_default();
    }
    Vec::new()
}

/// Where the content of an entry begins.
fn content(
    source: &dyn ByteSource,
    file: &str,
    entry: &Entry,
    directory: u64,
) -> Result<u64, Problem> {
    let refused = |rule| TorchError::Member {
        member: entry.name.clone(),
        rule,
    };
    let fits = |end: &u64| *end <= directory;
    let header_end = (entry.header.checked_add((LOCAL + entry.name.len()) as u64)).filter(fits);
    let header_end = header_end.ok_or_else(|| refused("its header is outside the archive"))?;
    let mut header = vec![0; LOCAL + entry.name.len()];
    source.read_at(file, entry.header, &mut header)?;
    let lengths = [number::<2>(&header, 26), number::<2>(&header, 28)];
    let [Some(name), Some(extra)] = lengths else {
        return Err(refused("its header is cut off").into());
    };
    let is_same =
        name == entry.name.len() as u64 && header.get(LOCAL..) == Some(entry.name.as_bytes());
    if !header.starts_with(b"PK\x03\x04") || !is_same {
        return Err(refused("its header is another's").into());
    }
    Ok(header_end + extra)
}

/// The bytes of a pickle.
pub(super) fn read_pickle(
    source: &dyn ByteSource,
    file: &str,
    start: u64,
    size: u64,
) -> Result<Vec<u8>, Problem> {
    if size > MAX_PICKLE {
        return Err(TorchError::TooLarge { size }.into());
    }
    let mut bytes = vec![0; size as usize];
    source.read_at(file, start, &mut bytes)?;
    Ok(bytes)
}

/// A little-endian number of `N` bytes.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let mut whole = [0; 8];
    whole
        .get_mut(..N)?
        .copy_from_slice(bytes.get(at..)?.get(..N)?);
    Some(u64::from_le_bytes(whole))
}
