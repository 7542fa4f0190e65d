"""Starts the runs of a sweep as processes or as jobs of a cluster, and says how far they are."""
