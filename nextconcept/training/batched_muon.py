"""Muon whose iterations run for all matrices of a shape at once.

``torch.optim.Muon`` makes about twenty small operations per matrix and step, which take longer to
launch than to compute where models are small or GPUs fast.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Muon

__all__ = ["BatchedMuon", "newton_schulz_flops"]

MOST_ENTRIES = 2**24
"""Entries of the matrices that are stacked; larger stacks take memory and save no time."""


class BatchedMuon(Muon):
    """``torch.optim.Muon`` (Jordan et al., 2024) with batched Newton-Schulz iterations.

    Steps and states are those of ``torch.optim.Muon`` up to rounding; on a CPU they are rounded to
    float32 in place of bfloat16. Matrices that are sharded are gathered for the iterations, which
    each process makes for all of them. ``adjust_lr_fn`` takes the step of ``torch.optim.Muon``.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make a step, and return what ``closure`` returns."""
        if any(group["adjust_lr_fn"] is not None for group in self.param_groups):
            return super().step(closure)  # type: ignore[no-untyped-call]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.shape].append(parameter)
            for shape, parameters in alike.items():
                size = max(1, MOST_ENTRIES // shape.numel())
                for start in range(0, len(parameters), size):
                    self._update(group, parameters[start : start + size])
        return loss

    def _update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Update parameters of equal shape."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if not self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(gradient)
        momenta = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        updates = momenta
        if group["nesterov"]:
            updates = list(torch._foreach_lerp(gradients, momenta, group["momentum"]))
        whole = torch.stack([one.full_tensor() if isinstance(one, DTensor) else one for one in updates])
        turned = newton_schulz(whole, group["ns_coefficients"], group["ns_steps"], group["eps"])
        steps = map(_placed_like, turned.to(parameters[0].dtype).unbind(), parameters)
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        rows, columns = parameters[0].shape
        rate = group["lr"] * max(1, rows / columns) ** 0.5
        torch._foreach_add_(parameters, list(steps), alpha=-rate)


def _placed_like(whole: Tensor, parameter: Tensor) -> Tensor:
    """Return a tensor that all processes have, or if the parameter is sharded, its own shard."""
    if not isinstance(parameter, DTensor):
        return whole
    return distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)


def newton_schulz(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Move the singular values of matrices near 1, as ``torch.optim.Muon`` does.

    Args:
        matrices: (N, rows, columns).
        coefficients: of x, x^3 and x^5 in the polynomial of an iteration.
        steps: iterations.
        eps: least norm of a matrix that is divided by it.

    Returns:
        (N, rows, columns) in bfloat16, or on a CPU in float32.
    """
    first, third, fifth = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    # Products in bfloat16 take 10 to 80 times as long on CPUs that have no units for it.
    x = matrices.float() if matrices.device.type == "cpu" else matrices.bfloat16()
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth), x, beta=first)
    return x.mT if tall else x


def newton_schulz_flops(rows: int, columns: int, steps: int = 5) -> float:
    """Count the operations of the products for one matrix; five iterations are torch's default."""
    short, long = sorted((rows, columns))
    return steps * (4 * short * short * long + 2 * short**3)
