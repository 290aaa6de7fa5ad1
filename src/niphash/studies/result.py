"""What every study leaves: a CSV, a picture, and one sentence of result."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from niphash.errors import writing
from niphash.training.loggers import Table


@dataclass(frozen=True)
class StudyResult:
    """The answer to one question.

    Attributes:
        name: Names the files.
        rows: One mapping a measured number; all with the same keys.
        figure: The picture, drawn without pyplot.
        sentence: The result in one sentence, with its numbers.
    """

    name: str
    rows: Sequence[Mapping[str, Any]]
    figure: Figure
    sentence: str

    def table(self) -> Table:
        """Return the rows as a table for loggers."""
        columns = list(self.rows[0])
        return Table(columns, [[row[column] for column in columns] for row in self.rows])

    def write(self, run_dir: Path) -> None:
        """Print the sentence, and write ``<name>.csv``, ``<name>.png`` and ``<name>.txt``.

        Raises:
            InputError: they cannot be written; the sentence has been printed.
        """
        print(self.sentence)
        with writing(run_dir, "the result is printed; make room there, or name another folder"):
            run_dir.mkdir(parents=True, exist_ok=True)
            with (run_dir / f"{self.name}.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(self.rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(self.rows)
            self.figure.savefig(run_dir / f"{self.name}.png", dpi=120)
            (run_dir / f"{self.name}.txt").write_text(self.sentence + "\n", encoding="utf-8")
        print(f"written to {run_dir}")
