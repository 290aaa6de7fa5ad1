"""Data flows one way through the rooms: none imports from its right, and nothing imports the apps."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "niphash"
#: What each room may import from: the rooms to its left; descriptors and hashing stand side by side.
LEFT = {
    "training": set(),
    "data": {"training"},
    "descriptors": {"training", "data"},
    "hashing": {"training"},
    "search": {"training", "data", "descriptors", "hashing"},
    "evaluation": {"training", "data", "descriptors", "hashing", "search"},
}
#: Modules that belong to no room and import from none.
NEUTRAL = {"errors", "options", "progress", "config", "lazy", "plain", "parallel"}


def imported_rooms(path: Path) -> set[str]:
    """Return the first name below ``niphash`` of everything that a module imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            module = node.module or ""
            modules = [f"{module}.{alias.name}" for alias in node.names] if module == "niphash" else [module]
        else:
            continue
        names |= {m.split(".")[1] for m in modules if m.startswith("niphash.")}
    return names


@pytest.mark.parametrize("room", LEFT)
def test_rooms_import_only_from_their_left(room: str):
    allowed = {room, *LEFT[room], *NEUTRAL, "__version__"}
    for path in (SOURCE / room).rglob("*.py"):
        assert imported_rooms(path) <= allowed, path


def test_nothing_imports_the_apps():
    for path in SOURCE.rglob("*.py"):
        if "apps" not in path.relative_to(SOURCE).parts:
            assert "apps" not in imported_rooms(path), path


def test_neutral_modules_import_no_room():
    for name in NEUTRAL:
        assert imported_rooms(SOURCE / f"{name}.py") <= NEUTRAL


def test_importing_the_package_loads_nothing_heavy():
    heavy = "torch numpy faiss cv2 sklearn hydra matplotlib pytorch_lightning"
    program = f"import sys, niphash; print([m for m in '{heavy}'.split() if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_help_loads_nothing_heavy():
    program = (
        "import sys\n"
        "sys.argv = ['train.py', '--help']\n"
        "from niphash.apps.train import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in 'torch faiss cv2 sklearn matplotlib'.split() if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
