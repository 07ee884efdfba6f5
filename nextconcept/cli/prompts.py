"""Prompts of the command line: an option, a file, or standard input."""

import sys
from pathlib import Path

from nextconcept.core.errors import InputError

__all__ = ["read_prompt"]


def read_prompt(prompt: str | None, prompt_file: str | None) -> str:
    """Return the prompt, or the content of the prompt file (``-``: standard input).

    Raises:
        InputError: if both or neither are given, or the file can't be read as UTF-8.
    """
    if (prompt is None) == (prompt_file is None):
        raise InputError("give the text to continue with either --prompt or --prompt_file (- for standard input).")
    if prompt is not None:
        return prompt
    if prompt_file == "-" and sys.stdin is None:
        raise InputError("there is no standard input to read the prompt from: give --prompt or a file.")
    try:
        content = sys.stdin.buffer.read() if prompt_file == "-" else Path(str(prompt_file)).read_bytes()
        return content.decode()
    except OSError as error:
        raise InputError(f"the prompt file {prompt_file} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"the prompt in {prompt_file} is not valid UTF-8 near byte {error.start}: convert it to UTF-8."
        ) from None
