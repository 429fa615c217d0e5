"""Which encoder planning takes: named ones, what is at hand, what may be fetched, and the built-in one."""

import pytest
import torch
from published_layouts import write_published

from gdmunet.encoders import choice
from gdmunet.encoders.base import FrozenEncoder
from gdmunet.encoders.choice import EncoderOptions, choose_encoder
from gdmunet.encoders.download import DownloadOptions
from gdmunet.encoders.loading import fetch_weights, load_encoder
from gdmunet.encoders.registry import BUILT_IN, FAMILIES, ranked_families
from gdmunet.errors import GdmError
from gdmunet.plans import EncoderLevel

BEST_FOR_CT = "medvae-4x-3d"


class StandIn(FrozenEncoder):
    """In place of the built-in encoder, whose weights other tests look at."""

    def __init__(self, units, dimensions):
        super().__init__((EncoderLevel("only", 1, (1,) * dimensions),), units, dimensions=dimensions)
        self.weight = torch.nn.Parameter(torch.ones(1))

    def scale(self, raw):
        return raw

    def features(self, volume):
        return [volume * self.weight]


@pytest.fixture(autouse=True)
def _mini(monkeypatch):
    import gdmunet.encoders.mini as mini

    def build(_file, units, dimensions, _trust):
        return StandIn(units, dimensions)

    monkeypatch.setattr(mini, "build_random_filters", build)


def choose(hub, units, cache, spec="auto", **options):
    dimensions = options.pop("dimensions", 3)
    options = {"allow_download": True, "download": DownloadOptions(hub.url, show_progress=False), **options}
    return choose_encoder(spec, units, dimensions, EncoderOptions(cache, **options))


def publish(hub, family, tmp_path):
    """Put the weights of a family on the hub."""
    file = write_published(family, tmp_path, narrow=True)
    source = FAMILIES[family].source
    hub.files[source.url(hub="")] = file.read_bytes()
    return file


def test_auto_fetches_the_best_and_says_so_before(hub, ct_units, tmp_path, capsys):
    publish(hub, BEST_FOR_CT, tmp_path)
    chosen = choose(hub, ct_units, tmp_path / "cache")
    assert "downloaded" in chosen.because
    assert chosen.spec.spec == BEST_FOR_CT
    assert "downloading 644 MB once" in capsys.readouterr().err
    load_encoder(chosen.spec, ct_units, tmp_path / "cache")


def test_auto_takes_what_is_at_hand_and_fetches_nothing(hub, mr_units, tmp_path):
    cache = tmp_path / "cache" / "medvae-8x-3d"
    cache.mkdir(parents=True)
    write_published("medvae-8x-3d", tmp_path, narrow=True).rename(cache / "vae_8x_1c_3D.ckpt")
    chosen = choose(hub, mr_units, tmp_path / "cache")
    assert chosen.spec.spec == "medvae-8x-3d"
    assert "at hand" in chosen.because
    assert hub.requests == []


def test_auto_without_network_is_the_built_in_one_and_says_why(hub, ct_units, tmp_path):
    hub.close()
    chosen = choose(hub, ct_units, tmp_path)
    assert chosen.spec.spec == BUILT_IN
    assert "could not be downloaded" in chosen.because
    assert "gdm_download_encoder" in chosen.because
    assert "\n" not in chosen.because


def test_auto_tries_the_network_at_most_once(ct_units, hub, tmp_path, monkeypatch):
    tried = []

    def refuse(family, *_, **__):
        tried.append(family.name)
        raise GdmError("no network")

    monkeypatch.setattr(choice, "fetch_weights", refuse)
    assert choose(hub, ct_units, tmp_path).spec.spec == BUILT_IN
    assert tried == [BEST_FOR_CT]


