//! The modules of a crate import each other in one direction: there is no circle.
//!
//! Imports are read from the sources: `use` declarations and paths that begin with `crate`, `super`, `self` or a child, outside of
//! comments, strings and test modules. A name that a module only passes on (`pub use`) leads to the module that
//! defines it.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read the sources has failed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Path of a module in its crate; empty for the root.
type Module = Vec<String>;

/// The modules of a crate and what their sources say.
struct Sources(BTreeMap<Module, Source>);

#[derive(Default)]
struct Source {
    /// Names that it defines.
    defined: BTreeSet<String>,
    /// What it passes on: the name here (`None`: all names) and the path.
    passed_on: Vec<(Option<String>, Vec<String>)>,
    /// Paths that it uses, from the crate's root on.
    used: BTreeSet<Vec<String>>,
}

#[test]
fn no_crate_has_a_circle_of_modules() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut circles = Vec::new();
    let mut modules = BTreeMap::new();
    for entry in fs_err::read_dir(crates).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let sources = Sources::read(&crates.join(&name).join("src"));
        for circle in circles_of(&sources.imports()) {
            let names: Vec<String> = circle.iter().map(|module| module.join("::")).collect();
            circles.push(format!("{name}: {}", names.join(", ")));
        }
        modules.insert(name, sources.0.len());
    }
    // They are small: two are for tests alone, one has its other half in Python.
    let small = [env!("CARGO_PKG_NAME"), "sli-loopback", "sli-python"];
    assert!(modules.len() >= 7, "{modules:?}");
    assert!(
        modules
            .iter()
            .all(|(name, &n)| n >= 10 || (small.contains(&name.as_str()) && n > 0)),
        "{modules:?}"
    );
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

