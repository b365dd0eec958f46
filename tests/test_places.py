"""Where the vendors are, what time it is on the market, and the watchlists that come with the program."""

from datetime import UTC, datetime

import pytest
from prices import write

from marketagent.clock import clock
from marketagent.config import Settings
from marketagent.errors import BadConfig
from marketagent.universes import BUILT_IN
from marketagent.web.known import NoKey, alpaca_data, alpaca_trading, polygon

LOCAL = {
    "POLYGON_BASE_URL": "http://127.0.0.1:1",
    "POLYGON_STREAM_URL": "ws://127.0.0.1:1",
    "APCA_API_BASE_URL": "http://127.0.0.1:1",
    "APCA_API_DATA_URL": "http://127.0.0.1:1",
    "APCA_API_STREAM_URL": "ws://[::1]:1",
    "BULLAWARE_BASE_URL": "http://localhost:1/",
}


def load(folder, text="", **environ):
    write(folder / "config.toml", text).chmod(0o600)
    return Settings.load({"MA_HOME": str(folder), **environ})


def test_a_base_url_is_one_variable_or_one_line_of_the_config(tmp_path):
    text = "[vendors.polygon]\nbase_url = 'https://api.massive.com'\ncalls_per_minute = 100\n[vendors.alpaca]\nfeed = 'sip'\n"
    settings = load(tmp_path, text, POLYGON_CALLS_PER_MINUTE="0", POLYGON_API_KEY="k" * 9)
    assert settings.places["polygon"].base_url == "https://api.massive.com"
    assert settings.places["polygon"].calls_per_minute == 0
    assert settings.places["alpaca"].feed == "sip"
    assert settings.origin["vendors.polygon.base_url"] == "config.toml"
    assert settings.origin["vendors.polygon.calls_per_minute"] == "POLYGON_CALLS_PER_MINUTE"
    assert polygon(settings).limits == ()


def test_the_limits_of_the_usual_plans_hold_unless_told_otherwise(tmp_path):
    settings = load(tmp_path, POLYGON_API_KEY="k" * 9, APCA_API_KEY_ID="i" * 9, APCA_API_SECRET_KEY="s" * 9)
    asked = [polygon(settings), alpaca_data(settings), alpaca_trading(settings)]
    assert [(one.limits[0].calls, one.limits[0].window_s) for one in asked] == [(5, 60), (200, 60), (200, 60)]
    assert asked[1].limits[0].key != asked[2].limits[0].key
    assert settings.places["bullaware"].calls_per_minute == 10


def test_polygon_s_key_has_two_names_and_the_older_one_goes_first(tmp_path):
    settings = load(tmp_path, "[keys]\npolygon = 'ffffffff'\n", MASSIVE_API_KEY="m" * 9)
    assert (settings.keys["polygon"], settings.origin["keys.polygon"]) == ("m" * 9, "MASSIVE_API_KEY")
    assert load(tmp_path, MASSIVE_API_KEY="m" * 9, POLYGON_API_KEY="p" * 9).keys["polygon"] == "p" * 9


def test_half_a_key_is_no_key(tmp_path):
    settings = load(tmp_path, APCA_API_KEY_ID="i" * 9)
    with pytest.raises(NoKey, match="no key for alpaca: set APCA_API_KEY_ID and APCA_API_SECRET_KEY"):
        alpaca_data(settings)


@pytest.mark.parametrize(
    ("text", "environ", "said"),
    [
        ("vendors = 5", {}, "vendors must be tables"),
        ("[vendors.polygone]\n", {}, "unknown vendor 'polygone'.*did you mean polygon?"),
        ("[vendors.polygon]\nurl = 'x'", {}, "unknown setting 'url' of vendor polygon"),
        ("[vendors.polygon]\nfeed = 'sip'", {}, "unknown setting 'feed' of vendor polygon"),
        ("[vendors.alpaca]\nfeed = 'ix'", {}, "vendors.alpaca.feed is 'ix'; did you mean iex?"),
        ("[vendors.polygon]\ncalls_per_minute = '5'", {}, "must be a number of at least 0"),
        ("", {"POLYGON_CALLS_PER_MINUTE": "many"}, "POLYGON_CALLS_PER_MINUTE is 'many'"),
        ("", {"POLYGON_BASE_URL": "http://evil.example"}, "a key goes over https only"),
        ("", {"POLYGON_STREAM_URL": "ws://evil.example"}, "a key goes over wss only"),
        ("", {"POLYGON_STREAM_URL": "https://x.example"}, "must look like wss://"),
        ("", {"APCA_API_BASE_URL": "https://paper-api@api.alpaca.markets"}, "must look like https://"),
        ("", {"APCA_API_BASE_URL": "https://h.example/?key=1"}, "must look like https://"),
        ("sources = 'polygon'", {}, "sources is 'polygon'; it must be a list of names"),
        ("sources = []", {}, "sources is .*; it must be a list of names"),
        ("fallback_on = ['no-kee']", {}, "did you mean no-key?"),
    ],
)
def test_a_mistake_is_told_with_its_value(tmp_path, text, environ, said):
    with pytest.raises(BadConfig, match=said.replace("?", r"\?").replace("[", r"\[")):
        load(tmp_path, text, **environ)


def test_a_rehearsal_s_clock_is_the_same_line_in_every_process(tmp_path):
    text = "2026-11-23T15:00:00Z@1795000000.5*60.0"
    settings = load(tmp_path, MA_CLOCK=text, **LOCAL)
    assert settings.clock.text == text
    assert settings.now > datetime(2026, 11, 23, tzinfo=UTC)
    assert clock("").is_rehearsal is False


@pytest.mark.parametrize("name", sorted(LOCAL))
def test_a_rehearsal_s_clock_goes_with_no_real_vendor(tmp_path, name):
    environ = {key: value for key, value in LOCAL.items() if key != name}
    with pytest.raises(BadConfig, match=r"MA_CLOCK is the clock of a rehearsal, but \w+ would be asked for real"):
        load(tmp_path, MA_CLOCK="2026-11-23T15:00:00Z@1795000000.5*60.0", **environ)


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "2026-11-23T15:00:00Z",
        "2026-11-23T15:00:00@1*1",
        "2026-11-23T15:00:00Z@1*0",
        "2026-11-23T15:00:00Z@1e999*1",
    ],
)
def test_a_clock_that_is_none_is_refused(text):
    with pytest.raises(BadConfig, match="MA_CLOCK is"):
        clock(text)


def test_a_watchlist_of_the_config_hides_a_built_in_one(tmp_path):
    assert load(tmp_path).watchlists["sp100"] == BUILT_IN["sp100"]
    assert len(BUILT_IN["sp100"]) == 101
    assert load(tmp_path, "[watchlists]\nsp100 = ['AAPL']\n").watchlists["sp100"] == ("AAPL",)


def test_the_config_may_be_another_s(tmp_path):
    other = write(tmp_path / "other.toml", "cash = 5\n")
    assert load(tmp_path, "cash = 7\n", MA_CONFIG=str(other)).cash == 5
