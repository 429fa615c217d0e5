import json
import resource

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gdmunet.checkpoint import CheckpointMetadata, load_network, load_weights, save_weights
from gdmunet.errors import GdmError
from gdmunet.network_spec import NetworkSpec
from gdmunet.networks import build_network

METADATA = CheckpointMetadata(
    trainer="FidelityTrainer",
    plans="plain",
    configuration="3d_fullres",
    fold="0",
    epoch=3,
    iteration=30,
    settings={"fidelity_weight": 1.0, "temperatures": [0.05, 0.2]},
    validation_mae=41.5,
)


def spec(dimensions: int = 3, block: str = "plain") -> NetworkSpec:
    one, two = (1,) * dimensions, (2,) * dimensions
    return NetworkSpec(
        in_channels=1,
        out_channels=1,
        features=(4, 8),
        strides=(one, two),
        kernel_sizes=((3,) * dimensions,) * 2,
        encoder_blocks=(1, 1),
        decoder_blocks=(1,),
        block=block,  # type: ignore[arg-type]
        norm="instance",
        residual_channel=None,
    )


@pytest.mark.parametrize("block", ["plain", "residual"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_checkpoint_rebuilds_its_network_by_itself(tmp_path, dimensions, block):
    torch.manual_seed(0)
    network = build_network(spec(dimensions, block)).eval()
    file = tmp_path / "checkpoint_best.safetensors"
    save_weights(file, network.state_dict(), network.spec, METADATA)
    checkpoint = load_weights(file)
    assert checkpoint.metadata == METADATA
    assert checkpoint.network == network.spec
    rebuilt = load_network(checkpoint)
    assert not rebuilt.training
    condition = torch.randn(1, 1, *(8,) * dimensions)
    torch.testing.assert_close(rebuilt(condition), network(condition), rtol=0, atol=0)


def test_weights_of_two_names_are_stored_once(tmp_path):
    network = build_network(spec())
    # Averaged weights are usually copies: the shared names must not double the file either.
    copies = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    save_weights(tmp_path / "a.safetensors", copies, network.spec, METADATA)
    unique = sum(parameter.numel() * 4 for parameter in network.parameters())
    assert unique < (tmp_path / "a.safetensors").stat().st_size < unique + 20_000
    assert set(load_weights(tmp_path / "a.safetensors").state_dict) == set(copies)


def test_the_names_of_named_parameters_are_enough(tmp_path):
    network = build_network(spec())
    averages = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    assert len(averages) < len(network.state_dict())
    save_weights(tmp_path / "a.safetensors", averages, network.spec, METADATA)
    loaded = load_weights(tmp_path / "a.safetensors").state_dict
    assert all(torch.equal(loaded[name], tensor) for name, tensor in network.state_dict().items())


def test_views_of_one_buffer_are_saved_whole_and_alone(tmp_path):
    network = build_network(spec())
    state = network.state_dict()
    flat = torch.cat([tensor.flatten() for tensor in state.values()])
    views, position = {}, 0
    for name, tensor in state.items():
        views[name] = flat[position : position + tensor.numel()].view(tensor.shape)
        position += tensor.numel()
    save_weights(tmp_path / "a.safetensors", views, network.spec, METADATA)
    loaded = load_weights(tmp_path / "a.safetensors").state_dict
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_the_header_is_json_that_a_person_can_read(tmp_path):
    network = build_network(spec())
    save_weights(tmp_path / "a.safetensors", network.state_dict(), network.spec, METADATA)
    with safe_open(str(tmp_path / "a.safetensors"), framework="pt") as file:
        header = json.loads(file.metadata()["gdmunet"])
    assert header["network"]["features"] == [4, 8]
    assert header["metadata"]["sampler"] == "one_step"


@pytest.mark.parametrize("kept", [0, 5, 200, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused(tmp_path, kept):
    network = build_network(spec())
    file = tmp_path / "a.safetensors"
    save_weights(file, network.state_dict(), network.spec, METADATA)
    data = file.read_bytes()
    file.write_bytes(data[: kept if isinstance(kept, int) else int(len(data) * kept)])
    with pytest.raises(GdmError, match=r"damaged[\s\S]*a\.safetensors[\s\S]*remedy"):
        load_weights(file)


def test_foreign_files_are_refused(tmp_path):
    file = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, str(file))
    with pytest.raises(GdmError, match="not a checkpoint of gdmunet"):
        load_weights(file)
    torch.save({"weight": torch.zeros(2)}, file)
    with pytest.raises(GdmError, match="not a checkpoint of gdmunet"):
        load_weights(file)
    with pytest.raises(GdmError, match="missing"):
        load_weights(tmp_path / "absent.safetensors")


def test_another_format_and_a_wrong_key_are_named(tmp_path):
    network = build_network(spec())
    file = tmp_path / "a.safetensors"
    save_weights(file, network.state_dict(), network.spec, METADATA)
    with safe_open(str(file), framework="pt") as opened:
        header = json.loads(opened.metadata()["gdmunet"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    save_file(tensors, str(file), metadata={"gdmunet": json.dumps({**header, "format": 99})})
    with pytest.raises(GdmError, match=r"newer version[\s\S]*format 99"):
        load_weights(file)
    header["network"]["featurs"] = header["network"].pop("features")
    save_file(tensors, str(file), metadata={"gdmunet": json.dumps(header)})
    with pytest.raises(GdmError, match="did you mean features"):
        load_weights(file)


def test_weights_of_another_network_are_refused(tmp_path):
    network = build_network(spec())
    with pytest.raises(GdmError, match="not those of the network"):
        save_weights(tmp_path / "a.safetensors", {"weight": torch.zeros(1)}, network.spec, METADATA)
    assert not (tmp_path / "a.safetensors").exists()


def test_a_full_disk_leaves_the_old_checkpoint_whole(tmp_path):
    network = build_network(spec())
    file = tmp_path / "a.safetensors"
    save_weights(file, network.state_dict(), network.spec, METADATA)
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(GdmError, match=r"cannot write a\.safetensors[\s\S]*too large[\s\S]*ulimit"):
            save_weights(file, build_network(spec()).state_dict(), network.spec, METADATA)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
