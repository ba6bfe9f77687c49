"""What the localiser of a trained 3D DR-UNet finds, and what it costs beside the segmenter.

    python benchmarks/localiser.py --workdir=DIR [--split=val --data.root=DIR]

Recall: share of the labelled voxels that the box holds, over the cases of the split. Times: median of `--repeats` runs
of one volume, compiled, alternating.
"""

import time
from pathlib import Path

import numpy as np
from absl import flags

from cardiac_jax.commands import cli

WORKDIR = flags.DEFINE_string("workdir", None, "of the training run")
SPLIT = flags.DEFINE_string("split", "val", "train, val or test")
ROOT = flags.DEFINE_string("data.root", None, "folder of the data; default: the one trained on")
REPEATS = flags.DEFINE_integer("repeats", 9, "runs of each")


def main() -> None:
    import jax

    from cardiac_jax import systems
    from cardiac_jax.core.passes import call
    from cardiac_jax.data.load import load
    from cardiac_jax.data.preprocess import prepare
    from cardiac_jax.data.sets import dataset
    from cardiac_jax.errors import InputError
    from cardiac_jax.runs.restore import restore
    from cardiac_jax.transforms import cascade

    trained = restore(Path(cli.required(WORKDIR.value, "--workdir")))
    config, data, variables = trained.config, trained.spec, trained.variables
    if config.variant != "multistage":
        raise InputError("--workdir", f"is of variant {config.variant}: only multistage has a localiser by itself")
    nets = {net.name: net for net in systems.build_system(config, data).nets}
    size, box = tuple(data.size), tuple(config.localiser.box)
    find = cascade.localise(
        cascade.shrink(tuple(config.localiser.window)),
        nets["localiser"],
        tuple(range(1, data.classes_count)),
        cascade.locate(box, size, config.localiser.floor),
    )
    segment = call(nets["segmenter"], ["image"], ["logits", "features"])

    def run(step, image):
        return step(variables, {"image": image}, key=jax.random.key(0), train=frozenset())[0]

    located = jax.jit(lambda image: {name: run(find, image)[name] for name in ("start", "found")})
    segmented = jax.jit(lambda image: run(segment, image)["logits"])
    chosen = dataset(data.dataset)
    wanted = set(trained.about["splits"][SPLIT.value])
    inside, marked, lost = 0, 0, 0
    for record in chosen.find(Path(ROOT.value or config.data.root)):
        if record.patient in wanted:
            case = load(record, chosen, data.sequences, labelled=True)
            ready = prepare(case, data.grid(), data.sequences)
            boxes = located(ready.image[None])
            held, every = cascade.covered(np.asarray(ready.label)[None], boxes["start"], box)
            inside, marked, lost = inside + int(held[0]), marked + int(every[0]), lost + int(boxes["found"][0] == 0)
    print(f"recall of the box {inside / marked:.5f} ({inside} of {marked} labelled voxels; {lost} maps without mass)")
    image = np.zeros((1, *size, data.channels), np.float32)
    cut = np.zeros((1, *box, data.channels), np.float32)
    times: dict[str, list[float]] = {"localiser": [], "segmenter": []}
    for i in range(REPEATS.value + 1):
        for name, call_, given in (("localiser", located, image), ("segmenter", segmented, cut)):
            start = time.perf_counter()
            jax.block_until_ready(call_(given))
            if i:
                times[name].append(time.perf_counter() - start)
    counts = {name: sum(x.size for x in jax.tree.leaves(variables[name]["params"])) for name in nets}
    for name, seconds in times.items():
        print(f"{name}: {1000 * float(np.median(seconds)):.0f} ms a volume, {counts[name]:,} parameters")


if __name__ == "__main__":
    cli.run(main, __name__)
