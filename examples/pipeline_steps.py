"""The steps of the pipeline, each a task: its result is kept, for these arguments and this code.

The other functions are ordinary ones. kachery knows which task calls which of them, and what depends
on one that has changed is computed again.
"""

import io

import numpy as np
from imageio.v3 import imread
from scipy import ndimage
from scipy.spatial import KDTree
from skimage import color, filters, measure, restoration

import kachery


@kachery.task
def load(uri, *, dark_objects):
    """A stored image as gray values from 0 to 1, its objects bright.

    A URI, unlike a path, names the content of the file: an edited image is another argument.
    """
    image = imread(io.BytesIO(kachery.load_bytes(uri)))
    gray = color.rgb2gray(image) if image.ndim == 3 else image.astype(float)
    gray = (gray - gray.min()) / (gray.max() - gray.min())
    return (1 - gray if dark_objects else gray).astype(np.float32)


@kachery.task
def expose(image, *, photons, seed):
    """The image that a camera takes with few photons per pixel: shot noise and read-out noise."""
    random = np.random.default_rng(seed)
    counts = random.poisson(image * photons) + random.normal(0, READ_NOISE, image.shape)
    return (counts / photons).astype(np.float32)


@kachery.task
def denoise(image, *, strength):
    """Non-local means: average pixels with alike surroundings; `strength` is in units of the noise."""
    if strength == 0:
        return image
    sigma = noise_level(image)
    return restoration.denoise_nl_means(
        image, patch_size=5, patch_distance=13, h=strength * sigma, sigma=sigma
    ).astype(np.float32)


@kachery.task
def segment(image, *, threshold):
    """The mask of what is brighter than its surroundings; `threshold` is in units of Otsu's."""
    bright = image - background(image)
    mask = bright > threshold * filters.threshold_otsu(bright)
    return ndimage.binary_fill_holes(ndimage.binary_opening(mask))


@kachery.task
def find_objects(mask):
    """A row for each connected part of a mask: row and column of its centre, and its area."""
    table = measure.regionprops_table(measure.label(mask), properties=("centroid", "area"))
    return np.stack([table["centroid-0"], table["centroid-1"], table["area"]], axis=1)


@kachery.task
def score(found, expected):
    """F1 of the objects found: 1 if they are the expected ones, 0 if none of them is."""
    matches = count_matches(found, expected) if len(found) else 0
    return 2 * matches / (len(found) + len(expected))


@kachery.task
def choose(settings, scores):
    """The setting with the best mean score; `scores` has, for each setting, those of all images."""
    table = np.array(scores)
    best = int(table.mean(axis=1).argmax())
    return {"setting": settings[best], "scores": scores[best], "table": table}


READ_NOISE = 3  # photons


def noise_level(image):
    """The standard deviation of the noise (Immerkaer 1996): what a second derivative leaves."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    return float(np.sqrt(np.pi / 2) / 6 * np.abs(ndimage.convolve(image, kernel)).mean())


def background(image):
    """What varies slowly: the mean around every pixel."""
    return ndimage.uniform_filter(image, size=151)


def count_matches(found, expected):
    """How many expected objects were found: in their place, and not half or twice as large."""
    distance, nearest = KDTree(found[:, :2]).query(expected[:, :2])
    near = distance < np.maximum(np.sqrt(expected[:, 2] / np.pi) / 2, 1.5)  # half the radius
    alike = np.abs(np.log2(found[nearest, 2] / expected[:, 2])) < 1
    return len(set(nearest[near & alike]))
