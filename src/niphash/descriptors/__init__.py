"""Photo to global descriptor: backbones, local descriptors, pooling, NIP, Fisher vectors, whitening."""
