from itertools import combinations

import numpy as np
import pytest

from nextconcept.tasks.equations import OPERATIONS, first_solution, results, solvable


def reached(numbers: list[int], largest: int) -> set[int]:
    """All numbers that equations reach, by recursion."""
    if len(numbers) == 1:
        return set(numbers)
    found = set()
    for i, j in combinations(range(len(numbers)), 2):
        rest = [number for k, number in enumerate(numbers) if k not in (i, j)]
        for first, second in ((numbers[i], numbers[j]), (numbers[j], numbers[i])):
            values = [first + second, first - second, first * second]
            if second and first % second == 0:
                values.append(first // second)
            for value in values:
                if 0 <= value <= largest:
                    found |= reached([*rest, value], largest)
    return found


@pytest.mark.parametrize(("count", "largest"), [(2, 20), (3, 99), (3, 12), (4, 60)])
def test_search__finds_what_recursion_finds(count: int, largest: int):
    problems = np.random.default_rng(count).integers(0, 11, size=(6, count))
    for numbers in problems:
        targets = np.arange(largest + 1)
        repeated = np.repeat(numbers[None], len(targets), 0)
        expected = reached(numbers.tolist(), largest)
        assert solvable(repeated, targets, largest).nonzero()[0].tolist() == sorted(expected)
        equations, solved = first_solution(repeated, targets, largest)
        assert solved.nonzero()[0].tolist() == sorted(expected)
        for target in expected:
            left = numbers.tolist()
            for first, operation, second, result in equations[target].tolist():
                left.remove(first)
                left.remove(second)
                assert first >= second
                assert eval(f"{first}{OPERATIONS[operation]}{second}") == result
                assert 0 <= result <= largest
                left.append(result)
            assert left == [target]


def test_solution__is_the_first_of_a_depth_first_search():
    equations, solved = first_solution(np.array([[4, 3, 2]]), np.array([9]), 99)
    assert solved.all()
    # The first pair by the first operation is taken as soon as it leads to the target.
    assert equations[0].tolist() == [[4, 0, 3, 7], [7, 0, 2, 9]]


def test_results__of_what_is_no_number():
    first, second = np.array([-1, 6, 6, 5, 0]), np.array([3, -1, 0, 2, 4])
    assert results(first, second, 9).tolist() == [
        [-1] * 4,
        [-1] * 4,
        [6, 6, 0, -1],
        [7, 3, -1, -1],
        [4, -1, 0, 0],
    ]
