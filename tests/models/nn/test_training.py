"""The training loop: reproducible, mirrored left for right only, independent of the unit of the outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.outcomes import FloatArray, Outcomes
from twobe3.models.nn import training
from twobe3.models.nn.inputs import ModelInput
from twobe3.models.nn.networks import PlanesNetwork, SliceBranch, StackBranch
from twobe3.models.nn.training import (
    EarlyStopping,
    TrainingParameters,
    draw_batch,
    ensemble_outputs,
    epoch_batches,
    hold_out,
    member_from_arrays,
    members_to_arrays,
    train_ensemble,
)

HOW = TrainingParameters(epochs=6, batch_size=4, ensemble_size=2)


def ensemble_risk(networks: Sequence[nn.Module], inputs: Sequence[ModelInput], how: TrainingParameters) -> FloatArray:
    """The mean first output of the networks and views."""
    return ensemble_outputs(networks, inputs, how)[..., 0].mean(dim=0).numpy()


class Small(nn.Module):
    """A convolution, an average, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(4, 1))

    def forward(self, stacks: Sequence[torch.Tensor]) -> torch.Tensor:
        risk: torch.Tensor = self.head(self.body(stacks[0]))
        return risk.squeeze(1)


@pytest.fixture
def stack() -> ModelInput:
    return ModelInput(torch.randn(10, 2, 4, 5, 6, generator=torch.Generator().manual_seed(1)), -1)


@pytest.fixture
def binary() -> Outcomes:
    event = np.arange(10) % 3 == 0
    return Outcomes(Binary("y", "y"), tuple(f"p{i}" for i in range(10)), event.astype(float), event)


@pytest.fixture
def continuous(stack: ModelInput, binary: Outcomes) -> Outcomes:
    value = stack.values.mean(dim=(1, 2, 3, 4)).double().numpy()
    return Outcomes(Continuous("y", "y"), binary.patients, value, np.ones(10, dtype=np.bool_))


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(stack: ModelInput, binary: Outcomes) -> None:
    arrays = []
    for seed in (3, 3, 4):
        torch.manual_seed(len(arrays))  # whatever the caller drew before
        arrays.append(members_to_arrays(train_ensemble(Small, [stack], binary, HOW, seed)))
    assert all((arrays[0][key] == arrays[1][key]).all() for key in arrays[0])
    assert any((arrays[0][key] != arrays[2][key]).any() for key in arrays[0])


def test_training_leaves_the_callers_random_numbers_alone(stack: ModelInput, binary: Outcomes) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train_ensemble(Small, [stack], binary, HOW, 0)
    assert (torch.rand(3) == expected).all()


def test_another_number_of_threads_gives_the_same_risks_to_a_tolerance(stack: ModelInput, binary: Outcomes) -> None:
    before = torch.get_num_threads()
    risks = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            risks.append(ensemble_risk(train_ensemble(Small, [stack], binary, HOW, 0), [stack], HOW))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(risks[0], risks[1], atol=1e-4)


def test_an_ensemble_is_the_mean_of_its_members_whatever_the_batch_size(stack: ModelInput, binary: Outcomes) -> None:
    networks = train_ensemble(Small, [stack], binary, HOW, 0)
    assert len(networks) == 2
    single = [ensemble_risk([network], [stack], replace(HOW, batch_size=10)) for network in networks]
    assert np.abs(single[0] - single[1]).max() > 1e-4
    for batch_size in (2, 3, 10):
        np.testing.assert_allclose(
            ensemble_risk(networks, [stack], replace(HOW, batch_size=batch_size)), np.mean(single, axis=0), atol=1e-6
        )


