"""Print the curves of runs: python benchmarks/curves.py --folder FOLDER --tags TAG,TAG."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nextconcept.cli.scripts import run_script
from nextconcept.core.errors import InputError


def main(folder: str, tags: str) -> None:
    """Print a line per run and tag, with the value at about twenty of the logged steps.

    Args:
        folder: a folder with runs at any depth.
        tags: names of metrics, separated by commas.

    Raises:
        InputError: if there is no run, or none has one of the metrics.
    """
    wanted, known = [tag.strip() for tag in tags.split(",")], set[str]()
    runs = sorted({file.parent for file in Path(folder).rglob("events.out.tfevents.*")})
    if not runs:
        raise InputError(f"there is no TensorBoard run in {folder}: give a folder that holds one.")
    for run in runs:
        events = EventAccumulator(str(run)).Reload()
        known |= set(events.Tags()["scalars"])
        for tag in wanted:
            if tag in events.Tags()["scalars"]:
                points = [f"{one.step}: {one.value:.4g}" for one in events.Scalars(tag)]
                step = max(1, len(points) // 20)
                print(f"{run.relative_to(folder)} {tag}: {', '.join(points[::-1][::step][::-1])}")
    if missing := [tag for tag in wanted if tag not in known]:
        raise InputError(f"no run in {folder} has {', '.join(missing)}: choose from {', '.join(sorted(known))}.")


if __name__ == "__main__":
    run_script(main)
