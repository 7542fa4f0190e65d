"""The proofs about a gradient strategy: its claim, against brute force, and each promise of the contract."""
