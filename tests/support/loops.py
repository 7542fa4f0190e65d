"""Loops written by hand in NumPy, as people write them, each right or with one mistake."""

import jax
import jax.numpy as jnp
import numpy as np

HIDDEN, INPUTS, STEPS, ROWS = 3, 2, 6, 3


def rnn_step(params, state, x):
    """h = tanh(W h + U u + b), with a loss of the read-out V h; the state is zero where x["reset"] is one."""
    h = jnp.where(x["reset"] > 0, 0, state)
    h = jnp.tanh(params["W"] @ h + params["U"] @ x["u"] + params["b"])
    return h, x["weight"] * jnp.sum((params["V"] @ h - x["y"]) ** 2)


def gru_step(params, state, x):
    """A GRU without biases; the loss is the squared distance of the state from a target."""
    h = state
    z = jax.nn.sigmoid(params["Wz"] @ h + params["Uz"] @ x["u"])
    r = jax.nn.sigmoid(params["Wr"] @ h + params["Ur"] @ x["u"])
    n = jnp.tanh(params["Wn"] @ (r * h) + params["Un"] @ x["u"])
    h = (1 - z) * n + z * h
    return h, jnp.sum((h - x["y"]) ** 2)


def rnn_scan(rows=None, resets=(), padded=None, windows=2):
    """Parameters, a state that is not zero, and windows of the RNN, as `check_estimator` takes them."""
    rng = np.random.default_rng(1)
    shapes = {"W": (HIDDEN, HIDDEN), "U": (HIDDEN, INPUTS), "b": (HIDDEN,), "V": (2, HIDDEN)}
    params = {name: 0.7 * rng.normal(size=shape) for name, shape in shapes.items()}
    more = () if rows is None else (rows,)

    def window():
        xs = {"u": rng.normal(size=(STEPS, *more, INPUTS)), "y": rng.normal(size=(STEPS, *more, 2))}
        xs |= {"reset": np.zeros((STEPS, *more)), "weight": np.ones((STEPS, *more))}
        xs["reset"][list(resets)] = 1
        if padded is not None:
            xs["weight"][STEPS - 2 :, padded] = 0
        return xs

    return rnn_step, params, 0.5 * rng.normal(size=(*more, HIDDEN)), [window() for _ in range(windows)]


def gru_scan():
    """The same for the GRU."""
    rng = np.random.default_rng(2)
    params = {"W" + g: 0.9 * rng.normal(size=(HIDDEN, HIDDEN)) for g in "zrn"}
    params |= {"U" + g: 0.9 * rng.normal(size=(HIDDEN, INPUTS)) for g in "zrn"}
    windows = [{"u": rng.normal(size=(STEPS, INPUTS)), "y": rng.normal(size=(STEPS, HIDDEN))} for _ in range(2)]
    return gru_step, params, 0.5 * rng.normal(size=HIDDEN), windows


def rnn_rtrl(mistake=""):
    """RTRL of the RNN: M is float[H, P], with the parameters W, U and b in this order."""

    def estimator(step, params, h, xs, key, memory=None):
        W, U, b, V = (params[name] for name in "WUbV")
        size = W.size + U.size + b.size
        M = np.zeros((HIDDEN, size)) if memory is None else memory
        loss, g, g_V = 0.0, np.zeros(size), np.zeros_like(V)
        for t in range(len(xs["u"])):
            x, y, weight = xs["u"][t], xs["y"][t], xs["weight"][t]
            reset = xs["reset"][t] > 0
            if reset:
                h = np.zeros_like(h)
                if mistake != "stale":
                    M = np.zeros_like(M)
            new = np.tanh(W @ h + U @ x + b)
            D = 1 - new**2
            parts = [np.kron(np.eye(HIDDEN), h), np.kron(np.eye(HIDDEN), x), np.eye(HIDDEN)]
            I = np.concatenate(parts, 1)
            J = np.diag(D) @ W
            if mistake == "W transposed":
                J = np.diag(D) @ W.T
            elif mistake == "J transposed":
                J = J.T
            elif mistake == "no derivative in J":
                J = W
            elif mistake == "diagonal":
                J = np.diag(np.diag(J))
            if mistake != "no derivative in I":
                I = D[:, None] * I
            if mistake == "after the step":
                I = D[:, None] * np.concatenate([np.kron(np.eye(HIDDEN), new), *parts[1:]], 1)
            old, M = M, J @ M + I
            if reset and mistake == "zero after the reset":
                M = np.zeros_like(M)
            h = new
            error = V @ h - y
            loss += weight * error @ error
            g += 2 * weight * error @ V @ (old if mistake == "step before" else M)
            g_V += 2 * weight * np.outer(error, h)
        g_W, g_U, g_b = np.split(g, [W.size, W.size + U.size])
        g_W = g_W.reshape(W.shape)
        if mistake == "gradient transposed":
            g_W = g_W.T
        if mistake == "sign":
            g_b = -g_b
        grads = {"W": g_W, "U": g_U.reshape(U.shape), "b": g_b, "V": g_V}
        return (loss, grads) if memory is None and not mistake.startswith("history") else (loss, grads, M)

    return estimator


