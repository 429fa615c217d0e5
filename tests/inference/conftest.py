"""Fixtures of the tests of prediction."""

from pathlib import Path

import numpy as np
import pytest
from prediction_samples import make_head, make_model


@pytest.fixture
def head() -> np.ndarray:
    return make_head()


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    return make_model(tmp_path / "results")
