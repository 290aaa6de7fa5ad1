"""Thumbnails that were asked for lately."""

from collections import OrderedDict
from threading import Lock

from niphash.collection.collection import Collection
from niphash.collection.manifest import Entry
from niphash.collection.thumbnails import as_jpeg, thumbnail

LARGEST_CACHE = 64 * 2**20
SIDES = (256, 1024)


class Thumbnails:
    """JPEG files of photos, made when they are asked for; the latest stay in memory.

    Args:
        collection: Whose photos these are. Nothing else is ever read: a file must lie below its root, links
            followed.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._lock = Lock()
        self._held: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()
        self._bytes = 0

    def get(self, entry: Entry, side: int) -> bytes:
        """Return the bytes of a JPEG file.

        Raises:
            UnreadableImage: the photo is gone, damaged, or lies elsewhere by a link.
        """
        key = (entry.checksum, side)
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        content = as_jpeg(thumbnail(self._collection.location_inside(entry), side))
        with self._lock:
            if key not in self._held:
                self._held[key] = content
                self._bytes += len(content)
            while self._bytes > LARGEST_CACHE:
                self._bytes -= len(self._held.popitem(last=False)[1])
        return content
