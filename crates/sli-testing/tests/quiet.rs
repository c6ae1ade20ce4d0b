//! The libraries print nothing and end no process: what people should know they tell an observer, or return as an error.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read the sources has failed"
)]

use std::path::Path;

/// The crates that are libraries, and the half of one that is.
const LIBRARIES: [&str; 7] = [
    "sli-spec/src",
    "sli-checkpoint/src",
    "sli-kernels/src",
    "sli-jinja/src",
    "sli-engine/src",
    "sli/src/calls",
    "sli-python/src",
];

/// What prints, or ends the process.
const LOUD: [&str; 9] = [
    "println!",
    "print!(",
    "eprintln!",
    "eprint!(",
    "dbg!",
    "stdout(",
    "stderr(",
    "process::exit",
    "process::abort",
];

#[test]
fn no_library_prints_or_exits() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (mut files, mut found) = (0, Vec::new());
    for name in LIBRARIES {
        look(&crates.join(name), &mut files, &mut found);
    }
    assert!(files > 100, "{files} files were found");
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn loud_lines_are_seen() {
    assert_eq!(loud("let a = 1;\n    println!(\"{a}\");"), [2]);
    assert_eq!(loud("std::process::exit(2)"), [1]);
    assert_eq!(loud("writeln!(std::io::stderr(), \"x\")"), [1]);
    assert_eq!(loud("// println! is for programs"), Vec::<usize>::new());
    let test = "fn f() {}\n#[cfg(test)]\nmod tests {\n    fn g() { println!() }\n}";
    assert_eq!(loud(test), Vec::<usize>::new());
}

fn look(folder: &Path, files: &mut usize, found: &mut Vec<String>) {
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            look(&path, files, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *files += 1;
            let lines = loud(&fs_err::read_to_string(&path).unwrap());
            found.extend(
                lines
                    .iter()
                    .map(|line| format!("{}:{line}", path.display())),
            );
        }
    }
}

/// Lines of code outside of test modules that print or exit, from 1.
fn loud(text: &str) -> Vec<usize> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let lines = (1..).zip(code.lines());
    let is_loud = |line: &str| {
        let line = line.split("//").next().unwrap();
        LOUD.iter().any(|word| line.contains(word))
    };
    lines
        .filter(|(_, line)| is_loud(line))
        .map(|(number, _)| number)
        .collect()
}
