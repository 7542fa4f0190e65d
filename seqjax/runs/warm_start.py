"""Starts a run from the parameters of another one."""

from typing import Any

from seqjax.array_files.arrays import as_tree, by_name
from seqjax.data.tokenizer import TextCodec
from seqjax.errors import Error, nearest
from seqjax.gradients.contract.problem import Params
from seqjax.models.check import misfits
from seqjax.models.model import ForeignModel, ModelProblem
from seqjax.training.initial import InitialState
from seqjax.training.setup import TrainingSetup

TOKENIZER = "tokenizer"
"""In `init_anew`, stands for the vocabulary or the scale, which is then fitted to the data of the new run."""


def params_from(
    source: Params, problem: ModelProblem, setup: TrainingSetup, anew: tuple[str, ...], where: str
) -> Params:
    """The initial parameters of a run that starts from those of another one.

    Args:
        source: the parameters of the other run.
        problem: the model of the new run.
        setup: how it is trained, which determines the initial values of the parameters in `anew`.
        anew: the names of the parameters that are initialized instead of taken from the other run, such as
            `layer_0/W_xh`; `TOKENIZER` is ignored.
        where: the folder of the other run, for messages.

    Raises:
        Error: a name that the model does not have; parameters that do not fit, all at once.
    """
    if isinstance(problem.model, ForeignModel):
        if {*anew} - {TOKENIZER}:
            raise Error("init_anew: a model of another library cannot draw parameters; leave their names out")
        own = problem.model.params_like()
    else:
        own = InitialState(problem, setup, 1).compute().params
    drawn, given = by_name(own), by_name(source)
    problems = [
        f"{name}: the model has no such parameter{nearest(name, drawn)}"
        for name in anew
        if name not in (*drawn, TOKENIZER)
    ]
    if problems:
        raise Error(f"init_anew: the parameters are {', '.join(drawn)}", problems=problems)
    wrong = {name: why for name, why in misfits(source, own).items() if name not in anew}
    if wrong:
        advice = f"To draw these anew: --init-anew {','.join([*anew, *wrong])}"
        if isinstance(problem.model, ForeignModel):
            advice = "Give a module of the same shapes, or start without init_from: run(params=params)"
        raise Error(
            f"the parameters of {where} do not fit this model\n{advice}",
            problems=[f"{name}: {why}" for name, why in wrong.items()],
        )
    return as_tree({name: drawn[name] if name in anew else given[name] for name in drawn}, own)


def check_tokens(source: Any, own: Any, where: str) -> None:
    """Checks that ids mean the same in two runs, where all parameters are taken over.

    Args:
        source: the codec of the other run.
        own: that of the new run.
        where: the folder of the other run, for messages.

    Raises:
        Error: their tokens differ.
    """
    if not isinstance(source, TextCodec) or not isinstance(own, TextCodec) or len(source) != len(own):
        return
    for id_, (there, here) in enumerate(zip(source.tokens, own.tokens, strict=True)):
        if there != here:
            raise Error(
                f"the tokenizer is not that of {where}: token {id_} is {there!r} there, and {here!r} here\n"
                "Use its tokenizer, with which its vocabulary is used too; or name the parameters that depend on "
                "tokens: --init-anew"
            )
