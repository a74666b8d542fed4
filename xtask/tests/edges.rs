//! The layers of docs/design.md: each crate depends only on those below it, and modules have no cycles.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path as FilePath, PathBuf as FilePathBuf};
use std::process::Command;

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};
use serde_json::Value;

/// The workspace crates that each crate may depend on (its tests may use any).
const FLOORS: [(&str, &[&str]); 18] = [
    ("model", &[]),
    ("own_files", &[]),
    ("guest_protocol", &[]),
    ("kernel_modules", &[]),
    ("guest", &["guest_protocol", "kernel_modules"]),
    ("host", &["model", "own_files"]),
    ("sim", &["guest_protocol", "model"]),
    ("vmm", &["model", "own_files"]),
    ("image", &["guest_protocol", "kernel_modules", "model", "own_files"]),
    ("convert", &["model"]),
    ("api", &["model"]),
    ("engine", &["guest_protocol", "model", "image", "own_files"]),
    ("service", &["api", "convert", "engine", "model", "own_files"]),
    ("daemon", &["api", "engine", "model", "own_files", "service"]),
    ("cli", &["api", "convert", "daemon", "engine", "host", "model", "service", "vmm"]),
    (
        "fuzz",
        &[
            "api",
            "cli",
            "convert",
            "daemon",
            "engine",
            "guest_protocol",
            "host",
            "image",
            "kernel_modules",
            "model",
            "service",
            "sim",
            "vmm",
        ],
    ),
    ("lab", &[]),
    ("xtask", &["api", "daemon", "engine", "host", "model", "sim"]),
];

/// The external crates that `model` may use: none that does I/O. `schemars` is only for the schema in docs/.
const MODEL_MAY_USE: [&str; 4] = ["serde", "thiserror", "uuid", "schemars"];

/// Each workspace crate with its dependencies, without those of tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let used = package["dependencies"].as_array().unwrap().iter();
            let used = used.filter(|d| d["kind"] != "dev").map(|d| text(&d["name"])).collect();
            (text(&package["name"]), used)
        })
        .collect()
}

#[test]
fn each_crate_knows_only_the_floors_under_it() {
    let floors = BTreeMap::from(FLOORS);
    let crates = dependencies();
    for (name, used) in &crates {
        let may = floors.get(name.as_str());
        let may = may.unwrap_or_else(|| {
            panic!("{name} has no floor: add it to FLOORS and to docs/design.md")
        });
        for other in used.iter().filter(|other| crates.contains_key(*other)) {
            assert!(may.contains(&other.as_str()), "{name} must not depend on {other}");
        }
    }
}

#[test]
fn the_model_does_no_io() {
    for used in &dependencies()["model"] {
        assert!(MODEL_MAY_USE.contains(&used.as_str()), "model must not depend on {used}");
    }
}

/// A path of names: `["rest", "images"]` for `crate::rest::images`.
type Path = Vec<String>;

/// The modules of one crate, and their uses.
#[derive(Default)]
struct Modules {
    all: BTreeSet<Path>,
    /// Modules of tests only.
    tests: BTreeSet<Path>,
    /// In each module, the names imported by `use` (its submodules can use them), and their origin.
    names: BTreeMap<Path, BTreeMap<String, Path>>,
    /// The paths that each module names.
    uses: BTreeSet<(Path, Path)>,
}

impl Modules {
    /// Reads the sources of a crate.
    fn of(sources: &FilePath) -> Self {
        let mut modules = Self::default();
        let mut files = Vec::new();
        rust_files(sources, &mut files);
        let files: Vec<(Path, FilePathBuf)> =
            files.into_iter().map(|file| (module_of(sources, &file), file)).collect();
        modules.all.extend(files.iter().map(|(module, _)| module.clone()));
        for (module, file) in files {
            let tokens: TokenStream = std::fs::read_to_string(file).unwrap().parse().unwrap();
            modules.read(&module, tokens);
        }
        modules
    }

