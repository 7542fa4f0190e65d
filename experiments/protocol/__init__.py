"""The parts of `referee.py`: tasks, training, statistics, stages and the page."""
