"""How a network is taught: any optimiser of torch, a running average of the weights, checkpoints that are whole."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..checks import ColorizeError, InputError, ModelError
from ..files import write_bytes
from ..settings import CnnSettings
from .networks import ChromaNetwork

OPTIMIZERS: dict[str, Any] = {
    "adadelta": torch.optim.Adadelta,
    "adam": partial(torch.optim.Adam, fused=True),  # one pass over the weights, and no copies of them
    "adamax": torch.optim.Adamax,
    "adamw": partial(torch.optim.AdamW, fused=True),
    "rmsprop": torch.optim.RMSprop,
    "sgd": partial(torch.optim.SGD, fused=True, momentum=0.9),
}
WARM_UP = 20  # steps over which the learning rate rises to its value
LARGEST_GRADIENT = 1.0  # norm; a longer gradient is made as long as this
KEY = "sift_colorize_training"
ADVICE = "choose another place for the cache with --cache"


class CnnTrainer:
    """Teaches a network step by step.

    Parameters
    ----------
    network : ChromaNetwork
        Where to start; it is trained in place.
    settings : CnnSettings
        `device`, `optimizer`, `learning_rate`, `weight_decay` and `average` are read here.

    Attributes
    ----------
    steps : int
    seconds : float
        Spent in steps, over all runs.
    record : dict
        What the caller keeps in the checkpoint beside: numbers by name.

    Raises
    ------
    InputError
        If a GPU is asked for and there is none.
    """

    def __init__(self, network: ChromaNetwork, settings: CnnSettings):
        self.settings, self.device = settings, _device(settings.device)
        self.network = network.to(self.device).train()
        self.optimizer = OPTIMIZERS[settings.optimizer](
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.averaged = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.best = self.averaged
        self.steps, self.seconds = 0, 0.0
        self.record: dict[str, float] = {}

    def step(self, lightness: torch.Tensor, ab: torch.Tensor) -> float:
        """Learn from one batch and return its loss before the step.

        Raises
        ------
        ColorizeError
            If the loss is not finite; the network is then as it was before the step.
        """
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.network.loss(self.network(lightness.to(self.device)), ab.to(self.device))
        value = float(loss.detach())
        if math.isfinite(value):
            loss.backward()
            norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT))
            value = value if math.isfinite(norm) else norm
        if not math.isfinite(value):
            raise ColorizeError(
                f"training stopped at step {self.steps + 1}: its loss is {value}; wanted is a learning rate that does "
                f"not diverge (cnn.learning_rate is {self.settings.learning_rate:g})"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * min(1.0, (self.steps + 1) / WARM_UP)
        self.optimizer.step()
        self.steps += 1
        keep = min(self.settings.average, self.steps / (self.steps + 9))  # of the last ninth of the steps
        with torch.no_grad():
            for name, now in self.network.state_dict().items():
                if now.dtype.is_floating_point:
                    self.averaged[name].lerp_(now, 1 - keep)
        return value

    def keep_best(self) -> None:
        """Remember the averaged weights as the best so far."""
        self.best = {name: value.clone() for name, value in self.averaged.items()}

    def save(self, path: Path, name: str) -> None:
        """Write all that training goes on from, whole or not at all; raises StorageError."""
        tensors = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        tensors |= {f"averaged.{key}": value for key, value in self.averaged.items()}
        tensors |= {f"best.{key}": value for key, value in self.best.items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{key}": torch.as_tensor(value) for key, value in state.items()}
        header = {"network": name, "steps": self.steps, "seconds": self.seconds, "record": self.record}
        plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        seen: set[int] = set()
        for key, value in plain.items():  # each array is to have memory of its own
            if value.data_ptr() in seen:
                plain[key] = value.clone()
            seen.add(value.data_ptr())
        write_bytes(path, save(plain, {KEY: json.dumps(header)}), ADVICE)

    def restore(self, path: Path, name: str) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        ModelError
            If it is not whole, or of another network.
        """
        try:
            with safe_open(path, "pt", device="cpu") as file:
                header = json.loads((file.metadata() or {})[KEY])
                if header["network"] != name:
                    raise ModelError(
                        f"'{path}' is a checkpoint of the network {header['network']}; wanted is one of {name}"
                    )
                groups: dict[str, dict[str, torch.Tensor]] = {}
                for key in file.keys():  # noqa: SIM118
                    group, _, rest = key.partition(".")
                    groups.setdefault(group, {})[rest] = file.get_tensor(key)
            self.network.load_state_dict(groups["network"])
            self.averaged, self.best = (self._on_device(groups[group]) for group in ("averaged", "best"))
            self._restore_optimizer(groups.get("optimizer", {}))
            self.steps, self.seconds = int(header["steps"]), float(header["seconds"])
            self.record = dict(header["record"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"the checkpoint '{path}' does not fit ({error}); remove it, and training starts anew"
            ) from None

    def _on_device(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        wanted = self.network.state_dict()
        if {key: value.shape for key, value in tensors.items()} != {key: v.shape for key, v in wanted.items()}:
            raise ValueError("its weights have other shapes")
        return {key: value.to(self.device) for key, value in tensors.items()}

    def _restore_optimizer(self, tensors: dict[str, torch.Tensor]) -> None:
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            number, _, name = key.partition(".")
            state.setdefault(int(number), {})[name] = value
        whole = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})


def _device(wanted: str) -> str:
    found = torch.cuda.is_available()
    if wanted == "cuda" and not found:
        raise InputError("cnn.device is cuda, and torch finds no GPU here; wanted is auto or cpu")
    return "cuda" if found and wanted != "cpu" else "cpu"
