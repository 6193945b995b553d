"""What the precompute stage refuses before long work."""

import pytest

from jaxkd.errors import ConfigError
from jaxkd.training import preparation
from tests.small import text_config


@pytest.mark.parametrize(("null_space", "most"), [("rows", 255), ("differences", 255), ("off", 256)])
def test_more_directions_than_the_null_space_has_are_refused_before_the_teacher_is_trained(text_inputs, cache_dir, monkeypatch, null_space, most):
    monkeypatch.setattr(preparation, "train_classifier", lambda *_, **__: pytest.fail("the teacher was trained"))
    config = text_config()
    config.lelp.update({"subclasses": 300, "null_space": null_space})
    with pytest.raises(ConfigError, match=rf"config.lelp.subclasses is 300: 300 directions are asked for.* use at most {most}"):
        preparation.prepare(config, cache_dir)
