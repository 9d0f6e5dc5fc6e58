"""A model drawn: measured against expected, what is left over, and how sure it is.

Small drawings with words, each a whole SVG of its own that is dark on light and
light on dark as its reader wishes; a page or a file lays them out.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.instruments import logarithmic
from calibration.model import Model, expect
from calibration.registry import Record, Role
from twin.points import EXPECTED, unit_of
from twin.service.web import field as say
from twin.service.web.rendering import environment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

MOST_DRAWN = 600
"""Most windows in one drawing; more only hide one another."""
_95 = 1.96
# Drawn in these, which are then named, so that the reader's scheme decides.
_INK, _SOFT, _GRID, _DOT, _BAD = "#000001", "#000002", "#000003", "#000004", "#000005"
_PAPER = "#000006"
_LIGHT = dict(
    zip(
        (_INK, _SOFT, _GRID, _DOT, _BAD, _PAPER),
        ("#1d2528", "#5d696d", "#dedcd3", "#1f7390", "#ad2f24", "#fffefb"),
        strict=True,
    )
)
_DARK = dict(
    zip(
        _LIGHT,
        ("#e4e9e8", "#98a5a9", "#2c373c", "#6dc0da", "#f08a7d", "#182024"),
        strict=True,
    )
)


@dataclass(frozen=True, slots=True)
class Drawing:
    """A drawing, what it belongs to, and what it says in words."""

    group: str
    title: str
    words: str
    svg: str

    @property
    def data(self) -> str:
        """Return it as an address that needs nobody to answer it."""
        return "data:image/svg+xml;base64," + base64.b64encode(
            self.svg.encode()
        ).decode("ascii")


def of_fit(model: Model, windows: pd.DataFrame) -> list[Drawing]:
    """Draw each output's fit, and its residuals over load, lift and time.

    Parameters
    ----------
    model : Model
        A reference or a current model.
    windows : DataFrame
        Windows of :func:`calibration.steady.windows`; the steady ones are drawn,
        at most :data:`MOST_DRAWN` of them, evenly chosen.

    Returns
    -------
    list of Drawing
        Four by output, one of an exchanger's; none of an output that the windows
        do not have.
    """
    steady = windows[windows["steady"].astype(bool)]
    expected = expect(steady, model)
    found: list[Drawing] = []
    for name in model.outputs:
        if name not in steady or f"{EXPECTED}{name}" not in expected:
            continue
        measured = steady[name].to_numpy(dtype=float)
        said = expected[f"{EXPECTED}{name}"].to_numpy(dtype=float)
        known = np.isfinite(measured) & np.isfinite(said)
        if known.any():
            found += _output(model, name, steady[known], measured[known], said[known])
    return found


def _output(
    model: Model, name: str, windows: pd.DataFrame, measured: Array, said: Array
) -> list[Drawing]:
    relative = logarithmic(name) or name.endswith("_w_k")
    rest = 100.0 * (measured / said - 1.0) if relative else measured - said
    unit = "%" if relative else "K"
    band = _95 * model.scatter.get(name, float("nan")) * (100.0 if relative else 1.0)
    label = say.label(name)
    group = label
    some = np.unique(
        np.linspace(0, len(rest) - 1, min(MOST_DRAWN, len(rest))).astype(int)
    )
    inside = float(np.mean(np.abs(rest) <= band)) if np.isfinite(band) else None
    words = f"{len(rest):,} steady windows, median {np.median(rest):+.2g} {unit}"
    if inside is not None:
        words += f"; {inside:.0%} within the band of ±{band:.2g} {unit}"
    factor, field_unit, _ = say.field_unit(unit_of(name))
    figure, axes = _axes(
        f"expected / {field_unit}" if field_unit else "expected",
        f"measured / {field_unit}" if field_unit else "measured",
    )
    x, y = said[some] * factor, measured[some] * factor
    ends = np.array([min(x.min(), y.min()), max(x.max(), y.max())])
    ends += np.array([-0.04, 0.04]) * max(float(np.ptp(ends)), 1e-9)
    if np.isfinite(band):
        width = np.abs(ends) * band / 100.0 if relative else np.full(2, band) * factor
        axes.fill_between(
            ends, ends - width, ends + width, color=_DOT, alpha=0.14, lw=0
        )
    axes.plot(ends, ends, color=_SOFT, linewidth=0.8)
    _dots(axes, x, y)
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    found = [Drawing(group, "Measured against expected", words, _svg(figure))]
    for title, axis, values in _against(windows):
        figure, axes = _axes(axis, f"measured − expected / {unit}")
        if np.isfinite(band):
            axes.axhspan(-band, band, color=_DOT, alpha=0.14, linewidth=0)
        axes.axhline(0.0, color=_SOFT, linewidth=0.8)
        _dots(axes, values[some], rest[some])
        if axis == "":
            _dates(axes)
        found.append(Drawing(group, title, "", _svg(figure)))
    return found


def _against(windows: pd.DataFrame) -> list[tuple[str, str, Array]]:
    """Return what residuals are drawn over: title, axis, values."""
    found: list[tuple[str, str, Array]] = []
    load = next((n for n in ("sink_heat_w", "source_heat_w") if n in windows), None)
    if load is not None and windows[load].notna().any():
        heat = windows[load].to_numpy(dtype=float) / 1e3
        found.append(("Residual over load", f"{say.label(load)} / kW", heat))
    outlets = ("sink_outlet_temp_degc", "source_outlet_temp_degc")
    if all(name in windows and windows[name].notna().any() for name in outlets):
        lift = (windows[outlets[0]] - windows[outlets[1]]).to_numpy(dtype=float)
        found.append(("Residual over lift", "lift between the outlets / K", lift))
    days = pd.DatetimeIndex(windows.index).as_unit("ns").asi8 / 86400e9
    found.append(("Residual over time", "", days))
    return found


def of_parameters(model: Model) -> list[Drawing]:
    """Draw how far each parameter was known before the data, and after.

    Parameters
    ----------
    model : Model
        One whose parameters were fitted.

    Returns
    -------
    list of Drawing
        One, or none where nothing was fitted.
    """
    from matplotlib.ticker import LogLocator

    rows = [
        (name, abs(_95 * model.errors[name] / model.values[name]))  # noqa: PD011
        for name in model.free
        if np.isfinite(model.errors[name]) and model.values[name]  # noqa: PD011
    ]
    if not rows:
        return []
    figure, axes = _axes("half of the 95 % interval / % of the value", "")
    height = 0.6 + 0.3 * len(rows)
    figure.set_size_inches(3.4, height)
    figure.subplots_adjust(left=0.03, right=0.97, bottom=0.5 / height, top=0.99)
    for row, (name, after) in enumerate(rows):
        here = len(rows) - 1 - row
        share = model.informed.get(name)
        if share:
            axes.plot(
                [100.0 * after, 100.0 * after / share],
                [here, here],
                color=_DOT,
                linewidth=1.2,
                alpha=0.5,
            )
            axes.plot(
                100.0 * after / share,
                here,
                "o",
                markersize=5,
                markerfacecolor=_PAPER,
                markeredgecolor=_DOT,
            )
        axes.plot(100.0 * after, here, "o", markersize=5, color=_DOT)
        axes.text(
            0.0,
            here + 0.2,
            say.label(name),
            transform=axes.get_yaxis_transform(),
            fontsize=7.5,
            color=_INK,
        )
    axes.set_xscale("log", subs=[])
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.set_ylim(-0.5, len(rows) - 0.2)
    axes.set_yticks([])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    words = "Ring: before any data. Dot: after. The further apart, the more was learnt."
    return [Drawing("Parameters", "How sure they are", words, _svg(figure))]


def of_versions(records: Iterable[Record]) -> list[Drawing]:
    """Draw each degradation as one recalibration after the other saw it.

    Parameters
    ----------
    records : iterable of Record
        All of one unit; those of its current models are drawn, a rejected one
        hollow, one that came to no fit as a cross at the foot.

    Returns
    -------
    list of Drawing
        One by component that is tracked.
    """
    current = [one for one in records if one.role is Role.CURRENT]
    seen = {
        name for record in current for name in dict(record.model).get("degradation", {})
    }
    found = []
    for name in sorted(seen):
        figure, axes = _axes("", "% of commissioned")
        axes.axhline(100.0, color=_SOFT, linewidth=0.8)
        lowest: list[float] = [100.0]
        without: list[float] = []
        for record in current:
            day = record.created.timestamp() / 86400.0
            told = dict(record.model).get("degradation", {}).get(name)
            if told is None:
                without.append(day)
                continue
            value, low, high = (100.0 * float(x) for x in told)
            lowest.append(low)
            colour = _DOT if record.accepted else _BAD
            axes.plot([day, day], [low, high], color=colour, linewidth=1.1)
            axes.plot(
                day,
                value,
                "o",
                markersize=4.5,
                markeredgecolor=colour,
                markerfacecolor=colour if record.accepted else _PAPER,
            )
        axes.plot(without, [min(lowest)] * len(without), "x", color=_BAD, markersize=5)
        _dates(axes)
        kept = sum(record.accepted for record in current)
        words = (
            f"{kept} of {len(current)} accepted; hollow was rejected, bars are 95 %."
        )
        if without:
            words += " A cross came to no fit."
        found.append(Drawing("Degradation", say.label(name), words, _svg(figure)))
    return found


def grouped(drawings: Sequence[Drawing]) -> list[tuple[str, list[tuple[int, Drawing]]]]:
    """Return drawings by their group, each with its number among all."""
    groups: dict[str, list[tuple[int, Drawing]]] = {}
    for number, drawing in enumerate(drawings):
        groups.setdefault(drawing.group, []).append((number, drawing))
    return list(groups.items())


def document(shown: dict[str, object], drawings: Sequence[Drawing]) -> str:
    """Return a model as one HTML page that needs nothing beside itself.

    Parameters
    ----------
    shown : dict
        Of :func:`twin.service.models.shown`.
    drawings : sequence of Drawing
        What is drawn of it.

    Returns
    -------
    str
        The page.
    """
    return (
        environment()
        .get_template("model_file.html")
        .render(
            shown=shown,
            groups=grouped(drawings),
            say=say,
            address=lambda _, drawing: drawing.data,
            style=(Path(__file__).parent / "static" / "style.css").read_text(
                encoding="utf-8"
            ),
        )
    )


def _dots(axes: Axes, x: Array, y: Array) -> None:
    """Draw dots as one path of round ends, a fifth of as many marks' bytes."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    at = np.column_stack([x, y])
    codes = np.tile([Outline.MOVETO, Outline.LINETO], len(at))
    outline = Outline(np.repeat(at, 2, axis=0), codes)
    outline.should_simplify = False  # a line of no length is a dot here
    dots = PathPatch(
        outline,
        fill=False,
        edgecolor=_DOT,
        linewidth=2.2,
        capstyle="round",
        alpha=0.6,
    )
    dots.set_snap(False)
    axes.add_patch(dots)
    axes.update_datalim(at)
    axes.autoscale_view()


