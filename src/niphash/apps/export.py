"""``niphash export``: a trained model as an ONNX file."""

from pathlib import Path

from niphash.data.images import ImageSet
from niphash.export.onnx import export_onnx
from niphash.model import load


def export(model_folder: str, onnx: str, photos: str | None) -> None:
    """Write the model of a folder, a model's or an index's, and say how well the file agrees with it."""
    images = None if photos is None else ImageSet.from_folder(photos)
    agreement = export_onnx(load(model_folder), onnx, images)
    size = Path(onnx).stat().st_size
    bits = f"{agreement.equal} of {agreement.bits} bits equal, " if agreement.bits else ""
    print(
        f"{onnx}: {size} bytes; {bits}least cosine {agreement.cosine:.6f}, in float32 on "
        f"{agreement.photos} photos"
    )
