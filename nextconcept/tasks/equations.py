"""Equations of two whole numbers, and all ways to combine several numbers by them.

An equation takes two numbers by ``+``, ``-``, ``*`` or ``/`` to a whole number from 0 to a largest
one. A search puts the larger number first; the order matters for ``-`` and ``/`` alone, where the
other one would leave these numbers.

Shapes: B problems, n numbers, S = the product over m = 2 ... n of 2 m (m - 1) ways to combine them.
"""

from itertools import combinations

import numpy as np

__all__ = ["OPERATIONS", "first_solution", "left_behind", "results", "solvable"]

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


def _pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the (m, 2) pairs of so many numbers, and for each the (m, count - 2) others."""
    pairs = list(combinations(range(count), 2))
    others = [[number for number in range(count) if number not in pair] for pair in pairs]
    return np.array(pairs), np.array(others, dtype=np.int64)


def left_behind(numbers: np.ndarray, largest: int) -> np.ndarray:
    """Return what each equation of (..., n) numbers leaves.

    Returns:
        (..., 2 n (n - 1), n - 1), for each pair and operation the others and then the result.
    """
    pairs, others = _pairs(numbers.shape[-1])
    taken = numbers[..., pairs]
    found = results(taken.max(-1), taken.min(-1), largest)[..., None]
    kept = np.broadcast_to(numbers[..., others][..., None, :], (*found.shape[:-1], others.shape[1]))
    return np.concatenate((kept, found), -1).reshape(*numbers.shape[:-1], 4 * len(pairs), numbers.shape[-1] - 1)


def _ends(numbers: np.ndarray, largest: int) -> np.ndarray:
    """Return the (B, S) numbers that all ways to combine (B, n) numbers end with, -1 for none."""
    left = numbers[:, None]
    while left.shape[-1] > 1:
        left = left_behind(left, largest)
        left = left.reshape(len(numbers), left.shape[1] * left.shape[2], left.shape[3])
    return left[..., 0]


def solvable(numbers: np.ndarray, targets: np.ndarray, largest: int) -> np.ndarray:
    """Return (B,) bool: whether equations that use all of (B, n) numbers end with the target."""
    found: np.ndarray = (_ends(numbers, largest) == targets[:, None]).any(1)
    return found


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
        following, (pairs, _) = left_behind(left, largest), _pairs(left.shape[1])
        behind //= following.shape[1]
        way, place = np.divmod(place, behind)
        taken = left[rows[:, None], pairs[way // 4]]
        left = following[rows, way]
        equations.append(np.stack((taken.max(1), way % 4, taken.min(1), left[:, -1]), 1))
    return np.stack(equations, 1), hits.any(1)
