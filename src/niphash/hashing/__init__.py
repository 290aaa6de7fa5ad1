"""Descriptors to bits: every hashing method behind one :class:`~niphash.hashing.hasher.Hasher`."""

from niphash.lazy import exports

_CONTRACTS = {
    "hasher": ("Hasher", "pack_bits", "unpack_bits"),  # what every method offers
    "signs": ("SignHasher", "ClosedFormHasher", "ClosedFormProjection"),  # bases: bits are signs
}
_METHODS = {
    "hasher": ("NoHashing",),  # the float descriptor alone
    "closed_form.bpbc": ("BPBC",),  # bilinear projections
    "closed_form.itq": ("ITQ",),  # iterative quantisation
    "closed_form.lsh": ("LSH",),  # random hyperplanes
    "closed_form.niphash": ("NIPHash",),  # whitening learned from views, then a random frame
    "closed_form.pca_hash": ("PCAHash",),  # signs of randomly rotated principal components
    "closed_form.pca_sign": ("PCASign",),  # signs of principal components
    "closed_form.pq": ("PQ",),  # product quantisation
    "closed_form.spectral": ("SpectralHashing",),  # signs of sinusoids along principal axes
    "sign_layer.bihalf": ("BiHalf",),  # a sign layer, every bit half on
    "sign_layer.greedyhash": ("GreedyHash",),  # a sign layer, straight-through gradient
    "rbm.stack": ("RBMStack",),  # greedy stack of RBMs
    "rbm.siamese": ("RBMSiamese",),  # fine-tuned on pairs
    "rbm.triplet": ("RBMTriplet",),  # fine-tuned on triplets
}

__getattr__, __all__ = exports(__name__, _CONTRACTS, _METHODS)
#: What the configuration of a saved model may name.
MODEL_PARTS = frozenset(name for names in _METHODS.values() for name in names)