@pytest.mark.parametrize("axis", [-1, -3])
def test_patients_are_mirrored_left_for_right_only_and_in_all_inputs_alike(
    stack: ModelInput, binary: Outcomes, axis: int
) -> None:
    seen: list[tuple[torch.Tensor, ...]] = []

    class Spy(Small):
        def forward(self, stacks: Sequence[torch.Tensor]) -> torch.Tensor:
            seen.append(tuple(stacks))
            return super().forward(stacks)

    other = ModelInput(stack.values, axis)
    train_ensemble(Spy, [stack, other], binary, replace(HOW, ensemble_size=1), 0)
    mirrored = 0
    for first, second in seen:
        for one, two in zip(first, second, strict=True):
            original = next(x for x in stack.values if torch.equal(one, x) or torch.equal(one, x.flip(-1)))
            flipped = torch.equal(one, original.flip(-1))
            assert torch.equal(two, original.flip(axis) if flipped else original)
            mirrored += flipped
    assert 20 < mirrored < 40  # of 6 epochs of 10 patients


def test_the_untrained_network_starts_at_the_share_of_positives(stack: ModelInput, binary: Outcomes) -> None:
    started: list[float] = []

    class Spy(Small):
        def forward(self, stacks: Sequence[torch.Tensor]) -> torch.Tensor:
            last = self.head[1]
            assert isinstance(last, nn.Linear)
            started.append(last.bias.item())
            return super().forward(stacks)

    train_ensemble(Spy, [stack], binary, replace(HOW, ensemble_size=1), 0)
    assert started[0] == pytest.approx(np.log(0.4 / 0.6))


def test_the_unit_and_the_origin_of_a_continuous_outcome_do_not_matter(stack: ModelInput, continuous: Outcomes) -> None:
    in_days = replace(continuous, value=3650.0 * continuous.value + 20_000.0)
    years, days = (
        ensemble_risk(train_ensemble(Small, [stack], outcomes, HOW, 0), [stack], HOW)
        for outcomes in (continuous, in_days)
    )
    assert years.std() > 0
    np.testing.assert_allclose(days, 3650.0 * years + 20_000.0, rtol=1e-5)


def test_a_constant_continuous_outcome_is_predicted_as_it_is(stack: ModelInput, continuous: Outcomes) -> None:
    constant = replace(continuous, value=np.full(10, 5.0))
    risk = ensemble_risk(train_ensemble(Small, [stack], constant, replace(HOW, epochs=20), 0), [stack], HOW)
    np.testing.assert_allclose(risk, 5.0, atol=0.5)


def test_batches_without_an_event_are_survived(stack: ModelInput, binary: Outcomes) -> None:
    endpoint = TimeToEvent("t", "t", "e")
    outcomes = replace(binary, endpoint=endpoint, value=np.arange(10) + 1.0, event=np.arange(10) == 0)
    risk = ensemble_risk(train_ensemble(Small, [stack], outcomes, replace(HOW, batch_size=2), 0), [stack], HOW)
    assert np.isfinite(risk).all()


def test_networks_learn_what_the_input_tells(stack: ModelInput, continuous: Outcomes) -> None:
    how = TrainingParameters(epochs=150, learning_rate=1e-2, ensemble_size=1)
    risk = ensemble_risk(train_ensemble(Small, [stack], continuous, how, 0), [stack], replace(HOW, batch_size=10))
    assert np.corrcoef(risk, continuous.value)[0, 1] > 0.9


def test_members_round_trip_through_arrays(stack: ModelInput, binary: Outcomes) -> None:
    networks = train_ensemble(Small, [stack], binary, HOW, 0)
    arrays = members_to_arrays(networks)
    again = [member_from_arrays(Small(), arrays, number) for number in range(2)]
    np.testing.assert_array_equal(ensemble_risk(again, [stack], HOW), ensemble_risk(networks, [stack], HOW))


def test_stratified_batches_share_the_events_out_and_leave_nobody_out() -> None:
    event = np.arange(23) % 5 == 0
    for _ in range(3):
        batches = epoch_batches(np.random.default_rng(0), np.arange(23), event, 4, stratified=True)
        assert sorted(np.concatenate(batches)) == list(range(23))
        assert {int(event[batch].sum()) for batch in batches} == {1, 2}  # 5 events in 4 batches
        assert {len(batch) for batch in batches} == {5, 6}


