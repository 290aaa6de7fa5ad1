"""Chains of moments: their names, and many of them from one orbit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from niphash.config import compose
from niphash.errors import InputError
from niphash.pipeline.run import assemble
from niphash.studies.chains import chain_name, describe_chains, published_chain
from niphash.studies.measured import prepare

NEST = [("scale", "mean"), ("translation", "rms"), ("rotation", "max")]


def bench(photos: Path, data_dir: Path, *overrides: str):
    network = ("backbone=squeezenet", "backbone.weights=random", "backbone.size=64")
    nip = ("pooling=nip", "pooling.rotations=3", "pooling.scales=2")
    cfg = compose(
        ["data=folder", f"data.root={photos}", f"paths.data_dir={data_dir}", *network, *nip, *overrides]
    )
    return prepare(assemble(cfg, data_dir / "run"))


def test_chains_are_named_as_in_the_papers():
    assert chain_name(NEST) == "A_S-S_T-M_R"
    assert chain_name([]) == "pool5"
    assert published_chain("A_S-S_T-M_R", "ukbench", "ukb") == 3.84
    assert published_chain("A_S-S_T", "ukbench", "ukb") is None
    assert published_chain("A_S-A_T", "ukbench", "ukb") == 3.61  # published as A_T-A_S
    assert published_chain("A_S-A_T-A_R", "ukbench", "ukb") == 3.82
    assert published_chain("S_T-A_S-M_R", "ukbench", "ukb") is None
    assert published_chain("fc6", "ukbench", "ukb") == 3.5
    assert published_chain("A_S-S_T-M_R_pcaw256", "ukbench", "ukb") == 3.83


def test_nests_of_one_orbit_give_what_each_gives_alone(object_folder: Path, tmp_path: Path):
    small = bench(object_folder, tmp_path)
    photos = small.task.database.subset(range(4))
    nests = [NEST[:depth] for depth in range(4)] + [[*NEST[:2], ("rotation", "mean")]]
    together = describe_chains(small, nests, photos)
    assert list(together) == ["pool5", "A_S", "A_S-S_T", "A_S-S_T-M_R", "A_S-S_T-A_R"]
    for nest in nests:
        written = "[" + ",".join(f"[{group},{moment}]" for group, moment in nest) + "]"
        alone = small.describer([f"pooling.nest={written}"])(photos)
        np.testing.assert_allclose(together[chain_name(nest)][0], alone, atol=1e-5)


@pytest.mark.parametrize("override", ["pooling=mean", "whitening=pca"])
def test_another_pooling_or_whitening_is_refused(object_folder: Path, tmp_path: Path, override: str):
    small = replace(
        bench(object_folder, tmp_path), run=bench(object_folder, tmp_path).run.variant([override])
    )
    with pytest.raises(InputError, match="this study"):
        describe_chains(small, [NEST], small.task.queries)
