"""Checkpoints in the exact published layouts: names and shapes written down from the originals, values random."""

from pathlib import Path

import torch
from safetensors.torch import save_file


def _random(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    """Values with which activations stay near 1 and every norm has an effect."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1000)
        elif name.endswith("running_var"):
            state[name] = 1 + 0.1 * values.abs()
        elif len(shape) > 1:
            state[name] = values / torch.tensor(shape[1:]).prod().sqrt()
        else:
            state[name] = 0.1 * values + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
    return state


def medvae_shapes(multipliers: tuple[int, ...], width: int = 128) -> dict[str, tuple[int, ...]]:
    """The encoder of ``vae_4x_1c_3D.ckpt`` and ``vae_8x_1c_3D.ckpt``, with a tensor of its decoder."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, after: int, before: int, size: int = 3) -> None:
        shapes[f"encoder.{name}.weight"], shapes[f"encoder.{name}.bias"] = (after, before, size, size, size), (after,)

    def norm(name: str, channels: int) -> None:
        shapes[f"encoder.{name}.weight"] = shapes[f"encoder.{name}.bias"] = (channels,)

    def block(name: str, before: int, after: int) -> None:
        norm(f"{name}.norm1", before)
        conv(f"{name}.conv1", after, before)
        norm(f"{name}.norm2", after)
        conv(f"{name}.conv2", after, after)
        if before != after:
            conv(f"{name}.nin_shortcut", after, before, 1)

    conv("conv_in", width, 1)
    before = width
    for level, multiplier in enumerate(multipliers):
        after = width * multiplier
        block(f"down.{level}.block.0", before, after)
        block(f"down.{level}.block.1", after, after)
        if level < len(multipliers) - 1:
            conv(f"down.{level}.downsample.conv", after, after)
        before = after
    block("mid.block_1", before, before)
    norm("mid.attn_1.norm", before)
    for part in ("q", "k", "v", "proj_out"):
        conv(f"mid.attn_1.{part}", before, before, 1)
    block("mid.block_2", before, before)
    norm("norm_out", before)
    conv("conv_out", 2, before)
    shapes["decoder.conv_in.weight"] = (before, 1, 3, 3, 3)
    return shapes


def ct_fm_shapes(width: int = 32) -> dict[str, tuple[int, ...]]:
    """``model.safetensors`` of ct_fm_feature_extractor: MONAI's SegResEncoder."""
    shapes: dict[str, tuple[int, ...]] = {"conv_init.weight": (width, 1, 3, 3, 3)}
    for level, count in enumerate((1, 2, 2, 4, 4)):
        channels = width * 2**level
        for block in range(count):
            for part in (1, 2):
                name = f"layers.{level}.blocks.{block}"
                shapes[f"{name}.conv{part}.weight"] = (channels, channels, 3, 3, 3)
                shapes |= _batch_norm(f"{name}.norm{part}", channels)
        if level < 4:
            shapes[f"layers.{level}.downsample.weight"] = (2 * channels, channels, 3, 3, 3)
    return shapes


def medicalnet_shapes(blocks: tuple[int, ...], bottleneck: bool) -> dict[str, tuple[int, ...]]:
    """``resnet_10_23dataset.pth`` and ``resnet_50_23dataset.pth`` (names begin with ``module.``)."""
    growth = 4 if bottleneck else 1
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 1, 7, 7, 7)} | _batch_norm("bn1", 64)
    before = 64
    for layer, (inside, count) in enumerate(zip((64, 128, 256, 512), blocks, strict=True), 1):
        after = inside * growth
        for block in range(count):
            name = f"layer{layer}.{block}"
            widths = [(inside, before, 1), (inside, inside, 3), (after, inside, 1)]
            for part, (out, into, size) in enumerate(
                widths if bottleneck else [(inside, before, 3), (after, after, 3)], 1
            ):
                shapes[f"{name}.conv{part}.weight"] = (out, into, size, size, size)
                shapes |= _batch_norm(f"{name}.bn{part}", out)
            if block == 0 and (before != after or layer > 1):
                shapes[f"{name}.downsample.0.weight"] = (after, before, 1, 1, 1)
                shapes |= _batch_norm(f"{name}.downsample.1", after)
            before = after
    return {f"module.{name}": shape for name, shape in shapes.items()}


def nnssl_shapes(width: int = 32) -> dict[str, tuple[int, ...]]:
    """The encoder of a ResEnc-L checkpoint: every layer of a convolution block is named twice."""
    shapes: dict[str, tuple[int, ...]] = {}

    def unit(name: str, after: int, before: int, size: int = 3, norm: bool = True, bias: bool = True) -> None:
        parts = {"conv": "all_modules.0", "norm": "all_modules.1"} if norm else {"conv": "all_modules.0"}
        for part, twin in parts.items():
            for twice in (part, twin):
                weight = (after, before, size, size, size) if part == "conv" else (after,)
                shapes[f"encoder.{name}.{twice}.weight"] = weight
                if bias or part == "norm":
                    shapes[f"encoder.{name}.{twice}.bias"] = (after,)

    unit("stem.convs.0", width, 1)
    before = width
    for stage, (factor, count) in enumerate(zip((1, 2, 4, 8, 10, 10), (1, 3, 4, 6, 6, 6), strict=True)):
        after = factor * width
        for block in range(count):
            name = f"stages.{stage}.blocks.{block}"
            unit(f"{name}.conv1", after, before)
            unit(f"{name}.conv2", after, after)
            if before != after:
                # An average pooling comes first where the stride is not 1.
                unit(f"{name}.skip.1", after, before, size=1, bias=False)
            before = after
    return shapes


def _batch_norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")
    }
    return shapes | {f"{name}.num_batches_tracked": ()}


def write_published(family: str, folder: Path, narrow: bool = False) -> Path:
    """Write the checkpoint of `family` as it is published; `narrow`: with a quarter of the channels where any fit."""
    if family == "ct-fm":
        file = folder / "model.safetensors"
        save_file(_random(ct_fm_shapes(8 if narrow else 32)), str(file))
        return file
    shapes, nest = {
        "medvae-4x-3d": (medvae_shapes((1, 2, 4), 32 if narrow else 128), "state_dict"),
        "medvae-8x-3d": (medvae_shapes((1, 2, 4, 4), 32 if narrow else 128), "state_dict"),
        "medicalnet-10": (medicalnet_shapes((1, 1, 1, 1), False), "state_dict"),
        "medicalnet-50": (medicalnet_shapes((3, 4, 6, 3), True), "state_dict"),
        "nnssl": (nnssl_shapes(8 if narrow else 32), "network_weights"),
    }[family]
    file = folder / f"{family}.ckpt"
    torch.save({nest: _random(shapes), "citations": ["..."]}, file)
    return file
