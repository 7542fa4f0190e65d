"""The influence of the parameters on the state: trajectories, and relatives of RTRL."""
