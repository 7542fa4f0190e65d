"""Strategies in reverse mode: which parts of the gradient through time are kept, and how."""
