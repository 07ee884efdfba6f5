"""Print the curves of runs: python benchmarks/curves.py --folder FOLDER --tags TAG,TAG."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nextconcept.cli.scripts import run_script


def main(folder: str, tags: str) -> None:
    """Print a line per run and tag, with the value at about twenty of the logged steps.

    Args:
        folder: a folder with runs at any depth.
        tags: names of metrics, separated by commas.
    """
    for run in sorted({file.parent for file in Path(folder).rglob("events.out.tfevents.*")}):
        events = EventAccumulator(str(run)).Reload()
        for tag in tags.split(","):
            if tag in events.Tags()["scalars"]:
                points = [f"{one.step}: {one.value:.4g}" for one in events.Scalars(tag)]
                step = max(1, len(points) // 20)
                print(f"{run.relative_to(folder)} {tag}: {', '.join(points[::-1][::step][::-1])}")


if __name__ == "__main__":
    run_script(main)
