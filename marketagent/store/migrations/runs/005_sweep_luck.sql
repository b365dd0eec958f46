-- How much of a sweep may be luck: its record as it was printed, as JSON.

ALTER TABLE sweeps ADD COLUMN record VARCHAR;
