-- Prices as traded, what happened to the shares, and what was asked for. Instants are UTC, sessions New York dates.
-- No primary keys on bars: they make the file eight times as large; the merge that writes keeps keys unique.

CREATE TABLE sessions (
    session DATE NOT NULL,
    open_at TIMESTAMP NOT NULL,
    close_at TIMESTAMP NOT NULL,
    early BOOLEAN NOT NULL,
    CHECK (open_at < close_at)
);

CREATE TABLE bars (
    symbol VARCHAR NOT NULL,
    timeframe VARCHAR NOT NULL,
    session DATE NOT NULL,
    ts TIMESTAMP NOT NULL,      -- start of the bar; for 1d the session's open
    open DOUBLE NOT NULL CHECK (isfinite(open) AND open > 0),
    high DOUBLE NOT NULL CHECK (isfinite(high) AND high > 0),
    low DOUBLE NOT NULL CHECK (isfinite(low) AND low > 0),
    close DOUBLE NOT NULL CHECK (isfinite(close) AND close > 0),
    volume DOUBLE NOT NULL CHECK (isfinite(volume) AND volume >= 0),
    adj_close DOUBLE CHECK (isfinite(adj_close) AND adj_close > 0),     -- the vendor's own, where it gives one
    source VARCHAR NOT NULL,
    feed VARCHAR NOT NULL,
    known_at TIMESTAMP NOT NULL
);

-- A correction does not overwrite: the row it replaces moves here, so that any past view can be had again.
CREATE TABLE superseded_bars (
    symbol VARCHAR NOT NULL,
    timeframe VARCHAR NOT NULL,
    session DATE NOT NULL,
    ts TIMESTAMP NOT NULL,
    open DOUBLE NOT NULL,
    high DOUBLE NOT NULL,
    low DOUBLE NOT NULL,
    close DOUBLE NOT NULL,
    volume DOUBLE NOT NULL,
    adj_close DOUBLE,
    source VARCHAR NOT NULL,
    feed VARCHAR NOT NULL,
    known_at TIMESTAMP NOT NULL,
    superseded_at TIMESTAMP NOT NULL
);

CREATE TABLE actions (
    symbol VARCHAR NOT NULL,
    session DATE NOT NULL,
    kind VARCHAR NOT NULL CHECK (kind IN ('split', 'dividend')),
    value DOUBLE NOT NULL CHECK (isfinite(value) AND value > 0),    -- new shares for one old; USD a share
    source VARCHAR NOT NULL,
    known_at TIMESTAMP NOT NULL,
    inferred BOOLEAN NOT NULL       -- read back from an adjusted close; never put above one that was given
);

CREATE TABLE superseded_actions (
    symbol VARCHAR NOT NULL,
    session DATE NOT NULL,
    kind VARCHAR NOT NULL,
    value DOUBLE NOT NULL,
    source VARCHAR NOT NULL,
    known_at TIMESTAMP NOT NULL,
    inferred BOOLEAN NOT NULL,
    superseded_at TIMESTAMP NOT NULL
);

CREATE TABLE coverage (
    symbol VARCHAR NOT NULL,
    timeframe VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    first DATE NOT NULL,
    last DATE NOT NULL,
    fetched_at TIMESTAMP NOT NULL,
    CHECK (first <= last)
);

CREATE TABLE files (
    fingerprint VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    rows BIGINT NOT NULL,
    stored_at TIMESTAMP NOT NULL
);

-- What a stored file held, so that reading it a second time can be answered without reading it.
CREATE TABLE file_symbols (
    fingerprint VARCHAR NOT NULL,
    symbol VARCHAR NOT NULL,
    timeframe VARCHAR NOT NULL
);

CREATE TABLE quarantine (
    source VARCHAR NOT NULL,
    file VARCHAR,
    line BIGINT,
    symbol VARCHAR,
    session_text VARCHAR,       -- as it was written, when no session could be made of it
    session DATE,
    reason VARCHAR NOT NULL,
    row_text VARCHAR NOT NULL,
    known_at TIMESTAMP NOT NULL
);
