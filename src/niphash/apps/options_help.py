"""``train --help``: what every option means, as the YAML files say, at the choices of the command line."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from niphash.config import conf_dir

#: Of a line, in characters.
WIDTH = 110
LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w.]+):(?: +(?P<value>(?!#).*?))?(?:\s+# (?P<comment>.*))?$")
COLUMN = 40  # where meanings begin


class Option(NamedTuple):
    """One option of a YAML file.

    Attributes:
        key: With the keys that it lies in, separated by dots.
        value: As it is written there.
        meaning: The comment behind it.
    """

    key: str
    value: str
    meaning: str


def print_help(program: str, overrides: Sequence[str]) -> None:
    """Print what ``python <program>.py`` takes, ``overrides`` being choices that are made already."""
    main = conf_dir() / f"{program}.yaml"
    print(f"usage: python {program}.py [<option>=<value> ...] [-m]\n")
    for line in _head(main):
        print(line)
    print("\nChoices (<group>=<choice>); those of this command are marked with *\n")
    chosen = choices(main, overrides)
    for group in sorted(chosen):
        print(f"{group}:")
        for path in sorted((conf_dir() / group).glob("*.yaml")):
            mark = "*" if path.stem == chosen[group] else " "
            print(_row(f"  {mark} {path.stem}", " ".join(_head(path)[:1])))
    print("\nOptions (<option>=<value>)\n")
    for option in options(main):
        print(_row(f"  {option.key}={option.value}", option.meaning))
    for group, choice in chosen.items():
        found = [] if choice is None else list(options(conf_dir() / group / f"{choice}.yaml"))
        if found and group not in ("experiment", "hparams_search", "debug", "hydra"):
            print(f"\n{group}={choice}\n")
            for option in found:
                print(_row(f"  {group}.{option.key}={option.value}", option.meaning))
    print(
        "\nMore: --cfg job prints the composed configuration, --hydra-help the flags of Hydra, "
        f"--help behind other choices their options (python {program}.py hashing=itq --help)"
    )


def choices(main: Path, overrides: Sequence[str]) -> dict[str, str | None]:
    """Return the choice of every group that a main configuration lists, the command line's before its own."""
    given = dict(override.partition("=")[::2] for override in overrides)
    found: dict[str, str | None] = {}
    for group, choice in re.findall(r"^  - (?!override)([\w/]+): (\S+)", main.read_text(), re.MULTILINE):
        wanted = given.get(group, choice)
        found[group] = None if wanted == "null" else wanted
    return found


def options(path: Path) -> Iterator[Option]:
    """Yield the options of a YAML file and of those in its folder that it builds on, its own values first."""
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8")
    own = {option.key: option for option in _options(text)}
    for base in re.findall(r"^  - (?!_self_)([\w]+)$", text, re.MULTILINE):
        for option in options(path.parent / f"{base}.yaml"):
            changed = own.pop(option.key, option)
            yield changed if changed.meaning else changed._replace(meaning=option.meaning)
    yield from own.values()


def _options(text: str) -> Iterator[Option]:
    inside: list[tuple[int, str]] = []
    listed = False
    for line in text.splitlines():
        found = LINE.match(line)
        if found is None or found["key"].startswith("_"):
            continue
        indent = len(found["indent"])
        inside = [(depth, key) for depth, key in inside if depth < indent]
        value = found["value"]
        if not inside:
            listed = found["key"] in ("defaults", "about", "archives")
        if listed:
            continue
        if value is None:
            inside.append((indent, found["key"]))
            continue
        yield Option(".".join([*(key for _, key in inside), found["key"]]), value, found["comment"] or "")


def _head(path: Path) -> list[str]:
    """Return the comment that a file begins with."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line == "# @package _global_":
            continue
        if not line.startswith("# "):
            break
        lines.append(line.removeprefix("# "))
    return lines


def _row(what: str, meaning: str) -> str:
    """Return an option and, in a column of its own where there is room, what it means."""
    return f"{what:{COLUMN}}  {meaning}".rstrip()
