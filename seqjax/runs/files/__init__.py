"""The bytes of a run: its files, the manifest that names them, its checkpoints, its rows."""
