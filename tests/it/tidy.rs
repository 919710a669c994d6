//! The rules of the house, held by reading the source: which module may know which, and who names
//! what.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// No file is longer.
const LINES_MAX: usize = 450;

/// Modules by how far down they stand; arrows point to a smaller number only.
const LAYERS: [(&str, u8); 14] = [
    ("domain", 0),
    ("metrics", 1),
    ("store", 2),
    ("carrier", 2),
    ("gateway", 3),
    ("simulator", 4),
    ("progress", 4),
    ("dialer", 4),
    ("tasks", 4),
    ("webhooks", 4),
    ("grpc", 5),
    ("callbacks", 5),
    ("app", 6),
    ("cli", 7),
];
/// They meet in the store, never in each other.
const STRANGERS: [&str; 4] = ["grpc", "callbacks", "dialer", "tasks"];

/// One source file without its comments and its tests.
struct Source {
    path: String,
    /// The first part of the path below `src`.
    module: String,
    /// The file that the module is named by: there, `super` is the crate.
    is_root_of_module: bool,
    code: String,
    text: String,
}

fn files(below: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(below)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == ending) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "nothing below {below}");
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        source(path.strip_prefix(&root).unwrap().to_str().unwrap(), text)
    };
    files("src", "rs").into_iter().map(read).filter(|source| !is_test(&source.path)).collect()
}

fn source(path: &str, text: String) -> Source {
    let mut parts = path.split('/');
    let module = parts.next().unwrap().trim_end_matches(".rs").to_owned();
    let rest: Vec<&str> = parts.collect();
    let is_root_of_module = rest.is_empty() || rest == ["mod.rs"];
    Source { path: path.to_owned(), module, is_root_of_module, code: code_of(&text), text }
}

fn is_test(path: &str) -> bool {
    path.ends_with("tests.rs")
}

/// The text without comments, and without the test module that ends it.
fn code_of(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let mut code = String::new();
    for line in text.lines() {
        // A URL in a string is no comment.
        let end = line.match_indices("//").map(|(at, _)| at).find(|at| !line[..*at].ends_with(':'));
        let _ = writeln!(code, "{}", &line[..end.unwrap_or(line.len())]);
    }
    code
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether `word` stands in `code` with nothing of a word beside it.
fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = at.checked_sub(1).map(|at| code.as_bytes()[at]);
        let after = code.as_bytes().get(at + word.len()).copied();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// The modules that paths from the crate's root lead to.
fn arrows(source: &Source) -> BTreeSet<String> {
    let mut targets = BTreeSet::new();
    let roots: &[&str] =
        if source.is_root_of_module { &["crate::", "super::"] } else { &["crate::"] };
    for (at, root) in roots.iter().flat_map(|root| source.code.match_indices(root)) {
        let rest = &source.code[at + root.len()..];
        let listed = match rest.strip_prefix('{') {
            // `crate::{a, b::c}`; what is nested deeper belongs to one of these.
            Some(list) => top_level(list),
            None => vec![rest],
        };
        for path in listed {
            let path = path.trim_start();
            let end = path.bytes().position(|byte| !is_word(byte)).unwrap_or(path.len());
            targets.insert(path[..end].to_owned());
        }
    }
    targets.remove(&source.module);
    targets
}

/// The items of a list up to its closing brace.
fn top_level(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                items.push(&list[start..at]);
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    items.retain(|item| !item.trim().is_empty());
    items
}

fn may_know(from: &str, to: &str) -> bool {
    let layer =
        |module: &str| LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer);
    match (from, to) {
        ("lib", _) | ("main", "cli") | ("config", "domain") | ("app" | "cli", "config") => true,
        _ if STRANGERS.contains(&from) && STRANGERS.contains(&to) => false,
        _ => layer(from).zip(layer(to)).is_some_and(|(from, to)| to < from),
    }
}

