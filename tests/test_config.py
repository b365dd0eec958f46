"""What a user may set, where it came from, and that no key is ever shown."""

import json
import os
from datetime import UTC, datetime

import pytest
from prices import here, new_home, write

from marketagent import options
from marketagent.config import SECRETS, Secret, Settings, effective
from marketagent.errors import BadConfig, Exit, UsageError

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def load(folder, text="", mode=0o600, **environ):
    path = write(folder / "config.toml", text)
    path.chmod(mode)
    return Settings.load({"MA_HOME": str(folder), **environ}, NOW)


def test_each_setting_says_where_it_comes_from(tmp_path):
    text = "cash = 5000\ncosts = 'none'\n[watchlists]\nmine = ['AAPL', 'NA']\n[keys]\npolygon = 'abcdefgh'\nopenai = 'zzzzzzzz'\n"
    settings = load(tmp_path, text, OPENAI_API_KEY="from-environment")
    rows = {name: (value, origin) for name, value, origin in effective(settings)}
    assert rows["home"] == (str(tmp_path), "MA_HOME")
    assert rows["cash"] == (5000.0, "config.toml")
    assert rows["costs"] == ("none", "config.toml")
    assert rows["slippage_bps"] == (0.0, "default")
    assert rows["watchlists.mine"] == (["AAPL", "NA"], "config.toml")
    assert rows["keys.polygon"] == ("(set)", "config.toml")
    assert rows["keys.openai"] == ("(set)", "OPENAI_API_KEY")
    assert settings.keys["openai"] == "from-environment"
    assert not {"now", "keys", "origin"} & set(rows)


def test_a_key_is_not_in_what_is_printed_of_settings(tmp_path):
    settings = load(tmp_path, "[keys]\npolygon = 'canary-1'\n", APCA_API_KEY_ID="canary-2")
    assert "canary" not in repr(settings) + repr(dict(settings.keys)) + str(effective(settings))
    assert repr(Secret("canary")) == "Secret(***)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chas = 1", "unknown setting 'chas'; did you mean cash?"),
        ("cash = 1\ncash = 2", "config.toml: Cannot overwrite a value"),
        ("cash = '5'", "cash is '5'; it must be a finite number of at least 0"),
        ("cash = true", "cash is True; it must be a finite number"),
        ("cash = nan", "cash is nan; it must be a finite number"),
        ("cash = inf", "cash is inf; it must be a finite number"),
        ("cash = -1", "cash is -1; it must be a finite number"),
        ("cash = 1" + "0" * 400, "it must be a finite number"),
        ("account = 5", "account is 5; it must be text"),
        ("watchlists = 5", "watchlists must be a table"),
        ("[watchlists]\nmine = 'AAPL'", "watchlist 'mine' must be a list of quoted symbols"),
        ("[watchlists]\nmine = [1]", "watchlist 'mine' must be a list of quoted symbols"),
        ("keys = 5", "keys must be a table"),
        ("[keys]\npoligon = 'canary'", r"unknown key 'poligon' in \[keys\]; did you mean polygon\?"),
        ("[keys]\npolygon = 5", "the key 'polygon' must be text"),
        ("not toml", "config.toml: "),
    ],
)
def test_a_mistake_stops_everything_and_shows_no_key(tmp_path, text, message):
    with pytest.raises(BadConfig, match=message) as error:
        load(tmp_path, text)
    assert "canary" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_configuration_that_is_no_text_or_no_file_is_refused(tmp_path):
    write(tmp_path / "config.toml", b"cash = '\xff'")
    with pytest.raises(BadConfig, match=r"config.toml"):
        Settings.load({"MA_HOME": str(tmp_path)}, NOW)
    (tmp_path / "config.toml").unlink()
    os.mkfifo(tmp_path / "config.toml")
    with pytest.raises(BadConfig, match="is not a file"):
        Settings.load({"MA_HOME": str(tmp_path)}, NOW)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_keys_in_a_file_others_may_read_are_refused(tmp_path, mode):
    with pytest.raises(BadConfig, match="others may read it; run: chmod 600"):
        load(tmp_path, "[keys]\npolygon = 'canary'\n", mode)
    assert load(tmp_path, "cash = 5\n", mode).cash == 5


