"""A LightningModule whose parts are sharded in training, and gathered for evaluation."""

import lightning as L
from torch import nn
from torch.distributed.fsdp import FSDPModule

from nextconcept.training.sharding import check_sharding, gather, release, shard

__all__ = ["ShardedModule"]


class ShardedModule(L.LightningModule):
    """A LightningModule whose parts with parameters are sharded by ``ModelParallelStrategy``."""

    def sharded_parts(self) -> list[nn.Module]:
        """Return the parts that have parameters, each of which is sharded on its own."""
        return [part for part in self.children() if next(part.parameters(), None) is not None]

    def configure_model(self) -> None:
        """Shard the parameters, under Lightning's ``ModelParallelStrategy`` (FSDP2).

        Raises:
            InputError: if the strategy's settings do not suit this model.
        """
        mesh, parts = self.device_mesh, self.sharded_parts()
        if mesh is None or any(isinstance(part, FSDPModule) for part in parts):
            return
        check_sharding(
            mesh["tensor_parallel"].size(), self.trainer.world_size, self.trainer.validate_loop.inference_mode
        )
        for part in parts:
            shard(part, mesh["data_parallel"])

    def on_validation_start(self) -> None:
        """Gather sharded parameters, so that callbacks may run the model on one process."""
        for part in self.sharded_parts():
            gather(part)

    def on_validation_end(self) -> None:
        """Shard gathered parameters again."""
        for part in self.sharded_parts():
            release(part)

    on_test_start = on_predict_start = on_validation_start
    on_test_end = on_predict_end = on_validation_end
