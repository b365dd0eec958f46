-- Bars within a session: `ts` is where one starts (UTC), NULL for a day's.

ALTER TABLE decisions ADD COLUMN ts TIMESTAMP;
ALTER TABLE backtests ADD COLUMN timeframe VARCHAR DEFAULT '1d';
ALTER TABLE equity ADD COLUMN ts TIMESTAMP;
ALTER TABLE fills ADD COLUMN ts TIMESTAMP;
ALTER TABLE fills ADD COLUMN decided_ts TIMESTAMP;
ALTER TABLE orders ADD COLUMN ts TIMESTAMP;
ALTER TABLE orders ADD COLUMN fill_ts TIMESTAMP;
