-- Marks the file as a store of Fieldpost ("FPst").
PRAGMA application_id = 0x46507374;

-- Counters that outlive the rows they count: next-id, next-queue, bytes.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

-- A message, stored once however many queues want it.
CREATE TABLE message (
    id         INTEGER PRIMARY KEY,
    topic      TEXT NOT NULL,
    payload    BLOB NOT NULL,
    qos        INTEGER NOT NULL,
    retain     INTEGER NOT NULL,
    at         INTEGER NOT NULL,    -- milliseconds since 1970
    properties TEXT                 -- JSON, or NULL for none
);

-- A message's place in one queue. The order of the key is the order of the queue.
CREATE TABLE entry (
    queue            INTEGER NOT NULL,
    id               INTEGER NOT NULL,
    qos              INTEGER NOT NULL,
    retain           INTEGER NOT NULL,
    subscription_ids TEXT,          -- a JSON list, or NULL for none
    PRIMARY KEY (queue, id)
) WITHOUT ROWID;

-- A session and its queue.
CREATE TABLE session (
    queue         INTEGER PRIMARY KEY,
    client_id     TEXT NOT NULL UNIQUE,
    expiry        INTEGER NOT NULL, -- seconds
    left_at       INTEGER,          -- NULL while its client is connected
    subscriptions TEXT NOT NULL,    -- a JSON list
    entries       INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE retained (
    topic      TEXT PRIMARY KEY,
    payload    BLOB NOT NULL,
    qos        INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    properties TEXT
) WITHOUT ROWID;
