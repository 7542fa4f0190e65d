"""The editions of the referee: which questions they ask, and of whom."""

from .problems import IMMEDIATE, REFERENCE, Question
from .tasks import TASKS

RATES = tuple(float(f"{0.003 * 4.0**k:.2g}") for k in range(-2, 3))
UNTUNED = 0.003
"""The learning rate of those who do not tune."""

WIDE, GATED = "rnn:hidden=32:initializer=uniform", "gru:hidden=16:initializer=uniform"
IN_WINDOWS = (REFERENCE, IMMEDIATE, "rtrl", "kf-rtrl", "snap", "uoro", "truncated:steps=8", "randomized")
SHORT, LONG, WORDS = "add", "add:t1=10:t2=14", "an-bn"
"""Their targets depend on up to 6, 14 and 32 steps before."""
OF_STREAMS = (REFERENCE, "rolling:steps=16", "rtrl", "snap", "uoro")
STREAMING = {
    "rnn:hidden=16:initializer=uniform": (*OF_STREAMS, "kf-rtrl"),
    GATED: (*OF_STREAMS, "e-prop"),
    "rtu:hidden=16": OF_STREAMS,
    "leaky-rnn:hidden=16:leak=0.3:initializer=uniform": (*OF_STREAMS, "rflo:leak=0.3", "e-prop"),
}


def covered(strategies: dict[str, tuple[str, ...]]) -> Question:
    """The question about windows that cover what a task needs."""
    return Question("covered", tuple(TASKS), strategies, updates=1_000, has_errors=True)


def stream(*tasks: str) -> Question:
    """The question about streams, whose windows may be shorter than what a task needs.

    Gradients of a single step are clipped so often that a clip would bias the losses themselves: the rare targets,
    whose gradients are the largest, would count less. So there is none.
    """
    return Question("stream", tasks, STREAMING, {1: (1, 4, 16, 64), 16: (1, 16)}, samples=32_000, clips=(None,))


EDITIONS = {
    "small": (covered({WIDE: IN_WINDOWS}),),
    "stream": (stream(SHORT, WORDS),),
    "full": (
        covered({WIDE: (*IN_WINDOWS, "kernl"), GATED: (*IN_WINDOWS, "e-prop", "kernl")}),
        stream(SHORT, LONG, WORDS),
    ),
}
"""Edition -> its questions."""
