"""Our encoders against the classes they were trained with: same output at equal weights.

Random weights in the published layouts go into the original class and into ours, through a checkpoint file and the
loading code of the registry. Needs ``pip install --no-deps monai medvae`` and ``einops``; MedicalNet's class lies in no
package: give ``models/resnet.py`` of github.com/Tencent/MedicalNet. What is not installed is skipped and said so.

    python benchmarks/encoder_equality.py --medicalnet-source MedicalNet/models/resnet.py
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from gdmunet.encoders.base import FrozenEncoder, VolumeUnits
from gdmunet.encoders.choice import EncoderOptions, choose_encoder
from gdmunet.plans import NormalizationSpec

# Network units are HU / 1000, so that random volumes fill the windows.
UNITS = VolumeUnits(NormalizationSpec("affine", (-1024.0, 3071.0), 0.0, 1000.0), -1000.0, "CT")
# Without rounding on the way in: two dozen instance norms over few places would enlarge it.
UNSCALED = VolumeUnits(NormalizationSpec("affine", (-10.0, 10.0), 0.0, 1.0), 0.0, "T1")
TOLERANCE = 1e-5
SIZE = (32, 32, 64)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--medicalnet-source", type=Path, help="models/resnet.py of Tencent/MedicalNet")
    parser.add_argument("--only", nargs="+", help="encoders to compare; default: all")
    arguments = parser.parse_args()
    checks: dict[str, Callable[[], Iterator[tuple[torch.Tensor, torch.Tensor]]]] = {
        "medvae-4x-3d": lambda: medvae("medvae-4x-3d", (1, 2, 4)),
        "medvae-8x-3d": lambda: medvae("medvae-8x-3d", (1, 2, 4, 4)),
        "ct-fm": ct_fm,
        "medicalnet-10": lambda: medicalnet(arguments.medicalnet_source, 10),
        "medicalnet-50": lambda: medicalnet(arguments.medicalnet_source, 50),
        "nnssl": nnssl,
    }
    worst_of_all = 0.0
    for name, check in checks.items():
        if arguments.only and name not in arguments.only:
            continue
        torch.manual_seed(0)
        try:
            differences = [relative(ours, theirs) for ours, theirs in check()]
        except ImportError as error:
            print(f"{name:14} skipped: {error}")
            continue
        worst_of_all = max(worst_of_all, *differences)
        print(f"{name:14} largest relative difference of each map: " + ", ".join(f"{d:.1e}" for d in differences))
    return int(worst_of_all > TOLERANCE)


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference over the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def medvae(name: str, multipliers: tuple[int, ...]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    module = source_of("medvae", "utils/vae/diffusionmodels_3d.py")
    with contextlib.redirect_stdout(io.StringIO()):
        original = module.Encoder(
            ch=128, out_ch=1, ch_mult=multipliers, num_res_blocks=2, attn_resolutions=[], in_channels=1,
            resolution=512, z_channels=1, double_z=True,
        )  # fmt: skip
    shake(original)
    ours = through_a_file(
        name, {"state_dict": {f"encoder.{key}": value for key, value in original.state_dict().items()}}
    )
    size = tuple(n // 2 for n in SIZE)  # 128 channels at full resolution
    volume = torch.randn(1, 1, *size)
    parts = [original.down[level].block[1] for level in range(len(multipliers) - 1)] + [original.mid.block_2]
    theirs = watched(original, parts, (volume.permute(0, 1, 4, 3, 2).flip(2, 3)).clamp(-1, 1))
    for found, map_ in zip(evaluated(ours, volume), theirs, strict=True):
        yield found, map_.flip(2, 3).permute(0, 1, 4, 3, 2)


def ct_fm() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    from monai.networks.nets.segresnet_ds import SegResEncoder

    original = SegResEncoder(spatial_dims=3, in_channels=1, init_filters=32, blocks_down=(1, 2, 2, 4, 4)).eval()
    shake(original)
    ours = through_a_file("ct-fm", original.state_dict())
    volume = torch.randn(1, 1, *SIZE)
    with torch.no_grad():
        yield from zip(evaluated(ours, volume), original(((volume * 1000 + 1024) / 3072).clamp(0, 1)), strict=True)


def medicalnet(source: Path | None, depth: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    if source is None:
        raise ImportError("give --medicalnet-source")
    module = module_from(source)
    given = {"num_seg_classes": 2, "shortcut_type": "B", "no_cuda": True}
    with parameters_from_initialisers():
        original = getattr(module, f"resnet{depth}")(
            sample_input_D=1, sample_input_H=1, sample_input_W=1, **given
        ).eval()
    shake(original)
    names = {key: value for key, value in original.state_dict().items() if not key.startswith("conv_seg")}
    ours = through_a_file(f"medicalnet-{depth}", {"state_dict": {f"module.{key}": names[key] for key in names}})
    volume = torch.randn(1, 1, *SIZE)
    parts = [original.maxpool, original.layer1, original.layer2, original.layer3, original.layer4]
    theirs = watched(original, parts, volume)
    found = evaluated(ours, volume)
    pooled = nn.functional.max_pool3d(found[0], 3, stride=2, padding=1)  # the original keeps the stem's map pooled
    yield from zip([pooled, *found[1:]], theirs, strict=True)


def nnssl() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

    original = ResidualEncoderUNet(
        1, 6, [32, 64, 128, 256, 320, 320], nn.Conv3d, [3] * 6, [1, 2, 2, 2, 2, 2], [1, 3, 4, 6, 6, 6], 1, [1] * 5,
        conv_bias=True, norm_op=nn.InstanceNorm3d, norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True},
    ).eval()  # fmt: skip
    shake(original)
    ours = through_a_file("nnssl", {"network_weights": original.state_dict(), "citations": []}, UNSCALED)
    # Instance norm over the two places of a smaller patch's deepest map keeps a sign alone, which rounding decides.
    volume = torch.randn(1, 1, 64, 64, 64)
    with torch.no_grad():
        yield from zip(evaluated(ours, volume), original.encoder(volume), strict=True)


def through_a_file(family: str, content: dict, units: VolumeUnits = UNITS) -> FrozenEncoder:
    """Save `content` and load it as a user would."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "checkpoint.pth"
        torch.save(content, file)
        spec, given = (f"nnssl:{file}", None) if family == "nnssl" else (family, file)
        chosen = choose_encoder(spec, units, 3, EncoderOptions(Path(folder), given)).encoder
        assert chosen is not None
        return chosen


