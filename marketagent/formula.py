"""Whether ``signals`` of a strategy is plainly a formula: one expression after another, of what is known not to look.

A strategy that is traced on one market and read on others (see ``joint``) must not do anything there that it would not do
here. Python can look at a value in more ways than an array can notice (``str``, ``isinstance``, a thread, a caught
error, a cache), so nothing is left to noticing: what is not in the lists below, in the code as Python has compiled it, is
no formula. Nothing depends on that but speed.
"""

import dis
from types import FunctionType
from typing import Any

import numpy as np

from marketagent import indicators
from marketagent.deferred import DEFERRED, Deferred
from marketagent.names import INDICATORS
from marketagent.signals import Signal
from marketagent.strategy import Strategy

_STEPS = {
    "RESUME", "NOP", "CACHE", "PRECALL", "PUSH_NULL", "KW_NAMES", "EXTENDED_ARG", "COPY", "SWAP", "POP_TOP", "NOT_TAKEN",
    "LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_LOAD_FAST", "LOAD_FAST_BORROW", "LOAD_FAST_BORROW_LOAD_FAST_BORROW",
    "STORE_FAST", "STORE_FAST_STORE_FAST", "STORE_FAST_LOAD_FAST", "LOAD_ATTR", "LOAD_METHOD", "LOAD_CONST",
    "LOAD_SMALL_INT", "CALL", "CALL_KW", "BINARY_OP", "COMPARE_OP", "UNARY_NEGATIVE", "UNARY_INVERT", "BUILD_MAP",
    "BUILD_CONST_KEY_MAP", "BUILD_TUPLE", "RETURN_VALUE", "RETURN_CONST",
}  # fmt: skip
_LOADS = {"LOAD_ATTR", "LOAD_METHOD"}
# Of the panel, of NumPy, of the indicators, and of what those give that have several results.
_ATTRIBUTES = {"raw", "nan", "inf", "upper", "middle", "lower", "macd", "signal", "histogram"}
_ATTRIBUTES |= {name for name in dir(np) if callable(getattr(np, name)) and getattr(np, name) in DEFERRED} | set(
    INDICATORS
)


def is_formula(strategy: Strategy, arrays: set[str]) -> bool:
    """Whether its ``signals`` is one, of the panel's `arrays` by name, built-in indicators, arithmetic and parameters."""
    function = type(strategy).signals
    if type(function) is not FunctionType or hasattr(function, "__wrapped__"):
        return False
    if type(strategy).__getattribute__ is not object.__getattribute__ or hasattr(type(strategy), "__getattr__"):
        return False
    code = function.__code__
    if code.co_exceptiontable or code.co_freevars or code.co_cellvars:
        return False
    own = {name for name in strategy.params() if not hasattr(Deferred, name)}
    attributes = own | arrays | _ATTRIBUTES
    others = {name for base in type(strategy).__mro__ for name in vars(base)}.union(vars(strategy)) - own
    if others & attributes:  # a method named ``upper`` is no part of an indicator's result
        return False
    return all(_is_fine(step, function.__globals__, attributes) for step in dis.get_instructions(code))


def _is_fine(step: dis.Instruction, scope: dict[str, Any], attributes: set[str]) -> bool:
    if step.opname == "LOAD_GLOBAL":
        return _is_blind(scope[step.argval]) if step.argval in scope else step.argval == "abs"
    return step.opname in _STEPS and (step.opname not in _LOADS or step.argval in attributes)


def _is_blind(value: Any) -> bool:
    """Whether a global cannot look: a number, a module of functions, a function that writes down what it is asked."""
    if value is np or value is indicators or value is Signal:
        return True
    return type(value) in (bool, int, float) or (callable(value) and (value in DEFERRED or _is_indicator(value)))


def _is_indicator(value: Any) -> bool:
    return getattr(value, "__wrapped__", None) in INDICATORS.values()
