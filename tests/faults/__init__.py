"""Faults that are made on purpose, and what has to hold then; see `__main__`."""
