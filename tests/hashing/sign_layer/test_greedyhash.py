import pytest
import torch

from niphash.hashing.sign_layer.greedyhash import cubic_gap, straight_through_sign


def test_signs_forwards_and_straight_through_backwards():
    u = torch.tensor([[-2.0, 0.5, 3.0], [0.1, -0.1, 1.0]], requires_grad=True)
    above = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    signs = straight_through_sign(u)
    torch.testing.assert_close(signs.detach(), torch.tensor([[-1.0, 1.0, 1.0], [1.0, -1.0, 1.0]]))
    (signs * above).sum().backward()
    assert torch.equal(u.grad, above)


def test_penalty_equals_a_naive_loop_and_its_gradient_is_right():
    u = torch.tensor([[-2.0, 0.5, 3.0], [0.1, -0.1, 1.2]], dtype=torch.float64, requires_grad=True)
    values = [float(v) for v in u.detach().flatten()]
    expected = sum(abs(v - (1 if v > 0 else -1)) ** 3 for v in values) / 6
    assert cubic_gap(u).item() == pytest.approx(expected)
    assert torch.autograd.gradcheck(cubic_gap, u)
