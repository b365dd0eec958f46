"""``ma sql``: every table in one place, nothing but reading, and any value as JSON."""

import json

import pytest
from prices import HEAD, contents, fetch, ma, new_home, write
from streams import shell

from marketagent import query
from marketagent.errors import NoData, UsageError
from marketagent.store.database import opened


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("asked")
    home = new_home(folder)
    fetch(home, write(folder / "p.csv", HEAD + "AAPL,2014-01-02,10,11,9,10,100\n"))
    return home


def rows(home, sql, limit=0):
    return list(query.ask(home, sql, limit=limit, timeout_s=60))


def value(home, expression):
    return rows(home, f"SELECT {expression} AS x")[0]["x"]


def test_every_table_is_there_and_only_those(home):
    names = [row["name"] for row in rows(home, "SHOW TABLES")]
    journal = {"accounts", "events", "orders", "positions"}
    market = {"bars", "actions", "coverage", "file_symbols", "files", "quarantine", "sessions"}
    assert set(names) == journal | market | {
        "superseded_actions", "superseded_bars", "backtests", "decisions", "equity", "fills", "signals", "sweep_rows", "folds", "sweeps",
        "trials", "family_luck",
    }  # fmt: skip
    for name in names:
        rows(home, f"FROM {name} LIMIT 1")
    assert rows(home, "SELECT symbol, session, ts, close FROM bars") == [
        {"symbol": "AAPL", "session": "2014-01-02", "ts": "2014-01-02T14:30:00Z", "close": 10.0}
    ]


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("'nan'::DOUBLE", None),
        ("'-inf'::DOUBLE", None),
        ("[1.5, 'nan'::DOUBLE]", [1.5, None]),
        ("{'a': 'inf'::DOUBLE, 'b': DATE '2014-01-02'}", {"a": None, "b": "2014-01-02"}),
        ("MAP {1: 'x'}", {"1": "x"}),
        ("1.10::DECIMAL(9, 2)", 1.1),
        ("'\\xAA\\x00'::BLOB", "aa00"),
        ("1::HUGEINT << 100", 1 << 100),
        ("TIMESTAMP '2014-01-02 14:30:00.5'", "2014-01-02T14:30:00.500000Z"),
        ("TIMESTAMPTZ '2014-01-02 09:30:00-05'", "2014-01-02T14:30:00Z"),
        ("TIME '12:00'", "12:00:00"),
        ("INTERVAL 90 MINUTE", "1:30:00"),
        ("'290000-01-01'::DATE", "290000-01-01"),
        ("NULL", None),
        ("true", True),
        ("uuid '00000000-0000-0000-0000-000000000001'", "00000000-0000-0000-0000-000000000001"),
        ("chr(0) || chr(27)", "\0\x1b"),
    ],
)
def test_any_value_is_json(home, expression, told):
    found = value(home, expression)
    assert found == told
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO market.bars SELECT * FROM market.bars",
        "UPDATE market.bars SET close = 1",
        "DELETE FROM market.bars",
        "DROP TABLE market.bars",
        "CREATE TABLE market.x AS SELECT 1",
        "ALTER TABLE market.bars ADD COLUMN x INTEGER",
        "ATTACH '{file}' AS x",
        "COPY (SELECT 1) TO '{file}'",
        "COPY market.bars FROM '{secret}'",
        "EXPORT DATABASE '{file}'",
        "IMPORT DATABASE '{folder}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "PRAGMA enable_external_access = true",
        "PRAGMA temp_directory = '{folder}'",
        "FROM '{secret}'",
        "FROM read_text('{secret}')",
        "FROM read_csv('{secret}')",
        "FROM glob('{folder}/*')",
        "FROM sqlite_scan('{secret}', 'orders')",
        "SELECT 1; COPY (SELECT 1) TO '{file}'",
        "selec 1",
        "FROM nope",
        "SELECT ?",
        "SELECT 1 +",
        "SELECT 'x'::INTEGER",
        "SELECT error('a' || chr(10) || 'b')",
        "",
        " ; ",
        "-- only a comment",
        "SELECT '\udcff'",
    ],
)  # fmt: skip
def test_what_is_not_reading_is_refused_in_one_line(home, tmp_path, statement):
    secret = write(tmp_path / "secret.csv", "canary\n1\n")
    text = statement.format(file=tmp_path / "out", folder=tmp_path, secret=secret)
    before = contents(home)
    with pytest.raises(UsageError, match="the query") as error:
        rows(home, text)
    assert "\n" not in str(error.value)
    assert contents(home) == before
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_what_is_made_in_memory_is_gone_afterwards(home):
    assert rows(home, "CREATE TABLE x AS SELECT 1 AS a; INSERT INTO x VALUES (2); FROM x") == [{"a": 1}, {"a": 2}]
    assert rows(home, "DETACH market; SELECT 1 AS a") == [{"a": 1}]
    assert rows(home, "USE market; SELECT count(*) AS n FROM bars") == [{"n": 1}]
    with pytest.raises(UsageError):
        rows(home, "FROM x")
    assert len(rows(home, "FROM bars")) == 1


