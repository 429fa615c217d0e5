"""The precision of a training: float32 is float32."""

import pytest
import torch
from short_trainers import batch_for, loop_of

from gdmunet.inference.sliding_window import predict_volume
from gdmunet.training.loop.validation import patch_mae
from gdmunet.training.trainers.fidelity import FidelityTrainer


def tf32() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


class Watched(FidelityTrainer):
    """Remembers whether TF32 was allowed in the forward and the backward pass."""

    precision = "float32"
    validation_patches = 2

    def loss_terms(self, batch, prediction):
        self.seen = [tf32()]
        prediction.register_hook(lambda _: self.seen.append(tf32()))
        return super().loss_terms(batch, prediction)


@pytest.mark.usefixtures("tf32_on")
def test_training_and_prediction_in_float32_do_without_tf32(toy):
    loop = loop_of(toy, Watched)
    loop.train_step([batch_for(loop)])
    assert loop.trainer.seen == [(False, False)] * 2
    seen = []

    def network(windows):
        seen.append(tf32())
        return windows

    predict_volume(network, torch.zeros(1, 8, 8, 8), (8, 8, 8))
    loop.state.network.register_forward_pre_hook(lambda *_: seen.append(tf32()))
    patch_mae(loop.trainer, loop.state, loop.data)
    assert set(seen) == {(False, False)}
    assert tf32() == (True, True)
