"""Python code that JAX calls back has equal parts in each process, and others after any change of what it computes."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from seqjax.runs.python_code import UnreadableError, parts_of_code

HELPERS = """
FACTOR = 7
LATER = 43

def shift(x):
    return x + FACTOR
"""
SOURCE = """
import collections, dataclasses, enum, functools, math, re
import numpy as np

RATE = 0.25
TABLE = np.arange(12.0).reshape(3, 4)
CELLS = np.array([{"a": 1}, (2, 3)], object)
WORDS = {"one", "two", "three", "four"}
DEEP = {"list": [1, 2, {"inner": 3.5}], "words": frozenset(["x", "y"])}
NESTED = {("key", frozenset(["p", "q", "r"])), ("other", frozenset(["s", "t", "u"]))}
CALLS = {lambda x: x + 47}
FILLED = collections.defaultdict(lambda: 53)
PATTERN = re.compile("a+b")

class Kind(enum.Enum):
    SOFT = 1

@dataclasses.dataclass
class Limits:
    low: float = -1.5
    def __post_init__(self):
        self.read = 59

class Wrapper:
    def __init__(self, function, factor):
        self.__wrapped__, self.factor = function, factor

class Base:
    def begin(self):
        return 31

class Filter(Base):
    gain = 11
    def __init__(self, order):
        self.order = order
        self.own = self
    @property
    def double(self):
        return 2 * self.order
    @staticmethod
    def fixed(x):
        return x * 13
    def __call__(self, x):
        return x * self.gain

FILTER = Filter(order=17)
LIMITS = Limits()
WRAPPER = Wrapper(len, 61)
BIAS = 67
RNG = np.random.default_rng(19)

def even(n):
    return n == 0 or odd(n - 1)

def odd(n):
    return n != 0 and even(n - 1)

@functools.lru_cache
def cached(x):
    return x * 23

def later():
    class Own:
        bias = BIAS
    return helpers.LATER + Own.bias

def make(scale, call):
    def called_back(x, power=2, *, offset=29):
        # a comment
        result = [scale * y ** power for y in x if y in WORDS or y in {"five", "six"}]
        result += [RATE, TABLE, CELLS, DEEP, PATTERN, Kind.SOFT, LIMITS, FILTER, RNG, even(4), cached(1)]
        result += [NESTED, CALLS, FILLED, WRAPPER, later()]
        return helpers.shift(call(result)), offset, (lambda z: np.tanh(z) + 37)
    return called_back

called_back = functools.partial(make(0.5, FILTER.__call__), 41)
"""
CHANGES = [
    ("0.25", "0.26"), ("12.0)", "12.0)[::-1]"), ("(3, 4)", "(4, 3)"), ('"a": 1', '"a": 2'), ('"three"', '"3"'),
    ("3.5", "3.6"), ('"y"', '"z"'), ("a+b", "a*b"), ("SOFT = 1", "SOFT = 2"), ("-1.5", "-1.6"), ("31", "32"),
    ("11", "12"), ("order=17", "order=18"), ("2 * self.order", "3 * self.order"), ("x * 13", "x * 14"),
    ("default_rng(19)", "default_rng(20)"), ("n != 0", "n != 1"), ("x * 23", "x + 23"), ("power=2", "power=3"),
    ("offset=29", "offset=30"), ('"five"', '"5"'), ("if y in", "if y not in"), ("np.tanh", "np.sinh"), ("37", "38"),
    ("make(0.5", "make(0.6"), ("FILTER.__call__", "FILTER.fixed"), ("41", "42"), ("FACTOR = 7", "FACTOR = 8"),
    ("x + FACTOR", "x - FACTOR"), ("LATER = 43", "LATER = 44"), ('"q"', '"v"'), ("x + 47", "x + 48"),
    ("lambda: 53", "lambda: 54"), ("read = 59", "read = 60"), ("61", "62"), ("BIAS = 67", "BIAS = 68"),
]  # fmt: skip
SAME = [
    ("# a comment", "# another one"),
    ("\n\ndef make", "\n\n\n\ndef unused():\n    return 1\n\ndef make"),
    ("result", "found"),
    ("import numpy as np\n", "import numpy as np, os\n"),
]


def digest(old="", new=""):
    """That of the function in the source, after a replacement."""
    changed = [text.replace(old, new) if old else text for text in (HELPERS, SOURCE)]
    helpers, own = ModuleType("helpers"), ModuleType("own")
    own.helpers = helpers
    for module, text in zip((helpers, own), changed, strict=True):
        exec(text, vars(module))
    parts = (part.encode() if isinstance(part, str) else part for part in parts_of_code(own.called_back))
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_each_change_of_what_it_computes_is_found(old, new):
    assert old in HELPERS + SOURCE
    assert digest(old, new) != digest()


@pytest.mark.parametrize(("old", "new"), SAME)
def test_comments_other_code_and_names_of_local_variables_do_not_count(old, new):
    assert old in SOURCE
    assert digest(old, new) == digest()


def test_another_process_with_other_hashes_of_python_finds_the_same():
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import {Path(__file__).stem} as own; "
    found = subprocess.run(
        [sys.executable, "-c", f"{code} print(own.digest())"],
        env=os.environ | {"PYTHONHASHSEED": "7"}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert found.stdout.strip() == digest()


def test_an_object_that_cannot_be_read_is_named(tmp_path):
    with (tmp_path / "log").open("w") as file, pytest.raises(UnreadableError, match=r"of _io\.TextIOWrapper, whose"):
        list(parts_of_code(lambda x: file.write(x)))
