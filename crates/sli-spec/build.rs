//! Lists the files of the model types, so that a further type is a further file.

use std::env;
use std::path::{Path, PathBuf};

use fs_err as fs;

fn main() {
    let sources = Path::new(&env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("src");
    let target = env::var_os("OUT_DIR").expect("cargo sets it");
    for folder in ["types", "remote"] {
        let from = sources.join(folder);
        println!("cargo::rerun-if-changed={}", from.display());
        let files = fs::read_dir(&from).expect("the folder is part of the sources");
        let mut files: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
        files.sort();
        let row = |file: &PathBuf| {
            let name = file.file_stem().expect("files have names").to_str();
            format!(
                "({:?}, include_str!({:?})),\n",
                name.expect("names of types are ASCII"),
                file.to_str().expect("a path that rustc can read")
            )
        };
        let rows: String = files.iter().map(row).collect();
        let list = Path::new(&target).join(format!("{folder}.rs"));
        fs::write(list, format!("&[\n{rows}]\n")).expect("cargo's folder can be written");
    }
}