def test_a_home_of_a_user_that_does_not_exist_is_refused():
    with pytest.raises(BadConfig, match="MA_HOME is '~nobody-of-that-name/ma'"):
        Settings.load({"MA_HOME": "~nobody-of-that-name/ma"}, NOW)


COMMANDS = [
    ["config"],
    ["config", "canary-polygon"],
    ["init"],
    ["fetch", "canary-polygon", "--source", "sample"],
    ["fetch", "--source", "canary-polygon"],
    ["fetch", "--source", "csv", "canary-polygon"],
    ["score", "canary-alpaca_secret"],
    ["score", "A", "--strategy", "canary-openai"],
    ["score", "A", "--set", "x=canary-openai"],
    ["backtest", "--costs", "canary-polygon"],
    ["backtest", "--known-at", "canary-polygon"],
    ["sql", 'SELECT "canary-polygon"'],
    ["sql", "FROM 'canary-openai'"],
    ["trade", "--costs", "canary-polygon"],
    ["schema", "canary-polygon"],
    ["canary-polygon"],
]


def test_no_key_is_in_what_any_command_says(tmp_path, monkeypatch, capfd):
    home = new_home(tmp_path)
    names = list(SECRETS)
    write(home / "config.toml", f"[keys]\n{names[0]} = 'canary-{names[0]}'\n").chmod(0o600)
    environ = {SECRETS[name]: f"canary-{name}" for name in names[1:]}
    for words in COMMANDS:
        result = here(home, monkeypatch, capfd, *words, MA_DEBUG="1", **environ)
        assert "canary" not in result.stdout + result.stderr, words
    rows = [json.loads(line) for line in here(home, monkeypatch, capfd, "config", **environ).stdout.splitlines()][1:-1]
    assert {row["value"] for row in rows if row["name"].startswith("keys.")} == {"(set)"}


def test_a_wrong_configuration_is_78_for_every_command(tmp_path, monkeypatch, capfd):
    home = new_home(tmp_path)
    write(home / "config.toml", "chas = 5\n")
    for command in (["config"], ["init"], ["fetch", "AAPL"], ["score", "AAPL"], ["backtest"], ["sql", "SELECT 1"]):
        result = here(home, monkeypatch, capfd, *command)
        line = f"ma: {home}/config.toml: unknown setting 'chas'; did you mean cash?\n"
        assert (result.returncode, result.stdout, result.stderr) == (Exit.BAD_CONFIG, "", line)


def test_costs_that_are_none_are_the_fault_of_whoever_named_them(tmp_path):
    settings = Settings(home=tmp_path, now=datetime(2026, 11, 20, tzinfo=UTC), costs="foo")
    with pytest.raises(BadConfig, match=r"config\.toml: unknown costs 'foo'"):
        options.bill(settings)
    with pytest.raises(UsageError, match="unknown costs 'bar'"):
        options.bill(settings, "bar")
    assert options.bill(settings, "bps:5").name == "bps:5"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slippage = 'foo:1'", "unknown slippage 'foo:1'"),
        ("slippage = ','", "slippage ',' has nothing where one should be"),
        ("slippage_bps = 5000", "slippage_bps 5000.0 is not a number of basis points"),
        ("borrow_rate = 5", "borrow_rate 5.0 is not a number from 0 to 1"),
        ("cash = 1e300", "cash 1e+300 must be at most 1e+13 USD"),
        ("[fees.mine]\nper_shore = 1", "unknown charge fees.mine.per_shore"),
    ],
)
def test_a_fault_of_the_configuration_is_its_own_whatever_is_asked_for(tmp_path, monkeypatch, capfd, text, said):
    home = new_home(tmp_path)
    file = write(tmp_path / "mine.toml", text + "\n")
    for words in (["backtest"], ["backtest", "--costs", "bps:5", "--slippage-bps", "2"]):
        result = here(home, monkeypatch, capfd, *words, MA_CONFIG=str(file))
        assert (result.returncode, result.stdout) == (Exit.BAD_CONFIG, "")
        assert result.stderr.startswith(f"ma: {file}: {said}")
