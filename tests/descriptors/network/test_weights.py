"""State dicts from files, hostile ones too."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from niphash.descriptors.network.weights import class_count, lay_in, read_weights
from niphash.errors import InputError


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))


def test_plain_wrapped_prefixed_and_safetensors_files_read_alike(network, tmp_path):
    state = network.state_dict()
    torch.save(state, tmp_path / "plain.pt")
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "wrapped.pth"
    )
    save_file(state, tmp_path / "safe.safetensors")
    for name in ("plain.pt", "wrapped.pth", "safe.safetensors"):
        read = read_weights(tmp_path / name).state
        assert read.keys() == state.keys()
        assert all(torch.equal(read[k], state[k]) for k in state)


def test_a_file_may_state_the_normalisation_of_its_input(network, tmp_path):
    stated = {"mean": torch.tensor([0.1, 0.2, 0.3]), "std": torch.tensor([0.4, 0.5, 0.6])}
    torch.save({"state_dict": network.state_dict(), **stated}, tmp_path / "stated.pt")
    read = read_weights(tmp_path / "stated.pt")
    assert torch.equal(read.mean, stated["mean"])
    assert torch.equal(read.std, stated["std"])
    torch.save({"state_dict": network.state_dict(), "mean": stated["mean"]}, tmp_path / "half.pt")
    assert read_weights(tmp_path / "half.pt")[1:] == (None, None)


class Hostile:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code from the file ran')",))


@pytest.mark.parametrize("content", [[1, 2, 3], {}, {"a": 1}, {"state_dict": {}}, torch.zeros(3)])
def test_a_file_without_a_state_dict_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(InputError, match=r"odd\.pt: holds no state dict"):
        read_weights(tmp_path / "odd.pt")


def test_missing_broken_and_hostile_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"gone\.pt: no such file"):
        read_weights(tmp_path / "gone.pt")
    (tmp_path / "broken.pt").write_bytes(b"\x80\x02not a pickle")
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 64)
    (tmp_path / "hostile.pt").write_bytes(pickle.dumps(Hostile()))
    torch.save({"weight": Hostile()}, tmp_path / "hostile_zip.pt")
    for name in ("broken.pt", "broken.safetensors", "hostile.pt", "hostile_zip.pt"):
        with pytest.raises(InputError, match="cannot be read as a state dict"):
            read_weights(tmp_path / name)


def test_the_number_of_classes_is_read_off_the_head(network):
    shapes = {k: v.shape for k, v in network.state_dict().items()}
    assert (
        class_count(
            {**network.state_dict(), "1.weight": torch.zeros(9, 4), "1.bias": torch.zeros(9)}, shapes, 5
        )
        == 9
    )
    assert class_count({"0.weight": torch.zeros(4, 3)}, shapes, 5) == 5


def test_only_what_is_needed_must_be_there(network):
    state = {k: v + 1 for k, v in network.state_dict().items() if k.startswith("0.")}
    lay_in(network, state, {"0.weight", "0.bias"}, "file", "net")
    assert torch.equal(network[0].weight, state["0.weight"])
    with pytest.raises(InputError, match=r"file: not the weights of net \(1\.weight is missing"):
        lay_in(network, state, {"0.weight", "1.weight"}, "file", "net")


def test_foreign_names_and_shapes_are_refused(network):
    with pytest.raises(InputError, match=r"2\.weight is not in it"):
        lay_in(network, {**network.state_dict(), "2.weight": torch.zeros(1)}, set(), "file", "net")
    with pytest.raises(InputError, match="shape"):
        lay_in(network, {**network.state_dict(), "0.bias": torch.zeros(7)}, set(), "file", "net")