    /// Reads the items of a module.
    fn read(&mut self, module: &Path, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at = match token {
                TokenTree::Punct(sign) if sign.as_char() == '#' && is_for_tests(&tokens, at) => {
                    self.skip_test_item(module, &tokens, at)
                }
                TokenTree::Ident(word) if word == "mod" => {
                    match (tokens.get(at + 1), tokens.get(at + 2)) {
                        (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) => {
                            let inner = child(module, &name.to_string());
                            self.all.insert(inner.clone());
                            self.read(&inner, body.stream());
                            at + 3
                        }
                        _ => at + 1,
                    }
                }
                TokenTree::Ident(word) if word == "use" => self.read_use(module, &tokens, at),
                TokenTree::Ident(word) if is_anchor(word) && is_path_sign(&tokens, at + 1) => {
                    let mut named = Vec::new();
                    let end = read_paths(&tokens, at, &[], &mut named);
                    for (path, _) in named {
                        self.uses.extend(absolute(module, &path).map(|to| (module.clone(), to)));
                    }
                    end
                }
                TokenTree::Group(group) => {
                    self.read(module, group.stream());
                    at + 1
                }
                _ => at + 1,
            };
        }
    }

    fn read_use(&mut self, module: &Path, tokens: &[TokenTree], at: usize) -> usize {
        let mut named = Vec::new();
        let end = read_paths(tokens, at + 1, &[], &mut named);
        for (path, name) in named {
            let anchored = absolute(module, &path);
            // `use name::...` names a submodule or another crate.
            let below = path.first().map(|first| child(module, first));
            let below = below.filter(|below| self.all.contains(below));
            let relative = || below.map(|_| module.iter().chain(&path).cloned().collect());
            let Some(to) = anchored.or_else(relative) else { continue };
            self.names.entry(module.clone()).or_default().insert(name, to.clone());
            self.uses.insert((module.clone(), to));
        }
        end
    }

    /// The end of a test-only item; a module's name is kept.
    fn skip_test_item(&mut self, module: &Path, tokens: &[TokenTree], at: usize) -> usize {
        let mut at = at + 2;
        let mut named = None;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token {
                TokenTree::Ident(word) if word == "mod" => named = tokens.get(at),
                TokenTree::Punct(sign) if sign.as_char() == ';' => break,
                TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => break,
                _ => {}
            }
        }
        self.tests.extend(named.map(|name| child(module, &name.to_string())));
        at
    }

    fn is_for_tests(&self, path: &[String]) -> bool {
        (1..=path.len()).any(|length| self.tests.contains(&path[..length]))
    }

    /// The module of a path, which may come from a `use`.
    fn home(&self, path: &[String], depth: usize) -> Path {
        let is_module = |length: &usize| self.all.contains(&path[..*length]);
        let length = (0..=path.len()).rev().find(is_module).unwrap_or(0);
        let (module, rest) = path.split_at(length);
        let names = self.names.get(module);
        match rest.split_first().and_then(|(name, rest)| Some((names?.get(name)?, rest))) {
            Some((from, rest)) if depth < 8 => {
                self.home(&from.iter().chain(rest).cloned().collect::<Path>(), depth + 1)
            }
            _ => module.to_vec(),
        }
    }

    /// In each module, the uses between its submodules.
    fn edges(&self) -> BTreeMap<Path, BTreeMap<String, BTreeSet<String>>> {
        let mut edges: BTreeMap<Path, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for (from, to) in &self.uses {
            let to = self.home(to, 0);
            if self.is_for_tests(from) || self.is_for_tests(&to) {
                continue;
            }
            let common = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
            if let (Some(one), Some(other)) = (from.get(common), to.get(common)) {
                let within = edges.entry(from[..common].to_vec()).or_default();
                within.entry(one.clone()).or_default().insert(other.clone());
            }
        }
        edges
    }
}

