"""Print the curves of runs: python benchmarks/curves.py FOLDER TAG..."""

import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def main(folder: str, *tags: str) -> None:
    """Print a line per run below ``folder`` and tag, with the value at each logged step."""
    for run in sorted({file.parent for file in Path(folder).rglob("events.out.tfevents.*")}):
        events = EventAccumulator(str(run)).Reload()
        for tag in tags:
            if tag in events.Tags()["scalars"]:
                points = [f"{one.step}: {one.value:.4g}" for one in events.Scalars(tag)]
                step = max(1, len(points) // 20)
                print(f"{run.relative_to(folder)} {tag}: {', '.join(points[::-1][::step][::-1])}")


if __name__ == "__main__":
    main(*sys.argv[1:])
