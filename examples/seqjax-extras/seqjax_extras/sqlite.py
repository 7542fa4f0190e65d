"""The tracker sqlite."""

import sqlite3
from dataclasses import dataclass

import seqjax
from seqjax.runs import Session

TABLES = (
    "config (run, field, value, PRIMARY KEY (run, field))",
    "metrics (run, epoch, name, value, PRIMARY KEY (run, epoch, name))",
)


@seqjax.register("tracker", "sqlite")
@dataclass(frozen=True)
class SQLite(seqjax.Tracker):
    """Writes the configs and the metrics of all runs into one SQLite database, which any program can query."""

    file: str = "runs.sqlite"
    """The path of the database."""

    def open(self, run, config, epochs):
        """A session with a connection of its own."""
        connection = sqlite3.connect(self.file, timeout=60)  # seconds to wait while another process writes
        with connection:
            for table in TABLES:
                connection.execute(f"CREATE TABLE IF NOT EXISTS {table}")
            rows = [(str(run), field, str(value)) for field, value in config.items()]
            connection.executemany("INSERT OR REPLACE INTO config VALUES (?, ?, ?)", rows)
        return SQLiteSession(connection, str(run))


class SQLiteSession(Session):
    """A session that writes the metrics of one run."""

    def __init__(self, connection, run):
        self.connection, self.run = connection, run

    def row(self, epoch, values):
        """Writes a row for each column. An epoch that is there is replaced."""
        rows = [(self.run, epoch, name, value) for name, value in values.items()]
        with self.connection:
            self.connection.executemany("INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?)", rows)

    def text(self, name, text, epoch):
        """Does nothing, since the folder of the run has the texts."""

    def figure(self, name, file, epoch):
        """Does nothing, since the folder of the run has the figures."""

    def close(self):
        """Closes the connection."""
        self.connection.close()
