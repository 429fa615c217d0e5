import gzip
import json
import threading
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from prediction_samples import SPACING, body_of, make_configuration, make_descriptor, make_head

from gdmunet.errors import GdmError
from gdmunet.geometry import Geometry
from gdmunet.imageio import Volume, read_case, read_volume, write_volume
from gdmunet.inference import Predictor
from gdmunet.inference import folder as run_module
from gdmunet.inference.cases.files import FileCases
from gdmunet.inference.cases.memory import MemoryCases
from gdmunet.inference.folder import Waits, predict_cases
from gdmunet.inference.options import PredictionOptions

GEOMETRY = Geometry((20, 22, 24), SPACING, (1.0, 2.0, 3.0), (0.8, -0.6, 0, -0.6, -0.8, 0, 0, 0, 1))
CASES = ("a", "b", "c", "d")


def identity(batch: torch.Tensor) -> torch.Tensor:
    return batch[:, :1]


def predictor(networks=(identity,), **options) -> Predictor:
    return Predictor(list(networks), make_configuration(), make_descriptor(), **options)


@pytest.fixture
def folders(tmp_path):
    """A folder of four cases with masks, and where predictions go."""
    for seed, case in enumerate(CASES):
        head = make_head(seed=seed)
        write_volume(tmp_path / "in" / f"{case}_0000.nii.gz", head.astype(np.int16), GEOMETRY)
        write_volume(tmp_path / "masks" / f"{case}.nii.gz", body_of(head), GEOMETRY)
    return tmp_path / "in", tmp_path / "out", tmp_path / "masks"


def predict(folders, model=None, **options):
    images, out, masks = folders
    model = model or predictor()
    return predict_cases(
        FileCases(images, model.descriptor, masks), out, model, PredictionOptions(show_progress=False, **options)
    )


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_identity_model_gives_the_folder_back_within_one_hu(folders, workers):
    result = predict(folders, preprocess_workers=workers, export_workers=workers)
    assert tuple(result.predicted) == CASES
    assert result.skipped == ()
    for seed, case in enumerate(CASES):
        volume = read_volume(folders[1] / f"{case}.nii.gz")
        assert volume.geometry.difference(GEOMETRY) is None
        assert np.abs(volume.array - make_head(seed=seed)).max() <= 1
        assert result.predicted[case].total == result.predicted[case].predicted + result.predicted[case].skipped
    settings = json.loads((folders[1] / "prediction_settings.json").read_text())
    assert settings["step_size"] == 0.5
    assert sorted(path.name for path in folders[1].iterdir()) == [
        *(f"{case}.nii.gz" for case in CASES),
        "prediction_settings.json",
    ]


def test_the_settings_name_the_model(folders, model_folder):
    predict(folders, Predictor.from_folder(model_folder, ("1",), step_size=1.0))
    settings = json.loads((folders[1] / "prediction_settings.json").read_text())
    assert (settings["model"], settings["folds"], settings["checkpoint"]) == (str(model_folder), ["1"], "best")
    assert settings["step_size"] == 1.0


def test_parts_share_the_cases(folders):
    done = [tuple(predict(folders, num_parts=3, part_id=k).predicted) for k in range(3)]
    assert done == [("a", "d"), ("b",), ("c",)]
    with pytest.raises(GdmError, match="part 3 of 3"):
        predict(folders, num_parts=3, part_id=3)


def test_parts_in_any_order_and_again_leave_the_files_of_one_run(folders, tmp_path):
    images, out, masks = folders
    predict(folders)
    for part in (2, 0, 1, 0):
        predict((images, tmp_path / "parts", masks), num_parts=3, part_id=part)
    names = sorted(path.name for path in out.iterdir())
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == names
    for name in names:
        whole, parts = ((folder / name).read_bytes() for folder in (out, tmp_path / "parts"))
        # Of a packed file what is inside: its header holds the time of writing.
        assert (gzip.decompress(whole) == gzip.decompress(parts)) if name.endswith(".gz") else (whole == parts)


def test_continuing_leaves_whole_predictions_alone_and_redoes_broken_ones(folders):
    predict(folders)
    out = folders[1]
    (out / "b.nii.gz").unlink()
    (out / "c.nii.gz").write_bytes((out / "c.nii.gz").read_bytes()[:-200])
    before = (out / "a.nii.gz").stat().st_mtime_ns
    result = predict(folders, continue_prediction=True)
    assert tuple(result.predicted) == ("b", "c")
    assert result.skipped == ("a", "d")
    assert (out / "a.nii.gz").stat().st_mtime_ns == before
    assert np.abs(read_volume(out / "c.nii.gz").array - make_head(seed=2)).max() <= 1


