"""What each recorded rule of public code is: its equations as a loop of numpy, against the recorded gradients.

A rule is a generator. It is sent the parts of a step, and yields the gradient of the loss of this step. With I_t as the
rows D_i f, f = [h_{t-1}, x_t, 1], row i is what the parameters of unit i do to this unit at once; the others are zero.
"""

from typing import Any, NamedTuple

import numpy as np
import pytest
from references.setting import INPUTS, LEAKS, STEPS, UNITS, Setting, recorded, running_sums

from seqjax.testing.compare import assert_close

PER_UNIT = UNITS + INPUTS + 1
S = Setting()


class Step(NamedTuple):
    """A step of the network.

    Args:
        t: its number, from 0 on.
        J: ∂h_t/∂h_{t-1}.
        D: the derivative of each unit by its sum W h + U x + b.
        f: [h_{t-1}, x_t, 1].
        of_h: ∂l_t/∂h_t.
        h: h_t.
        alpha: the leak.
    """

    t: int
    J: Any
    D: Any
    f: Any
    of_h: Any
    h: Any
    alpha: float


def steps(alpha):
    h = S.h_0
    for t in range(STEPS):
        f = np.concatenate([h, S.x[t], [1]])
        driven = np.tanh(np.concatenate([S.W, S.U, S.b[:, None]], axis=1) @ f)
        D = alpha * (1 - driven**2)
        h = (1 - alpha) * h + alpha * driven
        yield Step(t, (1 - alpha) * np.eye(UNITS) + D[:, None] * S.W, D, f, S.R.T @ (S.R @ h + S.c - S.y[t]), h, alpha)


def with_units(rows):
    """A trace of each unit's own parameters, float[units, p], as an influence matrix float[units, units, p]."""
    return np.eye(UNITS)[:, :, None] * rows


def rtrl():
    M, found = np.zeros((UNITS, UNITS, PER_UNIT)), None
    while True:
        s = yield found
        M = np.einsum("ij,jkp->ikp", s.J, M) + with_units(np.outer(s.D, s.f))
        found = np.einsum("i,ikp->kp", s.of_h, M)


def trace(decay, kappa=0.0, feedback=None):
    """A trace of each unit's own parameters that decays: decay(J, alpha) is a number for each unit."""
    rows, filtered, found = np.zeros((UNITS, PER_UNIT)), 0.0, None
    while True:
        s = yield found
        rows = (decay(s.J, s.alpha) * np.ones(UNITS))[:, None] * rows + np.outer(s.D, s.f)
        filtered = kappa * filtered + rows
        signal = s.of_h if feedback is None else (S.R @ s.h + S.c - S.y[s.t]) @ feedback
        found = signal[:, None] * filtered


def snap_1():
    return trace(lambda J, alpha: np.diag(J))


def leak(kappa=0.0, feedback=None):
    return trace(lambda J, alpha: 1 - alpha, kappa, feedback)


def sk_rtrl(rank, certificates=None):
    """SnAp-1 plus the best approximation of the rest by a matrix of some rank, found anew at each step."""
    rows, M, bound, found = np.zeros((UNITS, PER_UNIT)), np.zeros((UNITS, UNITS, PER_UNIT)), 0.0, None
    while True:
        s = yield found
        M = np.einsum("ij,jkp->ikp", s.J, M) + with_units(np.outer(s.D, s.f))
        rows = np.diag(s.J)[:, None] * rows + np.outer(s.D, s.f)
        left, values, right = np.linalg.svd((M - with_units(rows)).reshape(UNITS, -1), full_matrices=False)
        M = with_units(rows) + ((left[:, :rank] * values[:rank]) @ right[:rank]).reshape(M.shape)
        of_J = np.abs(s.J)
        norm = min(np.linalg.norm(s.J), np.sqrt(of_J.sum(0).max() * of_J.sum(1).max()))
        bound = norm * bound + np.linalg.norm(values[rank:])
        if certificates is not None:
            certificates.append(bound)
        found = np.einsum("i,ikp->kp", s.of_h, M)


def kf_rtrl(u, B, least=0.0):
    """One Kronecker product u ⊗ B for all of [h, x, 1]; a norm is at least `least`."""
    found = None

    def root(over, under):
        return np.sqrt(max(np.linalg.norm(over), least) / max(np.linalg.norm(under), least))

    while True:
        s = yield found
        first, second = S.signs[s.t, :2]
        B = s.J @ B
        p_0, p_1 = root(B, u), root(s.D, s.f)
        u, B = first * p_0 * u + second * p_1 * s.f, first * B / p_0 + second * np.diag(s.D) / p_1
        found = np.outer(s.of_h @ B, u)


def uoro(s_tilde, theta, least=0.0):
    """One product s̃ θ̃; a norm below is at least `least`, and so is ρ0."""
    found = None
    while True:
        s = yield found
        nu, u = S.signs[s.t], s.J @ s_tilde
        w = np.outer(nu * s.D, s.f)
        rho_0 = max(np.sqrt(np.linalg.norm(theta) / max(np.linalg.norm(u), least)), least)
        rho_1 = np.sqrt(np.linalg.norm(w) / np.linalg.norm(nu))
        s_tilde, theta = rho_0 * u + rho_1 * nu, theta / rho_0 + w / rho_1
        found = (s.of_h @ s_tilde) * theta


