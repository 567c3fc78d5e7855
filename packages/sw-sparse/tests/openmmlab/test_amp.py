import pytest
import torch

pytest.importorskip("mmengine", reason="mmengine is not installed (extra openmmlab)")

from sw_sparse.openmmlab.amp import BFloat16OptimWrapper


def test_the_forward_pass_runs_in_bfloat16_and_the_weights_stay_in_float32():
    model = torch.nn.Linear(3, 3)
    wrapper = BFloat16OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    before = model.weight.detach().clone()
    with wrapper.optim_context(model):
        output = model(torch.ones(2, 3))
    assert output.dtype == torch.bfloat16
    wrapper.update_params(output.float().sum())
    assert model.weight.dtype == torch.float32
    assert not torch.equal(model.weight, before)
