"""Names: found again in another form, written as text and read back."""

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from niphash.data.names import NameTable, native_name, portable_name, respelled
from niphash.errors import InputError


@given(st.binary(max_size=12).map(os.fsdecode) | st.text("\\xé0e9ab", max_size=12))
def test_every_file_name_is_written_as_text_and_read_back(name: str) -> None:
    text = portable_name(name)
    assert text.encode("utf-8").decode("utf-8") == text
    assert native_name(text) == name


def test_names_that_are_text_stay_as_they_are() -> None:
    for name in ("a/b.jpg", "naïve日本.jpg", "back\\slash.jpg"):
        assert portable_name(name) == name
    assert portable_name(os.fsdecode(b"p\xe9.jpg")) == "p\\xe9.jpg"


def test_a_name_is_found_in_another_unicode_form_or_case() -> None:
    table = NameTable([unicodedata.normalize("NFD", "é.jpg"), "B/c.JPG", os.fsdecode(b"p\xe9.jpg")])
    assert table.find("é.jpg", "t") == 0
    assert table.find("É.JPG", "t") == 0
    assert table.find("b/C.jpg", "t") == 1
    assert table.find("./B/c.JPG", "t") == 1
    assert table.find("p\\xe9.jpg", "t") == 2
    assert table.find("d.jpg", "t") is None


def test_the_exact_name_goes_first_and_what_could_be_two_is_refused() -> None:
    table = NameTable(["a.jpg", "A.jpg"])
    assert (table.find("a.jpg", "t"), table.find("A.jpg", "t")) == (0, 1)
    with pytest.raises(InputError, match=r"q.csv, line 3: 'a.JPG' may be 'a.jpg' or 'A.jpg'"):
        table.find("a.JPG", "q.csv, line 3")


def test_names_are_respelled_only_where_nothing_is_lost() -> None:
    assert respelled(["A", "b", "x"], ["a", "b", "c"]) == ("a", "b", "x")
    assert respelled(["A", "a"], ["a"]) == ("A", "a")
    assert respelled(["AA", "Aa"], ["aa"]) == ("aa", "Aa")
