"""The line that a training prints."""

from cardiac_jax.train import log


def test_a_validation_is_printed_by_the_score_of_its_output():
    assert log.note({"dice/LV": 0.5, "hd_mm": 3.0, "dice": 0.25}) == "dice/LV 0.500  dice 0.250"
    assert log.note({"ssim": 0.5, "psnr": 20.0}) == "ssim 0.500  psnr 20.000"
