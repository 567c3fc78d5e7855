import pytest
import timm

from sw_models.checkpoints.keys import convert_published, is_published, published_family


@pytest.mark.parametrize(
    ("name", "family"), [("D_model_v1", "v1"), ("D_model_v2", "v2"), ("D_model_mvtec", "coordatt")]
)
def test_published_networks_are_told_apart(name, family, golden):
    state = golden(name)[0]
    assert is_published(state)
    assert published_family(state) == family


def test_our_own_names_are_not_published_ones():
    assert not is_published(timm.create_model("shiftwise_pico").state_dict())


@pytest.mark.parametrize(
    ("depth", "message"), [(3, r"lacks stages\.2\.blocks\.2, "), (1, r"has stages\.2\.blocks\.1, ")]
)
def test_another_depth_is_an_error_that_names_the_blocks(depth, message, golden):
    model = timm.create_model("shiftwise_tiny", depths=(1, 1, depth, 1), dims=(16, 32, 64, 128), num_classes=10)
    with pytest.raises(ValueError, match=message):
        convert_published(golden("D_model_v2")[0], model)
