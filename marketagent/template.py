"""One trace for all combinations of a sweep, where the signals are a formula of the parameters, too."""

from marketagent.decision import check_weights
from marketagent.grounds import Asked, Traced
from marketagent.joint import Joint
from marketagent.names import filled, has_hole, plain
from marketagent.strategy import Strategy


class Template:
    """The formula of `strategy` and of all others of its class, on the panels of `joint`.

    Raises NoFormula, or what the strategy raises, where the parameters are not only handed to indicators and to deferred
    expressions: then each combination has to be asked.
    """

    def __init__(self, joint: Joint, strategy: Strategy) -> None:
        self._joint, self._traced = joint, Traced(joint.signals(strategy, of_all=True))
        self._names = joint.names(self._traced.leaves)
        self._parameters = [name for name in strategy.params() if any(has_hole(leaf, name) for leaf in self._names)]

    def asked(self, strategy: Strategy) -> Asked:
        """One of them, as it is played."""
        check_weights(strategy, self._traced.names)  # which may go by the parameters, as nothing else that is checked
        values = {name: plain(getattr(strategy, name)) for name in self._parameters}
        leaves, kept = self._joint.found([filled(name, values) for name in self._names])
        return self._traced.asked(strategy, leaves, kept)