#[test]
fn circles_are_seen_through_names_that_are_passed_on() {
    let module = |path: &str| {
        path.split("::")
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let circle = |inner: &str| {
        let texts = [
            (
                "",
                "mod a; mod b; mod c; pub use a::*; pub use b::Deep as Other;",
            ),
            ("a", "pub struct Plain; mod inner; fn f() { inner::g() }"),
            ("a::inner", inner),
            ("b", "use crate::Plain; pub struct Deep;"),
            ("c", "use crate::{Plain, Other}; use super::a::inner;"),
        ];
        let texts = texts.map(|(path, text)| (module(path), code_of(text)));
        circles_of(&Sources::of(&texts.into_iter().collect()).imports())
    };
    assert_eq!(
        circle("// crate::Other is no use\npub fn g() {}"),
        Vec::<Vec<Module>>::new()
    );
    let found = [module("a"), module("a::inner"), module("b")];
    for inner in [
        "use crate::Other;",
        "pub fn g() -> super::super::b::Deep {}",
    ] {
        assert_eq!(circle(inner), [found.to_vec()], "{inner}");
    }
}

impl Sources {
    fn read(root: &Path) -> Self {
        let mut files = Vec::new();
        collect(root, &mut files);
        let mut texts: BTreeMap<Module, String> = BTreeMap::new();
        let mut tests: Vec<Module> = Vec::new();
        for file in files {
            let inside = file.strip_prefix(root).unwrap().with_extension("");
            let mut module: Module = inside
                .iter()
                .map(|part| part.to_str().unwrap().to_owned())
                .collect();
            if matches!(
                module.last().map(String::as_str),
                Some("mod" | "lib" | "main")
            ) {
                module.pop();
            }
            let text = fs_err::read_to_string(&file).unwrap();
            tests.extend(tests_of(&text).map(|name| [&module[..], &[name]].concat()));
            let code = code_of(&text);
            texts.entry(module).or_default().push_str(&code);
        }
        texts.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
        Self::of(&texts)
    }

    fn of(texts: &BTreeMap<Module, String>) -> Self {
        let is_module = |module: &Module| texts.contains_key(module);
        let read = |(module, text): (&Module, &String)| {
            (module.clone(), Source::read(module, text, &is_module))
        };
        Self(texts.iter().map(read).collect())
    }

    /// For every module, the modules whose definitions it uses.
    fn imports(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let of = |(module, source): (&Module, &Source)| {
            let used = source.used.iter();
            let mut imports: BTreeSet<Module> =
                used.filter_map(|path| self.home(path, 0)).collect();
            imports.remove(module);
            (module.clone(), imports)
        };
        self.0.iter().map(of).collect()
    }

    /// The module that defines what a path names; `None`: another crate does.
    fn home(&self, path: &[String], depth: usize) -> Option<Module> {
        assert!(depth < 20, "{path:?} is passed on in a circle");
        let known = (0..=path.len())
            .rev()
            .find(|&n| self.0.contains_key(&path[..n]))?;
        let (module, rest) = path.split_at(known);
        let Some(name) = rest.first() else {
            return Some(module.to_vec());
        };
        let source = &self.0[module];
        if source.defined.contains(name) {
            return Some(module.to_vec());
        }
        for (passed, target) in &source.passed_on {
            let mut target = target.clone();
            match passed {
                Some(passed) if passed == name => {}
                Some(_) => continue,
                None => target.push(name.clone()),
            }
            target.extend_from_slice(&rest[1..]);
            let home = self.home(&target, depth + 1);
            if let Some(home) = home.filter(|home| passed.is_some() || self.defines(home, name)) {
                return Some(home);
            }
        }
        // A macro of the crate, or what another crate defines and this module passes on.
        (!module.is_empty()).then(|| module.to_vec())
    }

    fn defines(&self, module: &Module, name: &str) -> bool {
        self.0[module].defined.contains(name)
    }
}

impl Source {
    fn read(module: &Module, code: &str, is_module: &dyn Fn(&Module) -> bool) -> Self {
        let mut source = Self::default();
        let words: Vec<&str> = code
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .filter(|word| !word.is_empty())
            .collect();
        for pair in words.windows(2) {
            let kinds = [
                "struct", "enum", "trait", "fn", "type", "const", "static", "union", "mod",
            ];
            if kinds.contains(&pair[0]) && pair[0] != "mod" {
                source.defined.insert(pair[1].to_owned());
            }
        }
        let mut rest = code;
        while let Some(at) = find_word(rest, "use") {
            let public = is_public(&rest[..at]);
            let Some(end) = rest[at..].find(';') else {
                break;
            };
            let tree = &rest[at + "use".len()..at + end];
            let mut paths = Vec::new();
            expand(Vec::new(), tree, &mut paths);
            for (path, name) in paths {
                if let Some(path) = absolute(module, &path, is_module) {
                    if public {
                        source.passed_on.push((name, path));
                    } else {
                        source.used.insert(path);
                    }
                }
            }
            rest = &rest[at + end..];
        }
        for (at, path) in paths(code) {
            if !in_public_use(code, at)
                && let Some(path) = absolute(module, &path, is_module)
            {
                source.used.insert(path);
            }
        }
        source
    }
}

/// The paths of more than one name in some code, with their places.
fn paths(code: &str) -> Vec<(usize, Vec<String>)> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut start = 0;
    for word in code.split(|c: char| !is_path(c)) {
        let path: Vec<String> = parts_of(word);
        // A tree of names was expanded where it is used.
        let is_tree = code[start + word.len()..].starts_with('{');
        if path.len() > 1 && !word.starts_with(':') && !is_tree {
            found.push((start, path));
        }
        start += word.len()
            + code[start + word.len()..]
                .chars()
                .next()
                .map_or(0, char::len_utf8);
    }
    found
}

