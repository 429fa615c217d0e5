"""Pictures of a case."""

import matplotlib.image
import numpy as np
import pytest
from matplotlib.axes import Axes

from gdmunet.evaluation.report.pictures import ComparedVolumes, draw_comparison
from gdmunet.geometry import AxisMap, Geometry

SHAPE = (10, 12, 14)


def volumes(geometry=None, **changes):
    random = np.random.default_rng(0)
    target = random.normal(0, 100, SHAPE).astype(np.float32)
    mask = np.zeros(SHAPE, bool)
    mask[2:8, 3:9, 4:10] = True
    fields = {
        "condition": target + 30,
        "prediction": target + 10,
        "target": target,
        "mask": mask,
        "geometry": geometry or Geometry(SHAPE, (3.0, 1.0, 1.0)),
        "comparable": True,
    }
    return ComparedVolumes(**{**fields, **changes})


class Cuts(list):
    """What was drawn: (array, arguments) of every imshow."""

    def __init__(self, monkeypatch):
        super().__init__()
        draw = Axes.imshow

        def imshow(axes, array, **arguments):
            self.append((array, arguments, axes.get_title()))
            return draw(axes, array, **arguments)

        monkeypatch.setattr(Axes, "imshow", imshow)


def test_the_picture_is_a_png_of_twelve_panels(tmp_path, monkeypatch):
    cuts = Cuts(monkeypatch)
    file = draw_comparison(tmp_path / "new" / "case.png", volumes(), "case")
    assert matplotlib.image.imread(file).shape[0] > 500
    assert len(cuts) == 12
    assert [cut[0].shape for cut in cuts[:3]] == [(12, 14), (10, 14), (10, 12)]


def test_titles_give_the_error_inside_the_mask(tmp_path, monkeypatch):
    seen = []
    original = Axes.set_title
    monkeypatch.setattr(Axes, "set_title", lambda axes, text, **_: seen.append(text) or original(axes, text))
    given = volumes()
    given.prediction[~given.mask] += 1000
    draw_comparison(tmp_path / "a.png", given, "case")
    assert seen == ["condition\nMAE 30.0 HU", "prediction\nMAE 10.0 HU", "target", "prediction - target"]
    seen.clear()
    draw_comparison(tmp_path / "b.png", volumes(comparable=False), "case")
    assert seen[0] == "condition"


def test_the_error_is_signed_and_its_colours_are_symmetric(tmp_path, monkeypatch):
    cuts = Cuts(monkeypatch)
    draw_comparison(tmp_path / "a.png", volumes(), "case")
    array, arguments, _ = cuts[9]
    assert array.max() == pytest.approx(10, abs=1e-3)
    assert array.min() == 0
    assert arguments["vmin"] == -arguments["vmax"]


def test_pixels_keep_their_proportions(tmp_path, monkeypatch):
    cuts = Cuts(monkeypatch)
    draw_comparison(tmp_path / "a.png", volumes(), "case")
    assert [cut[1]["aspect"] for cut in cuts[:3]] == [1.0, 3.0, 3.0]


def test_every_file_orientation_gives_the_same_picture(tmp_path, monkeypatch):
    cuts = Cuts(monkeypatch)
    given = volumes()
    draw_comparison(tmp_path / "a.png", given, "case")
    straight = [cut[0] for cut in cuts]
    cuts.clear()
    turn = AxisMap((2, 0, 1), (True, False, True))
    fields = ("condition", "prediction", "target", "mask")
    turned = volumes(turn.apply_to_geometry(given.geometry), **{f: turn.apply(getattr(given, f)) for f in fields})
    draw_comparison(tmp_path / "b.png", turned, "case")
    # Between two middle voxels either may be taken, so compare what does not depend on that choice.
    assert [cut[0].shape for cut in cuts] == [cut.shape for cut in straight]
    canonical = turn.inverse().apply(turned.target)
    for cut, axis in zip([cut[0] for cut in cuts[6:9]], range(3), strict=True):
        assert any(np.array_equal(cut, np.take(canonical, k, axis=axis)) for k in range(SHAPE[axis]))
