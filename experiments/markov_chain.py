"""Does an RNN reach the lowest possible perplexity? (8.1)   python experiments/markov_chain.py --seeds 5

Letters that a Markov chain draws cannot be predicted better than by its own transition matrix. The perplexity is
divided by this floor, which is the exponential of the entropy rate, and by the perplexity of the chain itself on the
same held-out letters. It is within a hundredth of both.
"""

import numpy as np

import seqjax as sj
from seqjax.analysis import markov
from seqjax.report import between, exactly, less_than
from seqjax_datasets import MarkovChain
from seqjax_models import RNN
from seqjax_optimizers import Adam


def main(num_steps: int = 400_000, epochs: int = 8, seeds: int = 5) -> sj.Report:
    report, by_floor, by_chain = sj.Report(__file__), [], []
    for seed in range(seeds):
        dataset = MarkovChain(num_steps=num_steps, seed=seed)
        experiment = sj.Experiment(
            dataset=dataset, model=RNN(hidden=32), optimizer=Adam(learning_rate=0.005), epochs=epochs, seed=seed,
            evaluate_every=epochs,
        )  # fmt: skip
        run = experiment.run()
        perplexity = run.metric("heldout_perplexity")[-1]
        by_floor.append(perplexity / dataset.perplexity)
        by_chain.append(perplexity / dataset.perplexity_on(run.data.text[round(0.9 * num_steps) :]))
    report.row("held-out perplexity by the floor", by_floor, between(0.98, 1.02, about=1))
    report.row("the same by the chain's own on these letters", by_chain, between(0.999, 1.02, about=1))
    P = dataset.transition_matrix
    stationary = markov.stationary(P)
    far = np.abs(markov.k_step(P, 100) - stationary).max()
    report.row("of the last chain: distance of 100 steps from the stationary distribution", far, less_than(1e-9))
    reverse = markov.reverse(P)
    report.row("its entropy rate backwards less that forwards (nats)",
               markov.entropy_rate(reverse) - markov.entropy_rate(P), exactly("0.000000000"))  # fmt: skip
    path = markov.most_likely_path(P, start=0, steps=10)
    report.row("its likeliest path of ten steps from a", "".join("abcdefgh"[state] for state in path.states))
    report.figure(
        "transitions",
        sj.plot.heatmap(P, *[list("abcdefgh")] * 2, label="probability", x_label="next state", y_label="state"),
    )
    return report


if __name__ == "__main__":
    sj.script(main)
