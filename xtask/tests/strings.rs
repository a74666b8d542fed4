//! No message contains source indentation, as happens if the `\` at the end of a line is missing.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};

/// The first run of spaces in a single-line text; several lines may be a table.
fn gap(literal: &str) -> Option<&str> {
    let text = literal.strip_prefix('"')?.strip_suffix('"')?;
    let mut joined = String::new();
    for (turn, piece) in text.split("\\\n").enumerate() {
        joined += if turn == 0 { piece } else { piece.trim_start() };
    }
    if joined.contains('\n') || joined.contains("\\n") {
        return None;
    }
    let before = |c: char| c.is_alphanumeric() || ",.;:)}'`".contains(c);
    let line = joined.trim();
    let start = line.get(..line.find("   ")?)?;
    start.ends_with(before).then_some(literal)
}

/// All string literals with such a gap. Doc comments are also literals to the compiler.
fn gaps(tokens: TokenStream, found: &mut Vec<String>) {
    let mut doc = false;
    for token in tokens {
        match token {
            TokenTree::Group(group) => gaps(group.stream(), found),
            TokenTree::Literal(literal) if !doc => {
                found.extend(gap(&literal.to_string()).map(str::to_owned));
            }
            TokenTree::Ident(ident) => doc = ident == "doc",
            TokenTree::Literal(_) | TokenTree::Punct(_) => {}
        }
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_message_has_the_indentation_of_its_source_in_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for krate in std::fs::read_dir(root.join("crates")).unwrap() {
        sources(&krate.unwrap().path().join("src"), &mut files);
    }
    sources(&root.join("lab/src"), &mut files);
    sources(&root.join("xtask/src"), &mut files);
    assert!(files.len() > 300, "only {} files", files.len());
    let mut ill = Vec::new();
    for file in files {
        let tokens: TokenStream = std::fs::read_to_string(&file).unwrap().parse().unwrap();
        let mut found = Vec::new();
        gaps(tokens, &mut found);
        ill.extend(found.into_iter().map(|text| format!("{}: {text}", file.display())));
    }
    assert!(ill.is_empty(), "a `\\` at a line's end was lost:\n{}", ill.join("\n"));
}

#[test]
fn a_lost_backslash_is_seen_and_a_kept_one_is_not() {
    let seen = |source: &str| {
        let mut found = Vec::new();
        gaps(source.parse().unwrap(), &mut found);
        found.len()
    };
    assert_eq!(seen(r#"f("the kernel has no              CONFIG_X");"#), 1);
    assert_eq!(seen("f(\"the kernel has no \\\n              CONFIG_X\");"), 0);
    assert_eq!(seen(r#"f("MemTotal:       65536 kB\n");"#), 0);
    assert_eq!(seen(r#"f("guest    ");"#), 0);
    assert_eq!(seen("/// a    table\nfn f() {}"), 0);
}
