"""How near do two photos of one thing come, as each invariance is added? (arXiv 1601.02093)"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from niphash.data.images import ImageSet, UnreadableImage
from niphash.data.task import RetrievalTask
from niphash.errors import InputError
from niphash.evaluation.intervals import bootstrap_interval, query_clusters
from niphash.pipeline.run import Run
from niphash.studies.chains import describe_chains
from niphash.studies.curves import blank_figure
from niphash.studies.measured import prepare
from niphash.studies.result import StudyResult

#: Longer side of a photo in the picture, pixels.
THUMBNAIL = 200


def matching_pairs(
    run: Run,
    nest: Sequence[Sequence[str]],
    pairs: int = 100,
    shown: int = 4,
    named: Sequence[Sequence[str]] = (),
) -> StudyResult:
    """Measure the distances of matching and of non-matching pairs after each level of a nest.

    Args:
        run: With ``pooling=nip``, whose rotations and scales are taken.
        nest: (group, moment) pairs, innermost first; they are added one by one to the bare map.
        pairs: So many matching pairs at most, drawn at random: a query and another relevant photo. The
            non-matching ones are the same queries with photos that match another.
        shown: So many of the matching pairs are drawn one by one, their photos beside them.
        named: Pairs of a query and a photo of the database, by their ids or file names, drawn one by one in
            place of those; whether they match is not asked.

    Raises:
        InputError: an impossible value, too few matching pairs, or the data set is not there.
    """
    if pairs < 2 or not 1 <= shown <= pairs:
        raise InputError(f"study.pairs={pairs}, study.shown={shown}: give two pairs or more, and show one")
    bench = prepare(run)
    task, rng = bench.task, np.random.default_rng(run.seed)
    of_names = np.array([find_pair(task, pair) for pair in named], np.int64).reshape(-1, 2)
    queries, matching, other = draw_pairs(task, pairs, rng)
    depths = [nest[:depth] for depth in range(len(nest) + 1)]
    described = describe_chains(
        bench,
        depths,
        task.queries.subset([*queries, *of_names[:, 0]]),
        task.database.subset([*matching, *of_names[:, 1]]),
        task.database.subset(other),
    )
    drawn = len(queries)
    distances = {
        name: (np.linalg.norm(q[:drawn] - m[:drawn], axis=1), np.linalg.norm(q[:drawn] - o, axis=1))
        for name, (q, m, o) in described.items()
    }
    readable = np.all([np.isfinite(d).all(0) for d in map(np.array, distances.values())], axis=0)
    if not readable.any():
        raise InputError(f"{bench.name}: none of {drawn} pairs of photos can be read")
    distances = {name: (m[readable], o[readable]) for name, (m, o) in distances.items()}
    if named:
        singles = {
            name: np.linalg.norm(q[drawn:] - m[drawn:], axis=1) for name, (q, m, _) in described.items()
        }
        _check_described(named, singles)
        shown_rows = of_names
    else:
        singles = {name: m[:shown] for name, (m, _) in distances.items()}
        shown_rows = np.array([queries, matching])[:, readable][:, :shown].T
    photos = [(task.queries.subset([q]), task.database.subset([m])) for q, m in shown_rows.tolist()]
    clusters = query_clusters(task)[queries][readable]
    rows = _rows(distances, clusters, photos, singles, run.seed)
    return StudyResult("matching_pairs", rows, _draw(rows, photos), _sentence(rows, bench.name))


def draw_pairs(
    task: RetrievalTask, count: int, rng: np.random.Generator
) -> tuple[list[int], list[int], list[int]]:
    """Return queries, for each a relevant photo other than itself, and one neither relevant nor junk.

    Raises:
        InputError: fewer than two queries have both.
    """
    queries, matching, other = [], [], []
    database = np.arange(len(task.database))
    for query in rng.permutation(len(task.queries)).tolist():
        truth = task.relevance[query]
        relevant = [i for i in truth.relevant if task.database.sources[i] != task.queries.sources[query]]
        rest = np.setdiff1d(database, np.concatenate([truth.relevant, truth.junk]))
        if relevant and len(rest):
            queries.append(query)
            matching.append(int(rng.choice(relevant)))
            other.append(int(rng.choice(rest)))
        if len(queries) == count:
            break
    if len(queries) < 2:
        raise InputError(f"{task.name}: fewer than two queries have another photo of the same thing")
    return queries, matching, other


def find_pair(task: RetrievalTask, pair: Sequence[str]) -> tuple[int, int]:
    """Return the rows of a query and a database photo that ``pair`` names by their ids or the ends of them.

    Raises:
        InputError: it is no pair, or a name stands for none of the photos or for several.
    """
    if len(pair) != 2:
        raise InputError(f"study.named: {list(pair)} is no pair; write [[<query>,<photo>],...]")
    query, photo = (
        _row_of(images, str(name), what)
        for name, images, what in zip(
            pair, (task.queries, task.database), ("queries", "database photos"), strict=True
        )
    )
    return query, photo


def _row_of(images: ImageSet, name: str, what: str) -> int:
    exact = [row for row, known in enumerate(images.ids) if known == name]
    found = exact or [row for row, known in enumerate(images.ids) if known.endswith(f"/{name}")]
    if len(found) != 1:
        raise InputError(
            f"study.named: {name} is the name of {len(found)} {what}; they are named like {images.ids[0]}"
        )
    return found[0]


def _check_described(named: Sequence[Sequence[str]], distances: dict[str, np.ndarray]) -> None:
    for number, pair in enumerate(named):
        if not all(np.isfinite(values[number]) for values in distances.values()):
            raise InputError(
                f"study.named: a photo of {', '.join(map(str, pair))} cannot be read; leave it out"
            )


def _rows(
    distances: dict[str, tuple[np.ndarray, np.ndarray]],
    clusters: np.ndarray,
    photos: Sequence[tuple[ImageSet, ImageSet]],
    singles: dict[str, np.ndarray],
    seed: int,
) -> list[dict[str, Any]]:
    rows = []
    for name, (matching, other) in distances.items():
        for what, values in (("mean of matching pairs", matching), ("mean of other pairs", other)):
            low, high = bootstrap_interval(values[:, None], clusters, seed)[0]
            rows.append(_row(name, what, "", "", float(values.mean()), float(low), float(high), len(values)))
        for (query, match), value in zip(photos, singles[name], strict=True):
            distance = float(value)
            rows.append(_row(name, "single pair", query.ids[0], match.ids[0], distance, None, None, 1))
    return rows


def _row(
    chain: str,
    what: str,
    query: str,
    match: str,
    distance: float,
    low: float | None,
    high: float | None,
    pairs: int,
) -> dict[str, Any]:
    return {
        "chain": chain,
        "what": what,
        "query": query,
        "match": match,
        "distance": distance,
        "low": low,
        "high": high,
        "pairs": pairs,
    }


def _draw(rows: list[dict[str, Any]], photos: Sequence[tuple[ImageSet, ImageSet]]) -> Figure:
    figure = blank_figure(10, 2.4 * len(photos) + 0.8)
    grid = figure.subplots(len(photos), 3, squeeze=False, width_ratios=[1, 1, 2.4])
    chains = list(dict.fromkeys(row["chain"] for row in rows))
    at = range(len(chains))
    top = 1.08 * max(row["high"] or row["distance"] for row in rows)
    for (left, middle, right), (query, match) in zip(grid, photos, strict=True):
        for axes, photo in ((left, query), (middle, match)):
            axes.imshow(_thumbnail(photo))
            axes.set_axis_off()
            axes.set_title(_short(photo.ids[0]), fontsize=7)
        for what, colour in (("mean of matching pairs", "tab:green"), ("mean of other pairs", "tab:red")):
            own = [row for row in rows if row["what"] == what]
            values = [row["distance"] for row in own]
            errors = [
                [v - r["low"] for v, r in zip(values, own, strict=True)],
                [r["high"] - v for v, r in zip(values, own, strict=True)],
            ]
            name = f"{what} ({own[0]['pairs']}), 95 %"
            right.errorbar(at, values, yerr=errors, color=colour, linestyle=":", capsize=3, label=name)
        single = [r["distance"] for r in rows if (r["query"], r["match"]) == (query.ids[0], match.ids[0])]
        right.plot(at, single, "o-", color="tab:blue", label="this pair")
        right.set(ylim=(0, top), ylabel="L2 distance")
        right.set_xticks(at, chains, fontsize=8)
        right.grid(alpha=0.3)
    grid[0, 2].legend(fontsize=7, loc="lower left")
    grid[-1, 2].set_xlabel("invariances of the descriptor (length one)")
    return figure


def _short(image_id: str, most: int = 28) -> str:
    name = image_id.rpartition("/")[2]
    return name if len(name) <= most else f"...{name[3 - most :]}"


def _thumbnail(photo: ImageSet) -> np.ndarray:
    try:
        image = photo.image(0)
    except UnreadableImage:  # gone since it was described
        return np.full((THUMBNAIL, THUMBNAIL, 3), 255, np.uint8)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return np.asarray(image)


def _sentence(rows: list[dict[str, Any]], data: str) -> str:
    means = {(row["chain"], row["what"]): row for row in rows if row["what"] != "single pair"}
    steps = []
    for chain in dict.fromkeys(chain for chain, _ in means):
        matching, other = (means[chain, f"mean of {kind} pairs"] for kind in ("matching", "other"))
        interval = f"[{matching['low']:.3f}, {matching['high']:.3f}]"
        share = matching["distance"] / other["distance"]
        steps.append(f"{chain} {matching['distance']:.3f} {interval}, {share:.2f} of that of other pairs")
    return f"Mean L2 distance of {rows[0]['pairs']} matching pairs of {data}: {'; '.join(steps)}."
