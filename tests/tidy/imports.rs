//! Which file uses what another one defines, and the circles among them.
//!
//! A file uses another if a path in its code, followed through re-exports and renames, ends at a
//! name that the other defines. To re-export a name is not to use it. What needs no path can't be
//! seen: a method that another file adds to a type, and what a macro writes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use super::modules::{Module, ModulePath, Use, modules};
use super::rust_file::RustFile;

/// A path of this crate at whose end nothing was found: what the rule would not see.
pub(crate) struct Unresolved {
    pub(crate) file: String,
    pub(crate) what: Use,
}

/// The names by which one file is tied to another, with the first line that has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tie {
    pub(crate) line: usize,
    names: BTreeSet<String>,
}

/// From a file to each that it uses.
#[derive(Default)]
pub(crate) struct Imports(BTreeMap<String, BTreeMap<String, Tie>>);

/// Files of which each uses the next, and the last one the first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Circle(Vec<String>);

/// Where a path leads.
enum Found {
    Item {
        file: String,
        name: String,
    },
    Module(ModulePath),
    /// To another crate, or to a name of a function's own.
    Outside,
    Nothing,
}

impl Imports {
    pub(crate) fn of(files: &[RustFile]) -> (Self, Vec<Unresolved>) {
        let tree = Tree(modules(files));
        let mut imports = Self::default();
        let mut unresolved = Vec::new();
        for (path, module) in &tree.0 {
            let taken = module.imports.iter().filter(|import| !import.is_public);
            let uses = taken.map(|import| &import.what).chain(&module.uses);
            for what in uses {
                match tree.find(path, &what.path, &mut BTreeSet::new()) {
                    Found::Item { file, name } => imports.add(&module.file, file, name, what.line),
                    Found::Module(_) | Found::Outside => {}
                    Found::Nothing => unresolved.push(Unresolved {
                        file: module.file.clone(),
                        what: what.clone(),
                    }),
                }
            }
        }
        (imports, unresolved)
    }

    fn add(&mut self, from: &str, to: String, name: String, line: usize) {
        if from == to {
            return;
        }
        let names = BTreeSet::new();
        let ties = self.0.entry(from.to_owned()).or_default();
        let tie = ties.entry(to).or_insert(Tie { line, names });
        tie.line = tie.line.min(line);
        tie.names.insert(name);
    }

    /// For each file that is on a circle, a shortest one; each circle once.
    pub(crate) fn circles(&self) -> BTreeSet<Circle> {
        let circles = self.0.keys().filter_map(|file| self.circle(file));
        circles.collect()
    }

    /// A shortest way from a file back to it.
    fn circle(&self, start: &str) -> Option<Circle> {
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut next = VecDeque::from([start]);
        while let Some(file) = next.pop_front() {
            for used in self.0.get(file).into_iter().flat_map(BTreeMap::keys) {
                if used == start {
                    let mut circle = vec![file];
                    while let Some(before) = circle.last().and_then(|last| came_from.get(last)) {
                        circle.push(before);
                    }
                    return Some(Circle::new(circle));
                }
                if !came_from.contains_key(used.as_str()) {
                    came_from.insert(used, file);
                    next.push_back(used);
                }
            }
        }
        None
    }

    /// What ties each file of a circle to the next.
    pub(crate) fn ties<'a>(&'a self, circle: &'a Circle) -> Vec<(&'a str, &'a str, &'a Tie)> {
        let files = circle.0.iter();
        let pairs = files.zip(circle.0.iter().cycle().skip(1));
        pairs
            .map(|(from, to)| (from.as_str(), to.as_str(), &self.0[from][to]))
            .collect()
    }
}

impl Circle {
    /// From its files in reverse. It begins with the first of them in the order of names, so that
    /// one circle is the same from wherever it was found.
    fn new(files: Vec<&str>) -> Self {
        let mut files: Vec<String> = files.into_iter().rev().map(str::to_owned).collect();
        let first = (0..files.len()).min_by_key(|&at| &files[at]);
        files.rotate_left(first.unwrap_or(0));
        Self(files)
    }
}