def test_auto_with_downloads_off_asks_nothing_and_names_the_command(hub, ct_units, tmp_path):
    chosen = choose(hub, ct_units, tmp_path, allow_download=False)
    assert chosen.spec.spec == BUILT_IN
    assert f"gdm_download_encoder {BEST_FOR_CT}" in chosen.because
    assert hub.requests == []


def test_auto_in_2d_is_the_built_in_one(hub, ct_units, tmp_path):
    chosen = choose(hub, ct_units, tmp_path, dimensions=2)
    assert chosen.spec.spec == BUILT_IN
    assert chosen.spec.dimensions == 2
    assert hub.requests == []


def test_auto_without_any_encoder_of_the_dimension_is_none(hub, ct_units, tmp_path, monkeypatch):
    family = FAMILIES[BUILT_IN]
    monkeypatch.setitem(FAMILIES, BUILT_IN, type(family)(**{**vars(family), "dimensions": (3,)}))
    chosen = choose(hub, ct_units, tmp_path, dimensions=2)
    assert chosen.spec is None
    assert chosen.because.startswith("no encoder")


def test_only_targets_in_hounsfield_units_get_a_ct_encoder():
    assert "ct-fm" in [family.name for family in ranked_families("CBCT", 3)]
    assert "ct-fm" not in [family.name for family in ranked_families("T1", 3)]
    assert ranked_families("CT", 2) == ()


def test_a_named_encoder_is_fetched(hub, ct_units, tmp_path):
    publish(hub, "ct-fm", tmp_path)
    assert choose(hub, ct_units, tmp_path / "cache", "ct-fm").spec.spec == "ct-fm"


def test_a_named_encoder_without_network_is_an_error_with_the_command(hub, ct_units, tmp_path):
    with pytest.raises(GdmError, match="gdm_download_encoder ct-fm"):
        choose(hub, ct_units, tmp_path, "ct-fm", allow_download=False)
    with pytest.raises(GdmError, match=r"curl -L -o model\.safetensors"):
        choose(hub, ct_units, tmp_path, "ct-fm")


def test_a_given_file_is_used_where_it_lies(hub, ct_units, tmp_path):
    file = write_published("ct-fm", tmp_path, narrow=True)
    spec = choose(hub, ct_units, tmp_path, "ct-fm", file=file, allow_download=False).spec
    assert spec.file == str(file)
    assert hub.requests == []
    load_encoder(spec, ct_units, tmp_path / "elsewhere")
    file.unlink()
    with pytest.raises(GdmError, match="missing"):
        load_encoder(spec, ct_units, tmp_path)


def test_a_given_file_needs_a_name(hub, ct_units, tmp_path):
    with pytest.raises(GdmError, match="needs the name of the encoder"):
        choose(hub, ct_units, tmp_path, file=tmp_path / "x.ckpt")


def test_a_planned_encoder_whose_cache_was_emptied_says_how_to_fill_it(hub, ct_units, tmp_path):
    publish(hub, "ct-fm", tmp_path)
    spec = choose(hub, ct_units, tmp_path / "cache", "ct-fm").spec
    with pytest.raises(GdmError, match="gdm_download_encoder ct-fm"):
        load_encoder(spec, ct_units, tmp_path / "empty")
    assert len(hub.requests) == 1  # loading never fetches


def test_downloaded_weights_that_changed_are_refused_by_auto_too(hub, ct_units, tmp_path):
    file = publish(hub, "ct-fm", tmp_path)
    choose(hub, ct_units, tmp_path / "cache", "ct-fm")
    cached = tmp_path / "cache" / "ct-fm" / "model.safetensors"
    cached.write_bytes(file.read_bytes()[:-4] + b"abcd")
    with pytest.raises(GdmError, match="not the expected ones"):
        choose(hub, ct_units, tmp_path / "cache", allow_download=False)


def test_what_is_not_downloaded_says_how_it_is_used(tmp_path):
    with pytest.raises(GdmError, match="nnunet:MODEL_FOLDER"):
        fetch_weights(FAMILIES["nnunet"], tmp_path)
