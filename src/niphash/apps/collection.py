"""``niphash index``, ``info``, ``check``, ``search``, ``duplicates``: collections on the command line."""

import csv
import datetime
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from niphash.collection.answers import Answer, Match
from niphash.collection.changes import Changes
from niphash.collection.codes import HERE, Workers
from niphash.collection.collection import Collection
from niphash.collection.nearness import Reach
from niphash.collection.parts import FORMER_MANIFEST, MANIFEST, make_folder
from niphash.collection.places import photos_below
from niphash.collection.reranking import shared_store
from niphash.data.images import Box, ImageSet
from niphash.data.writing import write_whole
from niphash.errors import InputError
from niphash.model import Model, load
from niphash.plain import printable
from niphash.search.comparison import DistanceChoice

#: Of a photo, or of a list of names, on standard input.
LARGEST_INPUT = 2**27


def index(
    photos: Sequence[str],
    out: str,
    model_folder: str | None,
    prune: bool,
    move: tuple[str, str] | None,
    weights: str | None = None,
    workers: Workers = HERE,
) -> None:
    """Make an index of photo folders, or bring one up to what the folders hold now, and say what was done.

    Args:
        photos: The folders.
        out: Of the index.
        model_folder: Of a trained model, the first time; ``None``: the recommended model.
        prune: Remove photos that are gone.
        move: A folder, and where it is now.
        weights: State dict of the recommended model's network; ``None``: downloaded.
        workers: Who holds the codes.

    Raises:
        InputError: something cannot be read, written or had.
    """
    if not photos and move is None:
        raise InputError("niphash index: name the folders of photos")
    with _made(out, model_folder, photos, weights, workers) as collection:
        if move is not None:
            print(f"{collection.move(*move)} photos of {move[0]} are in {move[1]} now")
        if photos:
            changes = collection.update(photos, prune, shared_store(collection.model.describer))
            _print_changes(collection, changes, photos)


def info(folder: str) -> None:
    """Print what a collection holds."""
    with Collection(folder) as collection:
        model, manifest = collection.model, collection.manifest
        counts = {number: len(manifest.under(number)) for number in collection.roots}
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        print(f"photos    {len(collection)}")
        print(f"codes     {manifest.coded()} of {collection.bits} bits")
        print(f"model     {type(model.describer).__name__} ({model.describer.dim} dimensions), "
              f"{type(model.hasher).__name__}")  # fmt: skip
        print(f"fitted    {_fitted_on(model)}")
        print(f"size      {size} bytes")
        print(f"made      {_when(manifest.fact('made'))}")
        print(f"changed   {_when(manifest.fact('changed'))}")
        for number, root in collection.roots.items():
            print(f"root      {printable(str(root))} ({counts[number]} photos)")


def check(folder: str) -> None:
    """Read every byte of a collection; print what is amiss with the photos' files."""
    with Collection(folder) as collection:
        notes = collection.check()
        print(f"{folder}: whole, {len(collection)} photos")
        for note in notes:
            print(f"note: {note}")


def search(
    folder: str,
    photos: Sequence[str],
    k: int | None,
    within: float | None,
    distance: DistanceChoice,
    box: Box | None,
    form: str,
    sheet: str | None,
    rerank: str = "none",
    workers: Workers = HERE,
) -> None:
    """Print for each photo those of the collection that look like it, nearest first.

    Args:
        folder: Of the collection.
        photos: Files, folders, or ``-`` for what standard input holds: a photo, or names, one a line.
        k: At most how many; 10 when neither it nor ``within`` is given.
        within: Only those not farther than this many bits.
        distance: Between codes.
        box: Ask with this part of every photo.
        form: ``table``, ``json`` or ``csv``.
        sheet: A picture of the results to write.
        rerank: How the first results are ordered anew, a name of ``conf/rerank``.
        workers: Who holds the codes.

    Raises:
        InputError: no photo could be read, or an option means nothing.
    """
    reach = Reach(k, within, distance)
    reach.check()
    if sheet is not None:
        _check_writable(sheet)
    with Collection(folder, workers) as collection, tempfile.TemporaryDirectory() as scratch:
        queries = _queries(photos, Path(scratch))
        answers = []
        found = collection.answers(queries, reach, box, collection.reranking(rerank))
        for answer in _WRITERS[form](found, len(queries)):
            if answer.problem is not None and (answer.readable or len(queries) > 1):
                print(f"{'note' if answer.readable else 'skipped'}: {_sentence(answer)}", file=sys.stderr)
            answers.append(answer if sheet is not None or answer.problem is not None else None)
        if sheet is not None:
            _write_sheet(sheet, [answer for answer in answers if answer is not None], queries, box)
    failed = [answer for answer in answers if answer is not None and not answer.readable]
    if len(failed) == len(queries):
        raise InputError(_sentence(failed[0]))


