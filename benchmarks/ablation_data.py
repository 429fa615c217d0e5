"""The data of the ablation: few-view CT of regions of real volumes, and its plans."""

from __future__ import annotations

from pathlib import Path

VIEWS = 24
SPACING = 2.0
TEST_EDGE = 80  # voxels of the tested regions
DATASET = "Dataset520_Ablation"
PLANS = "gdmPlans_tiny"
CONFIGURATION = "3d_fullres"


def write_dataset(work: Path, data: Path, chest: Path | None) -> None:
    """Isotropic volumes, their few-view reconstructions, and bodies."""
    import numpy as np
    import SimpleITK as sitk
    from chest_ct import fetch_chest

    from gdmunet.dataset import DatasetDescriptor
    from gdmunet.geometry import Geometry
    from gdmunet.imageio import Volume, write_volume
    from gdmunet.preprocessing.body import derive_body_mask
    from gdmunet.scan_spec import ScanSpec
    from gdmunet.serialization import save_json
    from gdmunet.tomography.simulation import simulate_scan

    folder = work / "gdm_raw" / DATASET
    if (folder / "dataset.json").exists():
        return
    files = {name: data / "ct" / f"{name}.nii.gz" for name in ("abdomen", "heart", "lung", "cranium")}
    for name, file in (files | {"chest": chest or fetch_chest(work)}).items():
        image = sitk.DICOMOrient(sitk.ReadImage(str(file), sitk.sitkFloat32), "LPS")
        size = [round(n * s / SPACING) for n, s in zip(image.GetSize(), image.GetSpacing(), strict=True)]
        # Gaussian before thinning out, as a scanner's slices average: no aliasing.
        blur = [max(0.0, SPACING / s - 1) * 0.4 * s for s in image.GetSpacing()]
        image = sitk.SmoothingRecursiveGaussian(image, [max(b, 1e-3) for b in blur]) if max(blur) > 0 else image
        image = sitk.Resample(
            image,
            size,
            sitk.Transform(),
            sitk.sitkBSpline,
            image.GetOrigin(),
            [SPACING] * 3,
            image.GetDirection(),
            -1000,
        )
        target = np.clip(sitk.GetArrayFromImage(image), -1000, 3071).astype(np.float32)
        whole = Volume(target, Geometry(target.shape, (SPACING,) * 3))
        condition = simulate_scan(whole, ScanSpec(views=VIEWS), name).reconstruction
        mask = derive_body_mask(target[None], ("CT",), (SPACING,) * 3)
        test = name in ("chest", "cranium")
        if test:
            low = [max(0, (n - TEST_EDGE) // 2) for n in target.shape]
            box = tuple(slice(a, a + TEST_EDGE) for a in low)
            target, condition, mask = target[box], condition[box], mask[box]
        geometry = Geometry(target.shape, (SPACING,) * 3, (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
        split = "Ts" if test else "Tr"
        for kind, array in ((f"images{split}/{name}_0000", condition), (f"targets{split}/{name}", target)):
            write_volume(folder / f"{kind}.nii.gz", np.rint(array).astype(np.int16), geometry)
        write_volume(folder / f"masks{split}" / f"{name}.nii.gz", mask, geometry)
    save_json(DatasetDescriptor({"0": "CT"}, "CT", ".nii.gz", 3, "Ablation", True), folder / "dataset.json")


def folders_of(work: Path):
    from gdmunet.paths import Folders

    return Folders(work / "gdm_raw", work / "gdm_preprocessed", work / "gdm_results", work / "encoders")


def plan(work: Path) -> None:
    from gdmunet.cli import plan_and_preprocess

    if (work / "gdm_preprocessed" / DATASET / f"{PLANS}.json").exists():
        return
    words = ["-d", DATASET, "-c", CONFIGURATION, "-pl", "tiny", "-encoder", "mini", "--no_pbar", "-np", "1"]
    words += ["-overwrite_target_spacing", *[str(SPACING)] * 3]
    if plan_and_preprocess.main(
        [*words, "--raw", str(work / "gdm_raw"), "--preprocessed", str(work / "gdm_preprocessed")]
    ):
        raise SystemExit("planning failed")
