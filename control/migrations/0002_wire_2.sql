-- Version 2 of the wire: what is numbered in either direction, and where a task's output stands.

-- Ours: the epoch of the numbers of our commands, and the last one given out.
ALTER TABLE daemons ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE daemons ADD COLUMN last_order INTEGER NOT NULL DEFAULT 0;
-- The daemon's: the epoch of its numbers (its 64 bits, whatever their sign), and the last one applied.
ALTER TABLE daemons ADD COLUMN their_epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE daemons ADD COLUMN applied INTEGER NOT NULL DEFAULT 0;

-- Which commands about it were given a number: 1 to start it, 2 to end it gently, 4 to end it at once.
ALTER TABLE tasks ADD COLUMN ordered INTEGER NOT NULL DEFAULT 0;
-- How far into the daemon's log the output that we have reaches, in the daemon's bytes; -1 where that is not known.
ALTER TABLE tasks ADD COLUMN log_at INTEGER NOT NULL DEFAULT 0;

-- Commands that were given a number and are not known to be applied. What they say is made anew from the task, so
-- that no plan and no password stands here a second time.
CREATE TABLE orders (
    daemon BLOB    NOT NULL,
    n      INTEGER NOT NULL,
    task   BLOB    NOT NULL,
    what   INTEGER NOT NULL, -- as in tasks.ordered
    PRIMARY KEY (daemon, n)
) STRICT;
