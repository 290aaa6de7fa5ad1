"""A torchvision network that learns classes: its weights afterwards describe photos.

The recipe is torchvision's reference one (``references/classification``): random resized crop and flip,
SGD with momentum, label smoothing, linear warm-up and cosine decay. Given weights are fine-tuned at a lower
rate and keep the statistics of their batch normalisation. The norm of the gradient is bounded: a network
without normalisation (SqueezeNet, AlexNet) hands activations in the hundreds to its new head, whose first
steps would otherwise be so long that every logit ends behind a dead ReLU, or at infinity.
"""

from pathlib import Path
from typing import Any, Self, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from niphash.descriptors.network.weights import lay_in, read_weights
from niphash.descriptors.network.zoo import network_of
from niphash.errors import InputError
from niphash.training.schedule import derived_seed, schedule_factor

SCHEDULES = ("cosine", "constant")


class Classifier(pl.LightningModule):
    """A classification network and how it is trained.

    Args:
        network: float32 [B, 3, H, W] to logits [B, classes]; a pair of logits (the main, the auxiliary) is
            taken apart.
        classes: Number of classes.
        learning_rate: At the end of the warm-up.
        momentum: Of SGD.
        weight_decay: Of SGD.
        label_smoothing: Share of the target spread over all classes (Szegedy et al., CVPR 2016, section 7).
        warmup: Share of the steps over which the rate rises linearly from a hundredth.
        schedule: ``"cosine"`` to zero after the warm-up (Loshchilov & Hutter, ICLR 2017), or ``"constant"``.
        clip_norm: Largest L2 norm of the gradient of all weights, which is shrunk to it (Pascanu et al., ICML
            2013); any when not given.
        keep_statistics: Whether batch normalisation uses the statistics that came with the weights in place
            of the batch's, which do not fit weights whose normalisation was folded into convolutions.
        seed: Of what the network itself draws (dropout).

    What was measured on the held-out photos after the last epoch is a buffer, and so part of checkpoints.
    """

    measured: Tensor

    def __init__(
        self,
        network: nn.Module,
        classes: int,
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        label_smoothing: float = 0.1,
        warmup: float = 0.05,
        schedule: str = "cosine",
        clip_norm: float | None = 1.0,
        keep_statistics: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="network", logger=False)  # the run has logged its options
        self.network = network
        self.learning_rate, self.momentum, self.weight_decay = learning_rate, momentum, weight_decay
        self.label_smoothing, self.warmup, self.schedule = label_smoothing, warmup, schedule
        self.clip_norm, self.keep_statistics, self.seed = clip_norm, keep_statistics, seed
        tops = [k for k in (1, 5) if k <= classes]
        self.accuracies = nn.ModuleDict(
            {f"accuracy@{k}": MulticlassAccuracy(classes, top_k=k, average="micro") for k in tops}
        )
        self.validation_loss = MeanMetric()
        self.alive = True
        self.register_buffer("measured", torch.full((len(tops) + 1,), torch.nan))
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation; kept statistics stay as they are."""
        super().train(mode)
        if self.keep_statistics:
            for layer in self.network.modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()
        return self

    def on_train_epoch_start(self) -> None:
        """Make what the network draws depend on seed, epoch and process alone, so that a run can go on."""
        torch.manual_seed(derived_seed(self.seed, self.current_epoch, self.global_rank))
        self.alive = False

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Return the smoothed cross entropy of images [B, 3, H, W] and labels [B].

        Raises:
            InputError: it is not finite.
        """
        images, labels = batch
        outputs = self.network(images)
        main, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = F.cross_entropy(main, labels, label_smoothing=self.label_smoothing)
        for logits in auxiliary:
            if logits is not None:
                loss = loss + 0.4 * F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        self._check_finite(loss)
        self.log("classifier/loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def _check_finite(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise InputError(
                f"classifier.learning_rate={self.learning_rate}: training diverged (the loss is {loss:.3g} "
                f"in epoch {self.current_epoch + 1}); give a lower rate"
            )

    def configure_gradient_clipping(self, optimizer: Any, *trainers_own: Any, **options: Any) -> None:
        """Bound the norm of the gradient, and note whether there is any."""
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        self.alive = self.alive or any(bool(gradient.any()) for gradient in gradients)
        if self.clip_norm is not None:
            self.clip_gradients(optimizer, self.clip_norm, "norm")

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Count what is right.

        Raises:
            InputError: the loss is not finite.
        """
        images, labels = batch
        logits = self.network(images)
        loss = F.cross_entropy(logits, labels)
        self._check_finite(loss)
        self.validation_loss(loss, weight=len(labels))
        for accuracy in self.accuracies.values():
            accuracy(logits, labels)
        for name, metric in self._metrics().items():
            self.log(f"classifier/{name}", metric, on_epoch=True)

    def on_validation_epoch_end(self) -> None:
        """Keep the result of this epoch.

        Raises:
            InputError: no step of the epoch had a gradient (SqueezeNet ends in a ReLU, which can die).
        """
        if not (self.trainer.sanity_checking or self.alive):
            raise InputError(
                f"classifier.learning_rate={self.learning_rate}: the network died (no gradient in epoch "
                f"{self.current_epoch + 1}); give a lower rate, or other classifier.weights to start from"
            )
        self.measured = torch.stack([metric.compute() for metric in self._metrics().values()]).detach()

    def results(self) -> dict[str, float]:
        """Return ``accuracy@1``, ``accuracy@5`` (of five classes or more) and ``validation_loss``."""
        return dict(zip(self._metrics(), self.measured.tolist(), strict=True))

    def _metrics(self) -> dict[str, Metric]:
        return {
            **cast(dict[str, Metric], dict(self.accuracies.items())),
            "validation_loss": self.validation_loss,
        }

    def configure_optimizers(self) -> Any:
        """Return SGD and its schedule, advanced every step."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(
            parameters, self.learning_rate, self.momentum, weight_decay=self.weight_decay
        )
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        rate = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: schedule_factor(step, steps, self.warmup, self.schedule)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


def build_network(
    name: str, weights: str, classes: int, data_dir: Path | str | None = None, seed: int = 0
) -> tuple[nn.Module, list[float], list[float]]:
    """Return a torchvision network for ``classes`` classes, and the RGB mean and deviation of its input.

    Args:
        name: The network's name in torchvision.
        weights: ``default`` (pretrained, downloaded on first use), ``random``, or the path of a state dict.
            Where they were trained for another number of classes, the head alone stays random.
        classes: Number of classes.
        data_dir: Where downloaded weights go.
        seed: Of random weights.

    Raises:
        InputError: no such network, weights that cannot be had or read, those of another architecture, or
            NaN in them.
    """
    zoo = network_of("torchvision", name, "classifier")
    given = None if weights in ("default", "random") else read_weights(weights, "classifier.weights")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = zoo.build(classes)
    mean, std = (list(values) for values in zoo.normalisation(given))
    if weights == "random":
        return network, mean, std
    state = zoo.pretrained(data_dir) if given is None else given.state
    if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
        raise InputError(f"classifier.weights={weights}: holds NaN or infinite values; give other weights")
    with torch.device("meta"):
        as_trained = zoo.build(zoo.class_count(state)).state_dict()
    needed = {key for key, tensor in network.state_dict().items() if as_trained[key].shape == tensor.shape}
    body = {key: tensor for key, tensor in state.items() if key in needed or key not in as_trained}
    lay_in(network, body, needed, f"classifier.weights={weights}", name, "classifier.name")
    return network, mean, std
