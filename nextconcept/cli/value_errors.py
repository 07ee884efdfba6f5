"""One sentence for a value that jsonargparse refuses, in place of its report on every type."""

import re
import sys

__all__ = ["describe_value_error"]

TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "NoneType": "null",
}
"""Types as a user would name them."""


def describe_value_error(message: str) -> str | None:
    """Say which values an option takes.

    Args:
        message: the error of jsonargparse.

    Returns:
        The sentence, without a full stop; None if the error is of another kind or has a type that
        has no name here.
    """
    switch = re.search(r"argument --([\w.]+)\S*: invalid _boolean_type value: '(.*)'", message, re.DOTALL)
    if switch:
        return f"{switch[1]} takes true or false, not {switch[2].strip() or 'an empty text'}"
    key = re.search(r'Parser key "([^"]+)"', message)
    if key is None:
        return None
    not_found = re.search(r"No module named '[^']+'|module '[^']+' has no attribute '[^']+'", message)
    if not_found:
        return f"{key[1]} names a class that can't be imported: {not_found[0]}"
    other = re.search(r"Expected '([^']+)' to be a subclass of <class '([^']+)'>", message)
    if other:
        return f"{key[1]} is to be of the class {other[2].rpartition('.')[2]}, which {other[1]} is not"
    abstract = re.search(r"instantiatable class, but (?:([\w.]+) )?is abstract", message)
    if abstract:
        return _abstract(key[1], abstract[1] or message.rpartition("Given value: ")[2].strip())
    group = re.search(r"Unable to load config ['\"](.*?)['\"]", message)
    if group:
        return f"{key[1]} takes settings by name, or a file of them, not {group[1]}"
    value = re.search(r"(?:Got|Given) value:(.*)", message, re.DOTALL)
    kinds = re.findall(r"Expected an? (?:<class '([\w.]+)'>|typing\.Literal\[(.+)\])", message)
    if not value or not kinds or any(kind and kind not in TYPES for kind, _ in kinds):
        return None
    names: list[str] = []
    for kind, choices in kinds:
        names += [TYPES[kind]] if kind else [choice.strip("'\"") for choice in choices.split(", ")]
    *others, last = dict.fromkeys(names)
    given = value[1].strip() or "an empty text"
    wants_list = "a list" in names and {*names} <= {"a list", "null"}
    hint = f": give [{given}]" if wants_list and given.replace("_", "").isalnum() else ""
    return f"{key[1]} takes {', '.join(others) + ' or ' if others else ''}{last}, not {given}{hint}"


def _abstract(option: str, full_name: str) -> str:
    """Say which methods a class lacks, which jsonargparse has imported."""
    module, _, name = full_name.rpartition(".")
    lacking = sorted(getattr(getattr(sys.modules.get(module), name, None), "__abstractmethods__", ()))
    return f"{option} names the class {full_name}, which lacks {', '.join(lacking) or 'methods of its base class'}"