def duplicates(folder: str, within: int, form: str, html: str | None) -> None:
    """Print the groups of photos that are nearly the same."""
    from niphash.collection.duplicates import duplicate_groups

    if html is not None:
        _check_writable(html)
    with Collection(folder) as collection:
        groups = list(duplicate_groups(collection, within))
    if html is not None:
        from niphash.apps.duplicates_page import duplicates_page

        write_whole(Path(html), duplicates_page(groups, within))
    if form == "json":
        print(json.dumps([group.as_plain() for group in groups], indent=1))
        return
    for number, group in enumerate(groups, start=1):
        print(f"group {number}, {len(group.members)} photos")
        for member in group.members:
            mark = "=" if member.same_file and member.distance == 0 else " "
            print(f"  {member.distance:4d}  {mark} {member.id:8d}  {printable(str(member.path))}")
    photos = sum(len(group.members) for group in groups)
    print(f"{len(groups)} groups of {photos} photos within {within} bits (=: the same file as the first)")


def _made(
    out: str, model_folder: str | None, photos: Sequence[str], weights: str | None, workers: Workers
) -> Collection:
    """Return the collection, made with a model where it is new."""
    if model_folder is not None and weights is not None:
        raise InputError(f"--weights={weights}: is for the recommended model; leave it or --model away")
    exists = any((Path(out) / name).exists() for name in (MANIFEST, FORMER_MANIFEST))
    if exists:
        if weights is not None:
            print(f"note: {out} has its model, so --weights is not looked at", file=sys.stderr)
        collection = Collection(out, workers)
        if model_folder is not None:
            collection.check_model(load(model_folder))
        return collection
    if model_folder is not None:
        return Collection.create(out, load(model_folder), workers)
    if not photos:
        raise InputError(f"{out}: no index yet; name the folders of photos to make it of")
    if Path(out).exists():
        make_folder(Path(out))  # one that holds something else is refused before any work
    return Collection.create(out, _recommended(out, photos, weights), workers)


def _recommended(out: str, photos: Sequence[str], weights: str | None) -> Model:
    """Return the recommended model, fitted on these photos, and say so."""
    try:
        from niphash.pipeline.recommended import FEWEST_PHOTOS, fit_recommended
    except ModuleNotFoundError as error:  # an installation that is made for searching alone
        raise InputError(
            f"no --model, and to fit one needs {error.name}; pip install niphash, or name a trained model"
        ) from error

    places = photos_below(photos, [], Path(out).resolve()).places
    images = ImageSet(tuple(str(place.path) for place in places), tuple(place.path for place in places))
    model, count = fit_recommended(images, weights)
    network = model.config["descriptor"]["backbone"]["name"]
    if count:
        print(f"no --model: the recommended one, {network}, hashing fitted on {count} of these photos")
    else:
        print(
            f"no --model: the recommended one, {network}, with random hyperplanes, since fewer than "
            f"{FEWEST_PHOTOS} photos are too few to fit hashing on; make the index anew when there are more"
        )
    return model


def _fitted_on(model: Model) -> str:
    """Return what the record says of the fit set; the record may be anyone's."""
    fit_set = model.record.get("fit_set")
    if not isinstance(fit_set, dict) or not isinstance(fit_set.get("source"), str):
        return "not known on what"
    return f"on {printable(fit_set['source'])} ({len(model.fit_checksums)} photos)"


def _print_changes(collection: Collection, changes: Changes, photos: Sequence[str]) -> None:
    told = {
        "new": len(changes.added),
        "changed": len(changes.changed),
        "removed": len(changes.removed),
        "as they were": changes.unchanged,
    }
    done = ", ".join(f"{count} {what}" for what, count in told.items() if count) or "nothing to do"
    print(f"{len(collection)} photos in {collection.folder}, {collection.bits} bits each: {done}")
    for folder, survey in changes.surveys.items():
        inside = f"{Path(folder).resolve()}{os.sep}"
        unread = [skipped.reason for skipped in changes.skipped if skipped.image_id.startswith(inside)]
        print(f"{printable(folder)}: {survey.summary(unread)}")
    if changes.blank:
        print(f"{changes.blank} of them have no local descriptor, so they match nothing")
    if changes.gone:
        print(f"{len(changes.gone)} are gone from {', '.join(photos)}; --prune removes them from the index")
    for skipped in changes.skipped:
        print(f"skipped: {printable(skipped.image_id)} ({skipped.reason})", file=sys.stderr)
    if not len(collection) and changes.skipped:
        raise InputError(f"{', '.join(photos)}: none of the {len(changes.skipped)} photos can be read")


