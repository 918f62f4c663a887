"""The networks: what they see of a stack, what they cannot know, and that they run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from twobe3.models.networks import PlanesNetwork, SliceBranch, StackBranch, VolumeNetwork


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("slices", [1, 2, 8, 17, 64, 96, 256])
def test_one_output_of_a_stack_branch_sees_every_slice(slices: int) -> None:
    branch = StackBranch((4, slices, 3, 4), reduced=4, width=8)
    for parameter in branch.parameters():
        nn.init.constant_(parameter, 0.1)  # all paths open: the gradient is positive wherever the output looks
    maps = torch.ones(1, 4, slices, 3, 4, requires_grad=True)
    before_pooling = nn.Sequential(branch.reduction, *branch.blocks)(maps)
    middle = tuple(length // 2 for length in before_pooling.shape[2:])
    (gradient,) = torch.autograd.grad(before_pooling[(0, slice(None), *middle)].sum(), maps)
    assert (gradient.abs().amax(dim=(0, 1, 3, 4)) > 0).all()


@pytest.mark.parametrize("slices", [8, 64, 256])
def test_the_features_of_a_stack_depend_on_its_first_and_last_slice(slices: int) -> None:
    branch = StackBranch((4, slices, 4, 4), reduced=8, width=8)
    maps = torch.randn(1, 4, slices, 4, 4)
    for position in (0, -1):
        changed = maps.clone()
        changed[:, :, position] += 1.0
        assert (branch(changed) - branch(maps)).abs().max() > 1e-4


def test_slice_branch_does_not_know_the_order_of_slices_and_stack_branch_does() -> None:
    maps = torch.randn(2, 4, 16, 4, 4)
    order = torch.randperm(16)
    unordered = SliceBranch((4, 16, 4, 4), reduced=4, width=8)
    ordered = StackBranch((4, 16, 4, 4), reduced=4, width=8)
    torch.testing.assert_close(unordered(maps[:, :, order]), unordered(maps), rtol=1e-5, atol=1e-5)
    assert (ordered(maps[:, :, order]) - ordered(maps)).abs().max() > 1e-2


@pytest.mark.parametrize("branch", [StackBranch, SliceBranch])
@pytest.mark.parametrize("shape", [(3, 8, 1, 1), (5, 20, 2, 2), (4, 6, 16, 4)])
def test_a_branch_gives_as_many_features_as_it_says(
    branch: type[StackBranch] | type[SliceBranch], shape: tuple[int, int, int, int]
) -> None:
    made = branch(shape, reduced=4, width=8)
    assert made(torch.randn(2, *shape)).shape == (2, made.features)
    assert parameters(made) > 0


@pytest.mark.parametrize("branch", [StackBranch, SliceBranch])
def test_several_planes_give_one_risk_a_patient_whoever_else_is_in_the_batch(
    branch: type[StackBranch] | type[SliceBranch],
) -> None:
    shapes = {"axial": (3, 12, 2, 2), "coronal": (3, 8, 3, 2)}
    network = PlanesNetwork(branch, shapes, reduced=4, width=8, dropout=0.5).eval()  # type: ignore[arg-type]
    stacks = [torch.randn(4, *shape) for shape in shapes.values()]
    risk = network(stacks)
    assert risk.shape == (4,)
    torch.testing.assert_close(network([stack[2:3] for stack in stacks]), risk[2:3], rtol=1e-5, atol=1e-6)
    for number in range(2):
        changed = [stack + (i == number) for i, stack in enumerate(stacks)]
        assert (network(changed) - risk).abs().max() > 1e-4


@pytest.mark.parametrize("layers", [(1, 1, 1, 1), (2, 2, 2, 2)])
def test_volume_network_gives_one_risk_a_patient_and_trains_every_parameter(layers: tuple[int, ...]) -> None:
    network = VolumeNetwork((5.0, 25.0), layers=layers, widths=[4, 8, 16, 32], dropout=0.0)
    volumes = 5.0 * torch.rand(3, 1, 16, 12, 16)
    risk = network([volumes])
    risk.square().sum().backward()
    assert risk.shape == (3,)
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert parameters(network) > 0


def test_volume_network_sees_suv_through_its_windows() -> None:
    network = VolumeNetwork((5.0,), layers=(1, 1, 1, 1), widths=[4, 8, 16, 32], dropout=0.0).eval()
    volume = 4.0 * torch.rand(1, 1, 16, 16, 16)
    hot = volume.clone()
    hot[:, :, 4:8] = 6.0
    hotter = volume.clone()
    hotter[:, :, 4:8] = 60.0
    assert (network([hot]) != network([volume])).all()
    assert (network([hot]) == network([hotter])).all()  # both beyond the window
