"""Counting floating-point operations."""

import copy

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["flops_per_token"]


@torch.no_grad()
def flops_per_token(model: nn.Module, time: int, vocab_size: int) -> float:
    """Operations of ``model`` on ``time`` token ids, per token.

    torch's own counter watches a copy of the model that has shapes but no data. Attention is counted whole, the half above
    the diagonal included, as is usual.
    """
    ghost = copy.deepcopy(model).to("meta").eval()
    tokens = torch.zeros(1, time, dtype=torch.long, device="meta")
    # The plain kernel consists of matrix products, which the counter knows on every device.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        ghost(tokens)
    return float(counter.get_total_flops()) / time
