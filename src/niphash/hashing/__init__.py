"""Descriptors to bits: every hashing method behind one :class:`~niphash.hashing.hasher.Hasher`."""

from niphash.lazy import exports

_CONTRACTS = {
    "codes": ("pack_bits", "unpack_bits"),  # bits in bytes
    "hasher": ("Hasher",),  # what every method offers
    "rbm.phase": ("Phase",),  # what trains a network, one of a list
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
    "rbm.network_hasher": ("NetworkHasher",),  # a network of RBM layers, trained by a list of phases
    "rbm.stack": ("RBMStack", "RBMSiamese", "RBMTriplet"),  # the same with the phases of the papers
}
_PHASES = {
    "rbm.layers": ("RBMLayers", "RandomWeights"),  # greedy training of every layer; Glorot's weights
    "rbm.siamese": ("SiamesePairs",),  # fine-tuning on pairs
    "rbm.triplet": ("NeighbourTriplets",),  # fine-tuning on triplets
}

__getattr__, __all__ = exports(__name__, _CONTRACTS, _METHODS, _PHASES)
#: What the configuration of a saved model may name.
MODEL_PARTS = frozenset(name for names in (*_METHODS.values(), *_PHASES.values()) for name in names)
