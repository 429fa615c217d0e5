"""Pretraining of gdmunet's encoders: masked cells are reconstructed, and a place is recognised in another view.

Masked autoencoding alone (He et al. 2022) leaves the deep levels weak after a short training. The dense contrastive
term (InfoNCE, van den Oord et al. 2018, place by place) trains directly for what a drift field needs: features of a
place lie nearer to the same place in a noisy, shifted view than to any other place.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gdmunet.atomic import atomic_file
from gdmunet.encoders.fine import save_fine_level
from gdmunet.encoders.pretraining_losses import MaskedDecoder, fine_loss, trunk_loss
from gdmunet.encoders.pretraining_options import PretrainingOptions
from gdmunet.encoders.residual import ResidualEncoder, bake_weights, random_encoder, save_encoder, standardise_weights
from gdmunet.encoders.views import Views, make_views
from gdmunet.errors import GdmError
from gdmunet.foreign import check_zip, reading
from gdmunet.results import RESUME_FILE
from gdmunet.seeds import step_seed
from gdmunet.serialization import to_json

# Windows of encoder input (B, 1, ...) for an iteration, always the same ones for the same number.
WindowSource = Callable[[int], torch.Tensor]
# Beyond the places of a batch, which draw their windows.
_FINE_DRAWS = 63
ENCODER_FILE = "encoder.safetensors"


@dataclass
class _State:
    """State that the next iteration builds on."""

    iteration: int = 0
    losses: dict[str, float] = field(default_factory=dict)


class Pretraining:
    """One pretraining run; `run` continues from the state in the run folder.

    Parameters
    ----------
    settings
        Numbers of the run.
    source
        Windows by iteration.
    folder
        Holds ``resume.pt`` and, in the end, ``encoder.safetensors``.
    recipe
        Written into the weight file: data, licences.
    """

    def __init__(
        self,
        settings: PretrainingOptions,
        source: WindowSource,
        folder: Path,
        *,
        recipe: dict[str, object] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.settings, self.source, self.folder = settings, source, Path(folder)
        self.recipe, self.device = recipe or {}, torch.device(device)
        encoder = random_encoder(
            settings.dimensions, settings.seed, widths=settings.widths, blocks=settings.blocks, fine=settings.fine
        )
        standardise_weights(encoder)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.decoder = MaskedDecoder(encoder)
        self.encoder = encoder.to(self.device)
        trained: dict[str, nn.Module] = {"encoder": encoder, "decoder": self.decoder}
        if settings.part == "fine":
            assert encoder.fine is not None  # the options say so
            trained = {"fine": encoder.fine}
        self.network = nn.ModuleDict(trained).to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.98)
        )
        self.average = [p.detach().clone() for p in self.network.parameters()]
        self.state = _State()

    def run(
        self,
        *,
        report: Callable[[int, dict[str, float]], None] = lambda *_: None,
        stop: Callable[[], bool] = lambda: False,
        save_seconds: float = 60.0,
    ) -> bool:
        """Train until the last iteration (True) or until `stop` says so (False); both ways the state is saved."""
        self._load()
        saved = time.monotonic()
        while self.state.iteration < self.settings.iterations:
            if stop():
                self.save()
                return False
            losses = self.step()
            report(self.state.iteration, losses)
            if time.monotonic() - saved > save_seconds:
                self.save()
                self.export(self.folder / ENCODER_FILE)
                saved = time.monotonic()
        self.save()
        self.export(self.folder / ENCODER_FILE)
        return True

    def step(self) -> dict[str, float]:
        """One optimiser step; returns the losses and the share of places found, by level."""
        settings, iteration = self.settings, self.state.iteration
        generator = torch.Generator().manual_seed(step_seed(settings.seed, iteration))
        views = make_views(self.source(iteration), settings.crop, generator)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            terms, notes = self._losses(views, generator)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * _rate(iteration, settings)
        self.optimizer.zero_grad(set_to_none=True)
        terms.backward()
        for weights in self._parts():
            nn.utils.clip_grad_norm_(weights, settings.clip)
        self.optimizer.step()
        self.state.iteration += 1
        decay = min(settings.ema_decay, (1 + iteration) / (10 + iteration))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [p.detach() for p in self.network.parameters()], 1 - decay)
        if not math.isfinite(notes["loss"]):
            raise GdmError("the pretraining diverged", found=f"loss {notes['loss']}", remedy="lower the learning rate")
        return notes

    def _parts(self) -> list[list[nn.Parameter]]:
        """Weights that share a loss: those of the level at stride 1, and all others."""
        fine = set() if self.encoder.fine is None else set(self.encoder.fine.parameters())
        parts = [[p for p in self.network.parameters() if (p in fine) is own] for own in (False, True)]
        return [weights for weights in parts if weights]

    def _losses(self, views: Views, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        settings, losses = self.settings, []
        notes: dict[str, float] = {}
        views = views.to(self.device)
        if settings.part == "whole":
            losses.append(trunk_loss(self.encoder, self.decoder, views, settings, generator, notes))
        if self.encoder.fine is not None:
            # Draws of its own, so that it trains alike with and without the others.
            own = torch.Generator().manual_seed(step_seed(settings.seed, self.state.iteration, _FINE_DRAWS))
            losses.append(fine_loss(self.encoder.fine, views, settings, own, notes))
        total = torch.stack(losses).sum()
        return total, {"loss": float(total.detach()), **notes}

    def save(self) -> None:
        """Write ``resume.pt``: the state that continuing exactly needs."""
        content: dict[str, Any] = {
            "settings": to_json(self.settings),
            "iteration": self.state.iteration,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
        }
        with atomic_file(self.folder / RESUME_FILE) as stream:
            torch.save(content, stream)

    def _load(self) -> None:
        file = self.folder / RESUME_FILE
        if not file.is_file():
            return
        remedy = "remove it to start over, or choose another folder"
        with reading("the state of the pretraining cannot be read", file, remedy=remedy):
            check_zip(file)
            self._take(torch.load(file, map_location="cpu", weights_only=True), file)

    def _take(self, content: dict[str, Any], file: Path) -> None:
        present = to_json(self.settings)
        changed = [name for name in present if content["settings"].get(name) != present[name]]
        if changed:
            raise GdmError(
                "the settings have changed since this pretraining began",
                file=file,
                found=", ".join(f"{name} was {content['settings'].get(name)}" for name in changed),
                remedy="use the same settings, or another folder",
            )
        self.network.load_state_dict(content["network"])
        self.optimizer.load_state_dict(content["optimizer"])
        average = [value.to(self.device) for value in content["average"]]
        if [value.shape for value in average] != [value.shape for value in self.average]:
            raise GdmError(
                "the averaged weights are not those of the encoder",
                found=f"{len(average)} tensors",
                remedy="start over with --overwrite",
            )
        self.average = average
        self.state.iteration = content["iteration"]

    def export(self, file: Path) -> None:
        """Write the averaged encoder as plain convolutions, every channel calibrated on windows of the source.

        Where the level at stride 1 alone is trained, the file holds that level alone.
        """
        settings = self.settings
        own = [p.detach().clone() for p in self.network.parameters()]
        self._set(self.average)
        plain = ResidualEncoder(settings.dimensions, settings.widths, settings.blocks, settings.fine)
        standardise_weights(plain)
        plain.load_state_dict(self.encoder.state_dict())
        self._set(own)
        bake_weights(plain)
        # Numbers beyond the last iteration: windows that no step has seen in this form.
        batches = [self.source(settings.iterations + k) for k in range(8)]
        plain.calibrate(torch.cat(batches)[..., : settings.crop, : settings.crop])
        made = {**self.recipe, "settings": to_json(settings), "iterations_done": self.state.iteration}
        if settings.part == "fine":
            assert plain.fine is not None
            save_fine_level(plain.fine, file, made)
        else:
            save_encoder(plain, file, made)

    @torch.no_grad()
    def _set(self, values: Sequence[torch.Tensor]) -> None:
        for parameter, value in zip(self.network.parameters(), values, strict=True):
            parameter.copy_(value)


def _rate(iteration: int, settings: PretrainingOptions) -> float:
    """Linear warm-up, then half a cosine to 1 %."""
    if iteration < settings.warmup:
        return (iteration + 1) / settings.warmup
    share = (iteration - settings.warmup) / max(1, settings.iterations - settings.warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
