"""The figure of the spike sorting, itself the result of a task."""

import io

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from spike_recording import PROBE, RATE
from spike_steps import BEFORE, MARGIN, NEAR

import kachery

SHOWN = slice(MARGIN + RATE, MARGIN + RATE + RATE // 8)  # of the first chunk: an eighth of a second


@kachery.task
def draw(*, chunk, points, labels, trains, templates, matches):
    """The figure as a PNG file: its URI."""
    order = sorted(templates, key=lambda unit: templates[unit].min(axis=0).argmin())
    colors = dict(zip(order, colormaps["tab10"].colors * 2, strict=False))
    figure = Figure(figsize=(15, 9), layout="constrained")
    left, middle, right = figure.subfigures(1, 3, width_ratios=(5, 4, 4))
    traces, raster = left.subplots(2, 1, height_ratios=(3, 1))
    draw_traces(traces, chunk, trains, templates, colors)
    draw_raster(raster, trains, colors)
    clusters, accuracy = middle.subplots(2, 1, height_ratios=(3, 1))
    draw_clusters(clusters, points, labels, colors)
    draw_accuracy(accuracy, matches, colors)
    probe, below = right.subfigures(2, 1, height_ratios=(3, 1.5))
    draw_templates(probe.subplots(), templates, colors)
    draw_correlograms(below, trains, colors)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return kachery.store_bytes(file.getvalue(), label="spike_sorting.png")


def draw_traces(axes, chunk, trains, templates, colors):
    """A short time of the clean recording; each spike in the color of its unit, where it is seen."""
    shown, step = chunk[SHOWN], 60  # microvolts between two channels
    ms = np.arange(len(shown)) / RATE * 1000
    axes.plot(ms, shown + step * np.arange(len(PROBE)), color="0.75", linewidth=0.5)
    for unit, times in trains.items():
        main = templates[unit].min(axis=0).argmin()
        inside = times + MARGIN - SHOWN.start
        for time in inside[(inside > BEFORE) & (inside < len(shown) - BEFORE)]:
            rows = slice(time - BEFORE, time + BEFORE)
            for channel in np.flatnonzero(NEAR[main]):
                voltage = shown[rows, channel] + step * channel
                axes.plot(ms[rows], voltage, color=colors[unit], linewidth=0.8)
    axes.set(title="filtered, without common noise", xlabel="ms", yticks=[], xlim=(0, ms[-1]))
    axes.set_ylabel(f"{len(PROBE)} channels, from the tip of the probe upwards")


def draw_raster(axes, trains, colors):
    """When each unit fired."""
    seconds = [trains[unit] / RATE for unit in colors]
    axes.eventplot(seconds, colors=list(colors.values()), linewidths=0.4, linelengths=0.8)
    axes.set(title="spikes", xlabel="s", ylabel="unit", yticks=range(len(colors)))
    axes.set_xlim(0, max(times[-1] for times in seconds))


def draw_clusters(axes, points, labels, colors):
    """All spikes on the first two principal components."""
    axes.scatter(*points[:, :2].T, s=3, c=[colors[unit] for unit in labels], linewidths=0)
    axes.set(title=f"{len(points):,} spikes, {len(colors)} clusters", xticks=[], yticks=[])
    axes.set(xlabel="principal component 1", ylabel="principal component 2")


def draw_accuracy(axes, matches, colors):
    """How well each true unit was found."""
    for unit, (found, accuracy) in matches.items():
        axes.bar(unit, accuracy, color=colors[found])
        axes.text(unit, accuracy / 2, f"{accuracy:.2f}", ha="center", va="center", color="white")
    axes.set(title="accuracy", xlabel="true unit", ylim=(0, 1), xticks=range(len(matches)))


def draw_templates(axes, templates, colors):
    """The mean spike of each unit, drawn where the channels are on the probe."""
    for unit, color in colors.items():
        template = templates[unit]
        x = np.linspace(-8, 8, len(template))
        for channel in np.flatnonzero(NEAR[template.min(axis=0).argmin()]):
            across, along = PROBE[channel]
            axes.plot(across + x, along + template[:, channel] / 6, color=color, linewidth=1)
    axes.scatter(*PROBE.T, s=4, color="0.6", marker="s")
    axes.set(title="templates on the probe", xlabel="µm", ylabel="µm")


def draw_correlograms(figure, trains, colors):
    """How long after a spike the unit fires again: hardly ever within 3 ms, if it is one neuron."""
    columns = -(-len(colors) // 2)
    for axes, (unit, color) in zip(figure.subplots(2, columns).flat, colors.items(), strict=False):
        ms = (trains[unit][:, None] - trains[unit]) / RATE * 1000
        axes.hist(ms[ms != 0], bins=np.linspace(-25, 25, 51), color=color)
        axes.set(yticks=[], xticks=[-20, 0, 20])
        axes.tick_params(labelsize=7)
    figure.suptitle("autocorrelograms, ms")
