"""Plugins for seqjax, one of each kind."""
