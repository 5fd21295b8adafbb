//! A Rust file, cut up for the rules: what is code, comment or literal, and which names it uses.
//!
//! It knows as much of the grammar as it takes to be right about that, for files that compile.

/// What a character of a Rust file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Code,
    Comment,
    /// A string or character literal, with its quotes.
    Literal,
}

pub(crate) struct Line {
    pub(crate) chars: Vec<char>,
    pub(crate) parts: Vec<Part>,
}

impl Line {
    /// The line with everything but `part` blanked.
    pub(crate) fn only(&self, part: Part) -> String {
        let blanked = |(&c, &its): (&char, &Part)| if its == part { c } else { ' ' };
        self.chars.iter().zip(&self.parts).map(blanked).collect()
    }
}

/// One word or punctuation mark of code.
pub(crate) struct Token {
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Token {
    pub(crate) fn is_word(&self) -> bool {
        self.text.starts_with(is_word_char)
    }
}

/// A Rust file, cut up for the rules. Line numbers start at 1.
pub(crate) struct RustFile {
    pub(crate) path: String,
    pub(crate) lines: Vec<Line>,
    pub(crate) tokens: Vec<Token>,
    /// The first line of the tests at the file's end; 1 if the file holds nothing else.
    pub(crate) tests_from: usize,
}

impl RustFile {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let lines = cut(text);
        let tokens = tokens(&lines);
        let only_tests = path.ends_with("/tests.rs") || path.contains("/tests/");
        let tests_from = if only_tests {
            1
        } else {
            inline_tests(&tokens).unwrap_or(lines.len() + 1)
        };
        Self {
            path: path.to_owned(),
            lines,
            tokens,
            tests_from,
        }
    }

    pub(crate) fn numbered(&self) -> impl Iterator<Item = (usize, &Line)> {
        (1..).zip(&self.lines)
    }

    /// The lines before the tests.
    pub(crate) fn code_lines(&self) -> impl Iterator<Item = (usize, &Line)> {
        self.numbered()
            .take_while(|(line, _)| *line < self.tests_from)
    }

    pub(crate) fn is_in(&self, homes: &[&str]) -> bool {
        let is_home = |home: &&str| {
            self.path == *home || (home.ends_with('/') && self.path.starts_with(*home))
        };
        homes.iter().any(is_home)
    }

    /// Every path and word of the code, `use` groups expanded, `self` and `super` resolved.
    pub(crate) fn names(&self) -> Vec<(usize, String)> {
        let mut names = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            at = read_name(&self.tokens, at, "", &mut names);
        }
        let module = module_of(&self.path);
        names
            .into_iter()
            .map(|(line, name)| (line, resolve(&name, &module)))
            .collect()
    }
}

pub(crate) fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn cut(text: &str) -> Vec<Line> {
    let chars: Vec<char> = text.chars().collect();
    let parts = parts(&chars);
    let mut lines = Vec::new();
    let mut start = 0;
    for line in chars.split(|&c| c == '\n') {
        let end = start + line.len();
        lines.push(Line {
            chars: line.to_vec(),
            parts: parts[start..end].to_vec(),
        });
        start = end + 1;
    }
    if text.ends_with('\n') || text.is_empty() {
        lines.pop(); // what follows the last line break is not a line
    }
    lines
}

fn parts(chars: &[char]) -> Vec<Part> {
    let mut parts = Vec::with_capacity(chars.len());
    while parts.len() < chars.len() {
        let rest = &chars[parts.len()..];
        let (part, length) = match rest {
            ['/', '/', ..] => (Part::Comment, length_until(rest, &['\n'])),
            ['/', '*', ..] => (Part::Comment, block_comment_length(rest)),
            ['"', ..] => (Part::Literal, string_length(rest)),
            ['r', '"' | '#', ..] => raw_string(rest),
            ['\'', '\\', _, after @ ..] => (Part::Literal, 3 + length_until(after, &['\'']) + 1),
            ['\'', _, '\'', ..] => (Part::Literal, 3),
            _ => (Part::Code, 1), // a quote that comes here starts a lifetime
        };
        parts.resize(chars.len().min(parts.len() + length), part);
    }
    parts
}

/// How many characters come before `end`, or before the end of the file.
fn length_until(chars: &[char], end: &[char]) -> usize {
    chars
        .windows(end.len())
        .position(|window| window == end)
        .unwrap_or(chars.len())
}

