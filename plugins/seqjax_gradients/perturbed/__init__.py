"""Strategies that compare the losses of perturbed steps, or take slopes along directions."""