def _queries(photos: Sequence[str], scratch: Path) -> ImageSet:
    """Return the photos that are asked with, in order; one from standard input is put into ``scratch``."""
    found: list[tuple[str, Path]] = []
    for photo in photos:
        if photo == "-":
            found += _from_input(scratch)
        elif Path(photo).is_dir():
            found += [
                (str(source), source)
                for source in ImageSet.from_folder(photo).sources
                if isinstance(source, Path)
            ]
        else:
            found.append((photo, Path(photo)))
    return ImageSet(tuple(name for name, _ in found), tuple(path for _, path in found))


def _from_input(scratch: Path) -> list[tuple[str, Path]]:
    content = sys.stdin.buffer.read(LARGEST_INPUT + 1)
    if len(content) > LARGEST_INPUT:
        raise InputError(f"standard input: more than {LARGEST_INPUT} bytes; name the photo's file")
    lines = [os.fsdecode(line) for line in content.splitlines() if line.strip()]
    if not lines:
        raise InputError("standard input: empty; give a photo, or names of photos, one a line")
    if b"\0" not in content and any(len(line) < 4096 and Path(line).exists() for line in lines):
        return [(line, Path(line)) for line in lines]
    (scratch / "photo").write_bytes(content)
    return [("standard input", scratch / "photo")]


def _write_table(answers: Iterable[Answer], count: int) -> Iterator[Answer]:
    for answer in answers:
        if answer.problem is None:
            if count > 1:
                print(printable(answer.query))
            if answer.matches:
                score = "  score" if answer.matches[0].score is not None else ""
                share = "  same" if answer.matches[0].probability is not None else ""
                print(f"  bits{share}        id    photo (=: the query itself){score}")
            for match in answer.matches:
                at = f"{match.distance:6d}" if isinstance(match.distance, int) else f"{match.distance:6.2f}"
                name = f"{'=' if match.itself else ' '} {printable(str(match.path))}"
                print(f"{at}{_share(match)}  {match.id:8d}  {name}{_score(match)}")
            if not answer.matches:
                print("nothing within reach")
        yield answer


def _write_json(answers: Iterable[Answer], count: int) -> Iterator[Answer]:
    opening = "[\n"
    for answer in answers:
        print(f"{opening}{json.dumps(answer.as_plain())}", end="")
        opening = ",\n"
        yield answer
    print("\n]")


def _write_csv(answers: Iterable[Answer], count: int) -> Iterator[Answer]:
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]  # file names as they are
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(["query", "rank", "id", "distance", "itself", "score", "path", "problem"])
    for answer in answers:
        if answer.problem is not None:
            rows.writerow([answer.query, "", "", "", "", "", "", answer.problem])
        for rank, match in enumerate(answer.matches, start=1):
            score = "" if match.score is None else match.score
            found = [rank, match.id, match.distance, int(match.itself), score, match.path]
            rows.writerow([answer.query, *found, ""])
        yield answer


_WRITERS = {"table": _write_table, "json": _write_json, "csv": _write_csv}


def _write_sheet(path: str, answers: list[Answer], queries: ImageSet, box: Box | None) -> None:
    from niphash.collection.contact_sheet import MOST_ROWS, contact_sheet

    try:
        contact_sheet(answers, queries.sources, box).save(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be written ({error}); name a .jpg or .png file") from error
    if len(answers) > MOST_ROWS:
        print(f"note: {path} shows the first {MOST_ROWS} of {len(answers)} queries", file=sys.stderr)


def _check_writable(path: str) -> None:
    """Refuse a file that cannot be written before any long work."""
    target = Path(path)
    if target.is_dir() or not target.absolute().parent.is_dir():
        raise InputError(f"{path}: cannot be written; name a file in a folder that exists")


def _share(match: Match) -> str:
    """Return how likely the match shows the same thing, in percent and six places."""
    if match.probability is None:
        return ""
    share = 100 * match.probability
    return f"{'<1' if share < 1 else '>99' if share > 99 else round(share):>5}%"


def _score(match: Match) -> str:
    return "" if match.score is None else f"  {match.score:.4g}"


def _sentence(answer: Answer) -> str:
    return f"{printable(answer.query)}: {answer.problem}"


def _when(seconds: str) -> str:
    return datetime.datetime.fromtimestamp(int(seconds)).astimezone().isoformat(" ", "minutes")
