"""What is proved of a gradient strategy: its claim, against brute force, and each promise of the contract."""