def kernl(matrix, rates, learning_rate=0.0):
    """The influence is matrix ⊗ a decaying trace; both are fitted to what perturbations do to a second network."""
    matrix, rates = np.array(matrix), np.array(rates)
    rows, omega, gamma, perturbed, found = np.zeros((UNITS, PER_UNIT)), np.zeros(UNITS), np.zeros(UNITS), S.h_0, None
    while True:
        s = yield found
        perturbed = perturbed + S.zeta[s.t]
        driven = np.tanh(S.W @ perturbed + S.U @ S.x[s.t] + S.b)
        perturbed = (1 - s.alpha) * perturbed + s.alpha * driven
        keep = np.maximum(0, 1 - rates)
        gamma, omega = keep * gamma - omega, keep * omega + S.zeta[s.t + 1]
        rows = keep[:, None] * rows + np.outer(s.D, s.f)
        error = matrix @ omega - (perturbed - s.h)
        of_matrix, of_rates = np.outer(error, omega), (error @ matrix) * gamma
        matrix, rates = matrix - learning_rate * of_matrix, rates - learning_rate * of_rates
        found = (s.of_h @ matrix)[:, None] * rows


def dni(weights, learning_rate):
    """A linear synthetic gradient of (h, y, 1), which is fitted to the one of the next step, through J."""
    weights, before, of_h, found = np.array(weights), np.concatenate([S.h_0, S.y[0], [1]]), np.zeros(UNITS), None
    while True:
        s = yield found
        now = np.concatenate([s.h, S.y[s.t], [1]])
        target = of_h + (weights @ now) @ s.J
        weights = weights - learning_rate * np.outer(weights @ before - target, before)
        before, of_h = now, s.of_h
        found = np.outer((weights @ now) * s.D, s.f)


ZERO = np.zeros((UNITS, PER_UNIT))
RULES = {
    "sketched_rtrl": {
        "rtrl": lambda _: rtrl(),
        "snap-1": lambda _: snap_1(),
        "sk-rtrl-2": lambda _: sk_rtrl(2),
        "sk-rtrl-4": lambda _: sk_rtrl(4),
        "sk-rtrl-6": lambda _: rtrl(),
        "rflo": lambda found: trace(lambda J, alpha: 1 - 1 / found["arguments"]["tau"]),
        "kf-rtrl": lambda _: kf_rtrl(np.zeros(PER_UNIT), np.zeros((UNITS, UNITS)), 1e-7),
        "uoro": lambda _: uoro(np.zeros(UNITS), ZERO, 1e-7),
    },
    "vanilla_rtrl": {
        "rtrl": lambda _: rtrl(),
        "rflo": lambda _: leak(),
        "rflo, feedback": lambda _: leak(feedback=S.feedback),
        "kf-rtrl": lambda _: kf_rtrl(S.A_0, S.B_0),
        "uoro": lambda _: uoro(S.s_0, S.theta_0),
        "kernl, fixed": lambda found: kernl(found["matrix"], found["rates"]),
        "kernl": lambda found: kernl(found["matrix"], found["rates"], found["learning rate"]),
        "dni": lambda found: dni(S.synthetic_0, found["learning rate"]),
    },
    "braintrace_rules": {
        "d-rtrl, tanh": lambda _: leak(),
        "d-rtrl, leaky": lambda _: leak(),
        "e-prop 0, leaky": lambda _: leak(),
        "e-prop 0.5, tanh": lambda _: leak(0.5),
        "e-prop 0.5, leaky": lambda _: leak(0.5),
        "snap-1, tanh": lambda _: snap_1(),
        "snap-1, leaky": lambda _: snap_1(),
        "snap-2, tanh": lambda _: rtrl(),
        "uoro, tanh": lambda _: uoro(np.zeros(UNITS), ZERO, 1e-12),
        "uoro, leaky": lambda _: uoro(np.zeros(UNITS), ZERO, 1e-12),
    },
    "jax_rtrl_cells": {
        "rtrl, tanh": lambda _: rtrl(),
        "rtrl, leaky": lambda _: rtrl(),
        "rflo, leaky": lambda _: leak(),
        "eprop, leaky": lambda _: snap_1(),
    },
}
"""Library -> rule -> the generator, from what is recorded."""


def run(rule, network):
    """The sums of the gradients of a rule."""
    next(rule)
    return np.array(running_sums(np.array([rule.send(step) for step in steps(LEAKS[network])])))


@pytest.mark.parametrize(("library", "rule"), [(library, rule) for library, rules in RULES.items() for rule in rules])
def test_the_recorded_gradients_are_those_of_these_equations(library, rule):
    found = recorded(library)["rules"][rule]
    assert_close(run(RULES[library][rule](found), found["network"]), np.array(found["sums"]), f"{rule} of {library}")


@pytest.mark.parametrize("library", RULES)
def test_each_recorded_rule_is_defined_here_or_compared_with_seqjax(library):
    of_windows = {"segments-4", "segments-12", "snap-1, window", "uoro, window"}  # see test_references.py
    assert recorded(library)["rules"].keys() - of_windows == RULES[library].keys()


@pytest.mark.parametrize("rank", [2, 4])
def test_the_certificate_of_sk_rtrl_bounds_what_is_left_out(rank):
    found, certificates = recorded("sketched_rtrl")["rules"][f"sk-rtrl-{rank}"], []
    run(sk_rtrl(rank, certificates), "tanh")
    assert_close(np.array(certificates), np.array(found["certificate"]), "certificate")
    assert (np.array(found["left out"]) <= np.array(found["certificate"]) * (1 + 1e-12)).all()
