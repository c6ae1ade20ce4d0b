//! Serves the files of folders as repositories of a hub on the loopback line, until it is killed.
//!
//! `cargo run --release -p sli-loopback --example serve -- RATE ID=FOLDER...`, RATE in bytes a second of all lines
//! together, or 0 for no limit. The first line of its output is the value for `HF_ENDPOINT`; a line on its input is answered with the
//! bytes that it has served.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;

use sli_loopback::{Hub, Repo};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let rate: f64 = arguments.next().ok_or("RATE ID=FOLDER...")?.parse()?;
    let hub = Hub::start();
    if rate > 0.0 {
        hub.throttle(rate);
    }
    for argument in arguments {
        let (id, folder) = argument.split_once('=').ok_or("ID=FOLDER")?;
        let mut files = BTreeMap::new();
        collect(Path::new(folder), "", &mut files)?;
        hub.put(id, Repo::of(files));
    }
    let mut out = std::io::stdout();
    writeln!(out, "{}", hub.endpoint())?;
    out.flush()?;
    for _ in std::io::stdin().lock().lines() {
        writeln!(out, "{}", hub.served())?;
        out.flush()?;
    }
    loop {
        std::thread::park();
    }
}

fn collect(
    folder: &Path,
    prefix: &str,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> std::io::Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{name}/"), files)?;
        } else {
            files.insert(name, fs_err::read(entry.path())?);
        }
    }
    Ok(())
}
