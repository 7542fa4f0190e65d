"""Says what is wrong with the gradient of a strategy that claims to be exact, in the words of `check_estimator`."""

from collections.abc import Sequence

from seqjax.gradients.calls.estimating import estimate
from seqjax.gradients.contract.gradient import Gradient
from seqjax.testing.estimators.asking import Asked
from seqjax.testing.estimators.calling import Estimator
from seqjax.testing.estimators.chain import path_of, states_of
from seqjax.testing.estimators.explaining import explain_window
from seqjax.testing.estimators.scans import scan_of_case
from seqjax.testing.proofs.cases import case


def explain_strategy(strategy: Gradient, cases: Sequence[str]) -> str:
    """What is wrong with the gradient of one row, on the first of some cases on which it is; "" if it is on none."""
    for name in cases:
        c = case(name)
        scan = scan_of_case(c)
        asked = Asked(Estimator(_function(strategy, c), strategy.of), scan, None, scan.params)
        for w, (xs, state) in enumerate(zip(scan.windows, states_of(scan), strict=True)):
            if text := explain_window(asked, path_of(scan, [xs], state), None):
                return f"{name}, one row, window {w}. {text}"
    return ""


def _function(strategy, c):
    run = estimate(c.problem, strategy)

    def estimator(step, params, state, xs, key, memory=None):
        made = run(params, state, xs[0], weights=xs[1], key=key, memory=memory)
        return (made.loss, made.grads) + ((made.memory,) if strategy.of == "history" else ())

    return estimator
