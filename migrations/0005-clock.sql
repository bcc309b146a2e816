-- The clocks by which times here are told: a computer without a battery begins with a wrong one, and is set later.
CREATE TABLE clock (
    id      INTEGER PRIMARY KEY,
    boot    TEXT NOT NULL,          -- since which start of the computer
    ahead   INTEGER NOT NULL,       -- milliseconds that it was ahead of the time since then
    trusted INTEGER NOT NULL
);

-- By which clock each time is; NULL if that is not known, 0 for one that nobody had set and nobody set later.
ALTER TABLE message ADD COLUMN clock INTEGER;
ALTER TABLE retained ADD COLUMN clock INTEGER;
ALTER TABLE session ADD COLUMN left_clock INTEGER;
ALTER TABLE will ADD COLUMN due_clock INTEGER;

-- Whether the payload is of our own making and tells a time.
ALTER TABLE message ADD COLUMN timed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE retained ADD COLUMN timed INTEGER NOT NULL DEFAULT 0;