impl fmt::Display for Tie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.names.iter().map(|name| format!("`{name}`")).collect();
        f.write_str(&names.join(", "))
    }
}

/// The modules of the crate, by their paths.
struct Tree(BTreeMap<ModulePath, Module>);

impl Tree {
    /// Where a path leads that stands in this module. `seen` holds the names that are being looked
    /// for, as imports may refer to each other.
    fn find(
        &self,
        module: &[String],
        path: &[String],
        seen: &mut BTreeSet<(ModulePath, String)>,
    ) -> Found {
        let mut start = module;
        let mut rest = path;
        while let Some((first, after)) = rest.split_first() {
            start = match first.as_str() {
                "crate" => &[],
                "self" => start,
                "super" => start.split_last().map_or(start, |(_, above)| above),
                _ => break,
            };
            rest = after;
        }
        let is_ours = rest.len() < path.len() || self.knows(start, &rest[0]);
        let found = self.descend(start, rest, seen);
        if matches!(found, Found::Nothing) && !is_ours {
            return Found::Outside; // a crate, a name of the prelude, a parameter, a variable
        }
        found
    }

    /// Whether a module says itself what this name is.
    fn knows(&self, path: &[String], name: &String) -> bool {
        let is_known = |module: &Module| {
            let is_imported = module.imports.iter().any(|import| import.name == *name);
            is_imported || module.items.contains(name)
        };
        let child = [path, std::slice::from_ref(name)].concat();
        self.0.contains_key(&child) || self.0.get(path).is_some_and(is_known)
    }

    fn descend(
        &self,
        path: &[String],
        rest: &[String],
        seen: &mut BTreeSet<(ModulePath, String)>,
    ) -> Found {
        let Some((name, after)) = rest.split_first() else {
            return Found::Module(path.to_vec());
        };
        let Some(module) = self.0.get(path) else {
            return Found::Nothing;
        };
        let child = [path, std::slice::from_ref(name)].concat();
        let is_module = self.0.contains_key(&child);
        // One name may be that of a module and of a function: the last segment names no module.
        if module.items.contains(name) && (after.is_empty() || !is_module) {
            return Found::Item {
                file: module.file.clone(),
                name: name.clone(),
            };
        }
        if is_module {
            return self.descend(&child, after, seen);
        }
        if !seen.insert((path.to_vec(), name.clone())) {
            return Found::Outside; // `use anyhow::anyhow;`: only a crate can begin its own name
        }
        let found = self.import(path, module, rest, seen);
        seen.remove(&(path.to_vec(), name.clone()));
        found
    }

    /// Follows what this module imports under the first name of `rest`.
    fn import(
        &self,
        path: &[String],
        module: &Module,
        rest: &[String],
        seen: &mut BTreeSet<(ModulePath, String)>,
    ) -> Found {
        let mut imports = module.imports.iter();
        let by_name = imports.find(|import| import.name == rest[0]);
        let globs = module.imports.iter().filter(|import| import.name == "*");
        if let Some(import) = by_name {
            return match self.find(path, &import.what.path, seen) {
                Found::Module(target) => self.descend(&target, &rest[1..], seen),
                found @ (Found::Item { .. } | Found::Outside | Found::Nothing) => found,
            };
        }
        for import in globs {
            // Of an enum's variants nothing is known here: the import itself is what uses its file.
            let Found::Module(target) = self.find(path, &import.what.path, seen) else {
                continue;
            };
            let found = self.descend(&target, rest, seen);
            if matches!(found, Found::Item { .. } | Found::Module(_)) {
                return found;
            }
        }
        Found::Nothing
    }
}

mod self_test {
    use super::*;

