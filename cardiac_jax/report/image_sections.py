"""Sections of the report on restored images: each function makes the content of one section from the entries."""

from collections.abc import Sequence

from cardiac_jax.metrics.images import IMAGE
from cardiac_jax.metrics.registry import METRICS
from cardiac_jax.metrics.summary import by_case
from cardiac_jax.report import charts, opinions, restoration, table
from cardiac_jax.report.collect import Entry
from cardiac_jax.report.options import Options
from cardiac_jax.report.page import Picture, Section
from cardiac_jax.report.sections import IMAGE_MEASURES, provenance, published_table, rows_of, training, warnings
from cardiac_jax.report.statistics import PAIRED, UNIT

PICTURED = 12
"""Cases with a picture: all, or this many evenly spread over the ranks of SSIM, the best and the worst among them."""
SSIM = (
    "SSIM is that of Wang et al. (2004): means, variances and covariance in a Gaussian window of sigma 1.5 and 11 "
    "voxels, K1 .01, K2 .03, averaged over the voxels whose window lies in both images. The window is taken in 3D, in "
    "voxels of the reference, so that blurring across slices counts; 'SSIM of slices' takes it in each slice alone, as "
    "Wang's paper does. The data range, of PSNR too, is the largest minus the smallest intensity of the reference. "
    "Images are compared in the intensities of the files, at the reference's voxels."
)


def overview(entries: Sequence[Entry], options: Options) -> Section:
    """Section with the table of methods, paired tests and the published values."""
    rows = rows_of(entries)
    tables = [restoration.restoration_table(rows, options)]
    if options.leave_out:
        tables.append(restoration.restoration_table(rows, options, leave_out=options.leave_out))
    tables.append(restoration.measures_table(rows))
    if options.paired:
        tables.append(table.comparison_table(options.paired, "ssim"))
    given = [metric for metric in IMAGE_MEASURES if set(options.published.get(metric, {})) & set(rows)]
    tables += [published_table(rows, (IMAGE,), metric, options.published, mean=False) for metric in given]
    return Section("results", "Results", warnings(entries), tables)


def distributions(entries: Sequence[Entry], options: Options) -> Section:
    """Section of box plots."""
    rows, parts = rows_of(entries), entries[0].results.structures
    caption = "{} by part of the image and method: median, quartiles, whiskers to 1.5 IQR; each dot is a patient."
    pictures = [
        Picture(charts.box_plots(rows, parts, name), caption.format(METRICS[name].heading), wide=False)
        for name in ("ssim", "psnr_db")
    ]
    return Section("distributions", "Distributions", (), (), pictures)


def opinion_scores(entries: Sequence[Entry], options: Options) -> Section:
    """Section with the readers' scores; empty without any."""
    return Section("opinions", "Opinion scores", (), opinions.tables(options.opinions, options.reference))


def cases(entries: Sequence[Entry], options: Options) -> Section:
    """Section with a picture of each case: low resolution, methods, reference, and the errors."""
    methods = [entry.results for entry in entries]
    ssim = {one.name: by_case(one.rows, "ssim", IMAGE) for one in methods}
    shared = [case for case in methods[0].about["files"] if all(case in held for held in ssim.values())]
    ranked = sorted(shared, key=lambda case: -sum(held[case] for held in ssim.values()))
    count = min(PICTURED, len(ranked))
    shown = [ranked[round(k * (len(ranked) - 1) / max(count - 1, 1))] for k in range(count)]
    pictures = []
    for case in shown:
        drawn = restoration.restored_figure([(restoration.restored(methods, case), "")], ssim)
        caption = f"{case}: long-axis cut, base above; below: image minus reference. SSIM is that of the whole image."
        pictures.append(Picture(drawn, caption, pixels=True))
    text = [] if count == len(ranked) else [f"{count} of {len(ranked)} cases, evenly spread over the ranks of SSIM."]
    return Section("cases", "Cases, from the largest to the smallest SSIM", text, (), pictures)


def definitions(entries: Sequence[Entry], options: Options) -> Section:
    """Section of text: what SSIM and PSNR are here, and how means, intervals and tests are computed."""
    return Section("definitions", "Definitions and statistics", (SSIM, UNIT, PAIRED))


PARTS = (overview, opinion_scores, distributions, cases, definitions, training, provenance)
