//! Which rows of a fused tensor are whose.

use sli_spec::Split;

use crate::view::{Core, RowRun};

/// The rows of one part of a split of `rows` rows, and how many they are.
pub(super) fn rows_of_part(
    split: &Split,
    part: usize,
    rows: usize,
) -> Option<(Box<dyn Iterator<Item = RowRun> + '_>, usize)> {
    match split {
        Split::Rows(sizes) => {
            let total = sum(sizes)?;
            let count = *sizes.get(part)?;
            let start = sizes.iter().take(part).sum();
            let run = RowRun {
                start,
                count,
                step: 1,
            };
            (total == rows).then(|| (Box::new(std::iter::once(run)) as _, count))
        }
        Split::PerHead { heads, parts } => {
            let (heads, parts) = (*heads, *parts);
            let dim = exact(rows, heads.checked_mul(parts)?)?;
            let run = move |head| RowRun {
                start: (head * parts + part) * dim,
                count: dim,
                step: 1,
            };
            (part < parts).then(|| (Box::new((0..heads).map(run)) as _, heads * dim))
        }
        Split::Grouped { groups, queries } => {
            let (groups, queries) = (*groups, *queries);
            let members = queries.checked_add(2)?;
            let dim = exact(rows, groups.checked_mul(members)?)?;
            let (skip, take) = match part {
                0 => (0, queries),
                1 => (queries, 1),
                2 => (queries + 1, 1),
                _ => return None,
            };
            let run = move |group| RowRun {
                start: (group * members + skip) * dim,
                count: take * dim,
                step: 1,
            };
            Some((Box::new((0..groups).map(run)), groups * take * dim))
        }
        Split::Groups {
            groups,
            rows: parts,
        } => {
            let (groups, count) = (*groups, *parts.get(part)?);
            let size = sum(parts)?;
            let skip: usize = parts.iter().take(part).sum();
            let run = move |group| RowRun {
                start: group * size + skip,
                count,
                step: 1,
            };
            let fits = groups.checked_mul(size)? == rows;
            fits.then(|| (Box::new((0..groups).map(run)) as _, groups * count))
        }
        Split::Strided { parts } => {
            let count = exact(rows, *parts)?;
            let run = RowRun {
                start: part,
                count,
                step: *parts,
            };
            (part < *parts).then(|| (Box::new(std::iter::once(run)) as _, count))
        }
    }
}

/// The sum of some sizes.
fn sum(sizes: &[usize]) -> Option<usize> {
    sizes.iter().try_fold(0_usize, |sum, &n| sum.checked_add(n))
}

/// `rows / by` where it divides.
fn exact(rows: usize, by: usize) -> Option<usize> {
    (by > 0 && rows.is_multiple_of(by)).then(|| rows / by)
}

/// The shape of the fused weight of which a part has shape `want`.
pub(super) fn whole_of_part(
    want: &[usize],
    core: Core,
    split: &Split,
    part: usize,
) -> Option<Vec<usize>> {
    let own = match core {
        Core::Vector => 1,
        Core::Matrix => 2,
    };
    let mut whole = want.to_vec();
    let axis = whole.len().checked_sub(own)?;
    let rows = whole.get_mut(axis)?;
    *rows = match split {
        Split::Rows(sizes) => sum(sizes)?,
        Split::Groups { groups, rows } => groups.checked_mul(sum(rows)?)?,
        Split::PerHead { parts, .. } | Split::Strided { parts } => rows.checked_mul(*parts)?,
        Split::Grouped { groups, queries } => {
            let members = if part == 0 { *queries } else { 1 };
            let dim = exact(*rows, groups.checked_mul(members)?)?;
            dim.checked_mul(*groups)?
                .checked_mul(queries.checked_add(2)?)?
        }
    };
    Some(whole)
}
