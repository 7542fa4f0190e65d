"""The calls of a user: any strategy on any scan body."""
