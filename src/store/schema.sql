-- The store of hearthd, schema 5. Times are nanoseconds since the Unix epoch on the engine's
-- clock; keys and ids are 16 bytes; rows of the engine's own types are JSON.
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE payloads (key BLOB PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX payloads_at ON payloads (at);
CREATE TABLE notifications (
    id BLOB PRIMARY KEY,
    deadline INTEGER,
    touched INTEGER NOT NULL,
    state TEXT NOT NULL
) STRICT;
CREATE INDEX notifications_open ON notifications (deadline) WHERE deadline IS NOT NULL;
CREATE INDEX notifications_closed ON notifications (touched) WHERE deadline IS NULL;
CREATE TABLE members (
    session BLOB NOT NULL,
    notification BLOB NOT NULL,
    PRIMARY KEY (session, notification)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_notification ON members (notification);
CREATE TABLE clips (
    session BLOB NOT NULL,
    url TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (session, url)
) STRICT, WITHOUT ROWID;
CREATE INDEX clips_at ON clips (at);
CREATE TABLE released (
    ordering_key TEXT PRIMARY KEY,
    sort_key TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX released_at ON released (at);
CREATE TABLE held (arrival INTEGER PRIMARY KEY, row TEXT NOT NULL, line TEXT NOT NULL) STRICT;
CREATE TABLE nodes (name TEXT PRIMARY KEY, row TEXT NOT NULL) STRICT;
CREATE TABLE traits (
    resource TEXT NOT NULL,
    name TEXT NOT NULL,
    fields TEXT NOT NULL,
    PRIMARY KEY (resource, name)
) STRICT;
CREATE TABLE journal (
    sequence INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    at INTEGER NOT NULL,
    line TEXT NOT NULL
) STRICT;
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    received_at TEXT NOT NULL,
    publish_time TEXT NOT NULL,
    platform TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    message_id TEXT NOT NULL,
    place TEXT,
    raw BLOB NOT NULL,
    key BLOB NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
CREATE TABLE sinks (
    name TEXT PRIMARY KEY,
    cursor INTEGER NOT NULL,
    is_set INTEGER NOT NULL DEFAULT TRUE
) STRICT, WITHOUT ROWID;
CREATE TABLE shown (
    sink TEXT NOT NULL,
    notification BLOB NOT NULL,
    revision INTEGER NOT NULL,
    remote_id TEXT,
    state TEXT NOT NULL,
    PRIMARY KEY (sink, notification)
) STRICT, WITHOUT ROWID;
CREATE INDEX shown_notification ON shown (notification);
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
INSERT INTO meta (name, value) VALUES ('clock', 0), ('last_sequence', 0), ('journal_bytes', 0),
    ('quarantine_bytes', 0), ('commits', 0), ('id', random());
