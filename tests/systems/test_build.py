"""What `config.system` may name: a system is checked before anything is trained."""

import pytest

from cardiac_jax import systems
from cardiac_jax.core.types import Stage, System
from cardiac_jax.errors import InputError
from tests import tiny, toy_systems


def built(monkeypatch: pytest.MonkeyPatch, system: object) -> System:
    """The system of a builder that is registered as `mine`."""
    monkeypatch.setitem(systems.SYSTEMS, "mine", lambda config, data: system)
    return systems.build_system(tiny.config("unet", system="mine"), tiny.spec())


def test_an_own_system_is_taken(monkeypatch):
    whole, _ = toy_systems.plain()
    assert built(monkeypatch, whole) is whole
    stages = tuple(stage._replace(validate="probabilities") for stage in whole.stages)
    assert built(monkeypatch, whole._replace(stages=stages)).stages == stages


def test_what_is_no_system_that_can_be_trained_is_refused(monkeypatch):
    whole, _ = toy_systems.plain()
    for other in (None, (whole,), whole._replace(stages=()), whole._replace(outputs=())):
        with pytest.raises(InputError, match=r"^system: 'mine' does not build a System with stages and outputs$"):
            built(monkeypatch, other)


def test_a_stage_is_validated_by_an_output_of_the_system(monkeypatch):
    whole, stage = toy_systems.plain()
    other = whole._replace(stages=(stage._replace(validate="logits"),))
    with pytest.raises(InputError, match=r"^system: stage segmentation is validated by 'logits', which is no output$"):
        built(monkeypatch, other)


def test_a_phase_trains_networks_of_the_system(monkeypatch):
    whole, stage = toy_systems.plain()
    phase = stage.phases[0]._replace(trains=("segmenter", "critic"))
    other = whole._replace(stages=(Stage("early", 1, (phase,)), stage))
    with pytest.raises(
        InputError, match=r"^system: phase segment of stage early trains 'critic', which is no network$"
    ):
        built(monkeypatch, other)


def test_finer_labels_need_a_finer_output(monkeypatch):
    whole, _ = toy_systems.plain()
    finer = whole._replace(outputs=tuple(output._replace(scale=(5, 1, 1)) for output in whole.outputs))
    data = tiny.spec((4, 16, 16), target_scale=(5, 1, 1))
    for system in (whole, finer):
        monkeypatch.setitem(systems.SYSTEMS, "mine", lambda config, data, system=system: system)
        if system is finer:
            assert systems.build_system(tiny.config("unet", system="mine"), data) is finer
            continue
        with pytest.raises(InputError, match=r"^data.target_scale: \(5, 1, 1\) asks for finer labels, but mine"):
            systems.build_system(tiny.config("unet", system="mine"), data)


def test_a_stage_is_not_validated_by_a_vector(monkeypatch):
    whole, _ = toy_systems.plain()
    vector = tuple(output._replace(kind="vector") for output in whole.outputs)
    stages = tuple(stage._replace(validate=vector[0].name) for stage in whole.stages)
    with pytest.raises(InputError, match=r"^system: stage \w+ is validated by an output of kind vector, which has no"):
        built(monkeypatch, whole._replace(outputs=vector, stages=stages))
