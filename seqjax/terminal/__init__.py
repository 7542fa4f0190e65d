"""Text that leaves for a terminal: no character of it is a command to the terminal."""
