"""The figure and the report of the pipeline, from the values that it returned."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

COLUMNS = ("photograph", "dim exposure", "denoised", "objects found")
HEIGHT, WIDTH = 350, 450  # of the part of an image that is shown, in pixels
ORANGE = "#ff8c1a"
REPORT = """# Objects in dim photographs

The objects of the clean photographs are found best with denoising of strength {} and a threshold
of {}. A score of 1 says that the objects found are the expected ones, 0 that none of them is.

| image | score |
|---|---|
{}
![The images after every step, and the scores of all settings](figure.png)
"""


def write(output, files, columns, best, strengths, thresholds):
    """Write figure.png and report.md; `columns` has the images of each column of the figure."""
    output.mkdir(parents=True, exist_ok=True)
    names = [file.partition(".")[0].replace("_", " ") for file in files]
    figure = Figure(figsize=(15, 8.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2, 1))
    draw_images(left, names, columns, best["scores"])
    table = best["table"].reshape(len(strengths), len(thresholds), len(names))
    draw_scores(right, names, table, strengths, thresholds)
    figure.savefig(output / "figure.png", dpi=110)
    rows = [
        f"| {name} | {score:.3f} |\n" for name, score in zip(names, best["scores"], strict=True)
    ]
    (output / "report.md").write_text(REPORT.format(*best["setting"], "".join(rows)))


def draw_images(figure, names, columns, scores):
    """One row for each image, one column for each step."""
    rows = [[middle(image) for image in row] for row in zip(*columns, strict=True)]
    ratios = [row[0].shape[0] / row[0].shape[1] for row in rows]
    grid = figure.subplots(len(rows), len(COLUMNS), height_ratios=ratios)
    for axes, (clean, noisy, denoised, mask) in zip(grid, rows, strict=True):
        for panel, image in zip(axes, (clean, noisy, denoised, clean), strict=True):
            panel.imshow(image, cmap="gray", vmin=0, vmax=1)
            panel.set(xticks=[], yticks=[])
        axes[-1].contour(mask, levels=[0.5], colors=ORANGE, linewidths=0.8)
    for axes, name, score in zip(grid, names, scores, strict=True):
        axes[0].set_ylabel(name)
        axes[-1].set_xlabel(f"score {score:.2f}")
    for panel, step in zip(grid[0], COLUMNS, strict=True):
        panel.set_title(step)


def middle(image):
    """The middle part of an image."""
    top, left = max(0, len(image) - HEIGHT) // 2, max(0, len(image[0]) - WIDTH) // 2
    return image[top : top + HEIGHT, left : left + WIDTH]


def draw_scores(figure, names, table, strengths, thresholds):
    """The mean score of every setting, the best one marked; below, the scores of each image."""
    panels = figure.subplot_mosaic([["mean"] * len(names), names], height_ratios=(5, 1))
    mean, axes = table.mean(axis=2), panels["mean"]
    axes.imshow(mean, origin="lower", aspect="auto")
    for name, scores in zip(names, np.moveaxis(table, 2, 0), strict=True):
        panels[name].imshow(scores, origin="lower", aspect="auto")
        panels[name].set(xticks=[], yticks=[])
        panels[name].set_xlabel(f"{name}\nat best {scores.max():.2f}", fontsize=8)
    for (i, j), score in np.ndenumerate(mean):
        color = "black" if score > 0.7 * mean.max() else "white"
        axes.text(j, i, f"{score:.2f}", ha="center", va="center", color=color)
    i, j = np.unravel_index(mean.argmax(), mean.shape)
    axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=ORANGE, linewidth=4))
    axes.set_xticks(range(len(thresholds)), thresholds)
    axes.set_yticks(range(len(strengths)), strengths)
    axes.set(xlabel="threshold", ylabel="strength of denoising", title="mean score of each setting")
