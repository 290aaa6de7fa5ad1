"""Photos to L2-normalised float vectors: networks, local descriptors, and the stages after them."""

from niphash.lazy import exports

_CONTRACTS = {
    "describer": ("Describer", "DescribeReport"),  # what every describer offers
    "stages": ("Stage",),  # descriptor to descriptor
    "early_fusion": ("Fusion",),  # two descriptors side by side
    "local.sift": ("LocalBackbone",),  # a photo to local descriptors
    "local.encoders": ("Encoder",),  # local descriptors to a vector
    "network.map_backbone": ("MapBackbone",),  # photos to maps
    "network.pooling": ("Pooling",),  # a map to a vector
    "store.store": ("DescriptorStore", "StoredDescriptors"),  # descriptors on disk
    "classifier.classifier_training": ("train_classifier",),  # a backbone from class folders
    "contrastive.contrastive_training": ("train_backbone",),  # a backbone from photos without labels
}
_PARTS = {
    "assembly": ("single", "fusion"),  # a describer out of backbone, pooling and stages
    "stages": ("Centring", "PCAWhitening", "ViewWhitening", "no_stage"),  # after a describer
    "local.sift": ("SiftDoG", "SiftDense"),  # local descriptors
    "local.fisher": ("Fisher",),  # Fisher vectors
    "local.vlad": ("VLAD",),  # sums of residuals
    "local.bow": ("BagOfWords",),  # counts of visual words
    "network.cnn": ("Backbone",),  # torchvision and timm networks up to one layer
    "network.onnx_backbone": ("ONNXBackbone",),  # any ONNX file
    "network.pooling": ("Flatten", "Mean", "Max", "GeM", "RMAC", "CroW"),  # a map to a vector
    "network.nip": ("NIP",),  # nested invariance pooling
}

__getattr__, __all__ = exports(__name__, _CONTRACTS, _PARTS)
#: What the configuration of a saved model may name.
MODEL_PARTS = frozenset(name for names in _PARTS.values() for name in names)
