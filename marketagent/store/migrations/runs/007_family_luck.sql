-- What the luckiest of a family's trials would have reached without skill, in each of 1,000 worlds: see luckiest.py.
-- The best of old and new trials is the better of two, so that no trial's returns have to be kept. A family without a row
-- has trials of before: they count as independent ones.

CREATE TABLE family_luck (
    family VARCHAR NOT NULL,
    reached BLOB NOT NULL           -- t-values, 4-byte floats
);
