"""Near misses of people who know PyTorch, Keras, Hugging Face or Lightning, and the one hint that each gets.

A line of near_misses.txt has a command or an expression of Python, and after an arrow its hint, if there is one.
"""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest
from support.shell import call

import seqjax
import seqjax_gradients
import seqjax_models
import seqjax_optimizers
import seqjax_samplers

NEAR_MISSES = [line.split(" →") for line in Path(__file__).with_name("near_misses.txt").read_text("utf-8").splitlines()]
PYTHON = {"dataclasses": dataclasses, "seqjax": seqjax}
for package in (seqjax, seqjax_models, seqjax_optimizers, seqjax_gradients, seqjax_samplers):
    PYTHON |= {name: getattr(package, name) for name in package.__all__}
AROUND = re.compile(r"see |known: |verbs: |all plugins |(seqjax: )?the config is not valid:|.* cannot be made:$")
"""What the lines of a message begin with that say neither what is wrong nor what was meant."""


def test_a_near_miss_gets_one_hint_or_none(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = []
    for typed, _ in NEAR_MISSES:
        if re.match(r"[\w.]+\(|seqjax\.", typed):
            with pytest.raises((seqjax.Error, AttributeError)) as caught:
                eval(typed, PYTHON)
            message = str(caught.value)
        else:
            done = call(*shlex.split(typed))
            assert (done.returncode, done.stdout) == (2, ""), typed
            message = done.stderr
        lines = [line.strip() for line in message.splitlines() if not AROUND.match(line.strip())]
        assert len(lines) == 1, (typed, message)
        said = re.sub(r" \((fields|metrics)\b.*\)$", "", lines[0])
        found.append((typed, " ".join(re.split("; |, such as ", said, maxsplit=1)[1:])))
    assert found == [(typed, hint.strip()) for typed, hint in NEAR_MISSES]
    assert len(found) >= 60
