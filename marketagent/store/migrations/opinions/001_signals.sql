-- What others think of a symbol, with the time this store learned it. NULL is no opinion, which is not zero.

CREATE TABLE signals (
    name VARCHAR NOT NULL,
    symbol VARCHAR NOT NULL,
    session DATE NOT NULL,
    value DOUBLE CHECK (value BETWEEN -1 AND 1),
    confidence DOUBLE CHECK (confidence BETWEEN 0 AND 1),
    known_at TIMESTAMP NOT NULL,
    source VARCHAR NOT NULL,
    contaminated BOOLEAN NOT NULL DEFAULT false     -- its author may have known what came after
);
