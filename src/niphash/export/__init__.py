"""A trained model as one ONNX file: a photo in, its code out."""

from niphash.lazy import exports

_PARTS = {
    "program": ("Program",),  # photo to code as one torch module
    "onnx": ("Agreement", "export_onnx"),  # the file, compared with the product
}

__getattr__, __all__ = exports(__name__, _PARTS)
