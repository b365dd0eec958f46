-- What was promised to a broker, and what came of it. Instants are RFC 3339 in UTC, sessions YYYY-MM-DD.
-- REAL columns turn NaN into NULL, and NOT NULL refuses it; BETWEEN refuses the infinities.

CREATE TABLE accounts (
    account TEXT PRIMARY KEY,
    cash REAL NOT NULL CHECK (cash BETWEEN -1e300 AND 1e300),
    settled_through TEXT,
    created_at TEXT NOT NULL
) STRICT;

CREATE TABLE positions (
    account TEXT NOT NULL REFERENCES accounts (account),
    symbol TEXT NOT NULL,
    quantity REAL NOT NULL CHECK (quantity BETWEEN -1e300 AND 1e300),
    price REAL NOT NULL CHECK (price BETWEEN 0 AND 1e300),
    last_session TEXT,
    PRIMARY KEY (account, symbol)
) STRICT;

-- A stream of decisions that `ma trade` has read: the same run never counts twice.
CREATE TABLE streams (
    run TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts (account),
    state TEXT NOT NULL CHECK (state IN ('planned', 'done')),
    strategy TEXT NOT NULL,
    session TEXT NOT NULL,
    at TEXT NOT NULL
) STRICT;

CREATE TABLE orders (
    cid TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts (account),
    strategy TEXT NOT NULL,
    session TEXT NOT NULL,
    symbol TEXT NOT NULL,
    side TEXT NOT NULL CHECK (side IN ('buy', 'sell')),
    quantity REAL NOT NULL CHECK (quantity > 0 AND quantity <= 1e300),
    state TEXT NOT NULL,
    filled_quantity REAL NOT NULL DEFAULT 0 CHECK (filled_quantity BETWEEN 0 AND 1e300),
    fill_price REAL CHECK (fill_price > 0 AND fill_price <= 1e300),
    commission REAL NOT NULL DEFAULT 0 CHECK (commission BETWEEN -1e300 AND 1e300),
    fill_session TEXT,
    reason TEXT NOT NULL DEFAULT '',
    run TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
) STRICT;

CREATE INDEX orders_by_state ON orders (account, state);

-- One decision a symbol, strategy and session, whether or not it needed an order. Checked at the commit, so
-- that a decision and its order may be written in either order.
CREATE TABLE decided (
    account TEXT NOT NULL REFERENCES accounts (account),
    strategy TEXT NOT NULL,
    session TEXT NOT NULL,
    symbol TEXT NOT NULL,
    run TEXT NOT NULL,
    cid TEXT REFERENCES orders (cid) DEFERRABLE INITIALLY DEFERRED,
    PRIMARY KEY (account, strategy, session, symbol)
) STRICT;

CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    cid TEXT REFERENCES orders (cid) DEFERRABLE INITIALLY DEFERRED,
    account TEXT NOT NULL REFERENCES accounts (account),
    at TEXT NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL CHECK (json_valid(detail))
) STRICT;

CREATE INDEX events_by_order ON events (cid);
