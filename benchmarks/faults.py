"""What kills and damage cost: runs ended at random moments, and files changed at random.

    python benchmarks/faults.py --kills 200 --mutations 10000 --seed 0

Prints a line for each job and each reader, and the sums: kills, losses (a run that did not come to the same
end, or ended with a traceback), mutations, and finds (no named error and no right result). Exits with 1 when
there is a loss or a find.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # forks and thread pools do not mix

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import kills
import mutations
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.photos import write_objects

MODEL = ROOT / "tests" / "models" / "fisher_itq"


def main() -> None:
    parser = argparse.ArgumentParser(description="Kills and damaged files.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--mutations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", nargs="*", default=[""], help="jobs and readers whose name holds one of these"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        photos = write_objects(folder / "photos", objects=4, views=3)
        faults = _kill(folder, photos, options) + _mutate(folder, photos, options)
    sys.exit(1 if faults else 0)


def _kill(folder: Path, photos: Path, options: argparse.Namespace) -> int:
    if not options.kills:
        return 0
    some = folder / "some"
    for name in sorted(path.name for path in photos.iterdir())[:2]:
        shutil.copytree(photos / name, some / name)
    jobs = [job for job in kills.jobs(photos, some, MODEL) if any(part in job.name for part in options.only)]
    table = Table("job", "kills", "finished before", "losses", "seconds")
    tallies = []
    for number, job in enumerate(jobs):
        share = (options.kills * (number + 1)) // len(jobs) - (options.kills * number) // len(jobs)
        start = time.perf_counter()
        tally = kills.torment(job, share, folder / f"job{number}", options.seed)
        tallies.append(tally)
        seconds = f"{time.perf_counter() - start:.0f}"
        table.add_row(job.name, str(tally.ended), str(tally.finished_before), str(len(tally.faults)), seconds)
        print(f"{job.name}: {tally.ended} kills, {len(tally.faults)} losses, {seconds} s", flush=True)
        for fault in tally.faults:
            print(f"LOSS: {job.name}: {fault}", flush=True)
    _show(table)
    losses = sum(len(tally.faults) for tally in tallies)
    print(f"kills {sum(tally.ended for tally in tallies)}, losses {losses}, seed {options.seed}", flush=True)
    return losses


def _mutate(folder: Path, photos: Path, options: argparse.Namespace) -> int:
    if not options.mutations:
        return 0
    readers = mutations.make_readers(folder / "files", MODEL, photos)
    readers = [reader for reader in readers if any(part in reader.name for part in options.only)]
    start = time.perf_counter()
    counts, finds = mutations.read_all(readers, options.mutations, options.seed)
    seconds = time.perf_counter() - start
    for find in finds:
        print(f"FIND: {find.reader} (number {find.number}): {find.what}", flush=True)
    table = Table("file", "changed", "error that names it", "read", "finds")
    for name in dict.fromkeys(reader.name for reader in readers):
        named, taken, found = (counts[name, outcome] for outcome in ("named", "taken", "find"))
        table.add_row(escape(name), *map(str, (named + taken + found, named, taken, found)))
    _show(table)
    wrong = sum("silent wrong" in find.what for find in finds)
    print(
        f"mutations {options.mutations}, finds {len(finds)}, silent wrong results {wrong}, "
        f"seed {options.seed}, {options.mutations / seconds:.0f} a second",
        flush=True,
    )
    return len(finds)


def _show(table: Table) -> None:
    Console(soft_wrap=True).print(table)


if __name__ == "__main__":
    main()
