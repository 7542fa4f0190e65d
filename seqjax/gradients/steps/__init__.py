"""What is done with steps, before there is a problem: they are run, weighed, mapped, cut into segments, and split."""
