import duckdb
import pytest

from marketagent.errors import Exit, UsageError
from marketagent.symbols import SQL_PATTERN, checked

GOOD = [
    *("AAPL", "BRK.B", "BF/B", "BTC-USD", "BRK_A", "^GSPC", "A", "RDS.A.L", "ABCDEFGHIJKL"),
    *("NA", "NAN", "NULL", "NONE", "TRUE", "ON", "00700", "1E5", "2024-01-02", "INF"),
]
BAD = [
    *("", " ", "../../x", "/etc/passwd", "a\0b", "A" * 300, "ABCDEFGHIJKLM", "\uff21", "AAPL\n", "AAPL ", " AAPL"),
    *("';drop table bars", "=1+1", "-rf", "--help", "A..B", "A.", ".A", "A.B.C.D", "^", "^^A", "A^", "ß", "ſ", "İ"),
    *("A\u202eB", "A\u200b", "@watch", "A,B", "A B", "A\tB", "É", "A%2e", "٣"),
]


@pytest.mark.parametrize("symbol", GOOD)
def test_a_ticker_stays_the_text_it_is(symbol):
    assert checked(symbol) == symbol


def test_small_letters_are_put_in_upper_case():
    assert checked("brk.b") == "BRK.B"


@pytest.mark.parametrize("text", BAD)
def test_anything_but_a_ticker_is_refused(text):
    with pytest.raises(UsageError) as refused:
        checked(text)
    assert refused.value.exit_code == Exit.USAGE


def test_the_refusal_shows_the_text_cleaned_and_shortened():
    with pytest.raises(UsageError, match=r"^symbol '\.\./\.\./x' is not a ticker"):
        checked("../../x")
    with pytest.raises(UsageError) as refused:
        checked("\x1b]52;c;\u202e" + "x" * 10_000)
    assert str(refused.value).isascii()
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 140


def test_the_store_and_python_agree_on_every_text():
    texts = [text for text in GOOD + BAD if "\0" not in text]
    connection = duckdb.connect()
    asked = "SELECT regexp_matches(t, ?) FROM unnest(?::VARCHAR[]) AS u(t)"
    found = [bool(row[0]) for row in connection.execute(asked, [SQL_PATTERN, texts]).fetchall()]
    connection.close()
    assert found == [text in GOOD for text in texts]