    /// The circles and the paths that lead nowhere in a tree of these files.
    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let root = ("lib", "mod all;");
        let files: Vec<RustFile> = std::iter::once(&root)
            .chain(files)
            .map(|(path, text)| RustFile::new(&format!("src/{path}.rs"), text))
            .collect();
        let (imports, unresolved) = Imports::of(&files);
        let circles = imports.circles();
        let circles = circles.iter().map(|circle| {
            let ties = imports.ties(circle);
            let ties = ties
                .iter()
                .map(|(from, _, tie)| format!("{from}:{} {tie}", tie.line));
            ties.collect::<Vec<_>>().join(" -> ")
        });
        let unresolved = unresolved.iter().map(|found| {
            let path = found.what.path.join("::");
            format!("{}:{} nothing at {path}", found.file, found.what.line)
        });
        unresolved.chain(circles).collect()
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn two_files_that_use_each_other_are_found() {
        let a = ("a", "use crate::b::B;\npub struct A(B);");
        let ways_back = [
            "use crate::a::A;",
            "use crate::{a::{A}};",
            "use super::a::A as Other;",
            "use crate::a;\nfn f() -> a::A {}",
            "fn f() { g::<crate::a::A>() }",
            "fn f() { use crate::a::A; }",
            "use crate::a::*;\nfn f(a: A) {}",
            "use crate::a as c;\nfn f(a: c::A) {}",
            "use crate::a::{self as c};\nfn f(a: c::A) {}",
            "mod inner { use super::super::a::A; }",
            "fn f() { 0..crate::a::A }",
            "macro_rules! m { () => { $crate::a::A } }",
            "#[cfg(test)]\nmod tests {}\nuse crate::a::A;",
            "#[cfg(test)]\nuse crate::c::C;\nuse crate::a::A;",
        ];
        for way in ways_back {
            let b = format!("pub struct B;\n{way}");
            let lines: Vec<String> = found(&[a, ("b", &b)]);
            let [circle] = &lines[..] else {
                panic!("{way}: {lines:?}")
            };
            assert!(
                circle.starts_with("src/a.rs:1 `B` -> src/b.rs:"),
                "{circle}"
            );
            assert!(circle.ends_with(" `A`"), "{circle}");
        }
    }

    #[test]
    fn a_circle_through_a_reexport_is_found() {
        let files = [
            ("front", "mod back;\npub use self::back::{Back as Renamed};"),
            ("front/back", "use crate::user::User;\npub struct Back;"),
            ("user", "use crate::front::Renamed;\npub struct User;"),
        ];
        assert_eq!(
            found(&files),
            ["src/front/back.rs:1 `User` -> src/user.rs:1 `Back`"]
        );
        // Also where all names are handed on.
        let front = ("front", "mod back;\npub use self::back::*;");
        let user = ("user", "use crate::front::Back;\npub struct User;");
        assert_eq!(
            found(&[front, files[1], user]),
            ["src/front/back.rs:1 `User` -> src/user.rs:1 `Back`"]
        );
    }

    #[test]
    fn a_function_of_a_modules_name_does_not_hide_it() {
        let files = [
            ("a", "use crate::b::parse::P;\npub struct A;"),
            ("b", "pub mod parse;\npub fn parse() {}"),
            ("b/parse", "use crate::a::A;\npub struct P;"),
        ];
        assert_eq!(found(&files), ["src/a.rs:1 `P` -> src/b/parse.rs:1 `A`"]);
    }

    #[test]
    fn a_child_that_reaches_up_to_its_parents_constant_is_found() {
        let child = ("a/child", "use super::MAX;\npub fn f() { MAX }");
        let uses_it = (
            "a",
            "mod child;\npub const MAX: u8 = 1;\nfn g() { child::f() }",
        );
        assert_eq!(
            found(&[uses_it, child]),
            ["src/a.rs:3 `f` -> src/a/child.rs:1 `MAX`"]
        );
        let uses_what_it_hands_on = (
            "a",
            "mod child;\npub use self::child::f;\nconst MAX: u8 = 1;\nfn g() { f() }",
        );
        assert_eq!(
            found(&[uses_what_it_hands_on, child]),
            ["src/a.rs:4 `f` -> src/a/child.rs:1 `MAX`"]
        );
    }

