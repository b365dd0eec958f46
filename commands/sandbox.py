"""``ma sandbox``: a stand-in market on this machine to rehearse on, with every vendor's own protocol.

Starlette, uvicorn and the market are imported inside: the help costs nothing, and ``ma sandbox env`` little.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from marketagent import options, process, show
from marketagent.config import Settings, config_file
from marketagent.errors import Exit, UsageError
from marketagent.symbols import checked

if TYPE_CHECKING:
    from marketagent.sandbox.rehearsal import State
    from marketagent.sandbox.world import SandboxWorld

MARKETS = ("replay", "synthetic")

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    port: Annotated[
        int, typer.Option("--port", help="Port on this machine; 0: any free one.", min=0, max=65535)
    ] = 8777,
    market: Annotated[
        str, typer.Option("--market", help="replay: your stored bars, moved to the present; synthetic: made up.")
    ] = "replay",
    speed: Annotated[float, typer.Option("--speed", help="How many times as fast as the wall clock time runs.")] = 1.0,
    start: Annotated[
        str | None,
        typer.Option(
            "--start", help="Its time at the start (UTC, RFC 3339), or now. [default: 10:00 of the last open]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, another market and other faults.", min=0)] = 0,
    symbols: Annotated[
        list[str] | None, typer.Option("--symbols", help="synthetic: more symbols than @sp100.", show_default=False)
    ] = None,
    faults: Annotated[
        str | None, typer.Option("--faults", help="flaky, storm, mute, cruel, or a TOML file of rules.")
    ] = None,
) -> int:
    """Serve Polygon and Alpaca on loopback until Ctrl-C; prints the environment that makes `ma` ask it.

    Example: ma sandbox --speed 60 & eval "$(ma sandbox env)"; ma fetch AAPL
    """
    if context.invoked_subcommand is not None:
        return Exit.DONE
    settings = Settings.load()
    _require_extra()
    from marketagent.sandbox import faults as rules
    from marketagent.sandbox import rehearsal, serve

    if symbols and market != "synthetic":
        raise UsageError("--symbols names made-up companies; give --market synthetic with it")
    config = config_file(rehearsal.own_home(settings.home))
    wanted = serve.Wanted(
        home=settings.home,
        config=config if config.exists() else None,
        now=serve.wall(),
        port=port,
        market=options.one_of(market, MARKETS, "--market"),
        speed=options.positive(speed, "--speed"),
        start=serve.wall() if start == "now" else options.instant(start, "--start"),
        seed=seed,
        symbols=tuple(checked(name) for text in symbols or () for name in text.split(",")),
        faults=rules.load(faults, seed) if faults else rules.Faults(),
        timeout_s=settings.busy_timeout_s,
    )
    serve.sandbox(wanted, _tell)
    return Exit.DONE


@app.command()
def env(
    wait: Annotated[float, typer.Option("--wait", help="Seconds to wait for one that is just starting.", min=0)] = 5.0,
) -> int:
    """The environment of the sandbox that runs, for a shell.

    Example: eval "$(ma sandbox env)"
    """
    from marketagent.sandbox import environment, rehearsal

    state = rehearsal.current(Settings.load().home, wait_s=wait)
    process.emit(environment.exports(state.env).encode())
    return Exit.DONE


def _tell(state: "State", world: "SandboxWorld", left: str | None) -> None:
    """What to set on stdout, what runs on stderr."""
    from marketagent.sandbox import environment

    process.emit(environment.exports(state.env).encode())
    show.say(
        f"sandbox at {state.url}: market {state.market}, seed {state.seed}, {world.now():%Y-%m-%d %H:%M} UTC,"
        f" {world.clock.speed:g} times as fast; end it with Ctrl-C"
    )
    if left:
        home = state.env["MA_HOME"]
        show.say(f"{home} holds {left}; to begin anew, end this and remove {home}")


def _require_extra() -> None:
    for name in ("starlette", "uvicorn"):
        if find_spec(name) is None:
            raise UsageError(f"ma sandbox needs {name}; run: pip install 'market-agent[sandbox]'")
