-- Messages that a cloud will not have, taken out of their queue. Bounded: the oldest go.
CREATE TABLE aside (
    number     INTEGER PRIMARY KEY,
    session    TEXT NOT NULL,       -- the client id of the session that it was for
    topic      TEXT NOT NULL,
    payload    BLOB NOT NULL,
    qos        INTEGER NOT NULL,
    retain     INTEGER NOT NULL,
    entered_at INTEGER NOT NULL,    -- milliseconds since 1970
    properties TEXT,                -- JSON, or NULL for none
    code       INTEGER NOT NULL,    -- the reason code (MQTT 5.0, 2.4); 255: it ended one connection after the other
    reason     TEXT NOT NULL,
    at         INTEGER NOT NULL     -- when it was set aside
);
