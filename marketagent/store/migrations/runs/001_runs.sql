-- What was decided, simulated and ordered, for study. Of orders the journal is the truth; this is a copy.

CREATE TABLE decisions (
    run VARCHAR NOT NULL,
    cmd VARCHAR NOT NULL,
    decided_at TIMESTAMP NOT NULL,
    symbol VARCHAR NOT NULL,
    session DATE NOT NULL,
    action VARCHAR NOT NULL CHECK (action IN ('buy', 'hold', 'sell')),
    score DOUBLE CHECK (score BETWEEN -1 AND 1),
    confidence DOUBLE NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    weight DOUBLE CHECK (weight BETWEEN -1 AND 1),
    close DOUBLE CHECK (isfinite(close) AND close > 0),
    strategy VARCHAR NOT NULL,
    strategy_hash VARCHAR NOT NULL,
    params VARCHAR NOT NULL,        -- JSON
    timeframe VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    reasoning VARCHAR NOT NULL
);

CREATE TABLE backtests (
    run VARCHAR NOT NULL,
    ran_at TIMESTAMP NOT NULL,
    strategy VARCHAR NOT NULL,
    strategy_hash VARCHAR NOT NULL,
    params VARCHAR NOT NULL,        -- JSON
    symbols VARCHAR[] NOT NULL,
    first DATE NOT NULL,
    last DATE NOT NULL,
    sessions BIGINT NOT NULL,
    cash DOUBLE NOT NULL,
    equity DOUBLE NOT NULL,
    costs VARCHAR NOT NULL,
    slippage_bps DOUBLE NOT NULL,
    fill VARCHAR NOT NULL,
    fractional BOOLEAN NOT NULL,
    data_hash VARCHAR NOT NULL,
    benchmark VARCHAR,
    metrics VARCHAR NOT NULL,       -- JSON
    notes VARCHAR NOT NULL,         -- JSON
    record VARCHAR NOT NULL         -- JSON: the whole record, as it was printed
);

CREATE TABLE equity (
    run VARCHAR NOT NULL,
    session DATE NOT NULL,
    equity DOUBLE NOT NULL
);

CREATE TABLE fills (
    run VARCHAR NOT NULL,
    session DATE NOT NULL,
    decided DATE,                   -- the session an order was decided on; NULL where nobody decided (a split)
    symbol VARCHAR NOT NULL,
    quantity DOUBLE NOT NULL,       -- shares, negative for a sale
    price DOUBLE NOT NULL,
    commission DOUBLE NOT NULL,
    kind VARCHAR NOT NULL
);

CREATE TABLE orders (
    cid VARCHAR NOT NULL,
    account VARCHAR NOT NULL,
    strategy VARCHAR NOT NULL,
    session DATE NOT NULL,
    symbol VARCHAR NOT NULL,
    side VARCHAR NOT NULL CHECK (side IN ('buy', 'sell')),
    quantity DOUBLE NOT NULL CHECK (isfinite(quantity) AND quantity > 0),
    state VARCHAR NOT NULL,
    filled_quantity DOUBLE NOT NULL,
    fill_price DOUBLE,
    commission DOUBLE NOT NULL,
    fill_session DATE,
    reason VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL
);
