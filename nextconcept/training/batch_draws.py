"""Random numbers of a batch that depend on nothing that was drawn before it."""

import torch

__all__ = ["BatchDraws"]


class BatchDraws:
    """Seeds the generators for a batch, and gives them back as they were.

    So that whoever draws with them between two batches, such as a loader that shuffles, is not
    given the same numbers again and again.
    """

    def __init__(self) -> None:
        self._before: tuple[torch.Tensor, torch.Tensor | None] | None = None

    def begin(self, seed: int, device: torch.device) -> None:
        """Seed the generators of the CPU and of ``device``."""
        if device.type == "cpu":
            self._before = torch.get_rng_state(), None
            torch.default_generator.manual_seed(seed)  # a tenth of a small step sooner than all devices
        else:
            self._before = torch.get_rng_state(), torch.get_device_module(device).get_rng_state(device)
            torch.manual_seed(seed)

    def end(self, device: torch.device) -> None:
        """Bring back the states of before :meth:`begin`."""
        if self._before is None:
            return
        (of_cpu, of_device), self._before = self._before, None
        torch.set_rng_state(of_cpu)
        if of_device is not None:
            torch.get_device_module(device).set_rng_state(of_device, device)
