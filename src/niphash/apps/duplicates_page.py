"""The report of ``niphash duplicates --html``: one page that needs no other file and runs no script."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape

from niphash.collection.duplicates import Group, Member
from niphash.collection.thumbnails import as_jpeg, thumbnail
from niphash.data.decode import UnreadableImage
from niphash.plain import printable

#: Pictures make the page large: so many groups, and photos of each, are shown.
MOST_GROUPS, MOST_MEMBERS = 500, 24
_SIDE = 160
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.4 system-ui, sans-serif; }
body { margin: 1rem auto; max-width: 72rem; padding: 0 1rem; }
section { border-top: 1px solid #8888; padding: .5rem 0 1rem; }
ul { display: flex; flex-wrap: wrap; gap: .75rem; list-style: none; margin: 0; padding: 0; }
li { width: 160px; font-size: .8rem; overflow-wrap: anywhere; }
img, .none { display: block; width: 160px; height: 160px; object-fit: contain; background: #8882; }
h2 { font-size: 1rem; }
"""


def duplicates_page(groups: Sequence[Group], within: int) -> str:
    """Return the page as HTML; file names in it are text, whatever they hold."""
    photos = sum(len(group.members) for group in groups)
    title = f"{len(groups)} groups of {photos} photos within {within} bits"
    shown = "" if len(groups) <= MOST_GROUPS else f"<p>The largest {MOST_GROUPS} groups are shown.</p>"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>{shown}\n"
        + "\n".join(_section(number, group) for number, group in enumerate(groups[:MOST_GROUPS], start=1))
        + "\n</body></html>\n"
    )


def _section(number: int, group: Group) -> str:
    members = group.members
    more = "" if len(members) <= MOST_MEMBERS else f"<p>and {len(members) - MOST_MEMBERS} more</p>"
    items = "\n".join(_item(member, members[0]) for member in members[:MOST_MEMBERS])
    return f"<section><h2>Group {number}: {len(members)} photos</h2><ul>\n{items}\n</ul>{more}</section>"


def _item(member: Member, first: Member) -> str:
    name = escape(printable(str(member.path)))
    try:
        picture = b64encode(as_jpeg(thumbnail(member.path, _SIDE))).decode()
        image = f'<img loading="lazy" alt="" src="data:image/jpeg;base64,{picture}">'
    except UnreadableImage:
        image = '<span class="none">cannot be read</span>'
    same = ", the same file as the first" if member.same_file and member is not first else ""
    return f"<li>{image}{member.distance} bits, {member.bytes} bytes{same}<br>{name}</li>"