def test_who_is_set_aside_for_stopping_has_its_share_of_the_events_and_does_not_train(binary: Outcomes) -> None:
    everybody = Outcomes(
        binary.endpoint, tuple(f"p{i}" for i in range(40)), np.arange(40) % 4 / 3 // 1, np.arange(40) % 4 == 3
    )
    learning, watched = hold_out(everybody, 0.2, 5)
    assert sorted([*learning, *watched]) == list(range(40))
    assert (len(watched), int(everybody.event[watched].sum())) == (8, 2)
    assert list(hold_out(everybody, 0.2, 6)[1]) != list(watched)
    assert len(hold_out(everybody, 0.0, 5)[1]) == 0


def test_stopping_never_shows_the_network_a_mirrored_or_a_training_patient_to_judge_it(
    stack: ModelInput, continuous: Outcomes
) -> None:
    judged: list[torch.Tensor] = []
    trained: list[torch.Tensor] = []

    class Spy(Small):
        def forward(self, stacks: Sequence[torch.Tensor]) -> torch.Tensor:
            (trained if self.training else judged).append(stacks[0])
            return super().forward(stacks)

    how = replace(HOW, ensemble_size=1, stopping_share=0.3, patience=100)
    train_ensemble(Spy, [stack], continuous, how, 0)
    _, watched = hold_out(continuous, 0.3, 0)
    assert all(torch.equal(seen, stack.values[watched]) for seen in torch.cat(judged).split(len(watched)))
    for seen in torch.cat(trained):
        assert not any(torch.equal(seen, other) or torch.equal(seen, other.flip(-1)) for other in stack.values[watched])


def test_training_stops_when_patience_is_over_and_keeps_the_best_epoch() -> None:
    network, stopper = nn.Linear(1, 1), EarlyStopping(patience=2, warmup=0)
    for loss, done in ((3.0, False), (1.0, False), (2.0, False), (1.5, True)):
        nn.init.constant_(network.weight, loss)
        assert stopper.update(network, loss) is done
    stopper.restore(network)
    assert network.weight.item() == 1.0


def test_patience_begins_once_the_rate_has_risen() -> None:
    network, stopper = nn.Linear(1, 1), EarlyStopping(patience=2, warmup=3)
    losses = (1.0, 0.9, 2.0, 2.0, 2.0)
    assert [stopper.update(network, loss) for loss in losses] == [False, False, False, False, True]


def test_steps_draw_the_scan_and_its_augmentations_alike_in_all_inputs(stack: ModelInput, binary: Outcomes) -> None:
    numbered = [torch.full((10, 2, 1, 1, 1), float(version)) for version in range(3)]
    inputs = [ModelInput(numbered[0], -1, tuple(numbered[1:])), ModelInput(numbered[0] + 10, -1, tuple(numbered[1:]))]
    covariates = ModelInput(torch.arange(10.0).view(10, 1), None)
    seen = np.zeros(3)
    shuffle = np.random.default_rng(0)
    for _ in range(20):
        index = torch.arange(10)
        first, second, third = draw_batch([*inputs, covariates], index, shuffle)
        version = first[:, 0, 0, 0, 0]
        assert torch.equal(second[:, 0, 0, 0, 0], torch.where(version == 0, 10.0, version))
        assert torch.equal(third, covariates.values)
        seen += np.bincount(version.numpy().astype(int), minlength=3)
    assert (np.abs(seen / 200 - 1 / 3) < 0.12).all()


def test_every_patient_is_shifted_along_the_slices_alike_in_all_inputs_and_nothing_is_lost() -> None:
    numbers = torch.arange(16.0).view(1, 1, 16, 1, 1).expand(8, 1, 16, 2, 3)
    inputs = [ModelInput(numbers, None), ModelInput(numbers + 100, -1), ModelInput(torch.arange(8.0).view(8, 1), None)]
    index, shuffle, found = torch.arange(8), np.random.default_rng(0), set()
    for _ in range(30):
        first, second, third = draw_batch(inputs, index, shuffle, shift_share=0.25)
        torch.testing.assert_close(first, numbers[index])  # what is no picture stays
        torch.testing.assert_close(third, inputs[2].values)
        starts = (16 - (second[:, 0, 0, 0, 0] - 100)) % 16
        for patient, start in enumerate(starts.int().tolist()):
            torch.testing.assert_close(second[patient] - 100, numbers[patient].roll(start, 1))
            found.add((start + 8) % 16 - 8)
    assert found == set(range(-4, 5))


