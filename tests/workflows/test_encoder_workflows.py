"""gdm_pretrain_encoder and gdm_audit_encoder on the toy data set."""

import json

import pytest
import torch

from gdmunet.cli import audit_encoder, pretrain_encoder
from gdmunet.encoders.mini import build_mae
from gdmunet.workflows.encoder_data import TargetSource, TargetWindows

SHORT = ["--iterations", "2", "--crop", "16", "--batch_size", "2", "--no_pbar", "-device", "cpu"]


def folders(toy):
    return ["--preprocessed", str(toy[1].preprocessed), "--results", str(toy[1].results)]


def test_windows_are_a_function_of_their_number_from_training_cases_alone(toy):
    plans, paths = toy
    source = TargetSource.find(plans, "3d_fullres", "0", paths)
    windows, again = (TargetWindows(source, 3, 24, 2, 0) for _ in range(2))
    for _ in range(3):
        windows(_)
    assert torch.equal(windows(5), again(5))
    assert windows(5).shape == (2, 1, 24, 24, 24)
    assert not torch.equal(windows(5), windows(6))
    assert set(windows._cases) <= set(plans.folds[0].training)
    assert windows(0).abs().max() < 1.6


def test_windows_of_slices(toy):
    plans, paths = toy
    source = TargetSource.find(plans, "2d", "all", paths)
    assert TargetWindows(source, 2, 24, 3, 0)(0).shape == (3, 1, 24, 24)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_pretraining_gives_an_encoder_and_the_audit_takes_it(toy, tmp_path, capsys, dimensions):
    out, numbers = tmp_path / "run", tmp_path / "audit.json"
    command = ["-d", "901", "--dimensions", str(dimensions), "-o", str(out), *SHORT, *folders(toy)]
    assert pretrain_encoder.main(command) == 0
    assert f"mae:{out}" in capsys.readouterr().out
    units = TargetSource.find(toy[0], "2d" if dimensions == 2 else "3d_fullres", "0", toy[1]).units
    assert build_mae(out, units, dimensions)(torch.zeros(1, 1, *(16,) * dimensions))[-1].values.isfinite().all()
    flags = ["--dimensions", str(dimensions), "--windows", "1", "--window", "16", "--random", "--json", str(numbers)]
    assert audit_encoder.main(["-e", f"mae:{out}", "-d", "901", *flags, *folders(toy)]) == 0
    assert "random weights" in capsys.readouterr().out
    found = json.loads(numbers.read_text())
    assert len(found["audit"]["levels"]) == len(found["random"]["levels"]) == 5
    assert found["audit"]["volumes"] == ["case_3"]
    assert found["audit"]["levels"][-1]["retrieval"] is None  # one cell a crop


def test_a_finished_run_is_not_trained_again(toy, tmp_path, capsys):
    command = ["-d", "901", "-o", str(tmp_path / "run"), *SHORT, *folders(toy)]
    assert pretrain_encoder.main(command) == 0
    weights = (tmp_path / "run" / "encoder.safetensors").read_bytes()
    assert pretrain_encoder.main(command) == 0
    assert (tmp_path / "run" / "encoder.safetensors").read_bytes() == weights
    assert pretrain_encoder.main([*command, "--seed", "4"]) == 1
    assert "seed was 0" in capsys.readouterr().err


def test_unknown_folds_and_missing_volumes_are_errors(toy, tmp_path, capsys):
    assert pretrain_encoder.main(["-d", "901", "-f", "9", *SHORT, *folders(toy)]) == 1
    assert "fold 9" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        audit_encoder.main(folders(toy))
    assert end.value.code == 2
    assert "-i" in capsys.readouterr().err
    assert audit_encoder.main(["-i", str(tmp_path), *folders(toy)]) == 1


@pytest.mark.parametrize(("command", "case"), [(audit_encoder, "case_3"), (pretrain_encoder, "case_1")])
def test_a_flipped_bit_of_a_prepared_case_is_found(toy, tmp_path, capsys, command, case):
    """Packed arrays hold no checksums: without a look at the record it would be another number."""
    store = TargetSource.find(toy[0], "3d_fullres", "0", toy[1]).store
    file = next(one for one in store.files(case) if one.suffix == ".b2nd")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 16
    file.write_bytes(content)
    words = ["-e", "tiny", "--window", "16"] if command is audit_encoder else ["-o", str(tmp_path / "run"), *SHORT]
    assert command.main(["-d", "901", *words, *folders(toy)]) == 1
    text = capsys.readouterr().err
    assert "have changed since they were written" in text
    assert f"case: {case}" in text
