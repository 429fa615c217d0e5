"""A module of 3D Slicer: predict a loaded volume with a trained model of gdmunet, and load the result.

gdmunet runs in its own environment, as the command ``gdm_predict``; Slicer's Python needs none of its packages.
"""

from __future__ import annotations

import queue
import shlex
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleWidget,
)

CASE = "case"
_ENDING = ".nii.gz"
# Lines of a failed command that the message repeats, and seconds between two looks at the window.
_LAST_LINES, _LOOK = 12, 0.1


class PredictionError(RuntimeError):
    """The command could not be started, or failed; the text is what it said last."""


class CancelledError(RuntimeError):
    """The user stopped the prediction."""


@dataclass(frozen=True)
class PredictionOptions:
    """Options of one prediction.

    Attributes
    ----------
    model
        Folder of the trained model, the one that holds plans.json.
    program
        Command that predicts, such as ``gdm_predict``, a path, or ``conda run -n gdm gdm_predict``.
    device
        ``cuda``, ``cpu``, or empty for the best that is there.
    """

    model: str
    program: str = "gdm_predict"
    device: str = ""


class GdmPredict(ScriptedLoadableModule):
    """The entry in Slicer's list of modules."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        parent.title = "gdmunet: predict"
        parent.categories = ["Image Synthesis"]
        parent.dependencies = []
        parent.contributors = ["gdmunet contributors"]
        parent.helpText = (
            "Predicts a volume, such as a synthetic CT of an MR, with a trained model of gdmunet. gdmunet must be "
            "installed in an environment of its own. Not a medical device."
        )
        parent.acknowledgementText = "gdmunet, Apache-2.0."


class GdmPredictWidget(ScriptedLoadableModuleWidget):
    """The panel: volumes of the channels, model, command, device, and a button that becomes Cancel."""

    def setup(self) -> None:
        """Make the panel."""
        import ctk
        import qt

        super().setup()
        self.logic = GdmPredictLogic()
        self.cancelled = False
        form = qt.QFormLayout()
        self.layout.addLayout(form)
        self.channels = [self._volume_selector("condition") for _ in range(4)]
        for number, selector in enumerate(self.channels):
            form.addRow("Volume:" if number == 0 else f"Channel {number} (if the model has it):", selector)
        self.mask = self._volume_selector("body mask")
        form.addRow("Body mask (may be empty):", self.mask)
        self.model = ctk.ctkPathLineEdit()
        self.model.filters = ctk.ctkPathLineEdit.Dirs
        self.model.settingKey = "GdmPredict/model"
        form.addRow("Model folder:", self.model)
        self.program = qt.QLineEdit(qt.QSettings().value("GdmPredict/program") or "gdm_predict")
        self.program.toolTip = "gdm_predict, its path, or a command that runs it in its environment"
        form.addRow("Command:", self.program)
        self.device = qt.QComboBox()
        self.device.addItems(["best there is", "cuda", "cpu"])
        form.addRow("Device:", self.device)
        self.button = qt.QPushButton("Predict")
        self.button.connect("clicked(bool)", self.on_button)
        form.addRow(self.button)
        self.bar = qt.QProgressBar()
        self.bar.setRange(0, 0)  # busy, until the command ends
        self.bar.visible = False
        form.addRow(self.bar)
        self.status = qt.QLabel("")
        self.status.wordWrap = True
        form.addRow(self.status)
        self.layout.addStretch(1)
        self.running = False

    def on_button(self, _checked: bool = False) -> None:
        """Predict, or stop what runs."""
        import qt

        if self.running:
            self.cancelled = True
            return
        qt.QSettings().setValue("GdmPredict/program", self.program.text)
        self.model.addCurrentPathToHistory()
        device = "" if self.device.currentIndex == 0 else self.device.currentText
        options = PredictionOptions(self.model.currentPath, self.program.text, device)
        volumes = [selector.currentNode() for selector in self.channels if selector.currentNode()]
        self._show_running(True)
        try:
            self.logic.predict(volumes, options, self.mask.currentNode(), self._say, lambda: self.cancelled)
            self.status.text = "done"
        except CancelledError:
            self.status.text = "stopped"
        except PredictionError as error:
            slicer.util.errorDisplay(str(error), windowTitle="gdmunet")
            self.status.text = "failed"
        finally:
            self._show_running(False)

    def _show_running(self, running: bool) -> None:
        self.running, self.cancelled = running, False
        self.bar.visible = running
        self.button.text = "Cancel" if running else "Predict"

    def _say(self, line: str) -> None:
        self.status.text = line

    def _volume_selector(self, purpose: str) -> Any:
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode", "vtkMRMLLabelMapVolumeNode"]
        selector.addEnabled = selector.removeEnabled = False
        selector.noneEnabled = True
        selector.toolTip = purpose
        selector.setMRMLScene(slicer.mrmlScene)
        return selector


class GdmPredictLogic(ScriptedLoadableModuleLogic):
    """Predicting without a panel: also for scripts in Slicer's Python console."""

    def predict(
        self,
        volumes: Sequence[Any],
        options: PredictionOptions,
        mask: Any = None,
        say: Callable[[str], None] = lambda _line: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Any:
        """Predict loaded volumes, one for each channel, and load the result; gives its node.

        Raises
        ------
        PredictionError
            No volume or model, or the command failed: the text holds its last lines.
        CancelledError
            `cancelled` said so.
        """
        if not volumes:
            raise PredictionError("choose a volume")
        if not (Path(options.model) / "plans.json").is_file():
            raise PredictionError(f"{options.model or 'the folder'} is not a model: it must hold plans.json")
        with tempfile.TemporaryDirectory(prefix="gdm-slicer-") as folder:
            inputs, masks, outputs = (Path(folder) / name for name in ("images", "masks", "predicted"))
            for channel, node in enumerate(volumes):
                _export(node, inputs / f"{CASE}_{channel:04d}{_ENDING}")
            if mask is not None:
                _export(mask, masks / f"{CASE}{_ENDING}")
            words = command_line(inputs, outputs, options, masks if mask is not None else None)
            run(words, say, cancelled)
            made = sorted(outputs.glob(f"{CASE}.*"))
            if not made:
                raise PredictionError("the command ended without a prediction")
            result = slicer.util.loadVolume(str(made[0]), {"name": f"{volumes[0].GetName()} predicted"})
            # Read into memory before its file goes.
            slicer.util.setSliceViewerLayers(background=result)
            return result


def command_line(inputs: Path, outputs: Path, options: PredictionOptions, masks: Path | None = None) -> list[str]:
    """The words of the command: a folder with one case in, a folder with its prediction out."""
    words = [*shlex.split(options.program), "-i", str(inputs), "-o", str(outputs), "-m", str(options.model)]
    words += ["--mask", str(masks)] if masks is not None else []
    words += ["-device", options.device] if options.device else []
    return words


def run(words: Sequence[str], say: Callable[[str], None], cancelled: Callable[[], bool]) -> None:
    """Run a command while Slicer's window stays alive; each line that it prints is said as it comes.

    Raises
    ------
    PredictionError
        The command cannot be started, or failed.
    CancelledError
        `cancelled` said so, and the command was ended.
    """
    try:
        # Slicer's own libraries would be found before those of another Python.
        process = subprocess.Popen(
            list(words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
            errors="replace", env=slicer.util.startupEnvironment(),
        )  # fmt: skip
    except OSError as error:
        raise PredictionError(f"{words[0]} cannot be started: {error}. Give its path as the command.") from error
    lines: queue.Queue[str] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
    reader.start()
    said: list[str] = []
    while reader.is_alive() or not lines.empty():
        slicer.app.processEvents()
        if cancelled():
            process.terminate()
            process.wait()
            reader.join()
            raise CancelledError("stopped")
        try:
            line = lines.get(timeout=_LOOK)
        except queue.Empty:
            continue
        if line.strip():
            said.append(line)
            say(line)
    if process.wait() != 0:
        raise PredictionError("\n".join(said[-_LAST_LINES:]) or f"{words[0]} ended with status {process.returncode}")


def _read(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    assert process.stdout is not None
    with process.stdout as stream:
        for line in stream:
            lines.put(line.rstrip())


def _export(node: Any, file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    if not slicer.util.saveNode(node, str(file)):
        raise PredictionError(f"{node.GetName()} cannot be saved as NIfTI")