    #[test]
    fn a_longer_circle_is_found_once_and_beside_others() {
        let files = [
            ("a", "use crate::b::B;\npub struct A;"),
            ("b", "use crate::c::C;\npub struct B;"),
            ("c", "use crate::d::D;\npub struct C;"),
            ("d", "use crate::a::A;\nuse crate::e::E;\npub struct D;"),
            ("e", "use crate::d::D;\npub struct E;"),
        ];
        assert_eq!(
            found(&files),
            [
                "src/a.rs:1 `B` -> src/b.rs:1 `C` -> src/c.rs:1 `D` -> src/d.rs:1 `A`",
                "src/d.rs:2 `E` -> src/e.rs:1 `D`",
            ]
        );
    }

    #[test]
    fn a_path_that_leads_nowhere_is_found() {
        for text in [
            "use crate::gone::Gone;",
            "use super::b::Gone;",
            "use crate::b;\nfn f() { b::gone() }",
            "mod inner { pub struct A; }\nfn f() { inner::Gone }",
        ] {
            let all = found(&[("a", text), ("b", "pub struct B;")]);
            assert!(
                matches!(&all[..], [one] if one.contains("nothing at")),
                "{text}: {all:?}"
            );
        }
    }

    #[test]
    fn harmless_shapes_are_no_circles() {
        let trees: &[&[(&str, &str)]] = &[
            // A parent that hands on what its child defines, but does not use it.
            &[
                (
                    "a",
                    "mod child;\npub use self::child::Child;\npub const MAX: u8 = 1;",
                ),
                ("a/child", "use super::MAX;\npub struct Child;"),
            ],
            // A parent and child that both use a sibling; siblings by way of their parent.
            &[
                (
                    "a",
                    "mod child;\nmod limits;\nuse limits::MAX;\nuse child::f;",
                ),
                ("a/child", "use super::limits::MAX;\npub fn f() {}"),
                ("a/limits", "pub const MAX: u8 = 1;"),
            ],
            // A child that takes from its parent what comes from elsewhere.
            &[
                ("a", "mod child;\nuse crate::b::B;\nfn g() { child::f() }"),
                ("a/child", "use super::B;\npub fn f() {}"),
                ("b", "pub struct B;"),
            ],
            // Modules inside a file, and what tests import.
            &[
                (
                    "a",
                    "mod inner { use super::A; pub fn f() {} }\nuse inner::f;\npub struct A;",
                ),
                (
                    "b",
                    "use crate::a::A;\npub struct B;\n#[cfg(test)]\nmod tests { use crate::c::C; }",
                ),
                (
                    "c",
                    "use crate::b::B;\npub struct C;\n#[cfg(test)]\nfn f() { crate::d::D }",
                ),
                (
                    "d",
                    "use crate::c::C;\npub struct D;\n#[cfg(test)]\nmod tests;",
                ),
                ("d/tests", "use crate::e::E;"),
                ("e", "use crate::d::D;\npub struct E;"),
            ],
            // Other crates, also where a module or what is imported has the name of one.
            &[
                (
                    "config",
                    "use anyhow::{Result, anyhow};\nuse config::Config;\nfn f() -> anyhow::Result {}",
                ),
                (
                    "serde",
                    "use crate::config::f;\nfn g() { ::serde::f(); x.f(); std::fmt::f() }",
                ),
            ],
            // Names in comments and texts, fields, methods and associated items.
            &[
                ("a", "use crate::b::B;\npub struct A { b: B }"),
                (
                    "b",
                    "pub struct B { a: u8 }\n/// [`crate::a::A`]\nfn f() { g(\"crate::a::A\"); b.A(); B::A }",
                ),
            ],
        ];
        for tree in trees {
            assert_eq!(found(tree), NONE, "{tree:?}");
        }
    }

    #[test]
    fn the_variants_of_an_enum_belong_to_its_file() {
        let files = [
            ("a", "pub enum A { One }\nuse crate::b::B;"),
            ("b", "use crate::a::A::*;\npub struct B;\nfn f() { One }"),
        ];
        assert_eq!(found(&files), ["src/a.rs:2 `B` -> src/b.rs:1 `A`"]);
    }
}
