"""Learning from streams: a learner that is updated after every step."""
