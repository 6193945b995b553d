"""What is refused from shapes alone: principal components that there cannot be."""

import pytest

from jaxkd.errors import ConfigError
from jaxkd.training.dimensions import require_dimensions
from tests.small import small_config


@pytest.mark.parametrize(("embedding", "most"), [("max_mean_pool", 79), ("logits", 50)])
def test_more_principal_components_than_rows_or_dimensions_are_refused_before_anything_is_embedded(small_inputs, embedding, most):
    """80 clips of one frame have 79 components; the width is the student's where the config gives none."""
    config = small_config()
    config.teacher.embedding = embedding
    config.compressed.update({"transformation": "pca", "features": most})
    require_dimensions(config, small_inputs.dataset, small_inputs.inputs)
    config.compressed.features = most + 1
    with pytest.raises(ConfigError, match=f"no more than {most} principal components, but {most + 1} are asked for"):
        require_dimensions(config, small_inputs.dataset, small_inputs.inputs)
    config.compressed.features, config.student.name = 0, "cp_resnet_small"
    with pytest.raises(ConfigError, match=f"no more than {most} principal components, but .* the student's width"):
        require_dimensions(config, small_inputs.dataset, small_inputs.inputs)
