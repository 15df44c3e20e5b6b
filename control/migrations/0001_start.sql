-- Ids are the 16 bytes of a UUID, times are milliseconds since 1970 in UTC.

CREATE TABLE daemons (
    id         BLOB    NOT NULL PRIMARY KEY,
    machine_id TEXT    NOT NULL UNIQUE,
    hostname   TEXT    NOT NULL,
    max_tasks  INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE tasks (
    seq                   INTEGER NOT NULL PRIMARY KEY, -- the order in which they came
    id                    BLOB    NOT NULL UNIQUE,
    name                  TEXT    NOT NULL,             -- what people call it; never empty
    -- What was asked for.
    task_name             TEXT    NOT NULL,
    plan                  TEXT    NOT NULL,
    repo_url              TEXT,
    base_branch           TEXT,
    target_branch         TEXT,
    parent                BLOB,
    depth                 INTEGER NOT NULL,
    is_orchestrator       INTEGER NOT NULL,
    target_repo_path      TEXT,
    completion_action     TEXT,
    continue_from         BLOB,
    copy_files            TEXT,                         -- a JSON list
    -- What became of it.
    status                TEXT    NOT NULL,
    daemon                BLOB,
    interrupt             INTEGER,                      -- asked for: 0 gracefully, 1 at once
    branch                TEXT,
    success               INTEGER,                      -- null until the end
    error                 TEXT,
    created_at            INTEGER NOT NULL,
    ended_at              INTEGER
) STRICT;

CREATE TABLE events (
    task        BLOB    NOT NULL,
    n           INTEGER NOT NULL, -- from 1 in every task
    at_offset   INTEGER NOT NULL, -- how much output the task had by then
    time        INTEGER NOT NULL,
    kind        TEXT    NOT NULL,
    data        TEXT    NOT NULL, -- a JSON object
    PRIMARY KEY (task, n)
) STRICT;

-- A task's output is one text that grows. Each row is the part of it that begins at `start`.
CREATE TABLE output (
    task  BLOB    NOT NULL,
    start INTEGER NOT NULL,
    text  BLOB    NOT NULL,
    PRIMARY KEY (task, start)
) STRICT;

-- Written to find out whether writing works.
CREATE TABLE probe (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    n  INTEGER NOT NULL
) STRICT;
INSERT INTO probe (id, n) VALUES (1, 0);
