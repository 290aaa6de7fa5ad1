"""When the compiled kernels are there, and what happens until then.

numba compiles the kernels once for a processor, which takes a quarter of a minute, and keeps the result
beside the package or, where that is read-only, in the user's cache folder; ``NUMBA_CACHE_DIR`` names
another. ``python -m niphash.search.compilation`` does it ahead of time. Where nobody did, a process of its
own starts it at the first search that is large enough to profit, and the plain scans of numpy answer until
it has ended.
"""

import contextlib
import hashlib
import importlib
import json
import subprocess
import sys
import threading
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

#: Comparisons of a code with a query that numpy makes in less time than numba takes to be imported.
SMALL = 2_000_000

_lock = threading.Lock()
_compiled: Any = None
_compiler: "subprocess.Popen[bytes] | None" = None


def kernels(comparisons: float | None = None) -> Any:
    """Return the compiled kernels (their modules ``flat`` and ``tables``), or ``None``.

    Args:
        comparisons: How many pairs of codes the work at hand compares. ``None`` is returned where that is
            little and the kernels are not loaded, or where they are being compiled. Not given: wait for
            them.
    """
    global _compiler
    if _compiled is not None:
        return _compiled
    if comparisons is not None and comparisons < SMALL:
        return None
    with _lock:
        if _compiled is None and (comparisons is None or _stamp().exists()):
            compile_kernels()
        elif _compiled is None and _compiler is None:
            _compiler = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        elif _compiled is None and _compiler is not None and _compiler.poll() is not None:
            compile_kernels()  # from its cache, or, where it could keep none, here
    return _compiled


def compile_kernels() -> None:
    """Compile every kernel, or read it from the cache."""
    global _compiled
    modules = _modules()
    for dispatcher, signature in modules.bits.KERNELS:
        if not dispatcher.signatures:
            dispatcher.compile(signature)
            dispatcher.disable_compile()
    with contextlib.suppress(
        OSError
    ):  # a cache that cannot be written has no stamp: the next process looks again
        _stamp().write_text(json.dumps({"kernels": len(modules.bits.KERNELS)}))
    _compiled = modules


@lru_cache
def _modules() -> SimpleNamespace:
    names = ("bits", "flat", "tables")
    return SimpleNamespace(
        **{name: importlib.import_module(f"niphash.search.kernels.{name}") for name in names}
    )


@lru_cache
def _stamp() -> Path:
    """Return the file that says that all kernels are in the cache for this processor and these versions."""
    import llvmlite.binding
    import numba

    digest = hashlib.blake2b(digest_size=8)
    for path in sorted((Path(__file__).parent / "kernels").glob("*.py")):
        digest.update(path.read_bytes())
    host = llvmlite.binding.get_host_cpu_name()
    digest.update(f"{numba.__version__} {sys.version} {host}".encode())
    folder = _modules().flat.scan.stats.cache_path
    return Path(folder or Path(__file__).parent) / f"kernels-{digest.hexdigest()}.json"


if __name__ == "__main__":
    from niphash.search import compilation

    compilation.compile_kernels()
