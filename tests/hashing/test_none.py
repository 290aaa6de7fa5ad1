import numpy as np
import pytest

from niphash.errors import InputError
from niphash.hashing.hasher import NoHashing
from niphash.training.fit_data import FitData


def test_there_is_no_code():
    hasher = NoHashing()
    hasher.fit(FitData(np.eye(3, dtype=np.float32)))
    hasher.load_state_dict(hasher.state_dict())
    assert hasher.bits == 0
    with pytest.raises(InputError, match="hashing=none"):
        hasher.encode(np.eye(3, dtype=np.float32))