fn block_comment_length(chars: &[char]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < chars.len() {
        match &chars[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_length(chars: &[char]) -> usize {
    let mut at = 1;
    while let Some(c) = chars.get(at) {
        match c {
            '"' => return at + 1,
            '\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

fn raw_string(chars: &[char]) -> (Part, usize) {
    let hashes = chars[1..].iter().take_while(|&&c| c == '#').count();
    let opening = 1 + hashes + 1;
    if chars.get(opening - 1) != Some(&'"') {
        return (Part::Code, 1); // a raw identifier
    }
    let mut closing = vec!['"'];
    closing.resize(1 + hashes, '#');
    (
        Part::Literal,
        opening + length_until(&chars[opening..], &closing) + closing.len(),
    )
}

fn tokens(lines: &[Line]) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (line, content) in (1..).zip(lines) {
        let code = content.only(Part::Code);
        let mut rest = code.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if is_word_char(first) {
                rest.find(|c| !is_word_char(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            let (text, after) = rest.split_at(length);
            tokens.push(Token {
                line,
                text: text.to_owned(),
            });
            rest = after.trim_start();
        }
    }
    tokens
}

/// The line of the first `#[cfg(test)] mod … {`. A test module in its own file does not count:
/// code may follow its declaration.
fn inline_tests(tokens: &[Token]) -> Option<usize> {
    const CFG_TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let is_test_module = |start: &usize| {
        let here = &tokens[*start..];
        let is_for_tests = here.len() >= CFG_TEST.len()
            && here
                .iter()
                .zip(CFG_TEST)
                .all(|(token, expected)| token.text == expected);
        is_for_tests && opens_module(after_attributes(here))
    };
    (0..tokens.len())
        .find(is_test_module)
        .map(|start| tokens[start].line)
}

fn opens_module(tokens: &[Token]) -> bool {
    matches!(tokens, [keyword, _, brace, ..] if keyword.text == "mod" && brace.text == "{")
}

fn after_attributes(mut tokens: &[Token]) -> &[Token] {
    while tokens.first().is_some_and(|token| token.text == "#") {
        let mut depth = 0_usize;
        let closing = tokens.iter().position(|token| {
            match token.text.as_str() {
                "[" => depth += 1,
                "]" => depth -= 1,
                _ => {}
            }
            depth == 0 && token.text == "]"
        });
        tokens = closing.map_or(&[], |at| &tokens[at + 1..]);
    }
    tokens
}

/// Reads the path that starts at `at`, if one does, and returns where to read on.
fn read_name(
    tokens: &[Token],
    mut at: usize,
    before: &str,
    names: &mut Vec<(usize, String)>,
) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let Some(first) = tokens.get(at).filter(|token| token.is_word()) else {
        return at + 1;
    };
    let separator = if before.is_empty() { "" } else { "::" };
    let mut name = format!("{before}{separator}{}", first.text);
    at += 1;
    while text(at) == "::" && tokens.get(at + 1).is_some_and(Token::is_word) {
        name = format!("{name}::{}", text(at + 1));
        at += 2;
    }
    if text(at) == "::" && text(at + 1) == "{" {
        at += 2;
        while at < tokens.len() && text(at) != "}" {
            at = read_name(tokens, at, &name, names);
        }
        at += 1;
    }
    names.push((first.line, name));
    at
}

/// `src/engine/graph.rs` is the module `engine::graph`.
pub(crate) fn module_of(path: &str) -> Vec<&str> {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    inner
        .split('/')
        .filter(|part| !matches!(*part, "lib" | "main"))
        .collect()
}

/// Makes a path absolute. It does not follow modules inside a file: in them, a `super` goes one too
/// far.
fn resolve(name: &str, module: &[&str]) -> String {
    if !name.starts_with("super::") && !name.starts_with("self::") {
        return name.to_owned();
    }
    let mut path: Vec<&str> = module.to_vec();
    for part in name.split("::") {
        match part {
            "self" => {}
            "super" => drop(path.pop()),
            _ => path.push(part),
        }
    }
    format!("crate::{}", path.join("::"))
}

mod self_test {
    use super::*;

    fn code(text: &str) -> String {
        let lines: Vec<String> = cut(text).iter().map(|line| line.only(Part::Code)).collect();
        lines
            .join("\n")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        assert_eq!(code("a // b\nc /* d /* e */ f */ g"), "a c g");
        assert_eq!(
            code(r#"a("b \" c", 'd', '\'', '"', '\u{1F600}') "#),
            "a( , , , , )"
        );
        assert_eq!(code("a(r\"b\\\", c, br##\"d \"# e\"##) f"), "a( , c, b ) f");
        assert_eq!(code("fn a<'b>(c: &'b r#type) -> &'static str {}"), {
            "fn a<'b>(c: &'b r#type) -> &'static str {}"
        });
        assert_eq!(code("let a = \"b\n c // d\"; e"), "let a = ; e");
    }

    #[test]
    fn unclosed_comments_and_literals_end_with_the_file() {
        for text in [
            "a /* b",
            "a \"b",
            "a \"b\\",
            "a r#\"b\"",
            "a '\\",
            "a '",
            "a '\\n",
        ] {
            assert!(code(text).starts_with('a'), "{text}");
        }
    }
}