def test_uncertainty_maps_lie_in_their_own_folder(folders):
    networks = [lambda b, c=c: b[:, :1] + c for c in (0.0, 0.5)]
    predict(folders, predictor(networks), uncertainty=True, num_parts=4)
    mask = body_of(make_head(seed=0))
    spread = read_volume(folders[1] / "uncertainty" / "a.nii.gz").array
    np.testing.assert_allclose(spread[mask], 400 * 0.5 / np.sqrt(2), atol=0.1)
    assert (spread[~mask] == 0).all()
    # A prediction without its map is not finished.
    (folders[1] / "uncertainty" / "a.nii.gz").unlink()
    again = predict(folders, predictor(networks), uncertainty=True, num_parts=4, continue_prediction=True)
    assert tuple(again.predicted) == ("a",)


def test_one_network_has_no_uncertainty_and_nothing_is_begun(folders):
    with pytest.raises(GdmError, match="one network"):
        predict(folders, uncertainty=True)
    assert not folders[1].exists()


def test_the_output_folder_must_be_another_one(folders, tmp_path):
    images, _, masks = folders
    link = tmp_path / "link"
    link.symlink_to(images)
    for output in (images, link, tmp_path / "out" / ".." / "in"):
        with pytest.raises(GdmError, match=r"output folder is the input folder[\s\S]*-o"):
            predict((images, output, None))
    with pytest.raises(GdmError, match="output folder is the mask folder"):
        predict((images, masks, masks))
    with pytest.raises(GdmError, match="input folder is not there"):
        predict((tmp_path / "nowhere", tmp_path / "out", None))


def test_a_missing_mask_is_named(folders):
    (folders[2] / "c.nii.gz").unlink()
    with pytest.raises(GdmError, match=r"image without mask[\s\S]*case: c[\s\S]*masks/c\.nii\.gz"):
        predict(folders)


def test_cases_from_memory_are_predicted_as_their_files_are(folders, tmp_path):
    predict(folders)
    images, out, _ = folders
    volumes = {case: Volume(read_volume(images / f"{case}_0000.nii.gz").array, GEOMETRY) for case in CASES}
    masks = {case: body_of(make_head(seed=seed)) for seed, case in enumerate(CASES)}
    source = MemoryCases(volumes, ("CT",), {case: Volume(mask, GEOMETRY) for case, mask in masks.items()})
    done = predict_cases(source, tmp_path / "memory", predictor(), PredictionOptions(num_parts=2, show_progress=False))
    assert tuple(done.predicted) == ("a", "c")
    for case in done.predicted:
        assert np.array_equal(*(read_volume(folder / f"{case}.nii.gz").array for folder in (out, tmp_path / "memory")))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_case_that_cannot_be_read_is_named_and_ends_the_run(folders, workers):
    file = folders[0] / "b_0000.nii.gz"
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(GdmError, match=r"truncated[\s\S]*case: b[\s\S]*b_0000\.nii\.gz"):
        predict(folders, preprocess_workers=workers)
    assert not (folders[1] / "d.nii.gz").exists()
    assert threads() == []


@pytest.mark.parametrize("workers", [0, 1])
def test_a_prediction_that_cannot_be_written_is_named_and_ends_the_run(folders, workers, monkeypatch):
    def full(path, _prediction, _as_float):
        raise GdmError("cannot write the volume: No space left on device", file=path)

    monkeypatch.setattr(run_module, "write_prediction", full)
    with pytest.raises(GdmError, match=r"No space left[\s\S]*case: a"):
        predict(folders, export_workers=workers)
    assert threads() == []


def test_a_failure_behind_stops_the_case_in_work(folders, monkeypatch):
    """The first case cannot be written: the windows of the second one are not all computed."""
    calls = []

    def slow(batch: torch.Tensor) -> torch.Tensor:
        calls.append(len(batch))
        time.sleep(0.02 if len(calls) > windows else 0)
        return batch[:, :1]

    def full(path, _prediction, _as_float):
        raise GdmError("cannot write the volume: No space left on device", file=path)

    windows = predict(folders, num_parts=4).predicted["a"].predicted
    monkeypatch.setattr(run_module, "write_prediction", full)
    with pytest.raises(GdmError, match="case: a"):
        predict(folders, predictor([slow], batch_size=1))
    assert windows <= len(calls) < 2 * windows - 5


def test_a_network_that_fails_names_the_case(folders):
    with pytest.raises(GdmError, match=r"not numbers[\s\S]*case: a"):
        predict(folders, predictor([lambda b: b[:, :1] * float("nan")]))


