import pytest
import torch

from niphash.hashing.sign_layer.bihalf import bi_half


@pytest.mark.parametrize("batch", [8, 9])
def test_every_bit_is_on_for_the_larger_half(batch):
    u = torch.randn(batch, 5, generator=torch.Generator().manual_seed(0)) + 3
    codes = bi_half(u, 1.0)
    assert set(codes.unique().tolist()) == {-1.0, 1.0}
    for column, code in zip(u.T, codes.T, strict=True):
        assert (code == -1).sum() == batch // 2
        assert column[code == 1].min() > column[code == -1].max()


def test_backward_is_the_gradient_of_the_codes_plus_a_pull_to_them():
    generator = torch.Generator().manual_seed(1)
    u = torch.randn(6, 3, generator=generator, requires_grad=True)
    above = torch.randn(6, 3, generator=generator)
    codes = bi_half(u, 2.0)
    (codes * above).sum().backward()
    torch.testing.assert_close(u.grad, above + 2.0 * (u.detach() - codes.detach()) / 18)
