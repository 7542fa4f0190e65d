"""Mirrors runs to trackers, such as TensorBoard."""
