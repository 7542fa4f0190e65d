"""A problem whose reverse pass keeps few states, and computes the steps between them again."""

import jax

from seqjax.gradients.contract.problem import Problem
from seqjax.gradients.steps.segmented import Steps, run_checkpointed


def checkpointed(problem: Problem, levels: int = 1) -> Problem:
    """The problem, whose reverse pass keeps the states at the start of segments only. It composes with edge weights.

    See `seqjax.gradients.steps.segmented.run_checkpointed`.

    Args:
        problem: the problem.
        levels: the number of levels, at least 0; 0 keeps everything.
    """

    def run_in_segments(params, state, xs, edge_weights=None, scored=None):
        def run(state, steps):
            state, *results = problem.unroll_with_outputs(params, state, *steps.read())
            return state, results

        steps = Steps.of((xs, edge_weights, scored), len(jax.tree.leaves(xs)[0]))
        state, (losses, outputs) = run_checkpointed(run, state, steps, levels)
        return state, losses, outputs

    return problem.changed(run=run_in_segments) if levels else problem
