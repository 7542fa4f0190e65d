"""Arrays in files: their names, their bytes, and how a saved file is read."""
