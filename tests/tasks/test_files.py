from pathlib import Path

import pytest

from nextconcept.core.errors import InputError
from nextconcept.tasks.files import read_lines


def test_read_lines__without_mark_blank_lines_and_line_ends(tmp_path: Path):
    path = tmp_path / "lines.txt"
    path.write_bytes(b"\xef\xbb\xbf1=2\r\n\n  \n\xc3\xa9 =3 \n4=\xe2\x80\xa85")
    assert read_lines(str(path)) == [
        (f"{path}, line 1", "1=2"),
        (f"{path}, line 4", "é =3 "),
        (f"{path}, line 5", "4=\u20285"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf\n \n", "is empty"),
        (b"1=2\ncaf\xe9=3\n", "line 2: not valid UTF-8 near byte 3"),
    ],
)
def test_read_lines__bad_file(content: bytes, message: str, tmp_path: Path):
    path = tmp_path / "lines.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_lines(str(path))


def test_read_lines__no_file(tmp_path: Path):
    with pytest.raises(InputError, match="can't be read: No such file"):
        read_lines("missing.txt")
    with pytest.raises(InputError, match="can't be read: Is a directory"):
        read_lines(str(tmp_path))
