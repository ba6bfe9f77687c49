"""The augmentation as a whole: labels follow the image, keys decide all, every switch does its part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cardiac_jax.data import augment as module
from cardiac_jax.data.augment import IDENTITY, MYOPS, PROBABILITIES, Augment, white_noise
from cardiac_jax.errors import InputError

augment = jax.jit(module.augment, static_argnames="config")
augment_batch = jax.jit(module.augment_batch, static_argnames="config")

ALWAYS = Augment()._replace(**dict.fromkeys(PROBABILITIES, 1.0))._replace(quarter_turn_p=0.0)
GEOMETRY = ("rotation_p", "scale_p", "shear_p", "translation_p", "flip_p", "quarter_turn_p", "elastic_p")
INTENSITY = ("blur_p", "gamma_p", "bias_p", "contrast_p", "brightness_p", "noise_p")
MOVING = ALWAYS._replace(**dict.fromkeys(INTENSITY, 0.0))


def _heart(size=48, channels=1, slices=None):
    """A disc in a ring, smooth image and class label of it: [S, S, C] and [S, S] (or a stack of them)."""
    y, x = np.meshgrid(*[np.arange(size) - (size - 1) / 2 + 3] * 2, indexing="ij")
    radius = np.hypot(y, x)
    label = np.where(radius < size / 8, 3, np.where(radius < size / 5, 2, 0)).astype(np.uint8)
    image = np.stack([(c + 1) * np.exp(-((radius / (size / 4)) ** 2)) + 0.1 * x / size for c in range(channels)], -1)
    if slices:
        image, label = np.stack([image] * slices), np.stack([label] * slices)
    return image.astype(np.float32), label


def _random(shape):
    """An image and a label map of its own classes, one in two unknown."""
    image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return image, np.where(image[..., 0] > 0, 255, 2).astype(np.int32)


def _only(**on):
    return IDENTITY._replace(**on)


@pytest.mark.parametrize(
    ("shape", "depth_px"),
    [((24, 20, 1), 0.0), ((24, 20, 3), 6.0), ((3, 24, 20, 2), 0.0), ((3, 24, 20, 2), 6.0), ((1, 9, 9, 1), 6.0)],
)
def test_shapes_types_and_classes_survive(shape, depth_px):
    image, label = _random(shape)
    out, seg = augment(image, label, jax.random.key(1), ALWAYS._replace(depth_px=depth_px))
    assert out.shape == image.shape and out.dtype == image.dtype and np.isfinite(out).all()
    assert seg is not None and seg.shape == label.shape and seg.dtype == label.dtype
    assert set(np.unique(seg)) <= {0, 2, 255}


def test_identity_changes_nothing_and_a_drawn_no_is_exact():
    image, label = _heart(channels=2)
    out, seg = augment(image, label, jax.random.key(0), IDENTITY)
    np.testing.assert_array_equal(out, image)
    np.testing.assert_array_equal(seg, label)
    barely = Augment()._replace(**dict.fromkeys(PROBABILITIES, 1e-9))
    out, seg = augment(image, label, jax.random.key(0), barely)
    np.testing.assert_allclose(out, image, atol=1e-6)
    np.testing.assert_array_equal(seg, label)


def test_label_follows_the_image():
    """With the mask as the image, the warped mask at 0.5 is the warped label, but for its very border."""
    _, label = _heart(64)
    image = (label > 0).astype(np.float32)[..., None]
    for seed in range(5):
        out, seg = jax.device_get(augment(image, label, jax.random.key(seed), MOVING))
        away = np.abs(out[..., 0] - 0.5) > 0.49
        np.testing.assert_array_equal((out[..., 0] > 0.5)[away], (seg > 0)[away])
        assert away.mean() > 0.8 and not np.array_equal(seg, label)


def _at_once(step, axis_name):
    return jax.jit(jax.vmap(step, axis_name=axis_name))


@pytest.mark.parametrize(("shape", "spread"), [((24, 20, 1), jax.pmap), ((3, 24, 20, 2), _at_once)])
def test_one_by_one_equals_batch_and_two_devices(shape, spread):
    rng = np.random.default_rng(5)
    images = rng.standard_normal((4, *shape)).astype(np.float32)
    labels = rng.integers(0, 4, (4, *shape[:-1]), np.int32)
    keys = jax.random.split(jax.random.key(7), 4)
    batch, segs = jax.device_get(augment_batch(images, labels, keys, ALWAYS))
    for b in range(4):
        out, seg = augment(images[b], labels[b], keys[b], ALWAYS)
        np.testing.assert_allclose(batch[b], out, atol=2e-5)
        np.testing.assert_array_equal(segs[b], seg)
    step = spread(lambda *values: module.augment_batch(*values, ALWAYS), axis_name="devices")
    out, seg = jax.device_get(step(*[x.reshape(2, 2, *x.shape[1:]) for x in (images, labels, keys)]))
    np.testing.assert_allclose(out.reshape(images.shape), batch, atol=2e-5)
    np.testing.assert_array_equal(seg.reshape(labels.shape), segs)


def test_keys_decide():
    image, label = _random((24, 20, 1))
    first, again, other = (np.asarray(augment(image, label, jax.random.key(k), ALWAYS)[0]) for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.05


@pytest.mark.parametrize("name", [*GEOMETRY, *INTENSITY])
def test_every_switch_acts_alone(name):
    """Each transform changes the image; geometry moves the label too, intensity never does."""
    image, label = _heart(channels=2)
    moved = changed = 0
    for seed in range(4):
        out, seg = augment(image, label, jax.random.key(seed), _only(**{name: 1.0}))
        moved += not np.array_equal(seg, label)
        changed += np.abs(np.asarray(out) - image).max() > 1e-3
    assert changed >= (1 if name in ("flip_p", "blur_p") else 4)  # no axis mirrored, or a narrow kernel
    assert moved == 0 if name in INTENSITY else moved > 0


@pytest.mark.parametrize("other", ["noise_p", "contrast_p", "elastic_p"])
def test_switching_one_on_leaves_the_draw_of_brightness(other):
    flat, key = np.ones((32, 32, 1), np.float32), jax.random.key(3)
    alone, _ = augment(flat, None, key, _only(brightness_p=1.0))
    both, _ = augment(flat, None, key, _only(**{"brightness_p": 1.0, other: 1.0}))
    alone, both = float(alone.mean()), float(both.mean())
    assert abs(alone - 1) > 0.01
    assert both == pytest.approx(alone, abs=0.01)


def test_switching_others_on_leaves_the_elastic_field():
    image, label = _heart()
    key = jax.random.key(3)
    _, warped = augment(image, label, key, _only(elastic_p=1.0))
    _, again = augment(image, label, key, _only(elastic_p=1.0, blur_p=1.0, noise_p=1.0, translation_p=1e-9))
    np.testing.assert_array_equal(warped, again)


def test_probability_is_the_share_of_examples():
    image = np.zeros((400, 4, 4, 1), np.float32)
    keys = jax.random.split(jax.random.key(0), 400)
    out, _ = augment_batch(image, None, keys, _only(brightness_p=0.3))
    changed = (np.abs(out).max((1, 2, 3)) > 0).mean()
    assert abs(changed - 0.3) < 4 * (0.3 * 0.7 / 400) ** 0.5  # four standard errors


def test_pure_rotation_is_that_of_scipy():
    image, label = _heart(41)
    key = jax.random.key(2)
    out = np.asarray(augment(image, label, key, _only(rotation_p=1.0, rotation_deg=30.0))[0])
    errors = []
    for degrees in np.arange(-30, 30.5, 0.5):
        turned = ndimage.rotate(image[..., 0], degrees, reshape=False, order=1, mode="nearest")
        errors.append(np.abs(turned - out[..., 0]).max())
    assert min(errors) < 0.01 < max(errors)


def test_in_plane_transforms_are_shared_by_the_slices_of_a_stack():
    image, label = _heart(64, slices=4)
    out, seg = jax.device_get(augment(image, label, jax.random.key(4), MOVING))
    single, single_seg = augment(image[0], label[0], jax.random.key(4), MOVING)
    for z in range(4):
        np.testing.assert_allclose(out[z], single, atol=1e-5)
        np.testing.assert_array_equal(seg[z], single_seg)


def test_a_stack_can_be_turned_out_of_its_plane():
    """A bright slice of the middle is tilted into its neighbours only in the three-dimensional form."""
    image = np.zeros((5, 24, 24, 1), np.float32)
    image[2] = 1.0
    flat = np.asarray(augment(image, None, jax.random.key(0), _only(rotation_p=1.0))[0])
    tilted = np.asarray(augment(image, None, jax.random.key(0), _only(rotation_p=1.0, depth_px=8.0))[0])
    assert np.abs(flat[1]).max() == 0.0
    assert tilted[1].max() > 0.05 and tilted[2].min() < 0.95


def test_outside_of_the_image():
    image, label = np.ones((20, 20, 1), np.float32), np.ones((20, 20), np.uint8)
    image[0, 0] = -2.0
    far = _only(translation_p=1.0, translation_px=8.0, outside_image="min", outside_label=255)
    out, seg = augment(image, label, jax.random.key(1), far)
    gone = np.asarray(seg) == 255
    assert 0.02 < gone.mean() < 0.7 and set(np.unique(seg)) == {1, 255}
    np.testing.assert_array_equal(np.asarray(out)[gone], -2.0)
    _, background = augment(image, label, jax.random.key(1), far._replace(outside_label=0))
    np.testing.assert_array_equal(np.asarray(background) == 0, gone)


def test_gamma_keeps_mean_and_spread_and_order():
    image, _ = _heart()
    out = np.asarray(augment(image, None, jax.random.key(0), _only(gamma_p=1.0))[0])
    assert out.mean() == pytest.approx(image.mean(), abs=1e-4)
    assert out.std() == pytest.approx(image.std(), abs=1e-4)
    order = np.argsort(image.ravel())
    assert np.diff(out.ravel()[order]).min() > -1e-5


def test_blur_is_gaussian():
    image = np.zeros((21, 21, 1), np.float32)
    image[10, 10] = 1.0
    keys = jax.random.split(jax.random.key(0), 6)
    blurred, _ = augment_batch(np.stack([image] * 6), None, keys, _only(blur_p=1.0, blur_px=2.0))
    widths = []
    for out in np.asarray(blurred)[..., 0]:
        sigma = (-0.5 / np.log(max(out[10, 11] / out[10, 10], 1e-30))) ** 0.5  # from two neighbours
        expected = ndimage.gaussian_filter(image[..., 0], sigma, truncate=10)
        np.testing.assert_allclose(out, expected, atol=2e-4)
        widths.append(sigma)
    assert min(widths) < 1 < max(widths) <= 2


def test_constant_image_stays_finite():
    out, _ = augment(np.full((24, 20, 1), 2.0, np.float32), np.zeros((24, 20), np.int32), jax.random.key(0), ALWAYS)
    assert np.isfinite(out).all()


def test_myops_grid_moves_at_most_five_pixels_and_turns_half_of_the_copies():
    ramp = np.stack(np.meshgrid(*[np.arange(64, dtype=np.float32)] * 2, indexing="ij"), -1)
    keys = jax.random.split(jax.random.key(0), 40)
    out = np.asarray(jax.jit(jax.vmap(lambda k: augment(ramp, None, k, MYOPS)[0]))(keys))
    moved = np.abs(out - ramp).max((1, 2, 3))
    turned = moved > 5.01
    assert 8 <= turned.sum() <= 32  # 40 draws at one half, four standard errors
    assert 3.0 < moved[~turned].max() <= 5.01
    for image in out[turned]:
        errors = [np.abs(image - np.rot90(ramp, k)).max() for k in (1, 2, 3)]
        assert min(errors) <= 5.01


def test_white_noise_is_white():
    x = np.asarray(white_noise(jnp.array([1, 2], jnp.uint32), (256, 256)), np.float64)
    limit = 4 / x.size**0.5
    assert abs(x.mean()) < limit and abs(x.std() - 1) < limit
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (0, 16), (16, 0)):
        assert abs((x * np.roll(x, (dy, dx), (0, 1))).mean()) < limit
    other = np.asarray(white_noise(jnp.array([1, 3], jnp.uint32), (256, 256)), np.float64)
    assert abs((x * other).mean()) < limit
    spectrum = np.abs(np.fft.fft2(x))[1:, 1:] ** 2 / x.size
    assert spectrum.max() < 18  # exponential with mean 1: 65,000 draws exceed 18 once in a thousand times


@pytest.mark.parametrize(
    "wrong",
    [{"noise_p": 1.5}, {"elastic_basis": "sinc"}, {"elastic_noise": "pink"}, {"outside_image": "wrap"}],
)
def test_wrong_configuration_names_its_key(wrong):
    image, label = _heart(16)
    with pytest.raises(InputError, match=f"augment.{next(iter(wrong))}"):
        augment(image, label, jax.random.key(0), Augment(**wrong))


def test_mismatched_shapes_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        module.augment(jnp.zeros((8, 8, 1)), jnp.zeros((8, 7), jnp.int32), jax.random.key(0), Augment())


def _field(size, scale, spacing_mm):
    """Position in mm of every voxel about the centre of the box, [*(size * scale), 3]: interpolated exactly."""
    lines = [(np.arange(n * f) - (n * f - 1) / 2) / f * mm for n, f, mm in zip(size, scale, spacing_mm, strict=True)]
    return np.stack(np.meshgrid(*lines, indexing="ij"), -1).astype(np.float32)


def _blocks(values, scale):
    """Mean over the blocks of voxels of a finer grid that one voxel covers."""
    for axis, factor in enumerate(scale):
        values = np.moveaxis(values, axis, 0)
        values = np.moveaxis(values.reshape(-1, factor, *values.shape[1:]).mean(1), 0, axis)
    return values


@pytest.mark.parametrize(
    ("scale", "depth_px", "on"),
    [
        ((5, 1, 1), 0.0, ("rotation_p", "scale_p", "shear_p", "translation_p", "elastic_p")),
        ((2, 3, 1), 4.0, ("rotation_p", "scale_p", "shear_p", "translation_p")),
    ],
)
def test_a_finer_image_moves_by_the_same_millimetres(scale, depth_px, on):
    """An affine map of a linear field: the mean over a block is the value at its centre, that of the coarse voxel."""
    size, spacing_mm, key = (6, 20, 18), (4.0, 1.0, 1.0), jax.random.key(8)
    config = _only(**dict.fromkeys(on, 1.0), rotation_deg=8.0, translation_px=2.0, depth_px=depth_px)
    coarse = np.asarray(augment(_field(size, (1, 1, 1), spacing_mm), None, key, config)[0])
    run = jax.jit(module.augment, static_argnames=("config", "image_scale", "label_scale"))
    fine, _ = run(_field(size, scale, spacing_mm), None, key, config, image_scale=scale)
    inside = (slice(2, -2), slice(6, -6), slice(6, -6))  # what comes from outside of the box is its edge
    moved = np.abs(coarse - _field(size, (1, 1, 1), spacing_mm))[inside]
    assert moved[..., 1:].max() > 1 and (depth_px == 0 or moved[..., 0].max() > 0.5)
    tolerance = 1e-3 if "elastic_p" not in on or scale[1:] == (1, 1) else 0.1
    np.testing.assert_allclose(_blocks(np.asarray(fine), scale)[inside], coarse[inside], atol=tolerance)


def test_labels_on_a_finer_grid_follow_the_image():
    """In thinner slices the label of a stack is that of its slices; in finer pixels it outlines the same disc."""
    image, label = _heart(32, slices=2)
    key, pass_ = jax.random.key(3), jax.jit(module.augment, static_argnames=("config", "image_scale", "label_scale"))
    out, seg = augment(image, label, key, MOVING)
    thin, seg_thin = pass_(image, np.repeat(label, 3, 0), key, MOVING, label_scale=(3, 1, 1))
    np.testing.assert_array_equal(thin, out)
    np.testing.assert_array_equal(seg_thin, np.repeat(seg, 3, 0))
    fine = label.repeat(3, 1).repeat(3, 2)
    _, seg_fine = pass_(image, fine, key, MOVING, label_scale=(1, 3, 3))
    middle = np.asarray(seg_fine)[:, 1::3, 1::3]  # the pixel whose centre is that of the coarse one
    assert (middle != np.asarray(seg)).mean() < 0.01 < (np.asarray(seg) != label).mean()


def test_the_pass_moves_a_finer_image_or_the_image_with_the_label():
    image, label = _heart(24, slices=2)
    fine = {"fine": np.repeat(image, 2, 0)[None], "image": image[None], "label": np.repeat(label, 2, 0)[None]}
    fine["index"] = np.zeros(1, np.int32)
    moved = _only(translation_p=1.0)
    for name, other in (("image", "fine"), ("fine", "image")):
        run = jax.jit(lambda v, step: step({}, v, key=jax.random.key(0), train=frozenset())[0], static_argnums=1)
        out = run(fine, module.augmentation(moved, (2, 1, 1), name))
        np.testing.assert_array_equal(out[other], fine[other])
        assert (np.asarray(out[name]) != fine[name]).any() and (np.asarray(out["label"]) != fine["label"]).any()
        assert np.asarray(out["label"]).shape == fine["label"].shape


def test_a_label_that_is_not_so_much_finer_is_refused():
    for shape, scale in (((4, 8, 8), (2, 1, 1)), ((5, 8, 8), (2, 1, 1)), ((4, 8, 8), (2, 1))):
        with pytest.raises(ValueError, match="do not fit"):
            given = jnp.zeros((3, 8, 8, 1)), jnp.zeros(shape, jnp.int32), jax.random.key(0), Augment()
            module.augment(*given, label_scale=scale)