/// The Rust files of a directory, recursively.
fn rust_files(folder: &FilePath, found: &mut Vec<FilePathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The module of a file.
fn module_of(sources: &FilePath, file: &FilePath) -> Path {
    let path = file.strip_prefix(sources).unwrap().with_extension("");
    let mut module: Path = path.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
    if ["mod", "lib", "main"].contains(&module.last().unwrap().as_str()) {
        module.pop();
    }
    module
}

fn child(module: &[String], name: &str) -> Path {
    module.iter().cloned().chain([name.trim_start_matches("r#").to_owned()]).collect()
}

fn is_anchor(word: &Ident) -> bool {
    word == "crate" || word == "self" || word == "super"
}

fn is_path_sign(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |at| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == ':');
    colon(at) && colon(at + 1)
}

/// Whether the attribute here is `#[cfg(test)]` or similar.
fn is_for_tests(tokens: &[TokenTree], at: usize) -> bool {
    let Some(TokenTree::Group(attribute)) = tokens.get(at + 1) else { return false };
    let text = attribute.stream().to_string();
    text.starts_with("cfg") && text.contains("test") && !text.contains("not")
}

/// Parses a path with its braces; each name with its alias. Returns the end.
fn read_paths(
    tokens: &[TokenTree],
    mut at: usize,
    before: &[String],
    named: &mut Vec<(Path, String)>,
) -> usize {
    let mut path = before.to_vec();
    loop {
        match tokens.get(at) {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                let mut inside = 0;
                while inside < inner.len() {
                    inside = read_paths(&inner, inside, &path, named) + 1;
                }
                return at + 1;
            }
            Some(TokenTree::Ident(name)) => {
                path.push(name.to_string().trim_start_matches("r#").to_owned());
                at += 1;
                if is_path_sign(tokens, at) {
                    at += 2;
                    continue;
                }
            }
            // A glob: the module itself.
            Some(TokenTree::Punct(sign)) if sign.as_char() == '*' => at += 1,
            // `::<`, or not a path.
            _ => {}
        }
        let mut name = path.last().cloned().unwrap_or_default();
        if let (Some(TokenTree::Ident(word)), Some(TokenTree::Ident(other))) =
            (tokens.get(at), tokens.get(at + 1))
            && word == "as"
        {
            name = other.to_string();
            at += 2;
        }
        named.push((path, name));
        return at;
    }
}

/// A path from the crate's root; `None` if it does not start with `crate`, `self` or `super`.
fn absolute(module: &[String], path: &[String]) -> Option<Path> {
    let mut names = path.iter();
    let mut from: Path = match names.next()?.as_str() {
        "crate" => Vec::new(),
        "self" => module.to_vec(),
        "super" => module.split_last()?.1.to_vec(),
        _ => return None,
    };
    for name in names {
        match name.as_str() {
            "super" => drop(from.pop()),
            "self" => {}
            _ => from.push(name.clone()),
        }
    }
    Some(from)
}

