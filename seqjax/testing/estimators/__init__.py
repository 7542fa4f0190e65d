"""Proves and compares gradients of other libraries, and loops of one's own; says what is wrong with one that fails."""
