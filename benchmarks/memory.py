"""Peak memory of a benchmark's own process."""

import resource
from pathlib import Path


def peak_mib() -> float:
    """Return the peak resident memory of this process since it began its program, MiB.

    Linux hands a parent's peak on to the ``ru_maxrss`` of its children; its status file does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
