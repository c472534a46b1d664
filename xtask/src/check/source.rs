//! Rules about Rust source text that no lint covers.

use super::tree::{Text, Tree};
use crate::steps::Outcome;

/// Lines above which a file should be split; its tests module does not count.
const LONG: usize = 400;

/// Lines above which it must be.
const TOO_LONG: usize = 600;

/// Words that stand for missing work. Written in two parts so that this file does not match itself.
const STUBS: [(&str, &str); 3] = [("todo", "!("), ("unimplemented", "!("), ("#[ign", "ore")];

/// Words that stand for code the compiler cannot check, or for permission to write it.
const UNCHECKED: [(&str, &str); 5] = [
    ("unsafe", " {"),
    ("unsafe", " fn"),
    ("unsafe", " impl"),
    ("unsafe", " extern"),
    ("unsafe", "_code"),
];

/// Every file says what it is; nothing is unfinished; `unsafe` stays in `sys/`.
pub(crate) fn content(tree: &Tree) -> anyhow::Result<Outcome> {
    let files = tree.texts(&["rs"])?;
    Ok(Outcome::of(files.iter().flat_map(content_problems).collect()))
}

/// No file is too long.
pub(crate) fn length(tree: &Tree) -> anyhow::Result<Outcome> {
    let (mut notes, mut problems) = (Vec::new(), Vec::new());
    for file in tree.texts(&["rs"])? {
        if file.path.ends_with("/tests.rs") {
            continue;
        }
        let lines = lines_without_tests(&file.text);
        let text = format!("{}: {lines} lines without its tests", file.path);
        if lines > TOO_LONG {
            problems.push(format!("{text}; above {TOO_LONG} it must be split"));
        } else if lines > LONG {
            notes.push(format!("{text}; above {LONG} it should be split"));
        }
    }
    match problems.is_empty() {
        true => Ok(Outcome::Passed { notes }),
        false => Ok(Outcome::Failed { problems }),
    }
}

fn content_problems(file: &Text) -> Vec<String> {
    let mut problems = Vec::new();
    if !file.text.starts_with("//!") {
        problems.push(format!("{}: does not start with `//!` (what the file is for)", file.path));
    }
    for (number, line) in (1..).zip(file.text.lines()) {
        let code = line.split("//").next().unwrap_or_default();
        let has = |(a, b): &(&str, &str)| code.contains(&format!("{a}{b}"));
        if let Some((a, b)) = STUBS.iter().find(|stub| has(stub)) {
            problems.push(format!("{}:{number}: {a}{b} stands for missing work", file.path));
        }
        if !file.path.starts_with("sys/") && UNCHECKED.iter().any(has) {
            problems.push(format!("{}:{number}: unsafe code belongs in sys/", file.path));
        }
    }
    problems
}

fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
    });
    tests.unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> usize {
        content_problems(&Text { path: path.into(), text: text.into() }).len()
    }

    #[test]
    fn finds_what_is_forbidden() {
        assert_eq!(problems("a/src/x.rs", "//! Good.\nfn f() {}\n"), 0);
        assert_eq!(problems("a/src/x.rs", "fn f() {}\n"), 1);
        for (a, b) in STUBS.iter().chain(&UNCHECKED) {
            assert_eq!(problems("a/src/x.rs", &format!("//! X.\n    {a}{b}")), 1, "{a}{b}");
        }
    }

    #[test]
    fn comments_and_sys_may_speak_of_it() {
        let (a, b) = UNCHECKED[0];
        assert_eq!(problems("a/src/x.rs", &format!("//! X.\n// no {a}{b} here")), 0);
        assert_eq!(problems("sys/src/x.rs", &format!("//! X.\n{a}{b}")), 0);
    }

    #[test]
    fn the_tests_module_does_not_count() {
        assert_eq!(lines_without_tests("a\nb\n#[cfg(test)]\nmod tests {\n}\n"), 2);
        assert_eq!(lines_without_tests("a\n#[cfg(test)]\nmod tests;\n"), 3);
    }
}
