"""Reverse mode through time: weights on the edges between steps, and segments."""
