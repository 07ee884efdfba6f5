"""Equations of two whole numbers, and all ways to combine several numbers by them.

An equation takes two numbers by ``+``, ``-``, ``*`` or ``/`` to a whole number from 0 to a largest
one. A search puts the larger number first; the order matters for ``-`` and ``/`` alone, where the
other one would leave these numbers.

Shapes: B problems, n numbers, S = the product over m = 2 ... n of 2 m (m - 1) ways to combine them.
"""

from itertools import combinations

import numpy as np

__all__ = ["OPERATIONS", "first_solution", "results", "solvable"]

OPERATIONS = "+-*/"


def results(first: np.ndarray, second: np.ndarray, largest: int) -> np.ndarray:
    """Return what two numbers give by each operation.

    Args:
        first: whole numbers of any shape; below 0, there is no number.
        second: as many.
        largest: the largest number that there is.

    Returns:
        (..., 4) int64, in the order of :data:`OPERATIONS`; -1 where there is no result.
    """
    quotient = np.where((second > 0) & (first % np.maximum(second, 1) == 0), first // np.maximum(second, 1), -1)
    found = np.stack((first + second, first - second, first * second, quotient), -1)
    missing = (first < 0) | (second < 0)
    return np.where((found < 0) | (found > largest) | missing[..., None], -1, found)


def _steps(numbers: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Return every equation (..., 2 n (n - 1), 4) of numbers (..., n), and what is left behind each.

    An equation has the values first number, operation, second number, result. What is left, (..., 2
    n (n - 1), n - 1), ends with the result.
    """
    count = numbers.shape[-1]
    pairs = np.array(list(combinations(range(count), 2)))
    others = np.array([[k for k in range(count) if k not in pair] for pair in pairs.tolist()], dtype=np.int64)
    taken = numbers[..., pairs]
    first, second = taken.max(-1), taken.min(-1)
    found = results(first, second, largest)
    operations = np.broadcast_to(np.arange(4), found.shape)
    equations = np.stack(np.broadcast_arrays(first[..., None], operations, second[..., None], found), -1)
    left = np.broadcast_to(numbers[..., others][..., None, :], (*found.shape, count - 2))
    left = np.concatenate((left, found[..., None]), -1)
    flat = (*numbers.shape[:-1], 4 * len(pairs))
    return equations.reshape(*flat, 4), left.reshape(*flat, count - 1)


def _ends(numbers: np.ndarray, largest: int) -> np.ndarray:
    """Return the (B, S) numbers that all ways to combine (B, n) numbers end with, -1 for none."""
    left = numbers[:, None]
    while left.shape[-1] > 1:
        _, left = _steps(left, largest)
        left = left.reshape(len(numbers), left.shape[1] * left.shape[2], left.shape[3])
    return left[..., 0]


def solvable(numbers: np.ndarray, targets: np.ndarray, largest: int) -> np.ndarray:
    """Return (B,) bool: whether equations that use each of (B, n) numbers once end with a target."""
    return (_ends(numbers, largest) == targets[:, None]).any(1)


def first_solution(numbers: np.ndarray, targets: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first solution of each problem in the order of a depth-first search.

    Args:
        numbers: (B, n), each to be used once.
        targets: (B,) results of the last equation.
        largest: the largest result.

    Returns:
        (B, n - 1, 4) equations, each with first number, operation, second number and result; and
        (B,) bool, whether there is a solution. Where there is none, the equations mean nothing.
    """
    hits = _ends(numbers, largest) == targets[:, None]
    place, rows, equations = hits.argmax(1), np.arange(len(numbers)), []
    left, behind = numbers, hits.shape[1]
    while left.shape[1] > 1:
        found, following = _steps(left, largest)
        behind //= found.shape[1]
        equations.append(found[rows, place // behind])
        left, place = following[rows, place // behind], place % behind
    return np.stack(equations, 1), hits.any(1)
