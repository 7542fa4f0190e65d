"""Strategies around another one."""
