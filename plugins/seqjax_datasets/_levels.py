"""The loss of the best prediction that ignores its inputs, in closed form."""

import math


def entropy(*probabilities: float) -> float:
    """-Σ p ln p in nats, with 0 ln 0 = 0."""
    return -sum(p * math.log(p) for p in probabilities if p > 0)


def log_loss(probability: float) -> float:
    """The entropy of a bit that is 1 with this probability, in nats."""
    return entropy(probability, 1 - probability)
