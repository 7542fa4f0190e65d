"""`parametrize_checks`: each check of some plugins as a test of pytest."""

from collections.abc import Callable, Mapping, Sequence

from seqjax.errors import Error, nearest
from seqjax.plugin.base import Plugin
from seqjax.plugin.config import describe
from seqjax.testing.checking import checks_of
from seqjax.testing.line import failure, run_check


def parametrize_checks(plugins: Sequence[Plugin], expected_failures: Mapping[str, str] = {}) -> Callable:
    """A decorator that turns a test into one test for each plugin and each of its checks.

    >>> import seqjax as sj
    >>> from seqjax.samplers import InOrder
    >>> @sj.testing.parametrize_checks([InOrder(num_steps=4), InOrder(num_steps=8)])
    ... def test_plugin(check):
    ...     check()
    >>> (mark,) = test_plugin.pytestmark
    >>> mark.args[1][0].id
    'sampler in-order num_steps=4: equal instances'

    A check that cannot be made here is skipped.

    Args:
        plugins: instances, of any kinds.
        expected_failures: name of a check -> the reason for which it is known to fail, for all of the plugins. If it
            passes, its test fails.

    Raises:
        Error: a value is no plugin; an expected failure names no check.
    """
    import pytest

    cases = [(plugin, check) for plugin in plugins for check in checks_of(plugin)]
    known = {check.name for _, check in cases}
    for name in expected_failures:
        if name not in known:
            raise Error(f"expected_failures: no check is called {name!r}{nearest(name, known)}")

    def run(plugin, check):
        def test():
            line = run_check(plugin, check)
            if line.passed == "not made":
                pytest.skip(line.note)
            if line.fault:
                raise failure(plugin, [line])

        return test

    parameters = []
    for plugin, check in cases:
        reason = expected_failures.get(check.name)
        marks = () if reason is None else (pytest.mark.xfail(reason=reason, strict=True),)
        name = f"{plugin.kind} {describe(plugin)}: {check.name}"
        parameters.append(pytest.param(run(plugin, check), marks=marks, id=name))
    return pytest.mark.parametrize("check", parameters)
