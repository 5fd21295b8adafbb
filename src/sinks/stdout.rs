//! Records to standard output, one line of JSON each.

use std::io::{self, Write};

use crate::store::JournalRow;

/// Standard output: delivered means written and flushed.
#[derive(Debug)]
pub struct Stdout;

impl Stdout {
    /// Writes records in order. After an error an unknown number of them is written.
    pub fn deliver(&self, rows: &[&JournalRow]) -> io::Result<()> {
        let mut page = String::new();
        for row in rows {
            page.push_str(&row.line);
            page.push('\n');
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(page.as_bytes())?;
        stdout.flush()
    }
}
