"""A backbone that learns from unlabelled photos: two views of one are alike, and all others are spread.

The loss is that of Pizzi et al., *A Self-Supervised Descriptor for Image Copy Detection*, CVPR 2022 (SSCD):
InfoNCE between views, and the entropy term that keeps the nearest descriptors of other photos apart (KoLeo:
Sablayrolles et al., ICLR 2019). Negatives come from the batch and, where wanted, from a memory of
descriptors before it (Wang et al., *Cross-Batch Memory for Embedding Learning*, CVPR 2020).
The loss is taken on the very descriptor that is searched with, pooled and L2-normalised, without a head.
"""

import logging
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from niphash.descriptors.contrastive.view_batches import PairBatch
from niphash.descriptors.network.map_backbone import MapBackbone
from niphash.descriptors.network.pooling import Pooling
from niphash.errors import InputError
from niphash.training.schedule import derived_seed, schedule_factor
from niphash.training.stage import Stage

log = logging.getLogger(__name__)

LARGEST = 1e4  # in place of the distance to what is no neighbour


class Contrastive(Stage):
    """A backbone and its pooling, and how they are trained on views.

    Args:
        backbone: uint8 images [B, 3, H, W] to maps; trained up to its layer.
        pooling: Maps to descriptors [B, D]; its own parameters stay as they are.
        learning_rate: Of AdamW, at the end of the warm-up; falls as a cosine to zero.
        weight_decay: Of AdamW.
        temperature: Of InfoNCE.
        spreading: Weight of the entropy term.
        memory: How many descriptors of earlier batches are kept as negatives; 0: none.
        warmup: Share of the steps over which the rate rises linearly from a hundredth.
        clip_norm: Largest L2 norm of the gradient of all weights, which is shrunk to it.
        keep_statistics: Whether batch normalisation uses the statistics that came with the weights.
        frozen: Modules of the network whose weights stay; if they are its first ones, nothing is propagated
            back through them, which is where the maps are large.
        seed: Of what the network itself draws (dropout).

    ``measured`` (mAP of views of held-out photos, before the training and after the last epoch) and the
    memory are buffers, and so part of checkpoints.
    """

    measured: Tensor
    descriptors: Tensor
    numbers: Tensor

    def __init__(
        self,
        backbone: MapBackbone,
        pooling: Pooling,
        dim: int,
        learning_rate: float = 1e-4,
        weight_decay: float = 1e-4,
        temperature: float = 0.05,
        spreading: float = 1.0,
        memory: int = 0,
        warmup: float = 0.05,
        clip_norm: float = 1.0,
        keep_statistics: bool = True,
        frozen: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        options = {name: value for name, value in locals().items() if name not in _PARTS}
        super().__init__("backbone", {**options, "frozen": list(frozen)})
        self.pooling = pooling.requires_grad_(False)
        self.backbone = backbone.to(memory_format=torch.channels_last)  # as convolutions are fastest
        for name, parameter in backbone.named_parameters():
            kept = any(name.startswith(f"network.{module}.") for module in frozen)
            parameter.requires_grad_(
                parameter.numel() > 0 and not kept
            )  # what lies behind the layer is empty
        self.learning_rate, self.weight_decay, self.warmup = learning_rate, weight_decay, warmup
        self.temperature, self.spreading, self.clip_norm = temperature, spreading, clip_norm
        self.keep_statistics, self.seed = keep_statistics, seed
        self.register_buffer("measured", torch.full((2,), torch.nan))
        self.register_buffer("descriptors", torch.zeros(memory, dim))
        self.register_buffer("numbers", torch.full((memory,), -1))
        self._seen: list[tuple[Tensor, Tensor]] = []
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation; kept statistics stay as they are."""
        super().train(mode)
        for layer in self.backbone.modules() if self.keep_statistics else ():
            if isinstance(layer, _BatchNorm):
                layer.eval()
        return self

    def describe(self, images: Tensor) -> Tensor:
        """Return descriptors float32 [B, D], L2-normalised, of uint8 images [B, 3, H, W]."""
        images = images.contiguous(memory_format=torch.channels_last)
        return F.normalize(self.pooling(self.backbone(images).float()))

    def on_fit_start(self) -> None:
        """Measure the backbone as it came."""
        if self.measured.isnan().all():
            self.measured[0] = self._measure_all()

    def _measure_all(self) -> float:
        """Return the mAP of the held-out photos outside the trainer's loop."""
        self.eval()
        with torch.inference_mode(), self.trainer.precision_plugin.val_step_context():
            for batch in self.trainer.datamodule.val_dataloader():  # type: ignore[attr-defined]
                self.validation_step(tuple(part.to(self.device) for part in batch), 0)
        self.train()
        return self._take_measured()

    def on_train_epoch_start(self) -> None:
        """Make what the network draws depend on seed, epoch and process alone, so that a run can go on."""
        torch.manual_seed(derived_seed(self.seed, self.current_epoch, self.global_rank))

    def training_step(self, batch: PairBatch, _: int) -> Tensor:
        """Return the loss of two views [B, 3, S, S] of B photos and the photos' numbers [B].

        Raises:
            InputError: it is not finite.
        """
        first, second, numbers = batch
        both = torch.cat([numbers, numbers])
        descriptors = self.describe(torch.cat([first, second]))  # [2B, D]
        with torch.autocast(self.device.type, enabled=False):
            contrast, spread = view_losses(
                descriptors, both, self.descriptors, self.numbers, self.temperature
            )
        loss = contrast + self.spreading * spread
        if not torch.isfinite(loss):
            raise InputError(
                f"contrastive.learning_rate={self.learning_rate}: training diverged (the loss is {loss:.3g} "
                f"in epoch {self.current_epoch + 1}); give a lower rate, or other backbone.weights"
            )
        self._remember(descriptors.detach()[len(first) :], numbers)
        curves = {"loss": loss, "contrast": contrast, "spreading": spread}
        self.log_values(curves, {"loss": loss}, batch_size=len(first))
        return loss

    def _remember(self, descriptors: Tensor, numbers: Tensor) -> None:
        """Put the newest descriptors [B, D] in the memory, in place of the oldest."""
        if len(self.numbers):
            size = len(self.numbers)
            self.descriptors.copy_(torch.cat([descriptors, self.descriptors])[:size])
            self.numbers.copy_(torch.cat([numbers, self.numbers])[:size])

    def configure_gradient_clipping(self, optimizer: Any, *trainers_own: Any, **options: Any) -> None:
        """Bound the norm of the gradient."""
        self.clip_gradients(optimizer, self.clip_norm, "norm")

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Describe held-out photos and a view of each."""
        photos, views = batch
        self._seen.append((self.describe(photos), self.describe(views)))

    def on_validation_epoch_end(self) -> None:
        """Log the mAP of this epoch and keep it."""
        value = self._take_measured()
        if self.trainer.sanity_checking:
            return
        self.measured[1] = value
        if self.trainer.is_global_zero:
            done, before = self.current_epoch + 1, float(self.measured[0])
            of = f"{done} of {self.trainer.max_epochs}"
            log.info(
                "epoch %s: mAP of views of held-out photos %.4f, %.4f before the training", of, value, before
            )
        self.log("backbone/mAP", value, sync_dist=True)
        self.log("val_loss", 1 - value, logger=False, sync_dist=True)

    def _take_measured(self) -> float:
        photos, views = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
        self._seen = []
        return mean_average_precision(views, photos)

    def results(self) -> dict[str, float]:
        """Return the ``mAP`` of views of held-out photos after the last epoch, and ``mAP_before``."""
        before, after = self.measured.tolist()
        return {"mAP": after, "mAP_before": before}

    def weights(self) -> dict[str, Any]:
        """Return what ``backbone.weights`` takes: the state dict up to the layer, mean and deviation."""
        tensors = self.backbone.tensors()
        state = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
        return {
            "state_dict": {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()},
            "mean": self.backbone.mean.cpu(),
            "std": self.backbone.std.cpu(),
        }

    def configure_optimizers(self) -> Any:
        """Return AdamW and its schedule, advanced every step."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, self.learning_rate, weight_decay=self.weight_decay)
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        rate = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: schedule_factor(step, steps, self.warmup, "cosine")
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


_PARTS = frozenset({"self", "backbone", "pooling", "__class__"})


def view_losses(
    descriptors: Tensor, numbers: Tensor, memory: Tensor, remembered: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return InfoNCE between views, and the entropy term.

    Every descriptor in turn is to be told from all descriptors of other photos (in the batch and in the
    memory) by its likeness to the other view of its photo.

    Args:
        descriptors: float [2B, D], L2-normalised; row B + i is another view of the photo of row i.
        numbers: int64 [2B], of the photos.
        memory: float [M, D], of earlier batches.
        remembered: int64 [M], the numbers of their photos; -1 where the memory is not yet filled.
        temperature: By which likenesses are divided.

    Returns:
        The mean cross entropy, and the mean of -log of the distance to the nearest descriptor of another
        photo (SSCD, equations 1 and 3); 0 for the second where there is no other photo.
    """
    count = len(descriptors)
    everything = torch.cat([descriptors, memory])
    likeness = descriptors @ everything.T  # [2B, 2B + M]
    of = torch.cat([numbers, remembered])
    other = (numbers[:, None] != of) & (of >= 0)  # [2B, 2B + M]
    partner = torch.arange(count, device=descriptors.device).roll(count // 2)
    positive = likeness.gather(1, partner[:, None])  # [2B, 1]
    negatives = likeness.masked_fill(~other, -LARGEST)
    logits = torch.cat([positive, negatives], 1) / temperature
    contrast = F.cross_entropy(logits, torch.zeros_like(partner))
    nearest = negatives.amax(1)[other.any(1)]
    if not len(nearest):
        return contrast, torch.zeros_like(contrast)
    distances = (2 - 2 * nearest).clamp(min=1e-6).sqrt()
    return contrast, -distances.log().mean()


def mean_average_precision(queries: Tensor, database: Tensor) -> float:
    """Return the mAP where row i of ``database`` [N, D] alone is relevant to row i of ``queries`` [N, D].

    With one relevant photo the average precision is one over its rank; photos as near as it come before it.
    """
    likeness = queries @ database.T
    ranks = (likeness >= likeness.diagonal()[:, None]).sum(1)
    return float((1 / ranks.double()).mean())