def test_an_unforeseen_failure_keeps_its_own_traceback_and_says_the_case(folders):
    def broken(_batch: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError("of our own making")

    with pytest.raises(ZeroDivisionError) as caught:
        predict(folders, predictor([broken]))
    assert caught.value.__notes__ == ["in case a"]


def test_an_interruption_stops_cleanly(folders):
    def interrupted(_batch: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(folders, predictor([interrupted]), preprocess_workers=2)
    assert threads() == []
    assert [path.name for path in folders[1].iterdir()] == ["prediction_settings.json"]


def test_the_whole_way_needs_less_than_three_volumes(tmp_path):
    """Read, prepare, predict, restore, write; NumPy reports its arrays to tracemalloc."""
    grid = Geometry((64, 64, 64), SPACING)
    head = make_head(grid.shape)
    write_volume(tmp_path / "in" / "a_0000.nii", head, grid)
    write_volume(tmp_path / "masks" / "a.nii", np.ones(grid.shape, bool), grid)
    model = Predictor([identity], make_configuration(), replace(make_descriptor(), file_ending=".nii"))
    tracemalloc.start()
    try:
        predict((tmp_path / "in", tmp_path / "out", tmp_path / "masks"), model, preprocess_workers=0, export_workers=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 2 * head.nbytes < peak < 3 * head.nbytes


def test_a_missing_channel_is_named(folders):
    model = Predictor([identity], make_configuration(channels=2), make_descriptor(2))
    with pytest.raises(GdmError, match=r"missing channel[\s\S]*case: a[\s\S]*a_0001\.nii\.gz"):
        predict(folders, model)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("read", "write"))]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_run_says_how_long_the_device_waited_and_for_what(folders, workers, monkeypatch):
    def late(_source, case):
        time.sleep(0.05)
        return read_case(case)

    monkeypatch.setattr(FileCases, "read", late)
    waits = predict(folders, preprocess_workers=workers, export_workers=1).waits
    assert waits.reading > 0.05  # at least the first case is waited for
    assert 0 < waits.share <= 1
    assert Waits(10, 3, 1).sentence("GPU") == "the GPU waited 40 % of the time, mostly for reading"
    assert Waits(10, 0, 0).sentence("CPU") == "the CPU waited 0 % of the time"


@pytest.mark.parametrize(("device", "ahead"), [("cpu", 1), ("cuda", 2)])
def test_one_case_is_read_ahead_on_a_cpu_and_two_on_a_gpu(folders, device, ahead, monkeypatch):
    def refuse(workers, _name):
        raise KeyError(workers)

    monkeypatch.setattr(run_module, "Stage", refuse)
    model = predictor()
    model.device = torch.device(device)
    with pytest.raises(KeyError) as caught:
        predict(folders, model)
    assert caught.value.args == (ahead,)


def test_one_case_is_predicted_into_one_file(folders, tmp_path):
    images, _, masks = folders
    model = predictor()
    options = PredictionOptions(show_progress=False, single="ct.mha", describe=False)
    source = FileCases(images / "b_0000.nii.gz", model.descriptor, masks / "b.nii.gz")
    assert tuple(predict_cases(source, tmp_path / "one", model, options).predicted) == ("b",)
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["ct.mha"]
    volume = read_volume(tmp_path / "one" / "ct.mha")
    assert volume.geometry.difference(GEOMETRY) is None
    assert np.abs(volume.array - make_head(seed=1)).max() <= 1


def test_one_file_is_not_that_of_several_cases_nor_that_of_the_input(folders):
    images, out, masks = folders
    model = predictor()
    single = PredictionOptions(show_progress=False, single="a_0000.nii.gz", describe=False)
    with pytest.raises(GdmError, match="one file cannot hold the predictions of several cases"):
        predict_cases(FileCases(images, model.descriptor), out, model, single)
    with pytest.raises(GdmError, match="would replace a file that it is made from"):
        predict_cases(FileCases(images / "a_0000.nii.gz", model.descriptor), images, model, single)
    with pytest.raises(GdmError, match="one mask cannot be that of several cases"):
        predict((images, out, masks / "a.nii.gz"))


def test_files_that_are_named_one_by_one_lie_in_their_folder(folders):
    images, out, _ = folders
    chosen = [images / "a_0000.nii.gz", images / "c_0000.nii.gz"]
    assert tuple(predict((chosen, out, None)).predicted) == ("a", "c")
    assert json.loads((out / "prediction_settings.json").read_text())["input_folder"] == str(images)
