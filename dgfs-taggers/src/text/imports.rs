//! What source code imports, line by line.
//!
//! Never parses a language: an import in a string that spans lines is taken for one, an import made at run time is not
//! seen. That is right for finding related files and wrong for building them.

use crate::findings::{Findings, LinkKind};

/// Lines that are looked at: imports stand near the top, and generated files are long.
const LINES_MAX: usize = 20_000;
/// Bytes of a line that can be an import; longer ones are data.
const LINE_BYTES_MAX: usize = 1000;

/// Adds the imports of `source` as links.
pub(crate) fn of(source: &str, lang: &str, out: &mut Findings) {
    let mut block = None;
    for line in source.lines().take(LINES_MAX).filter(|line| line.len() <= LINE_BYTES_MAX) {
        let line = line.trim();
        match lang {
            "go" => go(line, &mut block, out),
            _ => one(line, lang, out),
        }
    }
}

fn one(line: &str, lang: &str, out: &mut Findings) {
    match lang {
        "rust" => rust(line, out),
        "python" | "starlark" => python(line, out),
        "javascript" | "typescript" | "vue" | "svelte" | "coffeescript" => javascript(line, out),
        "c" | "cpp" | "objective-c" | "glsl" => include(line, out),
        "java" | "kotlin" | "scala" | "groovy" | "d" => {
            statement(line, &["import static ", "import "], &[';', ' ', '{', ':'], out);
        }
        "csharp" => statement(line, &["global using ", "using static ", "using "], &[';', '(', '='], out),
        "fsharp" => statement(line, &["open "], &[' '], out),
        "swift" => statement(line, &["@testable import ", "import "], &[' '], out),
        "haskell" => statement(line, &["import qualified ", "import "], &[' ', '('], out),
        "elixir" => statement(line, &["import ", "alias ", "use ", "require "], &[' ', ',', '{'], out),
        "perl" => statement(line, &["use ", "require "], &[' ', ';'], out),
        "julia" => statement(line, &["using ", "import "], &[' ', ':', ','], out),
        "nim" => statement(line, &["import ", "from "], &[' ', ','], out),
        "protobuf" | "solidity" | "dart" => quoted_after(line, &["import ", "export ", "part "], out),
        "scss" | "less" | "css" => quoted_after(line, &["@import ", "@use ", "@forward "], out),
        "ruby" => quoted_after(line, &["require ", "require_relative ", "load "], out),
        "lua" | "zig" => called(line, &["require", "@import"], out),
        "r" => called(line, &["library", "require"], out),
        "php" => {
            quoted_after(line, &["require", "require_once", "include", "include_once"], out);
            statement(line, &["use "], &[' ', ';', '{'], out);
        }
        "shell" => statement(line, &["source ", ". "], &[' ', ';'], out),
        "tex" => called_with_braces(line, &["\\usepackage", "\\input", "\\include"], out),
        _ => {}
    }
}

fn add(target: &str, out: &mut Findings) {
    let target = target.trim().trim_matches(['"', '\'', '`']);
    let is_name = !target.is_empty() && !target.contains(|letter: char| letter.is_control() || letter == '$');
    if is_name && target.chars().any(char::is_alphanumeric) {
        out.link(LinkKind::Import, target);
    }
}

fn rust(line: &str, out: &mut Findings) {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
    if let Some(path) = line.strip_prefix("use ") {
        let end = path.find(['{', ';', '*']).unwrap_or(path.len());
        let path = path.get(..end).unwrap_or_default();
        let path = path.split(" as ").next().unwrap_or_default();
        add(path.trim().trim_end_matches(':').trim_start_matches("::"), out);
    } else {
        statement(line, &["extern crate ", "mod "], &[';', ' '], out);
    }
}

fn python(line: &str, out: &mut Findings) {
    if let Some(rest) = line.strip_prefix("from ") {
        if let Some((module, _)) = rest.split_once(" import") {
            add(module, out);
        }
    } else if let Some(rest) = line.strip_prefix("import ") {
        let rest = rest.split('#').next().unwrap_or_default();
        for module in rest.split(',').take(32) {
            let module = module.split_whitespace().next().unwrap_or_default();
            if module.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '.')) {
                add(module, out);
            }
        }
    } else if let Some(rest) = line.strip_prefix("load(") {
        add(first_quoted(rest).unwrap_or_default(), out);
    }
}

fn javascript(line: &str, out: &mut Findings) {
    let is_import = ["import ", "import{", "import\"", "import'", "export "].iter().any(|word| line.starts_with(word));
    let from = line.rsplit_once(" from ").or_else(|| line.rsplit_once("}from")).map(|(_, rest)| rest);
    if let Some(rest) = from.filter(|_| is_import || line.starts_with('}')) {
        add(first_quoted(rest).unwrap_or_default(), out);
    } else if line.starts_with("import") {
        add(first_quoted(line).unwrap_or_default(), out);
    }
    called(line, &["require"], out);
    if let Some((_, rest)) = line.split_once("import(") {
        add(first_quoted(rest).unwrap_or_default(), out);
    }
}

