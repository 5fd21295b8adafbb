-- Sinks get a table of their own name, dead letters their record, and what a sink showed is kept.
CREATE TABLE sinks (
    name TEXT PRIMARY KEY,
    cursor INTEGER NOT NULL,
    is_set INTEGER NOT NULL DEFAULT TRUE
) STRICT, WITHOUT ROWID;
INSERT INTO sinks (name, cursor, is_set) SELECT sink, sequence, is_set FROM cursors;
DROP TABLE cursors;
CREATE TABLE shown (
    sink TEXT NOT NULL,
    notification BLOB NOT NULL,
    revision INTEGER NOT NULL,
    remote_id TEXT,
    state TEXT NOT NULL,
    PRIMARY KEY (sink, notification)
) STRICT, WITHOUT ROWID;
CREATE INDEX shown_notification ON shown (notification);
DROP INDEX dead_letters_sink;
ALTER TABLE dead_letters RENAME TO dead_letters_4;
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    sink TEXT NOT NULL,
    first_sequence INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL DEFAULT '',
    line TEXT
) STRICT;
CREATE INDEX dead_letters_sink ON dead_letters (sink, last_sequence);
INSERT INTO dead_letters (id, at, sink, first_sequence, last_sequence, reason)
    SELECT id, at, sink, first_sequence, last_sequence, reason FROM dead_letters_4;
-- Ids that were used once are not used again.
DELETE FROM sqlite_sequence WHERE name = 'dead_letters';
INSERT INTO sqlite_sequence (name, seq)
    SELECT 'dead_letters', seq FROM sqlite_sequence WHERE name = 'dead_letters_4';
DROP TABLE dead_letters_4;
