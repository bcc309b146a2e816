-- Entries of one queue and one class that follow each other: one row for what a batch brings, instead of one an entry.
CREATE TABLE run (
    queue   INTEGER NOT NULL,
    class   INTEGER NOT NULL,       -- 0 is the most important, 255 that of which nothing was said
    last    INTEGER NOT NULL,       -- no entry of it has a larger id,
    first   INTEGER NOT NULL,       -- or a smaller one
    entries INTEGER NOT NULL,
    bytes   INTEGER NOT NULL,       -- of their messages
    list    BLOB NOT NULL,          -- the entries, as src/store/list.rs has it
    PRIMARY KEY (queue, class, last)
) WITHOUT ROWID;

-- Messages that no queue holds any more and that are still to be deleted: a few at a time, so that nobody waits for it.
CREATE TABLE waste (
    first INTEGER PRIMARY KEY,
    last  INTEGER NOT NULL
);
