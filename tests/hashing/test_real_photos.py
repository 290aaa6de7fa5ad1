"""Every hashing choice as its YAML describes it, on real photos: it must find the same object again."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from torchvision.models import squeezenet1_0
from torchvision.transforms.functional import normalize, resize, to_tensor

from niphash.config import build
from niphash.hashing.hasher import Hasher
from niphash.training.fit_data import FitData

CONF = Path(__file__).resolve().parents[2] / "conf"
CHOICES = sorted(path.stem for path in (CONF / "hashing").glob("*.yaml"))
#: What keeps the learnable choices short on 256 photos.
SHORT = {
    "rbm_triplet_siamese": [
        "hashing.phases.0.max_epochs=30",
        "hashing.phases.1.iterations=200",
        "hashing.phases.1.neighbours=40",
        "hashing.phases.2.iterations=200",
    ],
    "rbm_siamese": ["hashing.iterations=200", "hashing.max_epochs=30"],
    "rbm_triplet": ["hashing.iterations=200", "hashing.max_epochs=30", "hashing.neighbours=40"],
}


@pytest.fixture(scope="module")
def descriptors(shared) -> np.ndarray:
    """SqueezeNet descriptors, float32 [320, 512], mean-pooled, of the first 80 UKBench objects."""
    network = squeezenet1_0(weights=None).eval()
    weights = shared / "weights" / "squeezenet1_0_imagenet.pt"
    network.load_state_dict(torch.load(weights, weights_only=True))
    out = []
    for number in range(320):
        with Image.open(shared / "data" / "ukbench" / f"ukbench{number:05d}.jpg") as photo:
            tensor = resize(to_tensor(photo.convert("RGB")), [120, 160], antialias=True)
        tensor = normalize(tensor, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        with torch.inference_mode():
            out.append(network.features(tensor[None]).mean(dim=(2, 3))[0])
    return torch.nn.functional.normalize(torch.stack(out)).numpy()


def configured(choice: str, bits: int) -> Hasher:
    with initialize_config_dir(str(CONF), version_base=None):
        overrides = [f"+hashing={choice}", f"+bits={bits}", "+seed=0", *SHORT.get(choice, [])]
        config = compose(overrides=overrides)
    return build(config.hashing)


def recall_at_4(distances: np.ndarray) -> float:
    """Return 4 x recall@4 of four photos an object; ties count at their expectation."""
    total, count = 0.0, len(distances)
    things = np.arange(count) // 4
    for row, thing in zip(distances, things, strict=True):
        last = np.sort(row)[3]
        nearer, tied, relevant = row < last, row == last, things == thing
        total += (relevant & nearer).sum() + (relevant & tied).sum() / tied.sum() * (4 - nearer.sum())
    return total / count


@pytest.mark.shared
@pytest.mark.parametrize(
    "choice",
    [
        pytest.param(choice, marks=[pytest.mark.slow] * (choice in ("rbm", "rbm_siamese", "rbm_triplet")))
        for choice in CHOICES
        if choice not in ("none", "niphash")
    ],
)
def test_unseen_objects_are_found_again(choice, descriptors):
    """Fitted on 64 objects, tested on 16 others; guessing gives 0.25, the descriptor itself 3.9 of 4."""
    fit, test = descriptors[:256], descriptors[256:]
    hasher = configured(choice, bits=64)
    pairs = np.array([(a, b) for a in range(256) for b in range(a + 1, 256) if a // 4 == b // 4])
    hasher.fit(FitData(fit, pairs=pairs if hasher.needs_pairs else None))
    codes = hasher.encode(test)
    assert codes.shape == (64, 8)
    if choice == "pq":
        distances = hasher.asymmetric_distances(test, codes)
    else:
        bits = np.unpackbits(codes, axis=1).astype(np.int64)
        distances = (bits[:, None] != bits[None]).sum(axis=2)
    assert recall_at_4(distances) > 2.5


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_can_be_made(choice):
    hasher = configured(choice, bits=32)
    assert hasher.bits == (0 if choice == "none" else 32)
