"""Predictions from sinograms and from whole CTs, and how well they explain the projections."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from prediction_samples import make_configuration, make_descriptor, make_model

from gdmunet.cli.predict import main
from gdmunet.conversion.sparse_view_dataset import make_sparse_view_dataset
from gdmunet.dataset import Case
from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import read_case, read_volume, write_volume
from gdmunet.inference import Predictor
from gdmunet.inference.cases.consistency import CaseResidual, ResidualReport
from gdmunet.inference.cases.scans import ScanCases
from gdmunet.inference.folder import predict_cases
from gdmunet.inference.options import PredictionOptions
from gdmunet.preprocessing.preprocessor import predicted_body
from gdmunet.scan_spec import ScanSpec
from gdmunet.serialization import load_json
from gdmunet.tomography.simulation import simulate_scan
from gdmunet.tomography.sinogram import write_sinogram

SPACING = (2.0, 1.5, 1.5)
SETTINGS = ScanSpec(views=16)
QUIET = {"show_progress": False}
# Slices along the file's last axis, so that orientation matters.
GEOMETRY = Geometry((22, 24, 8), (1.5, 1.5, 2.0), (1.0, 2.0, 3.0), (0, 1, 0, 0, 0, 1, 1, 0, 0))


def predictor(change=0.0, simulation=SETTINGS, network=None):
    descriptor = replace(make_descriptor(), simulation=simulation)
    configuration = make_configuration(spacing=SPACING)
    return Predictor([network or (lambda batch: batch[:, :1] + change)], configuration, descriptor)


def head(seed):
    rng = np.random.default_rng(seed)
    array = np.full(GEOMETRY.shape, -1000, np.int16)
    array[4:18, 5:20] = 40 + rng.integers(-5, 5, (14, 15, 8))
    array[8:10, 8:10] = 700
    return array


@pytest.fixture
def cts(tmp_path):
    for seed, name in enumerate("ab"):
        write_volume(tmp_path / "ct" / f"{name}.nii.gz", head(seed), GEOMETRY)
        write_volume(tmp_path / "masks" / f"{name}.nii.gz", head(seed) > -500, GEOMETRY)
    return tmp_path / "ct"


def run(folder, kind, out, model=None, steps=0, **options):
    model = model or predictor()
    scans = ScanCases(folder, kind, out, model, mask_folder=folder.parent / "masks", consistency=steps)
    done = predict_cases(scans, out, model, PredictionOptions(continue_prediction=True, **QUIET, **options))
    report = load_json(ResidualReport, out / "projection_residuals.json")
    assert report.table() in done.notes
    return report


def prepared(folder, kind, out, model):
    """The scans of a folder whose conditions are written, and their cases."""
    scans = ScanCases(folder, kind, out, model)
    cases = scans.list_cases()
    scans.prepare(cases, PredictionOptions(**QUIET))
    return scans, cases


def test_a_whole_ct_is_scanned_as_the_training_cases_were(cts, tmp_path):
    report = run(cts, "simulate", tmp_path / "out")
    for seed, name in enumerate("ab"):
        expected = simulate_scan(read_volume(cts / f"{name}.nii.gz"), SETTINGS, name).reconstruction
        condition = read_volume(tmp_path / "out" / "conditions" / f"{name}_0000.nii.gz")
        assert condition.geometry.difference(GEOMETRY) is None
        assert np.abs(condition.array - expected).max() <= 0.51
        predicted = read_volume(tmp_path / "out" / f"{name}.nii.gz").array
        inside = head(seed) > -500
        assert np.abs(predicted - expected)[inside].max() <= 2
        assert (predicted[~inside] == -1024).all()
    assert set(report.cases) == {"a", "b"}
    assert report.cases["a"].consistent is None
    # The identity explains the projections as the reconstruction does.
    assert report.cases["a"].prediction == pytest.approx(report.cases["a"].condition, abs=0.01)


def test_metal_is_scanned_as_the_data_set_maker_stores_it(cts, tmp_path):
    """Training targets end at 3071 HU, and it is these that were scanned: so must be an implant of 6000 HU."""
    array = head(0)
    array[12:15, 12:15] = 6000
    write_volume(cts / "a.nii.gz", array, GEOMETRY)
    made = make_sparse_view_dataset(tmp_path / "raw", 7, "Few", {"a": cts / "a.nii.gz"}, SETTINGS)
    prepared(cts, "simulate", tmp_path / "out", predictor())
    trained, predicted = (
        read_volume(folder / "a_0000.nii.gz").array
        for folder in (made.folder / "imagesTr", tmp_path / "out/conditions")
    )
    assert np.array_equal(trained, predicted)
    unclipped = simulate_scan(read_volume(cts / "a.nii.gz"), SETTINGS, "a").reconstruction
    assert np.abs(unclipped - predicted).max() > 100


def test_sinograms_give_what_the_ct_gave(cts, tmp_path):
    simulated = run(cts, "simulate", tmp_path / "one")
    shutil.copytree(tmp_path / "masks", tmp_path / "one" / "masks")
    measured = run(tmp_path / "one" / "sinograms", "sinogram", tmp_path / "two")
    assert measured == simulated
    for name in "ab":
        assert np.array_equal(*(read_volume(tmp_path / folder / f"{name}.nii.gz").array for folder in ("one", "two")))


def test_consistency_brings_a_biased_prediction_back(cts, tmp_path):
    biased = predictor(change=0.3)  # 120 HU
    report = run(cts, "simulate", tmp_path / "out", biased, steps=15)
    for seed, name in enumerate("ab"):
        case = report.cases[name]
        assert case.consistent < 0.3 * case.prediction
        assert case.condition < case.prediction
        inside = head(seed) > -500
        before = read_volume(tmp_path / "out" / "before_consistency" / f"{name}.nii.gz").array
        after = read_volume(tmp_path / "out" / f"{name}.nii.gz")
        assert after.geometry.difference(GEOMETRY) is None
        errors = [np.abs(volume - head(seed))[inside].mean() for volume in (before, after.array)]
        assert errors[1] < 0.7 * errors[0]
        assert (after.array[~inside] == -1024).all()
    # A second run takes the steps from the network's prediction, not twice.
    first = read_volume(tmp_path / "out" / "a.nii.gz").array
    assert run(cts, "simulate", tmp_path / "out", biased, steps=15).cases == report.cases
    assert np.array_equal(read_volume(tmp_path / "out" / "a.nii.gz").array, first)


def test_body_that_was_predicted_as_air_is_mended_too(cts, tmp_path):
    """The mask says where the body is: a network that gives the background value there is not believed."""
    blind = predictor(network=lambda batch: torch.where(batch[:, :1] < 1, -20.0, batch[:, :1]))
    run(cts, "simulate", tmp_path / "out", blind, steps=15)
    inside, tissue = head(0) > -500, abs(head(0) - 40) < 20
    before = read_volume(tmp_path / "out" / "before_consistency" / "a.nii.gz").array
    after = read_volume(tmp_path / "out" / "a.nii.gz").array
    assert np.median(before[tissue]) == -1024
    assert np.median(after[tissue]) > -500
    assert (after[~inside] == -1024).all()


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("spacing", [SPACING, (3.1, 2.3, 1.9)])
def test_the_body_is_the_one_that_was_predicted(cts, tmp_path, given, spacing):
    configuration = make_configuration(spacing=spacing, transpose=(1, 2, 0))
    model = Predictor([lambda batch: 0 * batch[:, :1]], configuration, make_descriptor())
    mask = tmp_path / "masks" / "a.nii.gz" if given else None
    volumes = read_case(Case("a", (cts / "a.nii.gz",), mask=mask))
    assert np.array_equal(
        predicted_body(volumes, configuration, model.descriptor), model.predict_case(volumes).array > -1000
    )


@pytest.fixture
def command(tmp_path):
    """gdm_predict with a network of random weights, trained on scans in given masks; its output folder is out_KIND."""
    descriptor = replace(make_descriptor(), simulation=SETTINGS, mask=True)
    model = make_model(tmp_path / "results", folds=("0",), descriptor=descriptor)

    def call(folder, kind, *words):
        flags = ["-i", str(folder), "-o", str(tmp_path / f"out_{kind}"), f"--{kind}", "-m", str(model)]
        return main([*flags, *words, "-device", "cpu", "--no_pbar"])

    return call


def test_the_command_scans_and_is_consistent(cts, tmp_path, capsys, command):
    flags = ["--mask", str(tmp_path / "masks"), "--consistency", "3"]
    assert command(cts, "simulate", *flags) == 0
    printed = capsys.readouterr().out
    out = tmp_path / "out_simulate"
    report = load_json(ResidualReport, out / "projection_residuals.json")
    assert report.consistency_steps == 3
    assert report.table() in printed
    assert "predicted 2 cases" in printed
    for name, case in report.cases.items():
        assert case.consistent < case.prediction
        before, after = (read_volume(out / folder / f"{name}.nii.gz") for folder in ("before_consistency", "."))
        assert after.geometry.difference(GEOMETRY) is None
        assert not np.array_equal(before.array, after.array)
    # The sinograms that it kept say the same as measured ones.
    assert command(out / "sinograms", "sinogram", *flags) == 0
    assert load_json(ResidualReport, tmp_path / "out_sinogram" / "projection_residuals.json") == report
    for name in ("a.nii.gz", "b.nii.gz", "conditions/a_0000.nii.gz"):
        assert np.array_equal(
            *(read_volume(tmp_path / f"out_{kind}" / name).array for kind in ("simulate", "sinogram"))
        )
    assert "trained with given body masks" not in printed + capsys.readouterr().out


def test_the_command_says_that_masks_were_given_in_training(cts, capsys, command):
    assert command(cts, "simulate") == 0
    assert capsys.readouterr().out.count("note: the model was trained with given body masks; without --mask") == 1


def test_consistency_needs_projections(cts, tmp_path, capsys):
    model = make_model(tmp_path / "results", folds=("0",))
    flags = ["-i", str(cts), "-o", str(tmp_path / "out"), "-m", str(model), "-device", "cpu", "--no_pbar"]
    with pytest.raises(SystemExit) as end:
        main([*flags, "--consistency", "2"])
    assert end.value.code == 2
    assert "--sinogram or --simulate" in capsys.readouterr().err


def test_parts_share_a_folder(cts, tmp_path):
    run(cts, "simulate", tmp_path / "out", num_parts=2, part_id=1)
    assert not (tmp_path / "out" / "a.nii.gz").exists()
    assert set(run(cts, "simulate", tmp_path / "out", num_parts=2, part_id=0).cases) == {"a", "b"}


def test_scans_of_other_settings_are_named(cts, tmp_path):
    volume = read_volume(cts / "a.nii.gz")
    write_sinogram(tmp_path / "sino" / "a.npz", simulate_scan(volume, ScanSpec(views=20), "a").sinogram)
    scans, cases = prepared(tmp_path / "sino", "sinogram", tmp_path / "out", predictor())
    assert scans.differing_settings(cases) == [
        "note: a was scanned with other settings than the training cases: views 20 against 16"
    ]
    same = predictor(simulation=ScanSpec(views=20))
    scans, cases = prepared(tmp_path / "sino", "sinogram", tmp_path / "out", same)
    assert scans.differing_settings(cases) == []


def test_what_cannot_be_scanned_is_refused(cts, tmp_path):
    with pytest.raises(GdmError, match="not trained on simulated scans"):
        ScanCases(cts, "simulate", tmp_path / "out", predictor(simulation=None))
    with pytest.raises(GdmError, match="no cases"):
        run(cts, "sinogram", tmp_path / "out")
    with pytest.raises(GdmError, match="not there"):
        run(tmp_path / "nowhere", "sinogram", tmp_path / "out")
    with pytest.raises(GdmError, match="output folder is the input"):
        run(cts, "simulate", cts)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.npz").write_bytes(b"no archive")
    with pytest.raises(GdmError, match=r"cannot be read(.|\n)*case: x"):
        prepared(tmp_path / "broken", "sinogram", tmp_path / "out", predictor())


def test_the_table_is_in_per_cent():
    table = ResidualReport(5, {"a": CaseResidual(0.12, 0.03, 0.01)}).table()
    assert table.splitlines()[1].split() == ["a", "12.00", "%", "3.00", "%", "1.00", "%"]
