-- How much of a sweep may be luck: its record as it was printed, as JSON.

ALTER TABLE sweeps ADD COLUMN record VARCHAR;

-- The windows of a walk-forward: what was chosen in training, and how it did in the test after it.

CREATE TABLE folds (
    run VARCHAR NOT NULL,           -- of its backtest
    fold BIGINT NOT NULL,
    train_first DATE NOT NULL,
    train_last DATE NOT NULL,
    first DATE NOT NULL,            -- of the test
    last DATE NOT NULL,
    params VARCHAR NOT NULL,        -- JSON
    combinations BIGINT NOT NULL,
    in_sample_sharpe DOUBLE,
    sharpe DOUBLE,
    total_return DOUBLE
);