def test_two_columns_of_one_name_are_both_there(home):
    assert [*rows(home, "SELECT 1 AS a, 2 AS a, 3 AS A")[0].values()] == [1, 2, 3]
    assert "a" in rows(home, "SELECT 1 AS a, 2 AS a")[0]


def test_the_order_and_the_limit_are_the_querys(home):
    sql = "SELECT range AS n FROM range(50000) ORDER BY n DESC"
    assert [row["n"] for row in rows(home, sql)] == list(range(49999, -1, -1))
    assert [row["n"] for row in rows(home, sql, limit=3)] == [49999, 49998, 49997]
    assert len(rows(home, "SHOW TABLES", limit=2)) == 2


def test_no_home_is_no_data(tmp_path):
    with pytest.raises(NoData, match="run: ma fetch SYMBOL, or ma init"):
        query.ask(tmp_path / "none", "SELECT 1", timeout_s=1)


def test_the_files_are_free_while_the_answer_is_read(home):
    answer = query.ask(home, "FROM range(100000)", timeout_s=60)
    next(answer)
    with opened(home / "market.duckdb", write=True, timeout_s=5) as con:
        con.execute("DELETE FROM coverage WHERE symbol = 'none'")
    answer.close()


# --- from outside


def test_the_query_comes_from_stdin_and_goes_out_in_every_format(home):
    asked = "SELECT '=1+1' AS f, 'nan'::DOUBLE AS x, symbol FROM bars"
    assert ma(home, "sql", "--format", "csv", stdin=asked).stdout == "f,x,symbol\n'=1+1,,AAPL\n"
    assert ma(home, "sql", "--format", "csv", "--raw", asked).stdout == "f,x,symbol\n=1+1,,AAPL\n"
    record = json.loads(ma(home, "sql", asked).stdout.splitlines()[1])
    assert record["values"] == {"f": "=1+1", "x": None, "symbol": "AAPL"}
    assert "AAPL" in ma(home, "sql", asked, "--format", "table").stdout
    wrong = ma(home, "sql", "selec 1")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == 'ma: the query failed: Parser Error: syntax error at or near "selec"\n'


def test_a_reader_that_leaves_a_huge_answer_early_is_quiet(home):
    result = shell(
        "$MA sql \"SELECT range, repeat('x', 100) FROM range(300000)\" | head -1 | cut -c1-15; echo ${PIPESTATUS[0]}",
        home,
    )
    assert (result.stdout, result.stderr) == ('{"kind":"begin"\n141\n', "")
    result = shell("printf 'select \\xff' | $MA sql; echo $?", home)
    assert (result.stdout, result.stderr) == ("2\n", "ma: the query is not UTF-8 text\n")
