"""Strategies that carry the influence of the parameters on the state forwards: RTRL and its relatives."""
