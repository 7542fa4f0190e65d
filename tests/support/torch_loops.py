"""Loops in PyTorch, each right or with one mistake."""

import torch

STEPS = 3


def rnn(mistake="", detach=False):
    """Backpropagation through time of the RNN of loops.py by autograd, in full or in segments of 3 steps."""
    kept = {}

    def estimator(step, params, h, xs, key):
        if mistake == "added up":  # the gradients of the calls before are never set to zero
            if not kept:
                kept.update({name: a.requires_grad_() for name, a in params.items()})
            params = kept
        else:
            params = {name: a.requires_grad_() for name, a in params.items()}
        loss = torch.zeros(())
        for t in range(len(xs["u"])):
            if detach and t and t % STEPS == (1 if mistake == "one late" else 0) and t > 1:
                h = h.detach()
            h = h * (1 - xs["reset"][t])
            h = torch.tanh(params["W"] @ h + params["U"] @ xs["u"][t] + params["b"])
            if mistake == "inputs detached":
                h = h.detach() + params["W"] @ h - (params["W"] @ h).detach()
            loss = loss + xs["weight"][t] * torch.sum((params["V"] @ h - xs["y"][t]) ** 2)
        loss.backward()
        return loss, {name: a.grad for name, a in params.items()}

    return estimator


def e_prop(mistake=""):
    """Eligibility propagation by hand, for the problem of `seqjax.models.RNN` with values and a squared loss."""

    def estimator(step, params, state, xs, key):
        layer, W, b = params["layer_0"], params["W_hq"], params["b_q"]
        (h,) = torch.utils._pytree.tree_leaves(state)
        h = h.reshape(-1)
        traces = {name: torch.zeros_like(a) for name, a in layer.items()}
        grads = {name: torch.zeros_like(a) for name, a in layer.items()}
        g_W, g_b, loss = torch.zeros_like(W), torch.zeros_like(b), torch.zeros(())
        for x, y in zip(*xs, strict=True):
            new = torch.tanh(x @ layer["W_xh"] + h @ layer["W_hh"] + layer["b_h"])
            D = 1 - new**2
            own = D * 0  # what a unit does to itself through W_hh is left out
            if mistake == "kept":
                own = D * torch.diagonal(layer["W_hh"])
            now = {"W_xh": torch.outer(x, D), "W_hh": torch.outer(new if mistake == "after" else h, D), "b_h": D}
            traces = {name: own * traces[name] + now[name] for name in traces}
            h = new
            error = h @ W + b - y
            loss = loss + torch.mean(error**2)
            signal = 2 * error / len(error)
            learning = W @ signal
            grads = {name: grads[name] + learning * traces[name] for name in grads}
            g_W, g_b = g_W + torch.outer(h, signal), g_b + signal
        return loss, {"layer_0": grads, "W_hq": g_W, "b_q": g_b}

    return estimator
