"""Does an RNN reach the lowest possible perplexity? (8.1)   python experiments/markov_chain.py --seeds 5

The letters are drawn from a Markov chain. In the long run, no model predicts them better than the transition matrix of
the chain, whose perplexity is the exponential of the entropy rate: this is the floor. The perplexity of the RNN is
divided by the floor, and by the perplexity of the transition matrix on the same held-out letters. It is within a
hundredth of both.
"""

import numpy as np

import seqjax as sj
from seqjax.analysis import markov
from seqjax.datasets import MarkovChain
from seqjax.models import RNN
from seqjax.optimizers import Adam

LETTERS = "abcdefgh"  # the states of the chain


def main(num_steps: int = 400_000, epochs: int = 8, seeds: int = 5) -> sj.Report:
    by_floor = []
    by_chain = []
    for seed in range(seeds):
        # Each seed has a chain of its own.
        chain = MarkovChain(num_steps=num_steps, seed=seed)
        experiment = sj.Experiment(
            dataset=chain,
            model=RNN(hidden=32),
            optimizer=Adam(learning_rate=0.005),
            epochs=epochs,
            seed=seed,
            evaluate_every=epochs,
        )
        run = experiment.run()
        perplexity = run.metric("heldout_perplexity")[-1]
        heldout_letters = run.data.text[round(0.9 * num_steps) :]
        by_floor.append(perplexity / chain.perplexity)
        by_chain.append(perplexity / chain.perplexity_on(heldout_letters))

    report = sj.Report(__file__)
    report.row("held-out perplexity by the floor", by_floor, expected=1, low=0.98, high=1.02)
    report.row("the same by the chain's own on these letters", by_chain, expected=1, low=0.999, high=1.02)

    # What else the transition matrix tells, of the chain of the last seed.
    P = chain.transition_matrix
    distance = np.abs(markov.k_step(P, 100) - markov.stationary(P)).max()
    backwards_less_forwards = markov.entropy_rate(markov.reverse(P)) - markov.entropy_rate(P)
    path = markov.most_likely_path(P, start=0, steps=10)
    report.row("of the last chain: distance of 100 steps from the stationary distribution", distance, high=1e-10)
    report.row(
        "its entropy rate backwards less that forwards (nats)", backwards_less_forwards, expected=0.0, tolerance=5e-10
    )
    report.row("its likeliest path of ten steps from a", "".join(LETTERS[state] for state in path.states))

    figure = sj.plot.heatmap(
        P, rows=LETTERS, columns=LETTERS, label="probability", x_label="next state", y_label="state"
    )
    report.figure("transitions", figure)
    return report


if __name__ == "__main__":
    sj.script(main)
