"""progress.png: the curves of a training; with an encoder also those of the drift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[dict[str, Any]]


def draw_progress(rows: Rows) -> Figure:
    """Losses, validation MAE, learning rate, seconds per epoch; four more panels once an encoder has joined."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here: drawing alone needs half a second of imports
    from matplotlib.figure import Figure

    drifting = any("cosine" in row for row in rows)
    rows_of_panels, height = (4, 14.0) if drifting else (2, 8.0)
    figure = Figure(figsize=(11, height))
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows_of_panels, 2)
    # Fixed margins (inches over the figure's size): a layout that is computed takes twice as long as the drawing.
    below = 1.1 if drifting else 0.55  # the legend below the last panel
    figure.subplots_adjust(
        0.065, below / height, 0.91 if drifting else 0.97, 1 - 0.35 / height, wspace=0.16, hspace=0.3
    )
    _draw_training(axes, rows)
    if drifting:
        _draw_drift(axes, rows)
    own_legend = axes[3, 1] if drifting else None
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        axis.set_xlabel("epoch")
        if axis is not own_legend and axis.get_legend_handles_labels()[1]:
            axis.legend(fontsize=6 if len(axis.lines) > 6 else 8, ncols=1 + len(axis.lines) // 8)
    return figure


def _draw_training(axes: Any, rows: Rows) -> None:
    # A drift's value is nearly constant and says nothing: it stays in the journal.
    for name in [name for name in _names(rows, "loss_") if not name.startswith("loss_drift_")]:
        _plot(axes[0, 0], rows, name, name.removeprefix("loss_"))
    axes[0, 0].set(title="training loss (network units)")
    unit = rows[0].get("unit", "")
    _plot(axes[0, 1], rows, "validation_mae", "validation MAE", alpha=0.5)
    _plot(axes[0, 1], rows, "validation_mae_ema", "its moving average")
    axes[0, 1].set(title=f"validation patches, body MAE ({unit})")
    _plot(axes[1, 0], rows, "learning_rate")
    axes[1, 0].set(title="learning rate")
    epochs = [row["epoch"] + 1 for row in rows]
    _plot(axes[1, 1], rows, "seconds", "epoch")
    axes[1, 1].plot(epochs, [row["wait_share"] * row["seconds"] for row in rows], label="waiting for patches")
    axes[1, 1].set(title="seconds", ylim=(0, None))


def _draw_drift(axes: Any, rows: Rows) -> None:
    for axis, prefix, title in (
        (axes[2, 0], "scale_", "mean distance of features (should fall, then stay)"),
        (axes[2, 1], "force_", "raw force, mean square (falls as the distributions meet)"),
        (axes[3, 0], "ess_", "effective sample size of the positives"),
    ):
        for name in _names(rows, prefix):
            level, _, temperature = name.removeprefix(prefix).rpartition("_")
            _plot(
                axis,
                rows,
                name,
                f"{level}, temperature {temperature}" if prefix != "scale_" else f"{level}_{temperature}",
            )
        axis.set(title=title)
        if axis.get_legend_handles_labels()[1]:
            axis.set_yscale("log")
    if any("frechet" in row for row in rows):
        _draw_distances(axes[2, 1], rows)
    _draw_gradients(axes[3, 1], rows)


def _draw_distances(axis: Axes, rows: Rows) -> None:
    """What is left to do under the field ``transport``, which has no force of its own to show."""
    _plot(axis, rows, "frechet", "mean of all token sets", color="black")
    for name in _names(rows, "frechet_"):
        _plot(axis, rows, name, name.removeprefix("frechet_"), alpha=0.5)
    axis.set(title="squared Frechet distance, share of the real variance (falls as the distributions meet)")
    axis.set_yscale("log")


def _draw_gradients(axis: Axes, rows: Rows) -> None:
    """Cosine and lambda on the left axis; the norms, orders of magnitude apart, on a logarithmic right one."""
    norms = axis.twinx()
    _plot(axis, rows, "cosine", "cosine of the gradients")
    _plot(axis, rows, "lambda", "lambda: fidelity's share of the step")
    _plot(norms, rows, "norm_fidelity", "norm of fidelity's gradient", color="tab:red", linestyle=":")
    _plot(norms, rows, "norm_features", "norm of the features' gradient", color="tab:purple", linestyle=":")
    norms.set_yscale("log")
    norms.set_ylabel("norms (dotted)")
    axis.set(title="gradients in the output space", ylim=(-1.05, 1.05))
    # One legend for both axes, below them: inside it would cover one of the lines.
    handles = [*axis.get_lines(), *norms.get_lines()]
    norms.legend(handles=handles, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)


def _names(rows: Rows, prefix: str) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row if key.startswith(prefix)))


def _plot(axis: Axes, rows: Rows, name: str, label: str | None = None, **style: Any) -> None:
    values: list[Any] = [row.get(name) for row in rows]
    axis.plot([row["epoch"] + 1 for row in rows], values, label=label, **style)
