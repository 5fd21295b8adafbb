//! One line of doctor's report: a check, how it ended, and what to do.

use std::fmt::{self, Display};

use strum::IntoStaticStr;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(super) enum Verdict {
    /// It is as it should be.
    Ok,
    /// It works, but not well, or not for long.
    Warn,
    /// It does not work.
    Fail,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) verdict: Verdict,
    check: &'static str,
    /// What was found, and unless that is good, what to do.
    pub(super) text: String,
}

impl Line {
    fn new(verdict: Verdict, check: &'static str, text: impl Display) -> Self {
        // One line, whatever an error's text holds.
        let text = text
            .to_string()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        Self {
            verdict,
            check,
            text,
        }
    }

    pub(super) fn ok(check: &'static str, text: impl Display) -> Self {
        Self::new(Verdict::Ok, check, text)
    }

    pub(super) fn warn(check: &'static str, text: impl Display) -> Self {
        Self::new(Verdict::Warn, check, text)
    }

    pub(super) fn fail(check: &'static str, text: impl Display) -> Self {
        Self::new(Verdict::Fail, check, text)
    }
}

impl Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict: &str = self.verdict.into();
        write!(f, "{verdict:<4}  {:<12}  {}", self.check, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line() {
        let line = Line::fail("store", "first\n  second\n");
        assert_eq!(line.to_string(), "fail  store         first second");
    }
}
