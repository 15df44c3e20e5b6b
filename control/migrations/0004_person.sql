-- What a task needs a person for; null where it needs none.
ALTER TABLE tasks ADD COLUMN person TEXT;
