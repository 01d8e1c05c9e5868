//! House rules that a compiler does not check: which crate may use which, how large files and functions are, what is
//! pure, and that documents name only what exists.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Lines of a file at most, and of nine in ten files.
const FILE_LINES: (usize, usize) = (800, 400);

/// Lines of a function at most; more than the second are reported.
const FUNCTION_LINES: (usize, usize) = (100, 70);

/// Which of our crates each of them may use.
const CRATES: [(&str, &[&str]); 7] = [
    ("index", &[]),
    ("localstack", &["brigade-index"]),
    ("ingest", &["brigade-index"]),
    ("compactor", &["brigade-index"]),
    ("api", &["brigade-index", "brigade-ingest", "brigade-compactor", "brigade-localstack"]),
    ("tests/model", &["brigade-index"]),
    ("tests", &["brigade", "brigade-index", "brigade-ingest", "brigade-compactor", "brigade-localstack"]),
];

/// Files and directories that decide and do nothing else: no runtime, no store, no clock.
const PURE: &[&str] = &[
    "compactor/src/views",
    "index/src/archive",
    "index/src/archive.rs",
    "index/src/batch",
    "index/src/batch.rs",
    "index/src/command.rs",
    "index/src/format",
    "index/src/ids.rs",
    "index/src/filter",
    "index/src/filter.rs",
    "index/src/journal",
    "index/src/lease.rs",
    "index/src/names.rs",
    "index/src/sparse.rs",
    "index/src/state",
    "index/src/state.rs",
    "ingest/src/chunk.rs",
    "ingest/src/dispatch",
    "ingest/src/dispatch.rs",
    "ingest/src/members",
    "ingest/src/members.rs",
    "ingest/src/open.rs",
    "ingest/src/placement.rs",
    "ingest/src/plan.rs",
    "ingest/src/queue/pending.rs",
    "ingest/src/queue/receipt.rs",
    "ingest/src/source.rs",
    "api/src/push/address.rs",
    "api/src/push/backoff.rs",
    "api/src/push/cidr.rs",
    "api/src/push/pace.rs",
    "api/src/push/signature.rs",
    "api/src/wire",
];

/// What a pure file does not name.
const IMPURE: [&str; 8] =
    ["tokio::", "object_store::", "async fn", ".await", "Instant", "SystemTime", "env::Env", "std::fs"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Files of the repository with this extension, and their contents, in order.
fn files(extension: &str) -> Vec<(String, String)> {
    fn walk(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if entry.file_type().unwrap().is_dir() {
                if name != "target" && name != "brigade-data" && (!name.starts_with('.') || name == ".ci") {
                    walk(&path, extension, found);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    let (root, mut found) = (root(), Vec::new());
    walk(&root, extension, &mut found);
    found.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    found.into_iter().map(read).collect()
}

/// Whether a whole file is there for tests, by its name.
fn is_test_file(name: &str) -> bool {
    name.starts_with("tests/") || name.contains("/tests/") || name.ends_with("/tests.rs")
}

/// Files of modules that exist for tests only: `#[cfg(test)] mod name;`.
fn test_modules(files: &[(String, String)]) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in files {
        let stem = file.trim_end_matches(".rs");
        let directory = ["/lib", "/main"].iter().find_map(|root| stem.strip_suffix(root)).unwrap_or(stem);
        let lines: Vec<_> = text.lines().collect();
        for pair in lines.windows(2).filter(|pair| pair[0].trim() == "#[cfg(test)]") {
            let module = pair[1].split("mod ").nth(1).and_then(|rest| rest.strip_suffix(';'));
            found.extend(module.map(|module| format!("{directory}/{module}.rs")));
        }
    }
    found
}

/// Numbered lines of code before the tests within a file, without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut lines = text.lines().enumerate().peekable();
    std::iter::from_fn(move || {
        let (number, line) = lines.next()?;
        let tests_begin = line == "#[cfg(test)]" && lines.peek().is_some_and(|(_, next)| next.ends_with('{'));
        (!tests_begin).then_some((number + 1, line))
    })
    .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[track_caller]
fn none(found: &[String]) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn crates_depend_in_one_direction() {
    let mut wrong = Vec::new();
    for (directory, allowed) in CRATES {
        let manifest = fs::read_to_string(root().join(directory).join("Cargo.toml")).unwrap();
        let mut section = "";
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line;
            }
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            let ours = name == "brigade" || name.starts_with("brigade-");
            if section.ends_with("dependencies]") && ours && !allowed.contains(&name) {
                wrong.push(format!("{directory}/Cargo.toml: {section} {name} is not allowed"));
            }
        }
    }
    let workspace = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = workspace.lines().find(|line| line.starts_with("members")).unwrap();
    let count = members.matches('"').count() / 2;
    if count != CRATES.len() {
        wrong.push(format!("the workspace has {count} members, this test knows {}", CRATES.len()));
    }
    none(&wrong);
}

#[test]
fn files_and_functions_are_small() {
    let mut wrong = Vec::new();
    let mut sizes = Vec::new();
    for (name, text) in files("rs") {
        let lines = text.lines().count();
        if lines > FILE_LINES.0 {
            wrong.push(format!("{name} has {lines} lines"));
        }
        if !is_test_file(&name) {
            sizes.push(code(&text).last().map_or(0, |(number, _)| number));
        }
        for (line, function, length) in functions(&text) {
            if length > FUNCTION_LINES.0 {
                wrong.push(format!("{name}:{line}: {function} has {length} lines"));
            } else if length > FUNCTION_LINES.1 {
                println!("{name}:{line}: {function} has {length} lines, rather long");
            }
        }
    }
    sizes.sort_unstable();
    let (median, ninetieth) = (sizes[sizes.len() / 2], sizes[sizes.len() * 9 / 10]);
    println!("{} files, median {median} lines before tests, ninetieth percentile {ninetieth}", sizes.len());
    if ninetieth > FILE_LINES.1 {
        wrong.push(format!("one file in ten has more than {} lines", FILE_LINES.1));
    }
    none(&wrong);
}

/// Functions of formatted code: line, name, and length.
fn functions(text: &str) -> Vec<(usize, String, usize)> {
    let lines: Vec<_> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let before = trimmed.split("fn ").next().unwrap_or_default();
        let words = ["", "pub", "pub(crate)", "pub(super)", "const", "async", "unsafe"];
        let declares = trimmed.contains("fn ") && before.split(' ').all(|word| words.contains(&word));
        if !declares {
            continue;
        }
        let indent = &line[..line.len() - trimmed.len()];
        let end = format!("{indent}}}");
        let body = lines[start..].iter().position(|line| {
            // The end of a body, a declaration without one, or a body on the same line.
            let same_indent = line.strip_prefix(indent).is_some_and(|rest| !rest.starts_with(' '));
            *line == end || (same_indent && (line.ends_with(';') || line.ends_with('}')))
        });
        let name = trimmed[before.len() + 3..].split(['(', '<']).next().unwrap_or_default();
        found.push((start + 1, name.to_owned(), body.map_or(1, |length| length + 1)));
    }
    found
}

