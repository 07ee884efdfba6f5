"""Commands in processes of their own, forked from one that has imported everything already.

Starting Python and importing Lightning takes longer than most runs of the tests; the fork server
does it once.
"""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO

from lightning.fabric.plugins.environments.lightning import find_free_network_port

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.processes", "nextconcept.cli.lightning_cli", "nextconcept.cli.trainer_commands"])


def run_command(
    arguments: Sequence[object], folder: Path, devices: int = 1, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run ``nextconcept`` in ``folder``, in as many processes as Lightning or torchrun would start.

    Args:
        arguments: the command and its options.
        folder: where it runs.
        devices: number of processes, each of which is told its rank.
        timeout: seconds after which all are killed.

    Returns:
        The exit code, that of the first process that failed, and what all of them printed.

    Raises:
        subprocess.TimeoutExpired: if they take longer, none having failed.
    """
    said = [folder / name for name in ("stdout.log", "stderr.log")]
    for path in said:
        path.unlink(missing_ok=True)
    port, words = find_free_network_port(), [str(argument) for argument in arguments]
    processes = []
    for rank in range(devices):
        ranks = {"LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": devices, "MASTER_PORT": port}
        environment = {name: str(value) for name, value in ranks.items()} if devices > 1 else {}
        environment |= {"MASTER_ADDR": "127.0.0.1"} if devices > 1 else {}
        processes.append(_FORKS.Process(target=_run, args=(words, folder, dict(os.environ) | environment, said)))
        processes[-1].start()
    end, running = time.monotonic() + timeout, processes
    while running and not any(process.exitcode for process in processes):
        # Where one has failed, another may wait for it for ever.
        if not wait([process.sentinel for process in running], max(0.0, end - time.monotonic())):
            break
        running = [process for process in running if process.exitcode is None]
    failed = next((process.exitcode for process in processes if process.exitcode), 0)
    for process in running:
        process.join(5 if failed else 0)  # it may be about to fail as well
        process.kill()
        process.join()
    texts = [path.read_text() if path.exists() else "" for path in said]
    if running and not failed:
        raise subprocess.TimeoutExpired(words, timeout, *texts)
    return subprocess.CompletedProcess(words, failed, *texts)


class ForkedProcess:
    """What a runner of comparisons asks of :class:`subprocess.Popen`.

    Args:
        call: Python, ``-m``, ``nextconcept`` and the arguments.
        stdout: a file.
        stderr: a file.
        env: the environment.
    """

    def __init__(self, call: list[str], stdout: IO[bytes], stderr: IO[bytes], env: Mapping[str, str]) -> None:
        said = [Path(stdout.name), Path(stderr.name)]
        self._process = _FORKS.Process(target=_run, args=(call[3:], Path.cwd(), dict(env), said))
        self._process.start()
        # A thread that starts another looks at all children, and may take the exit code away.
        multiprocessing.process._children.discard(self._process)
        self.wait, self.terminate = self._process.join, self._process.terminate

    def __enter__(self) -> "ForkedProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    @property
    def returncode(self) -> int | None:
        """The exit code, once the process has ended."""
        return self._process.exitcode


def _run(arguments: list[str], folder: Path, environment: Mapping[str, str], said: list[Path]) -> None:
    """Become the command."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for descriptor, path in zip((1, 2), said, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), descriptor)
    sys.argv = ["nextconcept", *arguments]
    sys.path.insert(0, "")

    import torch
    from lightning.pytorch.utilities import rank_zero_only

    from nextconcept.cli.main import main

    torch.set_num_threads(1)
    rank_zero_only.rank = int(environment.get("LOCAL_RANK", 0))  # it is read when Lightning is imported
    main(arguments)
