#!/bin/sh
# The main job, command by command: fetch, score, trade (plan and apply), backtest. Run by `make demo`.
set -eu

run() {
    printf '\n$ %s\n' "$1"
    sh -c "$1"
}

symbols='AAPL GOOG IBM MSFT'

run "ma fetch $symbols --source sample --format table"
run "ma score $symbols --strategy momentum --as-of 2013-02-01 | ma trade --format table"
run "ma score $symbols --strategy momentum --format table"
run "ma score $symbols --strategy momentum | ma trade --plan --format table"
run "ma score $symbols --strategy momentum | ma trade --format table"
run "ma trade positions --format table"
run "ma backtest --from 2005-01-01 --strategy sma_cross --set fast=20 --set slow=50 --benchmark IBM --format table \
--equity $MA_HOME/equity.csv --fills $MA_HOME/fills.csv"
run "ma sql \"select strategy, first, last, round(equity, 2) as equity from backtests\" --format table"

cat <<END

Everything lies in $MA_HOME:
  market.duckdb    prices, splits, dividends, sessions      runs.duckdb      decisions, backtests, orders
  journal.sqlite3  orders and the paper account             equity.csv, fills.csv
Go on from here:
  export PATH="$(dirname "$(command -v ma)"):\$PATH" MA_HOME=$MA_HOME
  ma --help
END
