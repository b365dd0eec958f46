-- Every backtest that was tried, once however often it was run: what a result has to be discounted by.
-- A family is a strategy's name, its universe and its timeframe; a trial within it its code, parameters and span.

CREATE TABLE trials (
    trial VARCHAR NOT NULL,
    family VARCHAR NOT NULL,
    strategy VARCHAR NOT NULL,
    strategy_hash VARCHAR NOT NULL,
    params VARCHAR NOT NULL,        -- JSON
    symbols BIGINT NOT NULL,
    timeframe VARCHAR NOT NULL,
    first DATE NOT NULL,
    last DATE NOT NULL,
    run VARCHAR NOT NULL,           -- the newest that tried it
    tried_at TIMESTAMP NOT NULL,
    returns BIGINT NOT NULL,        -- how many bars' returns the moments are of
    mean DOUBLE NOT NULL,
    deviation DOUBLE NOT NULL,
    skew DOUBLE NOT NULL,
    kurtosis DOUBLE NOT NULL,
    sharpe DOUBLE NOT NULL          -- a bar, not annual
);