/// Fails with every finding at once.
fn none(rule: &str, findings: impl IntoIterator<Item = String>) {
    let findings: Vec<String> = findings.into_iter().collect();
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

#[test]
fn arrows_point_down_only() {
    let known = |module: &str| {
        matches!(module, "config" | "lib" | "main")
            || LAYERS.iter().any(|(name, _)| *name == module)
    };
    none(
        "modules without a place in DESIGN §5",
        sources().into_iter().map(|s| s.module).filter(|m| !known(m)),
    );
    let wrong = |source: Source| {
        let targets = arrows(&source).into_iter().filter(|to| !may_know(&source.module, to));
        targets.map(|to| format!("{} uses crate::{to}", source.path)).collect::<Vec<_>>()
    };
    none("arrows that point up or across", sources().into_iter().flat_map(wrong));
    let detour = |source: &Source| {
        source.path.matches('/').count() == 1 && source.code.contains("super::super::")
    };
    none(
        "super::super out of a module",
        sources().into_iter().filter(detour).map(|source| source.path),
    );
}

#[test]
fn names_stay_where_they_belong() {
    for (word, owners) in [
        ("sqlx", &["store"][..]),
        ("reqwest", &["carrier", "webhooks"]),
        ("metrics_exporter_prometheus", &["metrics"]),
        ("pb", &["grpc", "cli"]),
        ("std::env", &["config"]),
        ("env::var", &["config"]),
        ("env::vars", &["config"]),
    ] {
        let strays = sources()
            .into_iter()
            .filter(|s| !owners.contains(&s.module.as_str()) && names(&s.code, word));
        none(&format!("only {owners:?} may name {word}"), strays.map(|source| source.path));
    }
}

#[test]
fn the_domain_is_pure() {
    const IMPURE: [&str; 12] = [
        "tokio",
        "sqlx",
        "tonic",
        "axum",
        "reqwest",
        "std::env",
        "std::fs",
        "std::net",
        "SystemTime",
        "Instant",
        "rand",
        "Uuid::now_v7",
    ];
    let domain = || sources().into_iter().filter(|source| source.module == "domain");
    for word in IMPURE {
        none(
            &format!("the domain names {word}"),
            domain().filter(|s| names(&s.code, word)).map(|s| s.path),
        );
    }
    let http = domain().filter(|source| source.code.contains("http::")).map(|source| source.path);
    none("the domain names http", http);
    let clocks = domain().filter(|s| s.code.contains("::now()")).map(|s| s.path);
    none("the domain reads a clock", clocks);
}

#[test]
fn files_stay_short() {
    let long = |path: PathBuf| {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        (lines > LINES_MAX).then(|| format!("{} has {lines} lines", path.display()))
    };
    none(
        &format!("files of more than {LINES_MAX} lines"),
        ["src", "tests"].iter().flat_map(|below| files(below, "rs")).filter_map(long),
    );
}

/// A statement that does not register itself is not checked before it runs.
#[test]
fn statements_register_themselves() {
    const DEFINE_THEM: [&str; 2] = ["store/db/sql.rs", "store/runs/trim.rs"];
    let strays = sources()
        .into_iter()
        .filter(|s| s.code.contains("Sql::new(") && !DEFINE_THEM.contains(&s.path.as_str()));
    none("only statement! defines SQL", strays.map(|source| source.path));
}

#[test]
fn nothing_is_left_undone() {
    for word in ["todo!", "unimplemented!", "dbg!"] {
        let left = sources()
            .into_iter()
            .filter(|source| source.code.contains(word))
            .map(|source| source.path);
        none(word, left);
    }
}

#[test]
fn a_panic_says_why_it_cannot_happen() {
    let bare = |source: Source| {
        let lines: Vec<&str> = source.text.lines().collect();
        let commented = |at: usize| {
            lines[at].contains("//")
                || at.checked_sub(1).is_some_and(|at| lines[at].trim_start().starts_with("//"))
        };
        let panics = |line: &str| line.contains(".unwrap()") || line.contains(".expect(");
        let code =
            source.code.lines().enumerate().filter(|(at, line)| panics(line) && !commented(*at));
        code.map(|(at, line)| format!("{}:{}: {}", source.path, at + 1, line.trim()))
            .collect::<Vec<_>>()
    };
    none("unwrap and expect without a comment", sources().into_iter().flat_map(bare));
}

#[test]
fn both_stores_have_the_same_migrations() {
    let names = |below: &str| -> Vec<_> {
        files(below, "sql").iter().map(|path| path.file_name().unwrap().to_owned()).collect()
    };
    assert_eq!(names("migrations/sqlite"), names("migrations/postgres"));
}

/// What has landed has run somewhere: a schema changes by a new migration. See
/// `docs/dev/add-a-migration.md`.
#[test]
fn a_landed_migration_never_changes() {
    const LANDED: [(&str, &str); 2] = [
        (
            "migrations/postgres/0001_init.sql",
            "0e13bdfd703efb43407da2795c3f8ad16a13db6647647575ab6df88dbd6acefe",
        ),
        (
            "migrations/sqlite/0001_init.sql",
            "3a6aa86a9b16e5afce875f90a4c1ad077428f0a41e00cb3911ccb16cad879cc0",
        ),
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, landed) in LANDED {
        let now = hex::encode(Sha256::digest(fs::read(root.join(file)).unwrap()));
        assert_eq!(
            now, landed,
            "{file} has landed; put the change into a migration of a new number"
        );
    }
}

/// The rules above would hold in an empty reader, too.
#[test]
fn the_reader_sees_what_it_should() {
    let text = "//! [`crate::app`]\nuse crate::store::Store; // crate::cli\nuse crate::{domain::{a, b}, grpc};\n\
                let url = \"https://x\"; crate::cli::x();\n#[cfg(test)]\nmod tests {\n    use crate::app;\n}\n";
    let source = source("dialer/pool.rs", text.to_owned());
    let found: Vec<String> = arrows(&source).into_iter().collect();
    assert_eq!(found, ["cli", "domain", "grpc", "store"]);
    assert!(
        may_know("dialer", "store") && may_know("cli", "simulator") && may_know("app", "callbacks")
    );
    for (from, to) in [
        ("store", "carrier"),
        ("grpc", "dialer"),
        ("dialer", "grpc"),
        ("callbacks", "grpc"),
        ("tasks", "webhooks"),
        ("domain", "store"),
        ("store", "config"),
        ("config", "store"),
        ("app", "cli"),
        ("progress", "simulator"),
    ] {
        assert!(!may_know(from, to), "{from} → {to}");
    }
    assert!(names("a::sqlx::b", "sqlx") && !names("sqlx_core my_sqlx", "sqlx"));
    assert!(
        arrows(&super::tidy::source("grpc/mod.rs", "use super::dialer;".to_owned()))
            .contains("dialer")
    );
}

/// The pages whose tables say which test holds what.
const PAGES_OF_TESTS: [&str; 2] = ["README.md", "docs/security.md"];

#[test]
fn tests_named_in_documents_exist() {
    let mut known = BTreeSet::new();
    for path in files("src", "rs").into_iter().chain(files("tests", "rs")) {
        let text = fs::read_to_string(&path).unwrap();
        let defined = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
        known.extend(defined.map(str::to_owned));
        known.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        known.extend(
            path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()),
        );
    }
    for page in PAGES_OF_TESTS {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
        let mut tests_are_last = false;
        let cells = text.lines().filter_map(|line| {
            let last = line.strip_suffix('|').and_then(|row| row.rsplit('|').next());
            tests_are_last &= last.is_some();
            tests_are_last |= last.is_some_and(|cell| cell.contains("tests"));
            last.filter(|_| tests_are_last)
        });
        let named = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
        let tests: Vec<&str> = named
            .filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
            .collect();
        assert!(tests.len() > 20, "{page} names hardly any test");
        none(
            "names a test that is not there",
            tests
                .iter()
                .filter(|name| !known.contains(**name))
                .map(|name| format!("{page}: {name}")),
        );
    }
}
