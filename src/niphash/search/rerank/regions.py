"""The query's outline, drawn into a candidate."""

import numpy as np
from PIL import Image, ImageDraw

#: Vermilion on white, which stands out on any photo (Okabe & Ito, *Color universal design*, 2008).
LINE, HALO = (213, 94, 0), (255, 255, 255)


def draw_region(photo: Image.Image, region: np.ndarray) -> Image.Image:
    """Return a copy of an RGB photo with an outline in it.

    Args:
        photo: The candidate.
        region: float [4, 2], x and y in pixels of the photo; what reaches out of it is cut off.
    """
    drawn = photo.copy()
    width = max(2, round(max(photo.size) / 150))
    # corners far outside would be no numbers for the drawing; a line to there looks the same from inside
    far = 16 * max(photo.size)
    corners = [tuple(corner) for corner in np.clip(region, -far, far).tolist()]
    draw = ImageDraw.Draw(drawn)
    for colour, thickness in ((HALO, 2 * width), (LINE, width)):
        draw.line([*corners, corners[0]], fill=colour, width=thickness, joint="curve")
    return drawn