fn include(line: &str, out: &mut Findings) {
    let Some(rest) = line.strip_prefix('#').map(str::trim_start) else { return };
    let Some(rest) = rest.strip_prefix("include").or_else(|| rest.strip_prefix("import")) else { return };
    let rest = rest.trim_start();
    let angled = rest.strip_prefix('<').and_then(|rest| rest.split_once('>')).map(|(path, _)| path);
    add(angled.or_else(|| first_quoted(rest)).unwrap_or_default(), out);
}

/// `import "x"`, or a block of such lines in parentheses.
fn go(line: &str, block: &mut Option<()>, out: &mut Findings) {
    match (block.is_some(), line) {
        (true, _) if line.starts_with(')') => *block = None,
        (true, _) => add(first_quoted(line).unwrap_or_default(), out),
        (false, _) if line.starts_with("import (") => *block = Some(()),
        (false, _) if line.starts_with("import ") => add(first_quoted(line).unwrap_or_default(), out),
        (false, _) => {}
    }
}

/// What follows one of `words` at the line's beginning, up to one of `ends`.
fn statement(line: &str, words: &[&str], ends: &[char], out: &mut Findings) {
    let Some(rest) = words.iter().find_map(|word| line.strip_prefix(word)) else { return };
    let rest = rest.trim_start();
    let end = rest.find(ends).unwrap_or(rest.len());
    add(rest.get(..end).unwrap_or_default(), out);
}

fn quoted_after(line: &str, words: &[&str], out: &mut Findings) {
    let rest = words.iter().find_map(|word| line.strip_prefix(word));
    if let Some(quoted) = rest.and_then(first_quoted) {
        add(quoted, out);
    }
}

/// `word("x")` or `word(x)` anywhere in the line, once.
fn called(line: &str, words: &[&str], out: &mut Findings) {
    for word in words {
        let Some((before, rest)) = line.split_once(word) else { continue };
        let is_part_of_a_name = before.ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
        let rest = rest.trim_start();
        let inside = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map(|(inside, _)| inside.trim());
        if is_part_of_a_name {
            continue;
        }
        if let Some(name) = inside.or_else(|| first_quoted(rest).filter(|_| rest.starts_with(['"', '\'']))) {
            add(first_quoted(name).unwrap_or(name), out);
        }
    }
}

fn called_with_braces(line: &str, words: &[&str], out: &mut Findings) {
    let Some(rest) = words.iter().find_map(|word| line.strip_prefix(word)) else { return };
    if let Some((inside, _)) = rest.split_once('{').and_then(|(_, rest)| rest.split_once('}')) {
        for name in inside.split(',').take(32) {
            add(name, out);
        }
    }
}

/// What stands in the first quotes.
fn first_quoted(text: &str) -> Option<&str> {
    let start = text.find(['"', '\'', '`'])?;
    let quote = text.get(start..)?.chars().next()?;
    let inside = text.get(start + 1..)?;
    inside.split_once(quote).map(|(quoted, _)| quoted)
}

#[cfg(test)]
mod tests {
    use super::of;
    use crate::findings::Findings;

    fn imports(lang: &str, source: &str) -> Vec<String> {
        let mut out = Findings::default();
        of(source, lang, &mut out);
        out.links.into_iter().map(|link| link.target).collect()
    }

    #[test]
    fn each_language_names_its_imports() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("rust", "use std::io::{self, Read};\npub use a::b as c;\nmod x;\nlet y = 1;", &["std::io", "a::b", "x"]),
            ("python", "import os, sys as s # c\nfrom .a import b\nimportant = 1", &["os", "sys", ".a"]),
            ("javascript", "import a from './a.js';\nconst b = require('b');\nimport 'c'\n", &["./a.js", "b", "c"]),
            ("c", "#include <stdio.h>\n# include \"a/b.h\"\nint x;", &["stdio.h", "a/b.h"]),
            ("go", "import (\n\t\"fmt\"\n\tx \"a/b\"\n)\nimport \"os\"\nvar s = \"no\"", &["fmt", "a/b", "os"]),
            ("java", "import static a.B.c;\nimport java.util.List;", &["a.B.c", "java.util.List"]),
            ("ruby", "require 'json'\nrequire_relative \"x\"", &["json", "x"]),
            ("lua", "local m = require(\"a.b\")", &["a.b"]),
            ("haskell", "import qualified Data.Map as M", &["Data.Map"]),
            ("tex", "\\usepackage[utf8]{inputenc,amsmath}", &["inputenc", "amsmath"]),
            ("shell", "source ./env.sh\necho .", &["./env.sh"]),
            ("cobol", "import x", &[]),
        ];
        for (lang, source, expected) in cases {
            assert_eq!(imports(lang, source), *expected, "{lang}");
        }
    }
}