def rnn_rows(mistake=""):
    """Backpropagation through time of the RNN for B rows side by side."""

    def estimator(step, params, h, xs, key):
        W, U, b, V = (params[name] for name in "WUbV")
        B = len(h)
        M = np.zeros((B, HIDDEN, W.size))
        loss, grads = 0.0, {name: np.zeros_like(a) for name, a in params.items()}
        M_U, M_b = np.zeros((B, HIDDEN, U.size)), np.zeros((B, HIDDEN, HIDDEN))
        for t in range(len(xs["u"])):
            x, y, weight = xs["u"][t], xs["y"][t], xs["weight"][t]
            keep = 1 - xs["reset"][t]
            h, M, M_U, M_b = h * keep[:, None], *(a * keep[:, None, None] for a in (M, M_U, M_b))
            new = np.tanh(h @ W.T + x @ U.T + b)
            D = 1 - new**2
            J = D[:, :, None] * W
            eye = np.eye(HIDDEN)
            M = J @ M + D[:, :, None] * np.stack([np.kron(eye, a) for a in h])
            M_U = J @ M_U + D[:, :, None] * np.stack([np.kron(eye, a) for a in x])
            M_b = J @ M_b + D[:, :, None] * eye
            h = new
            error = h @ V.T - y
            loss += np.sum(weight * np.sum(error**2, 1))
            scale = 2 * weight
            if mistake == "padded":  # a mean over the steps that count, in place of a sum
                scale = scale * len(xs["weight"]) / np.maximum(xs["weight"].sum(0), 1)
            q = scale[:, None] * error @ V
            if mistake == "row before":
                q = np.roll(q, 1, 0)
            for name, influence in (("W", M), ("U", M_U), ("b", M_b)):
                grads[name] += np.einsum("bh,bhp->p", q, influence).reshape(grads[name].shape)
            grads["V"] += np.einsum("b,bi,bj->ij", scale, error, h)
        if mistake == "mean":
            grads = {name: a / B for name, a in grads.items()}
        return loss, grads

    return estimator


def gru_rtrl(mistake=""):
    """RTRL of the GRU."""

    def estimator(step, params, h, xs, key):
        names = sorted(params)
        sizes = {name: params[name].size for name in names}
        M = np.zeros((HIDDEN, sum(sizes.values())))
        loss, g = 0.0, np.zeros(M.shape[1])
        sigmoid = lambda a: 1 / (1 + np.exp(-a))
        for t in range(len(xs["u"])):
            x = xs["u"][t]
            z = sigmoid(params["Wz"] @ h + params["Uz"] @ x)
            r = sigmoid(params["Wr"] @ h + params["Ur"] @ x)
            n = np.tanh(params["Wn"] @ (r * h) + params["Un"] @ x)
            dz, dr, dn = (h - n) * z * (1 - z), r * (1 - r), (1 - z) * (1 - n**2)
            to_r = dn[:, None] * params["Wn"] * (h * dr)
            J = np.diag(z) + dz[:, None] * params["Wz"] + dn[:, None] * params["Wn"] * r + to_r @ params["Wr"]
            if mistake == "no reset gate":
                J = J - to_r @ params["Wr"]
            elif mistake == "no update gate":
                J = J - dz[:, None] * params["Wz"]
            elif mistake == "no leak":
                J = J - np.diag(z)
            eye = np.eye(HIDDEN)
            I = {"Wz": np.diag(dz) @ np.kron(eye, h), "Uz": np.diag(dz) @ np.kron(eye, x)}
            I |= {"Wr": to_r @ np.kron(eye, h), "Ur": to_r @ np.kron(eye, x)}
            I |= {"Wn": np.diag(dn) @ np.kron(eye, r * h), "Un": np.diag(dn) @ np.kron(eye, x)}
            M = J @ M + np.concatenate([I[name] for name in names], 1)
            h = (1 - z) * n + z * h
            error = h - xs["y"][t]
            loss += error @ error
            g += 2 * error @ M
        parts = np.split(g, np.cumsum([sizes[name] for name in names])[:-1])
        return loss, {name: a.reshape(params[name].shape) for name, a in zip(names, parts, strict=True)}

    return estimator
