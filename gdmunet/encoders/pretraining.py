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
from typing import Any, Literal

import torch
from torch import nn

from gdmunet.atomic import atomic_path
from gdmunet.encoders.fine import FINE_CHANNELS, save_fine_level
from gdmunet.encoders.pretraining_losses import (
    ContrastOptions,
    MaskedDecoder,
    place_contrast,
    reconstruction_loss,
    texture_contrast,
)
from gdmunet.encoders.residual import ResidualEncoder, bake_weights, random_encoder, save_encoder, standardise_weights
from gdmunet.encoders.views import Views, blur, make_views
from gdmunet.errors import GdmError
from gdmunet.results import RESUME_FILE
from gdmunet.seeds import step_seed
from gdmunet.serialization import to_json

# Windows of encoder input (B, 1, ...) for an iteration, always the same ones for the same number.
WindowSource = Callable[[int], torch.Tensor]
# Beyond the places of a batch, which draw their windows.
_FINE_DRAWS = 63
ENCODER_FILE = "encoder.safetensors"


@dataclass(frozen=True)
class PretrainingOptions:
    """Numbers of a pretraining.

    Attributes
    ----------
    crop
        Voxels along each side of a view, a multiple of 16.
    shift
        Largest shift between two views in voxels; windows have ``crop + shift`` voxels along each side.
    batch_size
        Windows per iteration.
    mask_share
        Share of the cells that the autoencoder does not see.
    masked_windows
        Windows per iteration that the autoencoder looks at.
    blurred_windows
        Windows per iteration whose blurred form is a decoy in the contrastive term.
    contrast_weight, temperature, places
        Weight and temperature of the contrastive term; places compared per level and iteration.
    fine
        Filters of the level at stride 1; 0: no such level.
    part
        Part to train: the whole encoder, or its level at stride 1 alone. That level shares no weight with the others:
        trained apart it becomes what it becomes beside them.
    """

    dimensions: int = 3
    iterations: int = 20_000
    crop: int = 48
    shift: int = 24
    batch_size: int = 4
    mask_share: float = 0.6
    masked_windows: int = 2
    blurred_windows: int = 2
    contrast_weight: float = 1.0
    temperature: float = 0.1
    places: int = 384
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.02
    clip: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0
    widths: tuple[int, ...] = (16, 48, 96, 128)
    blocks: tuple[int, ...] = (1, 1, 2, 1)
    fine: int = FINE_CHANNELS
    part: Literal["whole", "fine"] = "whole"

    def __post_init__(self) -> None:
        if self.crop < 16 or self.crop % 16:
            raise GdmError("the crop does not fit the encoder", found=self.crop, expected="a multiple of 16")
        counts = (self.iterations, self.batch_size, self.masked_windows, self.places)
        if min(counts) < 1 or self.shift < 0 or self.blurred_windows < 0 or not 0 < self.mask_share < 1:
            raise GdmError(
                "an encoder cannot be pretrained with these numbers",
                found=f"{self.iterations} iterations, {self.batch_size} windows of which {self.masked_windows} masked "
                f"and {self.blurred_windows} blurred, {self.places} places, shift {self.shift}, "
                f"mask share {self.mask_share:g}",
                expected="1 or more of each (0 or more for blurred windows and shift), a mask share between 0 and 1",
            )
        if self.fine < 0 or (self.part == "fine" and not self.fine):
            raise GdmError(
                "the level at stride 1 cannot have that many filters",
                found=self.fine,
                expected="0 or more, and 1 or more if it alone is trained",
            )

    @property
    def window(self) -> int:
        """Voxels along each side of the windows that the source gives."""
        return self.crop + self.shift


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
        losses = []
        notes: dict[str, float] = {}
        if self.settings.part == "whole":
            losses.append(self._trunk_loss(views, generator, notes))
        if self.encoder.fine is not None:
            # Draws of its own, so that it trains alike with and without the others.
            own = torch.Generator().manual_seed(step_seed(self.settings.seed, self.state.iteration, _FINE_DRAWS))
            losses.append(self._fine_loss(views, own, notes))
        total = torch.stack(losses).sum()
        return total, {"loss": float(total.detach()), **notes}

    def _trunk_loss(self, views: Views, generator: torch.Generator, notes: dict[str, float]) -> torch.Tensor:
        settings = self.settings
        encoder, device = self.encoder, self.device
        first, second = views.first.to(device), views.second.to(device)
        seen = slice(0, settings.masked_windows)
        masked = reconstruction_loss(
            encoder, self.decoder, first[seen], views.clean[seen].to(device), settings.mask_share, generator
        )
        blurred = blur(first[: settings.blurred_windows], generator)
        maps = encoder.maps(encoder.cells(torch.cat([first, second, blurred])))
        notes["masked"] = float(masked.detach())
        contrast = masked.new_zeros(())
        for level, values in zip(encoder.trunk_levels, maps, strict=True):
            keys, queries, decoys = values.tensor_split([len(first), 2 * len(first)])
            loss, share_found = place_contrast(
                queries,
                keys,
                decoys,
                second,
                views.shift,
                generator,
                ContrastOptions(level.stride[0], settings.places, settings.temperature),
            )
            contrast = contrast + loss / len(maps)
            notes[level.name] = share_found
        return masked + settings.contrast_weight * contrast

    def _fine_loss(self, views: Views, generator: torch.Generator, notes: dict[str, float]) -> torch.Tensor:
        settings, fine = self.settings, self.encoder.fine
        assert fine is not None
        first, second = views.first.to(self.device), views.second.to(self.device)
        maps = fine(torch.cat([first, second, blur(first[: settings.blurred_windows], generator)]))
        keys, queries, decoys = maps.tensor_split([len(first), 2 * len(first)])
        options = ContrastOptions(1, settings.places, settings.temperature)
        loss, notes[fine.level.name] = texture_contrast(
            queries, keys, decoys, second, views.shift, generator, options
        )
        return settings.contrast_weight * loss

    def save(self) -> None:
        """Write ``resume.pt``: the state that continuing exactly needs."""
        content: dict[str, Any] = {
            "settings": to_json(self.settings),
            "iteration": self.state.iteration,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
        }
        with atomic_path(self.folder / RESUME_FILE) as temporary:
            torch.save(content, temporary)

    def _load(self) -> None:
        file = self.folder / RESUME_FILE
        if not file.is_file():
            return
        content = torch.load(file, map_location="cpu", weights_only=True)
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
        self.average = [value.to(self.device) for value in content["average"]]
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
