"""Everything that determines the output changes the fingerprint."""

import torch

from niphash.descriptors.describer import fingerprint


def test_every_part_counts():
    state = {"a": torch.zeros(2, 3), "b": torch.ones(4)}
    names = {
        fingerprint({"x": 1}, state, ("torch",)),
        fingerprint({"x": 2}, state, ("torch",)),
        fingerprint({"x": 1}, state, ("torch", "numpy")),
        fingerprint({"x": 1}, state | {"b": torch.ones(4).double()}, ("torch",)),
        fingerprint({"x": 1}, state | {"a": torch.zeros(3, 2)}, ("torch",)),
        fingerprint({"x": 1}, state | {"b": torch.tensor([1.0, 1, 1, 2])}, ("torch",)),
        fingerprint({"x": 1}, {"a": state["a"], "c": state["b"]}, ("torch",)),
        fingerprint({"x": 1}, state | {"n": torch.tensor(3)}, ("torch",)),
    }
    assert len(names) == 8
    assert all(len(name) == 32 and int(name, 16) >= 0 for name in names)


def test_order_of_entries_does_not_count():
    state = {"a": torch.zeros(2), "b": torch.ones(2)}
    turned = dict(reversed(state.items()))
    assert fingerprint({"x": 1, "y": 2}, state, ()) == fingerprint({"y": 2, "x": 1}, turned, ())
