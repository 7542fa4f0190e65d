"""A problem whose reverse pass keeps few states, and computes the steps between them again."""

import jax

from seqjax.gradients.problem import Problem, UnrolledProblem
from seqjax.gradients.segmented import Steps, run_checkpointed


class Checkpointed(UnrolledProblem):
    """A problem whose reverse pass keeps the states at the start of segments only. It composes with edge weights.

    See `seqjax.gradients.segmented.run_checkpointed`.

    Args:
        problem: the problem.
        levels: the number of levels, at least 0; 0 keeps everything.
    """

    def __init__(self, problem: Problem, levels: int = 1):
        super().__init__(problem)
        self.levels = levels

    def unroll_with_outputs(self, params, state, xs, edge_weights=None, scored=None):
        """Runs T steps as `Problem.unroll_with_outputs` does, with checkpoints."""
        num_steps = len(jax.tree.leaves(xs)[0])

        def run(state, steps):
            state, *results = self.problem.unroll_with_outputs(params, state, *steps.read())
            return state, results

        steps = Steps.of((xs, edge_weights, scored), num_steps)
        state, (losses, outputs) = run_checkpointed(run, state, steps, self.levels)
        return state, losses, outputs
