-- What people say to tasks that are under way, and what waits for what.

-- Asked for last: 1 that it stand still, 0 that it go on. In `ordered`, 8 and 16 are that these were told.
ALTER TABLE tasks ADD COLUMN hold INTEGER;
-- What has to end well before it begins: a JSON list of ids; null where nothing has to.
ALTER TABLE tasks ADD COLUMN needs TEXT;

-- A command that was given a number and is told word by word (32 in `what`), as JSON.
ALTER TABLE orders ADD COLUMN words TEXT;

-- What an agent is to be told, and its daemon was not yet. Told once: it goes as it leaves, or is given a number.
CREATE TABLE words (
    n       INTEGER NOT NULL PRIMARY KEY, -- in the order in which they came
    task    BLOB    NOT NULL,
    command TEXT    NOT NULL              -- JSON
) STRICT;
CREATE INDEX words_of_task ON words (task);
