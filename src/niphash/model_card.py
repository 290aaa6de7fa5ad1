"""A page on a model, made of what its record holds: what people see who find it on a hub."""

from typing import Any

import yaml

from niphash.model import Model
from niphash.plain import printable

_USE = """## Use

```python
import niphash

model = niphash.from_pretrained("<user>/<name>")
codes = model.hash("photos")  # uint8 [N, {bytes}], one row a photo
```

`niphash index photos --model <folder> --out my.index` makes a collection of photos with a model folder.
"""


def model_card(model: Model) -> str:
    """Return a model card: YAML for the hub, then Markdown; nothing that the record does not say."""
    head = {
        "library_name": "niphash",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["image-retrieval", "hashing", "visual-search", "niphash"],
    }
    parts = ["---", yaml.safe_dump(head, sort_keys=False).strip(), "---", "", "# Photos to binary codes", ""]
    parts += [f"| {name} | {_cell(value)} |" for name, value in (("what", "value"), ("---", "---"))]
    parts += [f"| {name} | {_cell(value)} |" for name, value in _facts(model).items()]
    if rows := _metrics(model.record.get("metrics")):
        parts += [
            "",
            "## Measured",
            "",
            "| data | metric | descriptor | code |",
            "| --- | --- | --- | --- |",
            *rows,
        ]
    return "\n".join([*parts, "", _USE.format(bytes=model.bits // 8)])


def _facts(model: Model) -> dict[str, Any]:
    record, fit_set = model.record, model.record.get("fit_set")
    facts: dict[str, Any] = {
        "bits of a code": model.bits,
        "dimensions of the descriptor": model.describer.dim,
        "descriptor": _names(model.config.get("descriptor")),
        "hashing": _names(model.config.get("hashing")),
    }
    if isinstance(fit_set, dict):
        facts["fitted on"] = f"{fit_set.get('images')} photos, without labels: {fit_set.get('source')}"
    facts |= {"seed": record.get("seed"), "fingerprint": record.get("fingerprint")}
    if isinstance(record.get("versions"), dict):
        facts["versions"] = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    return {name: value for name, value in facts.items() if value is not None}


def _names(node: Any) -> str:
    """Return the names of the classes that a part of the configuration is made of, and of networks."""
    if isinstance(node, list):
        return ", ".join(filter(None, map(_names, node)))
    if not isinstance(node, dict):
        return ""
    own = str(node.get("_target_", "")).rpartition(".")[2]
    named = f"{own} {node['name']}" if isinstance(node.get("name"), str) else own
    inner = [_names(value) for value in node.values()]
    return ", ".join(name for name in (named, *inner) if name and name not in ("single", "no_stage"))


def _metrics(entries: Any) -> list[str]:
    """Return a row of a table for each metric that both the descriptor and the code have."""
    rows = []
    for entry in entries if isinstance(entries, list) else []:
        descriptor, code = entry.get("descriptor"), entry.get("code")
        if not isinstance(descriptor, dict) or not isinstance(code, dict):
            continue
        seen = " (transductive)" if entry.get("transductive") else ""
        for name, value in descriptor.items():
            if isinstance(value, float) and isinstance(code.get(name), float):
                data = f"{_cell(entry.get('data'))}{seen}"
                rows.append(f"| {data} | {_cell(name)} | {value:.3f} | {code[name]:.3f} |")
    return rows


def _cell(value: Any) -> str:
    return printable(str(value)).replace("|", "\\|")
