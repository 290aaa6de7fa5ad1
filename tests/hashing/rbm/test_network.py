import torch

from niphash.hashing.rbm.network import Stack


def test_stack_is_a_plain_module():
    stack = Stack([8, 4, 2], "gaussian")
    assert stack.sizes == [8, 4, 2]
    output = stack(torch.randn(3, 8, generator=torch.Generator().manual_seed(0)))
    assert [a.shape for a in output.activations] == [(3, 4), (3, 2)]
    assert output.projection.shape == (3, 2)
    assert set(stack.state_dict()) >= {
        "mean",
        "scale",
        "threshold",
        "layers.0.weight",
        "layers.1.hidden_bias",
    }
