"""What answers of a task can be had without looking ahead.

    python benchmarks/task_floors.py countdown [--numbers 3 ...]
    python benchmarks/task_floors.py maze [--width 4 --height 4 ...]

Each policy sees what a next-token model sees when it has to decide, but not where a choice leads.
All of them make each forced step right. Lines are those of the test.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from nextconcept.cli.scripts import run_script
from nextconcept.tasks.countdown import Countdown
from nextconcept.tasks.equations import left_behind, solvable
from nextconcept.tasks.maze import Maze

Key = tuple[int, ...]


def countdown(numbers: int = 3, max_number: int = 40, min_target: int = 10, max_target: int = 99, max_result: int = 99):
    """Print how often countdown is solved when all equations but the last are guessed.

    The last equation takes no planning: two numbers and the target are there.
    """
    task = Countdown(numbers, max_number, min_target, max_target, max_result)
    _, _, usual = _first_equations(task, "train", 5_000)
    left, targets, good = _first_equations(task, "test", 2_000)
    possible, rows = left[..., -1] >= 0, np.arange(len(left))
    print(f"first equation, any that is possible: {(good.sum(1) / possible.sum(1)).mean():.3f} lead on")
    order = usual.mean(0).argsort()[::-1]
    best = order[possible[:, order].argmax(1)]
    print(f"first equation, the kind that most often does: {good[rows, best].mean():.3f}")
    rng = np.random.default_rng(0)
    for still in range(numbers - 1, 1, -1):
        chosen = np.where(left[..., -1] >= 0, rng.random(left.shape[:2]), -1).argmax(1)
        # Of two numbers that are left, the last equation is found, if there is one.
        if still == 2:
            solved = solvable(left[rows, chosen], targets, max_result).mean()
            print(f"all but the last equation at random: {solved:.3f} exact")
        left = left_behind(left[rows, chosen], max_result)


def _first_equations(task: Countdown, split: str, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what each first equation leaves, the targets, and which equations lead on to them.

    An equation is a pair of ranks, the largest number first, and an operation.
    """
    prompts, _ = task.draw(split, 0, range(count))
    ordered, targets = -np.sort(-prompts[:, 0 : 2 * task.numbers : 2], axis=1), prompts[:, 2 * task.numbers]
    left = left_behind(ordered, task.max_result)
    flat = left.reshape(-1, task.numbers - 1)
    good = solvable(flat, np.repeat(targets, left.shape[1]), task.max_result).reshape(left.shape[:2])
    return left, targets, good


def maze(width: int = 4, height: int = 4, min_way: int = 4, max_way: int = 9):
    """Print how often the way through a perfect maze is found by policies that see no branch.

    At a fork, ``random`` takes any passage but the one it came by; ``local`` takes the passage that
    was most often right on 20,000 training lines where the goal lay in this direction at this
    distance, and the same sides were open.
    """
    task = Maze(width, height, 0, min_way, max_way)
    seen: dict[Key, Counter[int]] = defaultdict(Counter)
    for forks in _forks(task, "train", 20_000):
        for key, _, right in forks:
            seen[key][right] += 1

    def local(key: Key, options: list[int]) -> int:
        return max(options, key=lambda side: seen[key][side])

    tests = list(_forks(task, "test", 2_000))
    chance = [[1 / len(options) for _, options, _ in forks] for forks in tests]
    print(f"first move: random {np.mean([one[0] for one in chance]):.3f}, local {_share(tests, local, 1):.3f}")
    print(f"whole way: random {np.mean([np.prod(one) for one in chance]):.3f}, local {_share(tests, local, None):.3f}")
    print(f"forks on a way: {np.mean([len(forks) for forks in tests]):.2f}")


def _share(lines: list, policy: Callable[[Key, list[int]], int], count: int | None) -> float:
    """Return the share of lines whose first ``count`` forks, or all, a policy decides rightly."""
    return float(np.mean([all(policy(key, options) == right for key, options, right in one[:count]) for one in lines]))


def _forks(task: Maze, split: str, count: int) -> Iterator[list[tuple[Key, list[int], int]]]:
    """Yield the forks on each way: what is seen there, the steps that are possible, the right one.

    A step is the difference of cell numbers. Start is a fork, because it is no dead end.
    """
    for prompt, answer in zip(*task.draw(split, 0, range(count)), strict=True):
        joined = defaultdict(set)
        for one, other in prompt[:-3].reshape(-1, 3)[:, :2].tolist():
            joined[one].add(other)
            joined[other].add(one)
        way = [cell for cell in answer.tolist() if cell < task.cells]
        goal_y, goal_x = divmod(way[-1], task.width)
        forks, before = [], -1
        for cell, after in pairwise(way):
            y, x = divmod(cell, task.width)
            options = sorted(other - cell for other in joined[cell] if other != before)
            if len(options) > 1:
                # The first number keeps keys of different lengths apart.
                forks.append(((len(options), goal_x - x, goal_y - y, *options), options, after - cell))
            before = cell
        yield forks


if __name__ == "__main__":
    run_script([countdown, maze])
