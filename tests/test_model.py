"""Model folders: those of every format load with the same codes, those that are hostile run nothing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

import niphash
from niphash.errors import InputError
from niphash.model import FORMAT, load
from tests.model_folders import seal
from tests.photos import real_photos

FIRST_FORMAT = Path(__file__).parent / "models"
MODELS = sorted(path.name for path in FIRST_FORMAT.iterdir() if path.is_dir())
CODES = json.loads((FIRST_FORMAT / "codes.json").read_text())


def seeded_descriptors(dim: int) -> np.ndarray:
    rows = np.random.default_rng(0).standard_normal((64, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_the_first_format_gives_the_same_codes(name: str):
    model = niphash.load(FIRST_FORMAT / name)
    assert model.hash(real_photos()).tolist() == CODES[name]["photos"]
    assert model.hasher.encode(seeded_descriptors(model.describer.dim)).tolist() == CODES[name]["descriptors"]


@pytest.mark.parametrize("name", MODELS)
def test_saving_writes_public_names_and_loads_again(name: str, tmp_path: Path):
    model = niphash.load(FIRST_FORMAT / name)
    model.save(tmp_path)
    again = niphash.load(tmp_path)
    assert again.record["format"] == FORMAT
    assert again.hash(real_photos()).tolist() == CODES[name]["photos"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder of the present format."""
    return niphash.load(FIRST_FORMAT / "fisher_rbm_siamese").save(tmp_path / "model")


def write_config(folder: Path, config: object) -> None:
    (folder / "config.yaml").write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    seal(folder)


def changed(folder: Path, part: str, values: dict) -> dict:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config[part] |= values
    return config


def hostile(shown: Path) -> dict[str, dict]:
    """Options of the hashing, by way in; each would make the file ``shown`` if it were obeyed."""
    touch = {"_target_": "pathlib.Path.touch", "self": {"_target_": "pathlib.Path", "_args_": [str(shown)]}}
    system = {"_target_": "os.system", "command": f"touch {shown}"}
    module = "niphash.training.fitting"
    return {
        "node made by an interpolation": {"seed": "${oc.create:{_target_: os.system, command: 'touch x'}}"},
        "environment read": {"seed": "${oc.env:HOME}"},
        "foreign target": {"seed": system},
        "target in a list": {"layers": [system]},
        "method as target": {"seed": touch},
        "module below a module": {"_target_": f"{module}.torch.load", "f": str(shown), "weights_only": False},
        "numpy below a module": {"_target_": "niphash.descriptors.local.fisher.np.save", "file": str(shown)},
        "writer below a module": {"_target_": "niphash.model.save_file", "filename": str(shown)},
        "package function": {"_target_": "niphash.load", "folder": str(shown)},
        "export that is no part": {"_target_": "niphash.descriptors.train_classifier"},
        "private name": {"_target_": "niphash.hashing._METHODS"},
        "partial": {"_partial_": True},
        "positional arguments": {"_args_": [8]},
        "hydra's recursion": {"_recursive_": False},
        "foreign option": {"trainer": "x"},
        "target that is a list": {"_target_": ["os.system"]},
        "number beyond reason": {"min_steps": 10**12},
        "date": {"seed": "!!timestamp 2001-12-14"},
    }


@pytest.mark.parametrize("way", sorted(hostile(Path())))
def test_a_configuration_runs_nothing(way: str, folder: Path, tmp_path: Path):
    shown = tmp_path / "shown"
    write_config(folder, changed(folder, "hashing", hostile(shown)[way]))
    if way == "date":
        text = (folder / "config.yaml").read_text().replace("'!!timestamp 2001-12-14'", "2001-12-14")
        write_config(folder, text)
    with pytest.raises(InputError, match=r"config\.yaml") as error:
        load(folder)
    assert "\n" not in str(error.value)
    assert not shown.exists()


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "[" * 5000 + "]" * 5000,
        "descriptor: {}\nhashing: !!python/object/apply:os.system ['true']\n",
        "- a\n",
        "",
        "descriptor: []\nhashing: {}\n",
        "a: b: c",
        "\x00",
        "descriptor: {_target_: niphash.hashing.LSH, bits: 8}\nhashing: {_target_: niphash.hashing.LSH}\n",
    ],
    ids=["aliases", "depth", "python tag", "list", "empty", "parts", "syntax", "control", "wrong part"],
)
def test_a_configuration_that_is_none_is_refused_in_one_sentence(text: str, folder: Path):
    write_config(folder, text)
    with pytest.raises(InputError, match=r"config\.yaml") as error:
        load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "7",
        '"model"',
        "{",
        "",
        "[" * 100_000,
        '{"format": 99}',
        '{"format": "2"}',
        '{"format": true}',
        '{"format": 2}',
        '{"format": 2, "checksums": []}',
        '{"a": ' * 50 + "1" + "}" * 50,
        "\ud800",
    ],
)
def test_a_record_that_is_none_is_refused_in_one_sentence(text: str, folder: Path):
    (folder / "model.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError) as error:
        load(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_newer_format_is_refused(folder: Path):
    record = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(record | {"format": FORMAT + 1}))
    with pytest.raises(InputError, match="update niphash"):
        load(folder)


@pytest.mark.parametrize(
    "name", ["config.yaml", "describer.safetensors", "hasher.safetensors", "fit_set.safetensors"]
)
def test_a_flipped_byte_and_a_missing_file_are_named(name: str, folder: Path):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        load(folder)
    (folder / name).unlink()
    with pytest.raises(InputError, match=name):
        load(folder)


@pytest.mark.parametrize("name", ["describer", "hasher"])
def test_tensors_of_nan_or_of_another_model_are_refused(name: str, folder: Path):
    path = folder / f"{name}.safetensors"
    tensors = load_file(path)
    for broken in (
        {key: np.full_like(value, np.nan) for key, value in tensors.items()},
        {key: value[:1] for key, value in tensors.items()},
        {},
    ):
        save_file(broken, path)
        seal(folder)
        with pytest.raises(InputError, match=name):
            load(folder)


def test_a_users_own_class_loads_where_it_is_trusted(folder: Path, tmp_path: Path, monkeypatch):
    (tmp_path / "own_hashing.py").write_text("from niphash.hashing import RBMSiamese as Mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    write_config(folder, changed(folder, "hashing", {"_target_": "own_hashing.Mine"}))
    with pytest.raises(InputError, match=r"own_hashing\.Mine"):
        load(folder)
    assert load(folder, trust=["own_hashing.Mine"]).bits == 8


def test_the_run_folder_loads_as_its_model(folder: Path):
    assert load(folder.parent).bits == 8


def test_a_copied_folder_loads(folder: Path, tmp_path: Path):
    assert load(shutil.copytree(folder, tmp_path / "copy")).bits == 8
