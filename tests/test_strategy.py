"""Parameters of strategies: their ranges, their kinds, and what --set may give them."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from marketagent.errors import UsageError
from marketagent.strategy import Strategy, param


class Example(Strategy):
    """An example."""

    window: int = param(20, 2, 250, "sessions")
    share: float = param(0.5, 0.0, 1.0, "a share")
    free: float = param(0.0, help="any number")
    mode: str = param("fast", choices=("fast", "slow"))
    loud: bool = param(False)
    band = 1
    rebalance = "weekly"

    def check(self) -> None:
        if self.window == 13:
            raise ValueError("window is 13; that brings bad luck")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("window=2", 2),
        ("window=250", 250),
        ("share=0", 0.0),
        ("share=1", 1.0),
        ("share=2.5e-1", 0.25),
        ("mode=slow", "slow"),
        ("loud=true", True),
        ("loud=False", False),
        ("band=0.5", 0.5),
        ("rebalance=monthly", "monthly"),
        ("top_k=7", 7),
        ("long_only=false", False),
    ],
)
def test_set_takes_what_lies_in_the_range_both_ends_included(text: str, value: Any) -> None:
    name, _, given = text.partition("=")
    found = Example.configured({name: given}).params()[name]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("window=1", r"window is 1; it must lie in 2 \.\. 250"),
        ("window=251", r"window is 251; it must lie in 2 \.\. 250"),
        ("window=2.5", "window is '2.5'; it must be a whole number"),
        ("window=", "window is ''; it must be a whole number"),
        ("window=" + "9" * 5000, "it must be a whole number"),
        ("share=nan", "share is nan; it must be a finite number"),
        ("share=1e999", "share is inf; it must be a finite number"),
        ("free=-inf", "free is -inf; it must be a finite number"),
        ("share=half", "share is 'half'; it must be a number"),
        ("share=-0.001", r"share is -0.001; it must lie in 0.0 \.\. 1.0"),
        ("mode=slo", "mode is 'slo'; it must be one of fast, slow; did you mean slow"),
        ("loud=1", "loud is '1'; it must be true or false"),
        ("rebalance=yearly", "must be one of bar, daily, weekly, monthly"),
        ("sizing=equals", "did you mean equal"),
        ("thresold=0.1", "Example has no parameter 'thresold'; did you mean threshold"),
        ("signals=1", "Example has no parameter 'signals'"),
        ("weights=1", "Example has no parameter 'weights'"),
        ("window=13", "window is 13; that brings bad luck"),
    ],
)
def test_set_refuses_everything_else_in_one_line(text: str, said: str) -> None:
    name, _, given = text.partition("=")
    with pytest.raises(UsageError, match=said):
        Example.configured({name: given})


def test_a_plain_assignment_is_a_default_that_keeps_its_range_and_its_kind() -> None:
    described = Example.described()
    assert described["band"] == {**Strategy.described()["band"], "default": 1.0}
    assert type(described["band"]["default"]) is float
    assert described["rebalance"]["default"] == "weekly"
    with pytest.raises(UsageError, match=r"band is 1\.5; it must lie in"):
        Example.configured({"band": "1.5"})


def test_a_subclass_of_a_subclass_inherits_its_parameters() -> None:
    class Heir(Example):
        window = 30

    assert Heir().params()["window"] == 30
    with pytest.raises(UsageError, match="must lie in 2"):
        Heir.configured({"window": "1"})
    assert Example().params()["window"] == 20


def test_values_of_the_wrong_kind_are_refused_in_python_too() -> None:
    for values in ({"window": 2.0}, {"window": True}, {"loud": 1}, {"share": "0.5"}, {"mode": 5}):
        with pytest.raises(UsageError, match="it must be"):
            Example(**values)
    assert Example(share=1).share == 1


def test_a_strategy_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Example().window = 3  # type: ignore[misc]  # what is tested
    assert Example() == Example(window=20)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"__annotations__": {"size": int}}, "size needs a default"),
        ({"__annotations__": {"size": tuple}, "size": (1, 2)}, "size needs a default"),
        ({"__annotations__": {"size": object}, "size": None}, "size needs a default"),
        ({"top_k": 2.5}, "top_k is 2.5; it must be a whole number"),
        ({"long_only": 1}, "long_only is 1; it must be true or false"),
        ({"threshold": 2}, "threshold is 2.0; it must lie in"),
    ],
)
def test_a_class_with_a_parameter_that_nobody_could_set_is_refused(body: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        type("Broken", (Strategy,), {"__module__": __name__, **body})
