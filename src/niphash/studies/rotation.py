"""Does the descriptor stay the same when the query turns? (arXiv 1508.02496)"""

from collections.abc import Mapping, Sequence

from omegaconf import DictConfig

from niphash.data.views import RotatedDisc
from niphash.errors import InputError
from niphash.studies.measured import prepare, selected
from niphash.studies.pictures import blank_figure, curves
from niphash.studies.published import find_published
from niphash.studies.result import StudyResult
from niphash.studies.robustness import curve_rows, kept

#: Published curves (mAP on INRIA Holidays at five angles), the nearest to ours.
PUBLISHED_CURVES = ("fv_dog", "fv_multiscale", "vgg16_fc6")
PUBLISHED_ANGLES = (0, 10, 30, 90, 180)


def rotation(
    cfg: DictConfig,
    descriptors: Mapping[str, Sequence[str]],
    step: float = 10.0,
    angles: Sequence[float] | None = None,
    queries: int | None = None,
    only: Sequence[str] | None = None,
    disc_database: bool = False,
) -> StudyResult:
    """Measure mAP against the angle of the queries, which are cut to their central discs.

    Args:
        cfg: A composed ``conf/train.yaml``.
        descriptors: What is measured: overrides of ``cfg`` by name.
        step: Degrees between two angles of the full turn.
        angles: Angles in degrees, in place of ``step``; the first is what the others are compared with.
        queries: So many queries at most, drawn at random.
        only: Names of those of ``descriptors`` to measure; all by default.
        disc_database: Whether database images are cut to their discs too, so that the turn is all that
            differs; by default they stay whole, as ``data.rotate_query`` leaves them.

    Raises:
        InputError: an impossible value, or the data set is not there.
    """
    if angles is None:
        if not 0 < step <= 360:
            raise InputError(f"study.step={step}: give degrees above 0 and up to 360")
        angles = [step * i for i in range(int(-(-360 // step)))]
    if not angles:
        raise InputError("study.angles is empty; name angles in degrees, for instance [0,45,90]")
    chosen = selected(dict(descriptors), only)
    bench = prepare(cfg, queries)
    views = {float(angle): RotatedDisc(float(angle)) for angle in angles}
    rows = curve_rows(bench, chosen, "degrees", views, RotatedDisc(0.0) if disc_database else None)

    figure = blank_figure(9, 5.5)
    axes = figure.add_subplot()
    curves(axes, rows, "degrees", _published())
    axes.set(xlabel="angle of the query (degrees)", ylabel="mean average precision", ylim=(0, 1.03))
    axes.set_xticks(range(0, int(max(views)) + 1, 45))
    axes.set_title(f"{bench.name}: {len(bench.task.queries)} queries turned, 95 % bands", fontsize=11)
    return StudyResult("rotation", rows, figure, _sentence(rows, list(chosen), bench.name))


def _published() -> dict[str, list[tuple[float, float]]]:
    found = {}
    for descriptor in PUBLISHED_CURVES:
        numbers = [
            find_published(dataset=f"holidays_rotated_{a}", descriptor=descriptor)[0]
            for a in PUBLISHED_ANGLES
        ]
        points = [(float(a), n.value) for a, n in zip(PUBLISHED_ANGLES, numbers, strict=True)]
        found[f"published, Holidays: {descriptor}"] = points
    return found


def _sentence(rows: list[dict], names: list[str], data: str) -> str:
    parts = []
    for name in names:
        first, share, worst = kept(rows, name)
        parts.append(f"{name} keeps {share:.3f} of its mAP of {first:.3f} (worst at {worst['degrees']:g})")
    return f"Over {len(rows) // len(names)} angles of the query, in degrees, on {data}: {', '.join(parts)}."
