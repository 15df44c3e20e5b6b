-- What a tree of tasks is judged by, and what its tasks are told of each other.

-- What its agent has cost, by its own account, in millionths of a dollar.
ALTER TABLE tasks ADD COLUMN cost INTEGER NOT NULL DEFAULT 0;
-- The newest step that says what was committed.
ALTER TABLE tasks ADD COLUMN committed TEXT;
-- Whether its agent tells how it gets on: one that has turns.
ALTER TABLE tasks ADD COLUMN talks INTEGER NOT NULL DEFAULT 0;
