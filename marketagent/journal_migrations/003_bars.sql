-- An account lives by bars of one timeframe. What is called a session in this file is the bar's name: a session's date
-- (2026-11-20), or within a day the instant the bar starts at (2026-11-20T14:31:00Z).

ALTER TABLE accounts ADD COLUMN timeframe TEXT NOT NULL DEFAULT '1d';
