-- What every process must know about a provider before it calls. Instants are Unix seconds of the wall clock:
-- the only clock that all processes share and that survives a restart.

-- One row a call that was allowed, and until when it counts.
CREATE TABLE grants (
    key TEXT NOT NULL,
    at REAL NOT NULL CHECK (at BETWEEN 0 AND 1e12),
    until REAL NOT NULL CHECK (until BETWEEN 0 AND 1e12)
) STRICT;

CREATE INDEX grants_by_key ON grants (key, at);
CREATE INDEX grants_by_end ON grants (until);

-- "Not before": the provider itself asked for silence.
CREATE TABLE pauses (
    key TEXT PRIMARY KEY,
    until REAL NOT NULL CHECK (until BETWEEN 0 AND 1e12)
) STRICT;

-- A breaker without a row is closed. `open_until` NULL: closed, with `failures` in a row so far.
CREATE TABLE breakers (
    key TEXT PRIMARY KEY,
    failures INTEGER NOT NULL CHECK (failures >= 0),
    openings INTEGER NOT NULL DEFAULT 0 CHECK (openings >= 0),
    failed_at REAL NOT NULL CHECK (failed_at BETWEEN 0 AND 1e12),
    open_until REAL CHECK (open_until BETWEEN 0 AND 1e12),
    prober TEXT,
    lease_until REAL CHECK (lease_until BETWEEN 0 AND 1e12)
) STRICT;
