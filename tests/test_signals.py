"""What a signal may hold."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from marketagent.signals import Signal

NAN = np.nan


def test_one_confidence_holds_for_every_value() -> None:
    signal = Signal([[1.0, -1.0], [0.0, NAN]], 0.25)
    assert_array_equal(signal.confidence, [[0.25, 0.25], [0.25, NAN]])


def test_nan_in_either_abstains_in_both() -> None:
    signal = Signal([[0.5, NAN, 0.5]], [[NAN, 0.5, 0.5]])
    assert_array_equal(signal.value, [[NAN, NAN, 0.5]])
    assert_array_equal(signal.confidence, [[NAN, NAN, 0.5]])


@pytest.mark.parametrize(
    ("value", "confidence", "said"),
    [
        ([[1.0000001]], 1.0, r"value 1 is outside \[-1, 1\]"),
        ([[-np.inf]], 1.0, r"value -inf is outside"),
        ([[0.0]], 1.5, r"confidence 1\.5 is outside \[0, 1\]"),
        ([[0.0]], [[-0.5]], r"confidence -0\.5 is outside"),
        ([[0.0]], np.inf, "confidence inf is outside"),
        ([[0.0, 0.0]], [[0.5]], r"confidence is \(1, 1\), value is \(1, 2\)"),
        ([["up"]], 1.0, "could not convert"),
    ],
)
def test_what_is_out_of_range_or_shape_is_refused(value: object, confidence: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Signal(value, confidence)  # type: ignore[arg-type]  # what is tested


def test_a_later_change_of_the_authors_array_changes_no_signal() -> None:
    values = np.array([[0.5]])
    signal = Signal(values)
    values[0, 0] = 99.0
    assert signal.value.item() == 0.5