def _dates(axes: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    where = AutoDateLocator(minticks=2, maxticks=5)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(where)
    said = ConciseDateFormatter(where)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(said)


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4, 2.5))
    # Solving for the margins would take longer than all the rest.
    figure.subplots_adjust(left=0.19, right=0.97, bottom=0.19, top=0.97)
    figure.patch.set_visible(False)
    axes = figure.subplots()
    axes.patch.set_visible(False)
    axes.set_xlabel(x, fontsize=8, color=_SOFT)
    axes.set_ylabel(y, fontsize=8, color=_SOFT)
    axes.tick_params(labelsize=8, colors=_SOFT, length=0)
    axes.grid(visible=True, color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.locator_params(nbins=5)
    axes.spines[:].set_visible(False)
    return figure, axes


def _svg(figure: Figure) -> str:
    import matplotlib as mpl

    written = io.StringIO()
    # Text stays text; names inside the file are random without a salt.
    with mpl.rc_context({"svg.hashsalt": "hptwin", "svg.fonttype": "none"}):
        figure.savefig(written, format="svg", metadata={"Date": None})
    text = written.getvalue()
    text = text[text.index("<svg ") :]
    names = {colour: f"--c{number}" for number, colour in enumerate(_LIGHT)}

    def scheme(colours: dict[str, str]) -> str:
        return ";".join(f"{names[c]}:{said}" for c, said in colours.items())

    for colour, name in names.items():
        text = text.replace(colour, f"var({name})")
    text = text.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans'")
    style = (
        f"<style>:root{{{scheme(_LIGHT)}}}"
        f"@media(prefers-color-scheme:dark){{:root{{{scheme(_DARK)}}}}}</style>"
    )
    head = text.index(">") + 1
    return text[:head] + style + text[head:]