/// The groups of mutually reachable modules.
fn circles(edges: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<Vec<String>> {
    let reach = |from: &String| {
        let mut reached = BTreeSet::new();
        let mut ahead = vec![from];
        while let Some(next) = ahead.pop() {
            for to in edges.get(next).into_iter().flatten() {
                if reached.insert(to.clone()) {
                    ahead.push(to);
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&String, BTreeSet<String>> =
        edges.keys().map(|from| (from, reach(from))).collect();
    let circle = |from: &String| -> Vec<String> {
        let back = |to: &&String| reached.get(to).is_some_and(|reached| reached.contains(from));
        reached[from].iter().filter(back).cloned().collect()
    };
    edges.keys().map(circle).filter(|circle| circle.len() > 1).collect()
}

/// The directories of all crates, by name.
fn folders() -> BTreeMap<String, FilePathBuf> {
    let root = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let crates = std::fs::read_dir(root.join("crates")).unwrap();
    let others = ["fuzz", "lab", "xtask"].map(|name| root.join(name));
    crates
        .map(|krate| krate.unwrap().path())
        .chain(others)
        .map(|folder| (folder.file_name().unwrap().to_str().unwrap().to_owned(), folder))
        .collect()
}

/// The order of the modules at the top of a crate: each may use only those before it. Others are in no order, and in no circle.
const LAYERS: [(&str, &[&str]); 5] = [
    (
        "engine",
        &[
            "store",
            "journal",
            "hardware",
            "marks",
            "vf_counts",
            "images",
            "claims",
            "devices",
            "instances",
            "recovery",
            "engine",
        ],
    ),
    ("host", &["sys", "root", "nodes", "inventory", "detail", "step", "linux_host"]),
    ("service", &["render", "claims", "cdi", "pods", "open"]),
    ("daemon", &["hardware", "rest", "serve"]),
    ("vmm", &["process", "qemu"]),
];

#[test]
fn modules_use_only_those_of_the_layers_below() {
    let folders = folders();
    for (name, layers) in LAYERS {
        let edges = Modules::of(&folders[name].join("src")).edges();
        let top = edges.iter().find(|(within, _)| within.is_empty()).map(|(_, edges)| edges);
        let top = top.unwrap_or_else(|| panic!("{name} has no modules"));
        for (layer, module) in layers.iter().enumerate() {
            assert!(
                folders[name].join("src").join(module).exists()
                    || folders[name].join("src").join(format!("{module}.rs")).exists(),
                "{name} has no module {module}"
            );
            for used in top.get(*module).into_iter().flatten() {
                let below = layers.iter().position(|other| other == used);
                assert!(
                    below.is_none_or(|below| below <= layer),
                    "{name}: {module} uses {used}, which is above it"
                );
            }
        }
    }
}

#[test]
fn modules_are_in_no_circle() {
    let mut found = BTreeSet::new();
    for (name, folder) in folders() {
        for (within, edges) in Modules::of(&folder.join("src")).edges() {
            let within = within.join("::");
            found.extend(circles(&edges).into_iter().map(|c| (name.clone(), within.clone(), c)));
        }
    }
    assert!(found.is_empty(), "modules use each other in a circle: {found:?}");
}

#[test]
fn circles_are_found_through_super_braces_and_names_that_are_imported() {
    let circles_of = |files: &[(&str, &str)]| {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = folder.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        let edges = Modules::of(folder.path()).edges();
        let circles = edges.values().flat_map(circles).map(|circle| circle.join(" "));
        circles.collect::<Vec<_>>()
    };
    let lib = ("lib.rs", "mod a; mod b; pub use b::B;");
    assert_eq!(circles_of(&[lib, ("a.rs", "use crate::{B};"), ("b.rs", "")]), [""; 0]);
    for back in ["use super::a::A;", "fn f() { crate::a::f(); }", "use crate::{a as c};"] {
        let files = [lib, ("a.rs", "use crate::B as Other;"), ("b.rs", back)];
        assert_eq!(circles_of(&files), ["a b"], "{back}");
    }
    let tests = "#[cfg(test)] mod tests { use crate::a::A; }";
    assert_eq!(circles_of(&[lib, ("a.rs", "use crate::B;"), ("b.rs", tests)]), [""; 0]);
    let inside = [
        ("lib.rs", "mod m;"),
        ("m/mod.rs", "mod c; mod d; use c::C;"),
        ("m/c.rs", "use super::d::D;"),
        ("m/d.rs", "fn f(c: super::C) {}"),
    ];
    assert_eq!(circles_of(&inside), ["c d"]);
}

#[test]
fn a_module_in_several_files_is_a_folder_with_mod_rs() {
    for folder in folders().into_values() {
        for part in ["src", "tests"].map(|part| folder.join(part)) {
            let mut files = Vec::new();
            if part.is_dir() {
                rust_files(&part, &mut files);
            }
            for file in files {
                let beside = file.with_extension("");
                let mut inside = Vec::new();
                if beside.is_dir() {
                    rust_files(&beside, &mut inside);
                }
                assert!(inside.is_empty(), "{} belongs into its folder, as mod.rs", file.display());
            }
        }
    }
}
