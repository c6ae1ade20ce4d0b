//! Sums whose order does not show.

use sli_kernels::Compute;

use super::*;
use crate::durable::Disk;
use crate::hessian::saved::Loading;

fn names() -> Vec<String> {
    vec!["q".to_owned(), "k".to_owned()]
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn sums(&self, name: &str) -> LayerSums {
        LayerSums::new(Disk::real().create(&self.0.path().join(name)).unwrap())
    }
}

fn folder() -> Folder {
    Folder(tempfile::tempdir().unwrap())
}

/// Of very different sizes, also from column to column.
fn values(rows: usize, columns: usize, seed: usize) -> Vec<f32> {
    let value = |index: usize| {
        let mixed = (index + seed).wrapping_mul(2_654_435_761) >> 7;
        let size = 2_f32.powi((mixed % 23) as i32 - 11 + (index % columns % 5) as i32 * 9);
        ((mixed % 2001) as f32 / 1000.0 - 1.0) * size
    };
    (0..rows * columns).map(value).collect()
}

fn add(sums: &mut LayerSums, threads: usize, columns: usize, units: &[Vec<f32>]) {
    let kernels = Kernels::new(threads, Compute::F32);
    let views = units
        .iter()
        .map(|unit| MatRef::from_slice(unit, unit.len() / columns, columns));
    let place = sums.place(&names(), columns).unwrap();
    sums.add(&kernels, place, &views.collect::<Vec<_>>())
        .unwrap();
    sums.count(place, units.len() as u64, 1);
}

fn bits(sums: &LayerSums, columns: usize) -> Vec<u32> {
    let values = sums.values(0, 0..columns).unwrap();
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn products_are_added_up() {
    let folder = folder();
    for columns in [1, 2, 130, BLOCK + 70] {
        let units: Vec<Vec<f32>> = (0..3).map(|unit| values(4 + unit, columns, unit)).collect();
        let mut sums = folder.sums("sums");
        add(&mut sums, 2, columns, &units);
        let found = sums.values(0, 0..columns).unwrap();
        let rows: Vec<&[f32]> = units.iter().flat_map(|unit| unit.chunks(columns)).collect();
        for i in (0..columns).step_by(1 + columns / 40) {
            for j in (0..columns).step_by(1 + columns / 50) {
                let product = |row: &&[f32]| f64::from(row[i]) * f64::from(row[j]);
                let expected: f64 = rows.iter().map(product).sum();
                let norm = |of: usize| {
                    rows.iter()
                        .map(|row| f64::from(row[of]).powi(2))
                        .sum::<f64>()
                };
                let bound = (norm(i) * norm(j)).sqrt() * 1e-6;
                let own = f64::from(found[i * columns + j]);
                assert!((own - expected).abs() <= bound, "{i} {j}: {own} {expected}");
                assert_eq!(found[i * columns + j], found[j * columns + i]);
            }
        }
        // Some rows of it.
        let part = sums.values(0, columns / 3..columns / 2 + 1).unwrap();
        assert_eq!(
            part,
            found[columns / 3 * columns..(columns / 2 + 1) * columns]
        );
    }
}

#[test]
fn neither_order_nor_parts_show() {
    let (folder, columns) = (folder(), 75);
    let mut units: Vec<Vec<f32>> = (0..9).map(|unit| values(1 + unit, columns, unit)).collect();
    units[7].iter_mut().for_each(|value| *value *= 1e-20);
    units[2].iter_mut().for_each(|value| *value *= 1e4);
    units.push(vec![0.0; columns]);
    let mut whole = folder.sums("whole");
    add(&mut whole, 1, columns, &units);
    let expected = bits(&whole, columns);
    units.reverse();
    let mut one_by_one = folder.sums("one");
    for unit in &units {
        add(&mut one_by_one, 3, columns, std::slice::from_ref(unit));
    }
    assert!(bits(&one_by_one, columns) == expected);
    for cut in [1, 4, 8] {
        let (mut first, mut second) = (folder.sums("first"), folder.sums("second"));
        add(&mut first, 1, columns, &units[..cut]);
        add(&mut second, 1, columns, &units[cut..]);
        assert!(first.follow(&second).unwrap());
        assert!(bits(&first, columns) == expected, "{cut}");
        assert_eq!(first.matrices[0].tokens, units.len() as u64);
    }
}

#[test]
fn saved_sums_are_the_same_or_refused() {
    let (folder, columns) = (folder(), 20);
    let mut sums = folder.sums("sums");
    add(&mut sums, 1, columns, &[values(5, columns, 1)]);
    sums.place(&["never".to_owned()], 7).unwrap();
    let mut bytes = Vec::new();
    sums.save(&mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })
    .unwrap();
    assert_eq!(bytes.len() as u64, sums.saved_bytes());
    let load = |bytes: &[u8], piece: usize| {
        let file = Disk::real()
            .create(&folder.0.path().join("loaded"))
            .unwrap();
        let mut loading = Loading::new(LayerSums::new(file));
        for piece in bytes.chunks(piece) {
            if !loading.push(piece).unwrap() {
                return None;
            }
        }
        loading.end()
    };
    for piece in [1, 7, 1000, 1 << 20] {
        let loaded = load(&bytes, piece).unwrap();
        assert_eq!(bits(&loaded, columns), bits(&sums, columns));
        assert_eq!(loaded.values(1, 0..7).unwrap(), vec![0.0; 49]);
    }
    for length in (0..bytes.len()).step_by(53) {
        assert!(load(&bytes[..length], 11).is_none(), "{length}");
    }
    assert!(load(&[&bytes[..], b"x"].concat(), 64).is_none());
    let mut other = folder.sums("other");
    other.place(&names(), columns + 1).unwrap();
    assert!(!other.follow(&sums).unwrap());
}

#[test]
fn what_f32_has_no_room_for_is_refused() {
    let folder = folder();
    let mut sums = folder.sums("sums");
    let place = sums.place(&names(), 2).unwrap();
    let kernels = Kernels::new(1, Compute::F32);
    let row = [1e20, 1.0];
    let refused = sums.add(&kernels, place, &[MatRef::from_slice(&row, 1, 2)]);
    assert!(matches!(refused, Err(ResultsError::Squares(_))));
}