def evaluated(encoder: FrozenEncoder, volume: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return [found.values for found in encoder(volume)]


def watched(network: nn.Module, parts: list[nn.Module], volume: torch.Tensor) -> list[torch.Tensor]:
    """What `parts` put out while `network` runs."""
    seen: dict[int, torch.Tensor] = {}
    hooks = [
        part.register_forward_hook(
            lambda _module, _inputs, output, place=place: seen.__setitem__(place, output.clone())
        )
        for place, part in enumerate(parts)
    ]
    with torch.no_grad():
        network.eval()(volume)
    for hook in hooks:
        hook.remove()
    return [seen[place] for place in range(len(parts))]


def shake(network: nn.Module) -> None:
    """Move every norm away from its start, so that a norm left out would show."""
    for module in network.modules():
        if isinstance(module, nn.GroupNorm | nn.BatchNorm3d | nn.InstanceNorm3d):
            nn.init.normal_(module.weight, 1.0, 0.1)
            nn.init.normal_(module.bias, 0.0, 0.1)
        if isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.running_mean, 0.0, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)


def source_of(package: str, file: str) -> ModuleType:
    """One file of an installed package without importing the package, whose other dependencies are heavy."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ImportError(f"pip install --no-deps {package}")
    return module_from(Path(found.submodule_search_locations[0]) / file)


def module_from(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"original_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def parameters_from_initialisers() -> Iterator[None]:
    """The original assigns what an initialiser of its time returned, a parameter."""
    before = getattr(nn.init, "kaiming_normal", None)
    nn.init.kaiming_normal = lambda tensor, **options: nn.Parameter(nn.init.kaiming_normal_(tensor.data, **options))
    try:
        yield
    finally:
        nn.init.kaiming_normal = before


if __name__ == "__main__":
    sys.exit(main())
