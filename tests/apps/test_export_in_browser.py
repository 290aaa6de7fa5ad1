"""An exported model in a real Chromium, by onnxruntime-web: the codes that the product makes."""

import functools
import http.server
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from niphash.export import export_onnx
from niphash.model import load
from tests.photos import real_photos
from tests.servers import listening

pytestmark = pytest.mark.browser
MODEL = Path(__file__).resolve().parents[1] / "models" / "mobilenet_nip_lsh"
RUNTIME = os.environ.get("ONNXRUNTIME_WEB")
PARTS = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


class Handler(http.server.SimpleHTTPRequestHandler):
    def guess_type(self, path: str | os.PathLike[str]) -> str:
        return "text/javascript" if str(path).endswith(".mjs") else super().guess_type(path)

    def log_message(self, *_: object) -> None:
        pass


def test_the_browser_makes_the_same_codes(browser: Any, tmp_path: Path):
    if RUNTIME is None or not all((Path(RUNTIME) / part).is_file() for part in PARTS):
        pytest.skip("needs ONNXRUNTIME_WEB=<dist folder of the npm package onnxruntime-web>")
    for part in PARTS:
        shutil.copy(Path(RUNTIME) / part, tmp_path)
    shutil.copy(Path(__file__).with_name("export_page.html"), tmp_path / "index.html")
    model = load(MODEL)
    photos = []
    for number, photo in enumerate(real_photos()):
        photo.crop((10, 20, 150 + 30 * number, 120)).save(tmp_path / f"{number}.png")
        photos.append(tmp_path / f"{number}.png")
    assert export_onnx(model, tmp_path / "codes.onnx").enough
    handler = functools.partial(Handler, directory=str(tmp_path))
    unlike = 0
    with listening(handler) as url:
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.goto(url)
        for path, expected in zip(photos, model.hash(photos), strict=True):
            page.eval_on_selector("#code", "shown => { shown.textContent = ''; }")
            page.set_input_files("#photo", path)
            page.wait_for_selector("#code:not(:empty)")
            text = page.inner_text("#code")
            assert not text.startswith("error"), text
            found = [int(byte) for byte in text.split()]
            unlike += sum((a ^ b).bit_count() for a, b in zip(found, expected.tolist(), strict=True))
    assert unlike <= 1
