"""The contract: a problem, and a strategy that estimates its gradient."""
