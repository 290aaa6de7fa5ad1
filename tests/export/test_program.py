"""From pixels to codes as one module, and as an ONNX file, against the product."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from niphash.apps.cli import main
from niphash.data.images import ImageSet
from niphash.descriptors import Backbone, CroW, Flatten, GeM, Max, Mean
from niphash.descriptors.assembly import fusion, single
from niphash.descriptors.describer import Describer
from niphash.descriptors.network.nip import NIP
from niphash.descriptors.network.pooling import RMAC
from niphash.descriptors.stages import Centring, PCAWhitening
from niphash.errors import InputError
from niphash.export import Program, export_onnx
from niphash.hashing import (
    BPBC,
    ITQ,
    LSH,
    PQ,
    GreedyHash,
    NIPHash,
    NoHashing,
    PCASign,
    RBMStack,
    SpectralHashing,
)
from niphash.model import Model
from niphash.training.fit_data import FitData
from tests.photos import real_photos, write_objects

HNIP = [["translation", "rms"], ["region", "max"], ["region_size", "mean"], ["rotation", "max"]]
POOLINGS = {
    "mean": Mean(),
    "max": Max(),
    "gem": GeM(),
    "crow": CroW(),
    "rmac": RMAC(),
    "flatten": Flatten(),
    "nip": NIP(rotations=3, scales=2),
    "hnip": NIP(HNIP, rotations=4),
    "std": NIP([["translation", "std"], ["flip", "gem"]]),
}


def network(pooling: Any, stages: Any = (), **options: Any) -> Describer:
    """The first layers of a network with random weights, so that a photo takes milliseconds."""
    backbone = Backbone("mobilenet_v2", "features.1", "random", size=64, **options)
    return single(backbone, pooling, stages, precision="fp32")


@pytest.fixture(scope="module")
def images() -> ImageSet:
    """24 cuts of real photographs, of two shapes."""
    cuts = [p.crop((x, x, x + 90, x + 70 + x)) for x in (0, 20, 40, 60) for p in real_photos()]
    return ImageSet(tuple(f"cut {i}" for i in range(24)), tuple(cuts))


def fitted(describer: Describer, hasher: Any, images: ImageSet) -> Model:
    describer.fit(images)
    rows = describer.describe(images)
    hasher.fit(FitData(rows, np.array([[i, (i + 6) % 24] for i in range(18)])))
    return Model(describer, hasher, {})


def check(model: Model, images: ImageSet) -> None:
    """The module's outputs are the product's."""
    program = Program(model)
    descriptors, codes = model.describe(images), model.hash(images)
    unlike = 0
    for row in range(0, len(images), 9):
        with torch.inference_mode():
            code, projections, descriptor = program(torch.from_numpy(np.array(images.image(row))))
        assert descriptor.numpy() @ descriptors[row] > 0.9999
        assert np.allclose(projections, model.hasher.project(descriptors[[row]])[0], atol=0.02, rtol=0.02)
        unlike += int(np.unpackbits(code.numpy() ^ codes[row]).sum())
    assert unlike <= 1


@pytest.mark.parametrize("name", POOLINGS)
def test_every_pooling(name: str, images: ImageSet):
    check(fitted(network(POOLINGS[name]), LSH(32), images), images)


@pytest.mark.parametrize(
    "hasher",
    [
        ITQ(8),
        PCASign(8),
        NIPHash(8),
        BPBC(8),
        SpectralHashing(8),
        GreedyHash(8, max_epochs=1),
        RBMStack(8, layers=[12], max_epochs=1, min_steps=1),
        RBMStack(8, layers=[], visible="binary", max_epochs=1, min_steps=1),
    ],
    ids=lambda hasher: type(hasher).__name__,
)
def test_every_hashing_by_signs(hasher: Any, images: ImageSet):
    check(fitted(network(Mean()), hasher, images), images)


def test_sizes_stages_and_fusion(images: ImageSet):
    first = network(Max(), [Centring()], sizes=[48, 64], input="pad")
    second = network(Mean(), [PCAWhitening(8)], input="squash")
    check(fitted(fusion(first, second, 0.4, [Centring()]), LSH(32), images), images)


def test_what_has_no_graph_is_refused():
    with pytest.raises(InputError, match="PQ are no signs of projections"):
        Program(Model(network(Mean()), PQ(8), {}))
    with pytest.raises(InputError, match=r"input=aspect.*crop or pad"):
        Program(Model(network(Mean(), input="aspect"), NoHashing(), {}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pooling", "hasher"),
    [
        (
            NIP([["scale", "mean"], ["translation", "rms"], ["rotation", "max"]], 3, 2),
            RBMStack(16, layers=[], max_epochs=1, min_steps=1),
        ),
        (NIP(HNIP, rotations=2), BPBC(8)),
        (RMAC(), NoHashing()),
    ],
    ids=["nip", "hnip", "rmac"],
)
def test_a_file_agrees_with_the_model(pooling: Any, hasher: Any, images: ImageSet, tmp_path: Path):
    import onnxruntime

    model = fitted(network(pooling, [Centring()]), hasher, images)
    agreement = export_onnx(model, tmp_path / "out.onnx", images)
    assert agreement.photos == 24
    assert agreement.bits == 24 * hasher.bits
    assert agreement.bits - agreement.equal <= 1
    assert agreement.cosine > 0.9999
    assert agreement.enough
    assert not agreement._replace(cosine=float("nan")).enough
    assert [path.name for path in tmp_path.iterdir()] == ["out.onnx"]
    content = (tmp_path / "out.onnx").read_bytes()
    assert b"site-packages" not in content
    session = onnxruntime.InferenceSession(content)
    photo = np.asarray(real_photos()[1])  # of any shape
    found = dict(
        zip([o.name for o in session.get_outputs()], session.run(None, {"photo": photo}), strict=True)
    )
    assert found["descriptor"] @ model.describe(photo)[0] > 0.9999
    if hasher.bits:
        assert (found["code"] == np.packbits(found["projections"] > 0, bitorder="little")).all()
        assert found["code"].dtype == np.uint8


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    models = Path(__file__).resolve().parents[1] / "models"
    photos = write_objects(tmp_path / "photos", objects=2, views=2, side=90)
    out = tmp_path / "out.onnx"
    words = ["export", str(models / "mobilenet_nip_lsh"), "--onnx", str(out), "--photos", str(photos)]
    main(words)
    assert "64 of 64 bits equal" in capsys.readouterr().out
    before = out.read_bytes()
    monkeypatch.setattr("niphash.export.onnx._graph", lambda program, model: before)
    monkeypatch.setattr("niphash.export.onnx.CLOSE", 1.1)  # nothing agrees so well
    with pytest.raises(SystemExit):
        main(words)
    assert "not written" in capsys.readouterr().err
    assert out.read_bytes() == before
    for other, why in (("fisher_itq", "without a network"), ("absent", "holds no config.yaml")):
        with pytest.raises(SystemExit):
            main(["export", str(models / other), "--onnx", str(out)])
        assert why in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words[:3], str(tmp_path / "absent" / "out.onnx")])
    assert "--onnx" in capsys.readouterr().err
