"""The commands of a study."""

from cardiac_jax.runs import study
from tests import tiny


def test_an_evaluation_may_import_the_code_that_the_study_trained_with(tmp_path):
    plain = tiny.config("unet")
    (tmp_path / "config.json").write_text(plain.to_json(), encoding="utf-8")
    words = study.evaluation(tmp_path, "val", 2)
    out = tmp_path / "evaluation_val"
    assert words == ["launch.evaluate", f"--workdir={tmp_path}", "--split=val", f"--out={out}", "--tta=2"]
    own = tiny.config("unet", model__net="my.module:net", terms=("my.module:term=0.1", "my.other:term=0.2"))
    (tmp_path / "config.json").write_text(own.to_json(), encoding="utf-8")
    assert study.evaluation(tmp_path, "val", 2)[5:] == ["--use=my.module:net,my.module:term,my.other:term"]