#[test]
fn nothing_is_left_unfinished_or_unwrapped() {
    // Put together here, so that this file does not name them.
    let unfinished = ["todo", "unimplemented", "dbg"].map(|name| format!("{name}!("));
    let unwrap = format!(".{}()", "unwrap");
    let mut found = Vec::new();
    let files = files("rs");
    let test_modules = test_modules(&files);
    for (name, text) in &files {
        let is_test = is_test_file(name) || test_modules.contains(name);
        for (number, line) in code(text) {
            let is_unfinished = unfinished.iter().any(|word| line.contains(word));
            if is_unfinished || (!is_test && line.contains(&unwrap)) {
                found.push(format!("{name}:{number}: {}", line.trim()));
            }
        }
    }
    none(&found);
}

#[test]
fn pure_files_name_no_runtime_store_or_clock() {
    let mut found = Vec::new();
    let mut used: BTreeMap<_, usize> = PURE.iter().map(|pure| (*pure, 0)).collect();
    for (name, text) in files("rs") {
        let pure = PURE.iter().find(|pure| name == **pure || name.starts_with(&format!("{pure}/")));
        let Some(pure) = pure.filter(|_| !is_test_file(&name)) else { continue };
        *used.entry(pure).or_default() += 1;
        for (number, line) in code(&text) {
            if IMPURE.iter().any(|word| line.contains(word)) {
                found.push(format!("{name}:{number}: {}", line.trim()));
            }
        }
    }
    found.extend(used.iter().filter(|(_, files)| **files == 0).map(|(pure, _)| format!("there is no {pure}")));
    none(&found);
}

#[test]
fn every_select_is_biased() {
    // Not named as such, for the same reason.
    let select = ["select!", "{"].join(" ");
    let mut found = Vec::new();
    for (name, text) in files("rs") {
        let lines: Vec<_> = text.lines().collect();
        for (number, pair) in lines.windows(2).enumerate() {
            if pair[0].contains(&select) && pair[1].trim() != "biased;" {
                found.push(format!("{name}:{}: select! without biased", number + 1));
            }
        }
    }
    none(&found);
}

#[test]
fn documents_name_only_what_exists() {
    let root = root();
    let mut found = Vec::new();
    for (name, text) in files("md") {
        let here = root.join(&name).parent().unwrap().to_owned();
        // A crate's README names files of the crate from its sources on.
        let places = [root.clone(), here.clone(), here.join("src")];
        let mut fenced = false;
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            }
            let links = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            for link in links.filter(|_| !fenced) {
                let path = link.split('#').next().unwrap_or_default();
                let elsewhere = link.contains("://") || link.starts_with("mailto:") || path.is_empty();
                if !elsewhere && !here.join(path).exists() {
                    found.push(format!("{name}:{}: link to {link}", number + 1));
                }
            }
            for quoted in line.split('`').skip(1).step_by(2).filter(|_| !fenced) {
                let is_path = quoted.contains('/') && !quoted.contains([' ', '{', '*', ':', '<', '$', '…']);
                let is_file = [".rs", ".md", ".toml", ".sh", ".yaml"].iter().any(|end| quoted.ends_with(end));
                let exists = places.iter().any(|place| place.join(quoted).exists());
                if is_path && is_file && !quoted.starts_with('/') && !exists {
                    found.push(format!("{name}:{}: file {quoted}", number + 1));
                }
            }
        }
    }
    none(&found);
}
