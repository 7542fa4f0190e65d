"""Text for a terminal, without characters that control the terminal."""
