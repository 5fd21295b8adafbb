//! The modules of a crate: what each defines, imports and names, read from the tokens of its files.
//!
//! Code for tests alone is left out. What the reader can't place counts as code of its module: that
//! can only find an import too many.

use std::collections::{BTreeMap, BTreeSet};

use super::rust_file::{RustFile, Token, module_of};

/// A path, segment by segment, as it stands in the code.
pub(crate) type ModulePath = Vec<String>;

/// What introduces the name of an item.
const ITEM_KEYWORDS: &[&str] = &[
    "struct", "enum", "union", "trait", "type", "fn", "const", "static",
];

/// One module: a file's, or one inside a file.
pub(crate) struct Module {
    pub(crate) file: String,
    /// The names that it defines.
    pub(crate) items: BTreeSet<String>,
    pub(crate) imports: Vec<Import>,
    /// Every path of its code but for those in `use`, also of one segment.
    pub(crate) uses: Vec<Use>,
}

/// A path, and where it stands.
#[derive(Clone)]
pub(crate) struct Use {
    pub(crate) path: ModulePath,
    pub(crate) line: usize,
}

/// One name that a `use` brings in.
pub(crate) struct Import {
    pub(crate) what: Use,
    /// The name that it has here; `*` if it is all of them.
    pub(crate) name: String,
    /// Whether others may take it from here. That alone is no use of it.
    pub(crate) is_public: bool,
}

/// The modules of these files, by their paths from the root of the crate.
pub(crate) fn modules(files: &[RustFile]) -> BTreeMap<ModulePath, Module> {
    let mut modules = BTreeMap::new();
    let for_tests = files_for_tests(files);
    // What nobody can import, as it is another crate, and what is for tests alone.
    let is_left_out =
        |file: &&RustFile| file.path == "src/main.rs" || for_tests.contains(&module_of(&file.path));
    for file in files.iter().filter(|file| !is_left_out(file)) {
        let mut reader = Reader {
            file: &file.path,
            tokens: &file.tokens,
            at: 0,
            modules: &mut modules,
        };
        reader.module(
            module_of(&file.path)
                .into_iter()
                .map(str::to_owned)
                .collect(),
        );
    }
    modules
}

/// The modules whose files are for tests alone, as `#[cfg(test)] mod name;` says.
fn files_for_tests(files: &[RustFile]) -> BTreeSet<Vec<&str>> {
    let mut found = BTreeSet::new();
    for file in files {
        let texts: Vec<&str> = file
            .tokens
            .iter()
            .map(|token| token.text.as_str())
            .collect();
        for window in texts.windows(10) {
            if let ["#", "[", "cfg", "(", "test", ")", "]", "mod", name, ";"] = window {
                let mut path = module_of(&file.path);
                path.push(name);
                found.insert(path);
            }
        }
    }
    found
}

struct Reader<'a> {
    file: &'a str,
    tokens: &'a [Token],
    at: usize,
    modules: &'a mut BTreeMap<ModulePath, Module>,
}

