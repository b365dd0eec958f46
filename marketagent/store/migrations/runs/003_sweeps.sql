-- Sweeps: one strategy with many combinations of parameters, each simulated on the same panel.

CREATE TABLE sweeps (
    run VARCHAR NOT NULL,
    ran_at TIMESTAMP NOT NULL,
    strategy VARCHAR NOT NULL,
    strategy_hash VARCHAR NOT NULL,
    params VARCHAR NOT NULL,        -- JSON: those that all trials have
    swept VARCHAR NOT NULL,         -- JSON: name -> values
    combinations BIGINT NOT NULL,   -- in the grid
    refused BIGINT NOT NULL,        -- left out by the strategy
    done BIGINT NOT NULL,           -- in trials: fewer than there should be where the sweep was interrupted
    symbols VARCHAR[] NOT NULL,
    first DATE NOT NULL,
    last DATE NOT NULL,
    timeframe VARCHAR NOT NULL,
    cash DOUBLE NOT NULL,
    costs VARCHAR NOT NULL,
    slippage_bps DOUBLE NOT NULL,
    fill VARCHAR NOT NULL,
    fractional BOOLEAN NOT NULL,
    data_hash VARCHAR NOT NULL
);

CREATE TABLE sweep_rows (
    run VARCHAR NOT NULL,           -- of its sweep
    number BIGINT NOT NULL,         -- place in the grid, the last parameter of `swept` running fastest
    params VARCHAR NOT NULL,        -- JSON: the swept ones
    equity DOUBLE,
    total_return DOUBLE,
    cagr DOUBLE,
    sharpe DOUBLE,
    max_drawdown DOUBLE,
    trades BIGINT NOT NULL,
    turnover DOUBLE,
    plateau DOUBLE                  -- median Sharpe of its neighbours in the grid over its own
);
