import pytest

from niphash.errors import InputError
from niphash.hashing.rbm.network_hasher import default_layers, paper_layers, with_bits


def test_sizes_of_the_papers():
    assert paper_layers(8192, 1024) == paper_layers(4096, 1024) == [1024]
    assert paper_layers(8192, 256) == [4096, 256]
    assert paper_layers(4096, 256) == [2048, 256]
    assert paper_layers(8192, 64) == [4096, 2048, 64]
    assert paper_layers(4096, 64) == [2048, 1024, 64]


def test_small_fit_sets_get_the_sizes_of_the_slides():
    assert default_layers(8192, 64, 600) == [1024, 64]
    assert default_layers(512, 64, 600) == [64]
    assert default_layers(8192, 64, 150_000) == [4096, 2048, 64]


@pytest.mark.parametrize("count", [600, 150_000])
@pytest.mark.parametrize("dim", [64, 100, 512, 1280, 32768])
@pytest.mark.parametrize("bits", [8, 32, 64])
def test_default_sizes_never_grow(dim, bits, count):
    sizes = [dim, *default_layers(dim, bits, count)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == bits


def test_bits_become_the_last_layer():
    assert with_bits([4096, 1024], 64) == [4096, 1024, 64]
    assert with_bits([1024, 64], 64) == [1024, 64]
    assert with_bits([], 64) == [64]


@pytest.mark.parametrize(
    ("layers", "message"), [([32], "exceeds"), ([128, 256], "grows"), ([0, 64], "at least 1")]
)
def test_impossible_layers_are_refused(layers, message):
    with pytest.raises(InputError, match=message):
        with_bits(layers, 64)
