"""Text files with a line of a task in each line."""

from pathlib import Path

from nextconcept.core.errors import InputError

__all__ = ["read_lines"]


def read_lines(path: str) -> list[tuple[str, str]]:
    """Read the lines of a UTF-8 file that are not blank, without a byte order mark.

    Returns:
        For each line where it stands (``FILE, line N``) and its text, without the line end.

    Raises:
        InputError: if the file is missing, unreadable, not UTF-8 or empty.
    """
    try:
        content = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise InputError(f"the file of lines {path} can't be read: {error.strerror}.") from None
    lines = []
    for number, line in enumerate(content.replace(b"\r\n", b"\n").split(b"\n"), 1):
        place = f"{path}, line {number}"
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{place}: not valid UTF-8 near byte {error.start} of the line: convert the file, for instance with "
                "iconv -f latin1 -t utf-8."
            ) from None
        if text.strip():
            lines.append((place, text))
    if not lines:
        raise InputError(f"the file of lines {path} is empty: give at least one line.")
    return lines