fn parts_of(path: &str) -> Vec<String> {
    let names = path.split("::").map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Whether the place is inside a `pub use` declaration, or one for a part of the crate.
fn in_public_use(code: &str, at: usize) -> bool {
    let start = code[..at].rfind([';', '}']).map_or(0, |start| start + 1);
    let declaration = &code[start..at];
    find_word(declaration, "use").is_some_and(|at| is_public(&declaration[..at]))
}

/// Whether the code ends with `pub`, `pub(crate)` and so on.
fn is_public(code: &str) -> bool {
    let code = code.trim_end();
    let reach = code
        .strip_suffix(')')
        .and_then(|code| code.rsplit_once('('));
    reach.map_or(code, |(before, _)| before).ends_with("pub")
}

/// The place of a word that stands alone.
fn find_word(text: &str, word: &str) -> Option<usize> {
    text.match_indices(word).map(|(at, _)| at).find(|&at| {
        let outside = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        outside(text[..at].chars().next_back()) && text[at + word.len()..].starts_with(' ')
    })
}

/// A path from the crate's root; `None`: of another crate.
fn absolute(
    module: &Module,
    path: &[String],
    is_module: &dyn Fn(&Module) -> bool,
) -> Option<Vec<String>> {
    let mut base = match path.first()?.as_str() {
        "crate" => return Some(path[1..].to_vec()),
        "self" | "super" => module.clone(),
        first => {
            let child = [&module[..], &[first.to_owned()]].concat();
            return is_module(&child).then(|| [module, path].concat());
        }
    };
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        match first.as_str() {
            "super" => _ = base.pop(),
            "self" => {}
            _ => break,
        }
        rest = after;
    }
    base.extend_from_slice(rest);
    Some(base)
}

/// The paths of a `use` tree, each with the name that it has here; none: all names.
fn expand(prefix: Vec<String>, tree: &str, into: &mut Vec<(Vec<String>, Option<String>)>) {
    let tree = tree.trim();
    if let Some(open) = tree.find('{') {
        let mut path = prefix;
        path.extend(parts_of(&tree[..open]));
        let inner = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
        let (mut depth, mut start) = (0, 0);
        for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    if !inner[start..at].trim().is_empty() {
                        expand(path.clone(), &inner[start..at], into);
                    }
                    start = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let (path, alias) = match tree.split_once(" as ") {
        Some((path, alias)) => (path, Some(alias.trim().to_owned())),
        None => (tree, None),
    };
    let mut full = prefix;
    full.extend(parts_of(path));
    let is_glob = full.last().is_some_and(|last| last == "*");
    if is_glob || full.last().is_some_and(|last| last == "self") {
        full.pop();
    }
    let name = alias.or_else(|| full.last().cloned());
    into.push((full, name.filter(|_| !is_glob)));
}

/// The modules in files of their own that are there for tests only.
fn tests_of(text: &str) -> impl Iterator<Item = String> {
    let declared = text.split("#[cfg(test)]\nmod ").skip(1);
    declared.filter_map(|rest| {
        let (name, _) = rest.lines().next()?.split_once(';')?;
        Some(name.to_owned())
    })
}

/// The code of a file without comments, strings and test modules.
fn code_of(text: &str) -> String {
    let text = match text.find("#[cfg(test)]\nmod ") {
        Some(at)
            if text[at..]
                .lines()
                .nth(1)
                .is_some_and(|line| line.ends_with('{')) =>
        {
            &text[..at]
        }
        _ => text,
    };
    let mut code = String::with_capacity(text.len());
    for line in text.lines() {
        let mut quoted = false;
        let mut before = ' ';
        for (at, c) in line.char_indices() {
            if !quoted && line[at..].starts_with("//") {
                break;
            }
            if c == '"' && before != '\\' && before != '\'' {
                quoted = !quoted;
            } else if !quoted {
                code.push(c);
            }
            before = if before == '\\' { ' ' } else { c };
        }
        code.push('\n');
    }
    code.replace('\n', " ")
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The sets of modules that reach each other.
fn circles_of(imports: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<Vec<Module>> {
    let reached = |from: &Module| {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&Module> = imports[from].iter().collect();
        while let Some(module) = open.pop() {
            if reached.insert(module) {
                open.extend(&imports[module]);
            }
        }
        reached
    };
    let all: BTreeMap<&Module, BTreeSet<&Module>> = imports
        .keys()
        .map(|module| (module, reached(module)))
        .collect();
    let mut circles: Vec<Vec<Module>> = Vec::new();
    for (module, reached) in &all {
        if !reached.contains(module) || circles.iter().any(|circle| circle.contains(module)) {
            continue;
        }
        let others = reached
            .iter()
            .filter(|other| all[**other].contains(*module));
        circles.push(others.map(|other| (*other).clone()).collect());
    }
    circles
}
