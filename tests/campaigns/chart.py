"""A long run drawn: memory, descriptors and lag over time, faults behind them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from . import looks

_INK, _FAULT, _LINE, _LIGHT = "#7f7f7f", "#e8a33d", "#2b83ba", "#d7604f"
# Stamps are whole seconds, so that less says nothing. [s]
_LEAST_S = 0.1


def draw(rows: Sequence[looks.Row], faults: Sequence[looks.Row], path: Path) -> None:
    """Draw a run as an SVG without a background, a date or a random name.

    Readable on white and on black; the same rows give the same bytes.

    Parameters
    ----------
    rows, faults : sequence of dict
        As :func:`looks.read` gives them.
    path : Path
        The file.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style = {
        "svg.hashsalt": "hptwin",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 9,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(9, 7.2), layout="constrained")
        axes = figure.subplots(3, 1, sharex=True, height_ratios=(1.2, 0.8, 1.4))
        at = [row["t"] / 60 for row in rows]
        for name, colour, said in (
            ("rss_mb", _LINE, "resident"),
            ("anon_mb", _LIGHT, "of it not from files"),
        ):
            axes[0].plot(at, [row[name] for row in rows], colour, lw=1.4, label=said)
        axes[0].set_ylabel("memory [MB]")
        axes[0].margins(y=0.25)
        axes[0].legend(frameon=False, loc="center left", ncols=2)
        axes[1].plot(at, [row["fds"] for row in rows], _LINE, lw=1.4, label="files")
        axes[1].plot(
            at, [row["threads"] for row in rows], _LIGHT, lw=1.4, label="threads"
        )
        axes[1].set_ylabel("open")
        axes[1].set_ylim(0, 1.6 * max(max(r["fds"], r["threads"]) for r in rows))
        axes[1].legend(frameon=False, loc="upper left", ncols=2)
        seen = looks.lags(rows)
        axes[2].plot(
            [moment / 60 for moment, _ in seen],
            [max(lag, _LEAST_S) for _, lag in seen],
            color=_LINE,
            lw=1.0,
        )
        axes[2].set_yscale("log")
        axes[2].set_ylim(_LEAST_S, 100 * max(1.0, max(lag for _, lag in seen)))
        axes[2].set_ylabel("age of the newest\nstored reading [s]")
        axes[2].set_xlabel("time [min]")
        axes[2].set_xlim(0, at[-1])
        for axis in axes:
            axis.patch.set_alpha(0)
            axis.grid(color=_INK, alpha=0.25, lw=0.5)
            axis.spines[["top", "right"]].set_visible(False)
            for each in faults:
                over = at[-1] * 60 if each["ended"] is None else each["ended"]
                axis.axvspan(
                    each["began"] / 60,
                    max(over, each["began"] + 6) / 60,
                    color=_FAULT,
                    alpha=0.35,
                    lw=0,
                )
        for each in faults:
            axes[2].annotate(
                each["fault"],
                (each["began"] / 60, 0.97),
                xycoords=("data", "axes fraction"),
                rotation=90,
                va="top",
                ha="left",
                fontsize=7,
            )
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})
