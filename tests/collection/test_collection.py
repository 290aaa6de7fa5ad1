"""A collection: brought up to date, searched, moved, checked; real photos, one small model."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import niphash
from niphash.collection.answers import BLANK
from niphash.collection.collection import Collection
from niphash.collection.nearness import Reach
from niphash.data.images import Box, ImageSet, UnreadableImage
from niphash.descriptors.store.store import DescriptorStore
from niphash.errors import InputError
from niphash.model import Model, load
from tests.collection.conftest import MODEL
from tests.photos import real_photos, write_objects


def names(collection: Collection) -> dict[str, int]:
    return {os.fsdecode(entry.name): entry.id for entry in collection.manifest.all()}


def age(folder: Path) -> None:
    """Make files older than the time within which a change may leave no sign."""
    for path in folder.rglob("*"):
        os.utime(path, ns=(10**18, 10**18))


def test_codes_are_those_of_the_model(collection: Collection, model: Model, photos: Path):
    held = names(collection)
    assert sorted(held) == sorted(str(path.relative_to(photos)) for path in photos.rglob("*.jpg"))
    codes = collection.codes.get(np.array(list(held.values())))
    assert codes.tolist() == model.hash([photos / name for name in held]).tolist()
    assert len(collection) == 12
    assert collection.check() == []


def test_search_is_a_plain_scan_of_the_codes(collection: Collection, model: Model, photos: Path):
    query = photos / "object02" / "view1.jpg"
    codes = collection.codes.get(collection.codes.ids)
    bits = np.unpackbits(codes ^ model.hash(query), axis=1).sum(axis=1)
    expected = sorted(zip(bits.tolist(), collection.codes.ids.tolist(), strict=True))
    found = collection.search(query, k=7)
    assert [(match.distance, match.id) for match in found] == expected[:7]
    near = collection.search(query, within=3)
    assert [(match.distance, match.id) for match in near] == [pair for pair in expected if pair[0] <= 3]
    assert [match.id for match in collection.search(query, k=1, within=8)] == [expected[0][1]]
    assert len(collection.search(query)) == 10
    assert [match.path for match in found if match.itself] == [query]


@pytest.mark.parametrize("distance", ["hamming", "asymmetric"])
def test_a_ratio_says_how_far_the_nearest_photo_stands_out(
    collection: Collection, photos: Path, tmp_path: Path, distance: str
):
    held = photos / "object02" / "view1.jpg"
    copy = tmp_path / "copy.jpg"
    Image.open(held).save(copy, quality=40)
    for query, itself in ((held, 1), (copy, 0)):
        near = [match.distance for match in collection.search(query, k=9, distance=distance)][itself:]
        expected = pytest.approx(near[0] / near[1], rel=0.01)
        for k in (1, 2, 9):
            (answer,) = collection.answers(ImageSet(("q",), (query,)), Reach(k=k, distance=distance))
            assert answer.ratio == expected
            assert len(answer.matches) == k
    by_id = collection.answer_for(names(collection)["object02/view1.jpg"], Reach(k=1, distance=distance))
    (by_photo,) = collection.answers(ImageSet(("q",), (held,)), Reach(k=1, distance=distance))
    assert by_id.ratio == by_photo.ratio == by_id.as_plain()["ratio"]
    (alone,) = collection.answers(ImageSet(("q",), (held,)), Reach(within=0, distance=distance))
    assert alone.ratio is None


def test_a_photo_of_the_collection_asks_by_its_id(collection: Collection, photos: Path):
    number = names(collection)["object03/view0.jpg"]
    assert collection.search(number) == collection.search(photos / "object03" / "view0.jpg")
    weighted = collection.search(number, distance="asymmetric")
    assert weighted == collection.search(photos / "object03" / "view0.jpg", distance="asymmetric")
    assert weighted[0].distance == 0
    with pytest.raises(InputError, match="photo 999 is not in"):
        collection.search(999)


def test_a_box_asks_with_a_part(collection: Collection, photos: Path):
    query = photos / "object00" / "view0.jpg"
    part = Image.open(query).crop((10, 20, 120, 130))
    in_box = collection.search(query, distance="asymmetric", box=Box(10, 20, 120, 130))
    assert [match[:3] for match in in_box] == [m[:3] for m in collection.search(part, distance="asymmetric")]
    assert [match.path for match in in_box if match.itself] == [query]
    with pytest.raises(InputError, match="lies outside"):
        collection.search(query, box=Box(900, 900, 950, 950))


def test_several_queries_are_answered_in_order_with_their_problems(
    collection: Collection, photos: Path, tmp_path: Path
):
    (tmp_path / "broken.jpg").write_bytes((photos / "object00" / "view0.jpg").read_bytes()[:400])
    Image.new("RGB", (64, 64), "white").save(tmp_path / "white.png")
    paths = [
        photos / "object01" / "view1.jpg",
        tmp_path / "broken.jpg",
        tmp_path / "white.png",
        tmp_path / "no.jpg",
    ]
    paths += sorted(photos.rglob("*.jpg")) * 8  # more than are searched at a time
    answers = list(collection.answers(ImageSet(tuple(map(str, paths)), tuple(paths)), Reach(k=3)))
    assert [answer.query for answer in answers] == [str(path) for path in paths]
    assert answers[0].matches == tuple(collection.search(paths[0], k=3))
    assert "truncated" in answers[1].problem
    assert not answers[1].readable
    assert (answers[2].problem, answers[2].readable, answers[2].matches) == (BLANK, True, ())
    assert answers[3].problem == "does not exist"
    assert all(answer.problem is None and len(answer.matches) == 3 for answer in answers[4:])


def test_indexing_again_adds_updates_and_prunes(collection: Collection, photos: Path, model: Model):
    age(photos)
    collection.update([photos])  # notes the new dates
    before = names(collection)
    shutil.copy(photos / "object00" / "view0.jpg", photos / "new.jpg")
    changed, gone = photos / "object01" / "view0.jpg", photos / "object02" / "view2.jpg"
    real_photos()[5].resize((160, 160)).save(changed)
    gone.unlink()
    done = collection.update([photos])
    assert (len(done.added), len(done.changed), done.unchanged, done.removed) == (1, 1, 10, [])
    assert done.gone == [before["object02/view2.jpg"]]
    after = names(collection)
    assert after["object01/view0.jpg"] not in before.values()
    assert collection.codes.get(np.array(done.changed)).tolist() == model.hash(changed).tolist()
    assert {name: after[name] for name in before if name != "object01/view0.jpg"} == {
        name: number for name, number in before.items() if name != "object01/view0.jpg"
    }
    done = collection.update([photos], prune=True)
    assert done.removed == [before["object02/view2.jpg"]]
    assert len(collection) == len(collection.codes) == 12
    assert collection.check() == []
    done = collection.update([photos], prune=True)
    assert (done.added, done.changed, done.removed, done.gone) == ([], [], [], [])


def test_an_unchanged_photo_is_not_read_again(collection: Collection, photos: Path, monkeypatch):
    age(photos)
    collection.update([photos])
    monkeypatch.setattr(ImageSet, "checksum", None)
    assert collection.update([photos]).unchanged == 12


def test_a_change_right_after_indexing_is_noticed_whatever_its_date(collection: Collection, photos: Path):
    path = photos / "object00" / "view1.jpg"
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[-20] ^= 1  # the same size
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert len(collection.update([photos]).changed) == 1


def test_touched_files_are_not_described_again(collection: Collection, photos: Path, monkeypatch):
    age(photos)
    monkeypatch.setattr(type(collection.model.describer), "batches", None)
    assert collection.update([photos]).unchanged == 12
    assert collection.check() == []


def test_an_empty_or_missing_folder_prunes_nothing(collection: Collection, photos: Path):
    shutil.rmtree(photos)
    with pytest.raises(InputError, match="no such folder"):
        collection.update([photos], prune=True)
    photos.mkdir()
    with pytest.raises(InputError, match="no image"):
        collection.update([photos], prune=True)
    assert len(collection) == 12


def test_a_folder_inside_a_root_is_a_part_of_it(collection: Collection, photos: Path):
    shutil.copy(photos / "object00" / "view0.jpg", photos / "object03" / "more.jpg")
    (photos / "object02" / "view0.jpg").unlink()
    done = collection.update([photos / "object03"], prune=True)
    assert (len(done.added), done.unchanged, done.removed, done.gone) == (1, 3, [], [])
    assert list(collection.roots.values()) == [photos.resolve()]
    assert "object03/more.jpg" in names(collection)


def test_a_folder_around_a_root_leaves_its_photos_with_it(collection: Collection, tmp_path: Path):
    """And what lies in the collection itself is no photo of the folder around it."""
    real_photos()[2].crop((0, 0, 90, 90)).save(tmp_path / "kept.png")
    collection.keep(tmp_path / "kept.png", ".png")
    (tmp_path / "kept.png").unlink()
    shutil.copytree(tmp_path / "photos" / "object00", tmp_path / "others")
    before = len(collection)
    done = collection.update([tmp_path])
    assert (len(done.added), done.unchanged) == (3, 12)
    assert len(collection) == before + 3
    assert collection.search(tmp_path / "others" / "view0.jpg", k=12)[0].itself


def test_several_roots_in_one_call(tmp_path: Path, model: Model, photos: Path):
    other = write_objects(tmp_path / "other", objects=2, views=2)
    made = Collection.create(tmp_path / "two.index", model)
    assert len(made.update([photos, other, photos / "object00"]).added) == 16
    assert set(made.roots.values()) == {photos.resolve(), other.resolve()}


def test_adding_and_removing_single_photos(collection: Collection, photos: Path, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere" / "cat.png"
    elsewhere.parent.mkdir()
    real_photos()[2].crop((0, 0, 200, 200)).save(elsewhere)
    inside = photos / "object00" / "more.jpg"
    shutil.copy(photos / "object01" / "view0.jpg", inside)
    done = collection.add([elsewhere, inside])
    assert len(done.added) == 2
    assert collection.path(done.added[0]) == elsewhere
    assert names(collection).keys() >= {"cat.png", "object00/more.jpg"}
    assert collection.add(elsewhere).unchanged == 1
    collection.remove(done.added)
    assert len(collection) == 12
    assert elsewhere.exists()
    assert all(match.id not in done.added for match in collection.search(elsewhere, within=8))
    for wrong in (done.added, [0, 77]):
        with pytest.raises(InputError, match="is not in"):
            collection.remove(wrong)
    assert len(collection) == 12
    with pytest.raises(InputError, match="no such file"):
        collection.add(tmp_path / "nothing.jpg")


def test_a_photo_that_is_kept_lies_in_the_collection(collection: Collection, photos: Path, tmp_path: Path):
    source = tmp_path / "upload"
    real_photos()[1].crop((0, 0, 180, 180)).save(source, "JPEG")
    number, new = collection.keep(source, ".jpg")
    assert new
    kept = collection.path(number)
    assert kept.parent == collection.folder / "uploads"
    assert kept.read_bytes() == source.read_bytes()
    assert collection.keep(source, ".jpg") == (number, False)
    assert collection.keep(photos / "object00" / "view0.jpg", ".jpg") == (
        names(collection)["object00/view0.jpg"],
        False,
    )
    moved = tmp_path / "moved.index"
    collection.folder.rename(moved)
    assert Collection(moved).path(number) == moved / "uploads" / kept.name
    Collection(moved).remove([number])
    assert not list((moved / "uploads").iterdir())
    source.write_bytes(b"no photo")
    with pytest.raises(UnreadableImage):
        Collection(moved).keep(source, ".jpg")
    assert not list((moved / "uploads").iterdir())


def test_a_root_moves(collection: Collection, photos: Path, tmp_path: Path):
    query = tmp_path / "query.jpg"
    shutil.copy(photos / "object00" / "view0.jpg", query)
    photos.rename(tmp_path / "moved")
    assert collection.check() == ["12 photos are gone from their folders"]
    with pytest.raises(InputError, match="holds none of the photos"):
        collection.move(photos, tmp_path)
    with pytest.raises(InputError, match="no root of"):
        collection.move(tmp_path / "nowhere", tmp_path / "moved")
    assert collection.move(photos, tmp_path / "moved") == 12
    assert collection.search(query, k=1)[0].path == tmp_path / "moved" / "object00" / "view0.jpg"
    assert collection.update([tmp_path / "moved"]).unchanged == 12


def test_broken_and_blank_photos(collection: Collection, photos: Path):
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff no photo")
    Image.new("RGB", (300, 200), "white").save(photos / "white.png")
    Image.new("RGB", (1, 1), "white").save(photos / "dot.png")
    done = collection.update([photos])
    assert [(Path(photo.image_id).name) for photo in done.skipped] == ["broken.jpg"]
    assert done.blank == 2
    assert (len(collection), len(collection.codes)) == (14, 12)
    assert len(collection.search(photos / "object00" / "view0.jpg", within=8)) == 12
    blank = names(collection)["white.png"]
    with pytest.raises(InputError, match="no local descriptor"):
        collection.search(blank)
    assert len(collection.update([photos]).skipped) == 1
    collection.remove([blank])
    assert len(collection) == 13


def test_a_photo_that_breaks_keeps_its_code_and_is_named(collection: Collection, photos: Path):
    (photos / "object00" / "view0.jpg").write_bytes(b"\xff\xd8\xff")
    done = collection.update([photos], prune=True)
    assert (len(done.skipped), done.removed, len(collection)) == (1, [], 12)


def test_the_store_spares_describing(tmp_path: Path, photos: Path, model: Model, monkeypatch):
    store = DescriptorStore.of(model.describer, tmp_path / "store")
    first = Collection.create(tmp_path / "a.index", model)
    first.update([photos], store=store)
    second = Collection.create(tmp_path / "b.index", model)
    monkeypatch.setattr(type(model.describer), "batches", None)
    second.update([photos], store=store)
    assert second.codes.get(second.codes.ids).tolist() == first.codes.get(first.codes.ids).tolist()


def test_names_that_are_no_text(tmp_path: Path, photos: Path, model: Model):
    name = os.fsdecode(b"caf\xe9 \xff\n.jpg")
    shutil.copy(photos / "object00" / "view0.jpg", photos / name)
    made = Collection.create(tmp_path / "i.index", model)
    made.update([photos])
    (found,) = [match for match in made.search(photos / name, within=8) if match.path.name == name]
    assert found.itself
    assert made.update([photos]).added == []


def test_readers_follow_a_writer(collection: Collection, photos: Path):
    reader = niphash.open(collection.folder)
    query = photos / "object00" / "view0.jpg"
    assert len(reader.search(query, within=8)) == 12
    shutil.copy(query, photos / "twin.jpg")
    collection.update([photos])
    assert sum(match.itself for match in reader.search(query, within=8)) == 2
    assert len(reader) == 13


def test_a_second_writer_is_told(collection: Collection, photos: Path, tmp_path: Path):
    program = (
        "import sys, time\n"
        "from filelock import FileLock\n"
        "with FileLock(sys.argv[1]):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(collection.folder / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "held\n"
            for change in (
                lambda: collection.update([photos]),
                lambda: collection.remove([0]),
                lambda: collection.keep(photos / "object00" / "view0.jpg", ".jpg"),
            ):
                with pytest.raises(InputError, match="another process is changing this index"):
                    change()
            assert len(collection.search(photos / "object00" / "view0.jpg", k=3)) == 3
        finally:
            other.kill()
    assert collection.update([photos]).unchanged == 12


def test_what_a_kill_leaves_is_put_in_order(collection: Collection, photos: Path):
    """Codes without a photo are never found; a photo without its code is described again."""
    query = photos / "object00" / "view0.jpg"
    with collection._writing() as (_, codes):
        codes.add(codes.get(np.array([0, 0, 0])), np.array([100, 101, 102], np.int64))
    collection = Collection(collection.folder)
    assert len(collection.search(query, k=12)) == len(collection.search(query, within=8)) == 12
    assert collection.check() == ["3 codes of a killed run, which the next one removes"]
    collection.update([photos])
    assert collection.check() == []
    with collection._writing() as (_, codes):
        codes.remove(np.array([4]))
    collection = Collection(collection.folder)
    with pytest.raises(InputError, match="photo 4 has no code"):
        collection.check()
    assert len(collection.update([photos]).added) == 1
    assert collection.check() == []


def test_another_model_is_refused(collection: Collection, model: Model):
    collection.check_model(load(MODEL))
    with pytest.raises(InputError, match="made with another model"):
        collection.check_model(load(MODEL.parent / "vlad_pca_niphash"))
    load(MODEL.parent / "vlad_pca_niphash").save(collection.folder / "model")
    with pytest.raises(InputError, match="not the model that made this index"):
        Collection(collection.folder).search(0, distance="asymmetric")


def test_a_missing_model_is_named_and_codes_are_still_there(collection: Collection):
    shutil.rmtree(collection.folder / "model")
    with pytest.raises(InputError, match="the index has lost its model; copy"):
        Collection(collection.folder).search(real_photos()[0])


def test_folders_that_cannot_be_an_index(tmp_path: Path, photos: Path, model: Model):
    with pytest.raises(InputError, match="holds other files"):
        Collection.create(photos, model)
    with pytest.raises(InputError, match="holds no index"):
        Collection(photos)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        Collection.create(tmp_path / "file", model)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "photos.json").write_text("{}")
    with pytest.raises(InputError, match="earlier niphash"):
        Collection(tmp_path / "old")


@pytest.mark.parametrize("options", [{"k": 0}, {"k": -3}, {"within": -1}, {"within": float("nan")}])
def test_reach_that_means_nothing(collection: Collection, options: dict):
    with pytest.raises(InputError, match=r"k=|within="):
        collection.search(0, **options)


def test_any_distance_of_a_model_is_searched(tmp_path: Path, photos: Path):
    """Product quantisation compares every code in a way no index knows."""
    made = Collection.create(tmp_path / "pq.index", load(MODEL.parent / "bow_centring_pq"))
    made.update([photos])
    found = made.search(photos / "object00" / "view0.jpg", k=12, distance="asymmetric")
    assert len(found) == 12
    assert [match.distance for match in found] == sorted(match.distance for match in found)
    nearer = made.search(photos / "object00" / "view0.jpg", within=found[5].distance, distance="asymmetric")
    assert [match.id for match in nearer][:5] == [match.id for match in found][:5]


def test_the_package_shows_what_it_offers(collection: Collection):
    assert niphash.open(collection.folder).codes.ids.tolist() == list(range(12))
    assert set(dir(niphash)) >= {"load", "open", "Model", "Index", "Collection"}


def test_photos_that_the_manifest_has_lost_are_no_empty_answer(collection: Collection, photos: Path):
    query = min(photos.rglob("*.jpg"))
    assert collection.search(query)
    collection.close()
    with sqlite3.connect(collection.folder / "photos.sqlite") as sql:
        sql.execute("DELETE FROM photos")  # as a damaged page does; the sealed counts still say how many
    sql.close()
    with Collection(collection.folder) as again, pytest.raises(InputError, match="it has lost photos"):
        again.search(query)


def test_a_photo_that_is_removed_while_a_search_is_answered_is_no_damage(
    collection: Collection, photos: Path, monkeypatch: pytest.MonkeyPatch
):
    query = min(photos.rglob("*.jpg"))
    (first, *_) = collection.search(query, k=3)
    look_up = collection.manifest.entries

    def entries(numbers: list[int]) -> dict:
        monkeypatch.undo()
        collection.remove([first.id])
        return look_up(numbers)

    monkeypatch.setattr(collection.manifest, "entries", entries)
    found = [match.id for match in collection.search(query, k=3)]
    assert first.id not in found
    assert len(found) == 3, "one that was asked for beside the three takes its place"
