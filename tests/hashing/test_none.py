import numpy as np
import pytest

from niphash.errors import InputError
from niphash.hashing.hasher import NoHashing


def test_there_is_no_code():
    hasher = NoHashing()
    hasher.fit(np.eye(3, dtype=np.float32))
    hasher.load_state_dict(hasher.state_dict())
    assert hasher.bits == 0
    with pytest.raises(InputError, match="hashing=none"):
        hasher.encode(np.eye(3, dtype=np.float32))
