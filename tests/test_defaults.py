"""A default stands in one class and one YAML of conf/, and both say the same."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.utils import get_object

from niphash.config import conf_dir

GROUPS = ("hashing", "rerank", "trainer", "logger", "callbacks")
FILES = [path for group in GROUPS for path in sorted((conf_dir() / group).glob("*.yaml"))]

#: Options that a class inherits and does not use.
UNUSED = {"lsh": {"fit_limit"}}


def own_nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Yield the mappings with ``_target_`` in a YAML tree."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from own_nodes(value)
    elif isinstance(node, list):
        for value in node:
            yield from own_nodes(value)


def inherited(path: Path) -> dict[str, Any]:
    """Return what the file takes from those of its group that it begins from."""
    found: dict[str, Any] = {}
    for entry in yaml.safe_load(path.read_text()).get("defaults", []):
        if entry != "_self_":
            base = path.with_name(f"{entry}.yaml")
            found |= inherited(base) | yaml.safe_load(base.read_text())
    return found


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}/{path.stem}" for path in FILES])
def test_a_class_and_its_yaml_have_the_same_defaults(path: Path):
    own, base = yaml.safe_load(path.read_text()), inherited(path)
    for node in own_nodes(own):
        if node["_target_"].startswith("niphash."):
            parameters = inspect.signature(get_object(node["_target_"])).parameters
            for option in node.keys() - {"_target_"}:
                value, default = node[option], parameters[option].default if option in parameters else None
                if "${" not in str(value) and option in parameters and default is not inspect.Parameter.empty:
                    assert value == plain(default), f"{path}: {option}"
    if "_target_" in base and own.get("_target_", base["_target_"]) == base["_target_"]:
        repeated = [option for option in own if option in base and own[option] == base[option]]
        assert repeated in ([], ["defaults"]), f"{path} repeats what it begins from"


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.parent.name == "hashing"], ids=lambda path: path.stem
)
def test_every_option_of_a_hashing_method_is_in_its_yaml(path: Path):
    own = inherited(path) | yaml.safe_load(path.read_text())
    for node in own_nodes(own):
        options = set(inspect.signature(get_object(node["_target_"])).parameters)
        assert options - UNUSED.get(path.stem, set()) == node.keys() - {"_target_", "defaults"}