impl<'a> Reader<'a> {
    /// The token that stands so many after the next one; empty behind the end.
    fn peek(&self, ahead: usize) -> &'a str {
        let token = self.tokens.get(self.at + ahead);
        token.map_or("", |token| token.text.as_str())
    }

    fn is_word(&self, ahead: usize) -> bool {
        let token = self.tokens.get(self.at + ahead);
        token.is_some_and(Token::is_word)
    }

    /// The token that stands so many before the next one; empty before the beginning.
    fn before(&self, back: usize) -> &'a str {
        let before = self.at.checked_sub(back).and_then(|at| self.tokens.get(at));
        before.map_or("", |token| token.text.as_str())
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |token| token.line)
    }

    /// Reads up to the brace that ends this module, or the end of the file.
    fn module(&mut self, path: ModulePath) {
        let mut module = Module {
            file: self.file.to_owned(),
            items: BTreeSet::new(),
            imports: Vec::new(),
            uses: Vec::new(),
        };
        let mut depth = 0_usize;
        while self.at < self.tokens.len() {
            match self.peek(0) {
                "#" if self.skip_tests() => continue,
                "mod" if self.peek(2) == "{" => {
                    let inner = [&path[..], &[self.peek(1).to_owned()]].concat();
                    self.at += 3;
                    self.module(inner);
                    continue;
                }
                "use" if self.peek(1) != "<" => {
                    let is_public = matches!(self.before(1), "pub" | ")");
                    self.at += 1;
                    self.import(&[], is_public, &mut module.imports);
                    continue;
                }
                "{" => depth += 1,
                "}" if depth == 0 => break,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                module.items.extend(self.item());
            }
            module.uses.extend(self.path());
        }
        self.at += 1; // the closing brace
        self.modules.insert(path, module);
    }

    /// The name of the item that begins here, if one does.
    fn item(&self) -> Option<String> {
        let name = match self.peek(0) {
            "macro_rules" if self.peek(1) == "!" => 2,
            keyword if ITEM_KEYWORDS.contains(&keyword) => 1,
            _ => return None,
        };
        self.is_word(name).then(|| self.peek(name).to_owned())
    }

    /// The path that begins here, if one does; reads on behind it, or else by one token.
    fn path(&mut self) -> Option<Use> {
        // A field or method, but not the end of a range; or the end of a path through a type.
        let is_begun = match self.before(1) {
            "." => self.before(2) != ".",
            before => before == "::",
        };
        let line = self.line();
        if !self.is_word(0) {
            self.at += 1;
            return None;
        }
        let mut path = vec![self.peek(0).to_owned()];
        self.at += 1;
        while self.peek(0) == "::" && self.is_word(1) {
            path.push(self.peek(1).to_owned());
            self.at += 2;
        }
        (!is_begun).then_some(Use { path, line })
    }

    /// Reads one tree of a `use`, with what ends it.
    fn import(&mut self, prefix: &[String], is_public: bool, imports: &mut Vec<Import>) {
        let line = self.line();
        let mut path = prefix.to_vec();
        let mut name = None;
        loop {
            match self.peek(0) {
                "" | ";" | "," | "}" => break,
                "{" => {
                    self.at += 1;
                    while !matches!(self.peek(0), "" | "}") {
                        self.import(&path, is_public, imports);
                        if self.peek(0) == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return self.end_of_use(prefix);
                }
                "*" => name = Some("*".to_owned()),
                "as" => {
                    name = Some(self.peek(1).to_owned());
                    self.at += 1;
                }
                "self" if !path.is_empty() => {} // the module itself
                word if self.is_word(0) => path.push(word.to_owned()),
                _ => {} // a separator
            }
            self.at += 1;
        }
        let name = name.or_else(|| path.last().cloned()).unwrap_or_default();
        imports.push(Import {
            what: Use { path, line },
            name,
            is_public,
        });
        self.end_of_use(prefix);
    }

    /// The semicolon, unless this tree is inside of another one.
    fn end_of_use(&mut self, prefix: &[String]) {
        if prefix.is_empty() && self.peek(0) == ";" {
            self.at += 1;
        }
    }

    /// Skips what `#[cfg(test)]` stands before, if it does here and before something that ends with
    /// braces or a semicolon.
    fn skip_tests(&mut self) -> bool {
        const CFG_TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
        if !(0..)
            .zip(CFG_TEST)
            .all(|(ahead, text)| self.peek(ahead) == text)
        {
            return false;
        }
        let start = self.at;
        self.at += CFG_TEST.len();
        while self.peek(0) == "#" {
            self.at += 1;
            self.skip_to_end(&["]"]);
        }
        if self.peek(0) == "pub" {
            self.at += 1;
            if self.peek(0) == "(" {
                self.skip_to_end(&[")"]);
            }
        }
        match self.peek(0) {
            "use" | "const" | "static" | "type" => self.skip_to_end(&[";"]),
            "mod" | "fn" | "impl" | "struct" | "enum" | "trait" => self.skip_to_end(&[";", "}"]),
            _ => {
                self.at = start;
                return false;
            }
        }
        true
    }

    /// Reads up to and with the first of these that is outside of all brackets that open here.
    fn skip_to_end(&mut self, ends: &[&str]) {
        let mut depth = 0_usize;
        while self.at < self.tokens.len() {
            let text = self.peek(0);
            match text {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            let is_end = depth == 0 && ends.contains(&text);
            self.at += 1;
            if is_end {
                return;
            }
        }
    }
}
