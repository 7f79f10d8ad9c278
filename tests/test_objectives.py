"""Every objective keeps the contract; this walks over all that are registered."""

import pytest
import torch

from sr_zoo.objectives import OBJECTIVES


@pytest.mark.parametrize("name", OBJECTIVES)
def test_contract(name):
    objective = OBJECTIVES.build(name)
    weight = torch.nn.Parameter(torch.rand(()))
    hr, lr = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 8, 8)
    sr = weight * torch.rand(2, 3, 32, 32)

    loss = objective(sr, hr, lr)
    assert loss.shape == ()
    loss.backward()
    assert weight.grad is not None and torch.isfinite(weight.grad)
    assert all(p.grad is None for p in objective.parameters()), "the generator's loss must not train the prior"

    weight.grad = None
    loss = objective.fit(sr, hr)
    if loss is not None:
        loss.backward()
        assert any(p.grad is not None for p in objective.parameters())
    assert weight.grad is None, "the prior's loss must not train the generator"


def test_regression_losses():
    sr, hr = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5)
    assert OBJECTIVES.build("regression")(sr, hr, None) == 0.25
    assert OBJECTIVES.build({"name": "regression", "loss": "l1"})(sr, hr, None) == 0.5
    with pytest.raises(ValueError, match="loss is 'l3'"):
        OBJECTIVES.build({"name": "regression", "loss": "l3"})
