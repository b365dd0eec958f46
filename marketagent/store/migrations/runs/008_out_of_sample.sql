-- A walk-forward is judged out of sample: what its refits chose from is no luck that it had, other walk-forwards are.
-- Where there was nothing to choose, it is the parameters' own backtest, which whoever gave them may have looked at.

ALTER TABLE trials ADD COLUMN judged VARCHAR;
ALTER TABLE family_luck ADD COLUMN judged VARCHAR;

UPDATE trials SET judged = CASE
    WHEN contains(params, '"walk_forward"') AND NOT contains(params, '"grid": {}') THEN 'out of sample' ELSE 'in sample'
END;
UPDATE family_luck SET judged = 'in sample';
