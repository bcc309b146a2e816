-- The place of a delivery among its queue's of QoS 1 and 2: its packet id follows from it, over restarts too.
ALTER TABLE entry ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;
UPDATE entry SET seq = id;

-- As whom a client connected, and the last place that was sent before it left.
ALTER TABLE session ADD COLUMN user TEXT;
ALTER TABLE session ADD COLUMN sent INTEGER NOT NULL DEFAULT 0;

-- QoS 2 exchanges that are under way.
CREATE TABLE handshake (
    queue    INTEGER NOT NULL,
    incoming INTEGER NOT NULL,      -- 1: the client's message, awaiting PUBREL; 0: a delivery, awaiting PUBCOMP
    number   INTEGER NOT NULL,      -- the packet id, or the place
    PRIMARY KEY (queue, incoming, number)
) WITHOUT ROWID;

-- The wills of clients that are connected, or gone for less than the will's delay.
CREATE TABLE will (
    client_id  TEXT PRIMARY KEY,
    topic      TEXT NOT NULL,
    payload    BLOB NOT NULL,
    qos        INTEGER NOT NULL,
    retain     INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    properties TEXT,
    delay      INTEGER NOT NULL,    -- seconds
    due_at     INTEGER              -- milliseconds since 1970; NULL while its client is connected
) WITHOUT ROWID;
