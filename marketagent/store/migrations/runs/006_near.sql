-- What a ledger of many trials is searched by: without it, every run would read and parse the parameters of all of them.

ALTER TABLE trials ADD COLUMN series BIGINT;     -- the same for one trial and what it grew into: a digest of code, parameters and start
ALTER TABLE trials ADD COLUMN numbers DOUBLE[];  -- those of its parameters that are numbers, in their order

UPDATE trials SET
    series = ('0x' || left(md5(strategy_hash || ' ' || params || ' ' || first::VARCHAR), 15))::BIGINT,
    numbers = list_transform(
        list_filter(json_extract(params, '$.*'), lambda value: json_type(value) IN ('UBIGINT', 'BIGINT', 'HUGEINT', 'DOUBLE')),
        lambda value: TRY_CAST(value AS DOUBLE)
    );