@pytest.mark.parametrize(("steps", "epochs"), [(1, 400), (3, 134), (20, 20), (200, 20)])
def test_few_patients_have_more_epochs_unless_their_number_is_given(steps: int, epochs: int) -> None:
    assert TrainingParameters().epochs_of(steps) == epochs
    assert TrainingParameters(fewest_epochs=50).epochs_of(steps) == max(50, epochs)
    assert TrainingParameters(epochs=7).epochs_of(steps) == 7


def spread_cohort(rng: np.random.Generator, n: int) -> tuple[ModelInput, npt.NDArray[np.bool_]]:
    """Maps of two bright slices, a few slices apart or many: slice by slice nothing tells the two kinds apart."""
    together = np.arange(n) % 2 == 1
    maps = 0.3 * rng.random((n, 4, 32, 2, 2))
    for patient, near in enumerate(together):
        apart = rng.integers(3, 7) if near else rng.integers(12, 20)
        first = rng.integers(0, 32 - apart)
        maps[patient, 0, [first, first + apart]] += rng.uniform(0.8, 1.2, (2, 1, 1))
    return ModelInput(torch.from_numpy(maps).float(), -1), together


def test_the_order_of_slices_tells_the_stack_what_the_set_of_slices_cannot_know() -> None:
    rng = np.random.default_rng(0)
    (learnt, labels), (tested, truth) = spread_cohort(rng, 40), spread_cohort(rng, 100)
    outcomes = Binary("near", "y").outcomes({f"{i:02d}": {"y": str(int(one))} for i, one in enumerate(labels)})
    how = TrainingParameters(learning_rate=3e-3, ensemble_size=1, shift_share=0.125)
    shape = (4, 32, 2, 2)
    branches: dict[str, Callable[[], nn.Module]] = {
        "stack": lambda: StackBranch(shape, reduced=8, width=8, taps=4, smoothing=True),
        "set": lambda: SliceBranch(shape, reduced=8, width=8),
    }
    auc = {}
    for name, make in branches.items():
        networks = train_ensemble(
            lambda make=make: PlanesNetwork({"axial": make()}, dropout=0.2), [learnt], outcomes, how, 0
        )
        auc[name] = roc_auc_score(truth, ensemble_risk(networks, [tested], how))
    assert auc["stack"] > 0.9
    assert 0.3 < auc["set"] < 0.7


def test_the_average_over_views_is_that_of_the_scan_its_augmentations_and_their_mirror_images(
    stack: ModelInput, binary: Outcomes
) -> None:
    networks = train_ensemble(Small, [stack], binary, HOW, 0)
    augmented = ModelInput(stack.values, -1, (stack.values + 1.0,))
    expected = np.mean(
        [
            ensemble_risk(networks, [ModelInput(values, -1)], HOW)
            for version in augmented.versions
            for values in (version, version.flip(-1))
        ],
        axis=0,
    )
    got = ensemble_risk(networks, [augmented], replace(HOW, test_time="average"))
    np.testing.assert_allclose(got, expected, atol=1e-6)
    alone = ensemble_risk(networks, [augmented], HOW)
    np.testing.assert_array_equal(alone, ensemble_risk(networks, [stack], HOW))
    mirrored = ensemble_risk(networks, [ModelInput(stack.values.flip(-1), -1, (augmented.augmented[0].flip(-1),))],
                             replace(HOW, test_time="average"))  # fmt: skip
    np.testing.assert_allclose(mirrored, got, atol=1e-6)  # a mirror image has the same risk


def test_the_learning_rate_rises_over_a_tenth_of_the_steps_and_falls_to_nothing() -> None:
    factor = training.warmup_cosine(100)
    rates = [factor(step) for step in range(101)]
    assert rates[:11] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0])
    assert (np.diff(rates[10:]) < 0).all()
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0)
