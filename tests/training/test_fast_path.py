"""Shortcuts of a step: each gives the losses that the long way gives, and none waits for the device.

What the teacher leaves out is in tests/losses/test_teacher.py; that frozen parts stand outside the average and outside
what is wrapped for several processes, in test_stages.py and test_files.py.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.utils._python_dispatch import TorchDispatchMode

from muse_core.data.sample import Batch
from muse_core.model.captions import CHUNK, CaptionCache
from muse_core.model.numbers import Lowered
from muse_core.model.routing import ROUTINGS
from muse_core.model.weights import tiny
from muse_core.stages.acceleration import compile_parts, recompute
from muse_core.training.speed import Speed
from muse_core.training.state import optimizer_state, restore_optimizer
from tests.training.mini import Begun, begin

# Operations whose result is a number in Python, or a shape that only the data know: both are waited for.
WAITED_FOR = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique")


class Waits(TorchDispatchMode):
    """Counts what a device would be waited for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name == "index" and any(one is not None and one.dtype == torch.bool for one in args[1])
        if by_mask or any(name.startswith(waited) for waited in WAITED_FOR):
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


def one_step(run: Begun, batch: Batch, step: int) -> dict[str, Tensor]:
    trainer = run.trainer
    trainer.reader.batches = iter([batch])  # type: ignore[assignment]
    trainer.set_lr(step)
    losses = trainer.losses(step)
    norms = trainer.update(step)
    return {**losses.terms, **trainer.oppose([losses], step), **norms}


def test_no_step_waits_for_the_device_and_a_logged_line_does(tmp_path: Path) -> None:
    """All losses and the discriminator, some captions blank, as on a device whose numbers have to be waited for."""
    run = begin(3, tmp_path / "run", {"losses.contrastive": 0.1})
    run.trainer.guard.at_once = False
    batches = [run.next_batch() for _ in range(2)]
    batches[1].captions[3] = ""
    for step, batch in enumerate(batches):
        with Waits() as waits:
            terms = one_step(run, batch, step)
        assert waits.seen == Counter()
    with Waits() as waits:
        run.trainer.guard.look()
        print({name: term.item() for name, term in terms.items()})
    assert waits.seen["_local_scalar_dense"] > 0


def losses_and_gradients(run: Begun, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    run.optimizer.zero_grad(set_to_none=True)
    terms = run.losses(batch)
    run.backward(terms)
    gradients = {name: weight.grad.clone() for name, weight in run.weights.items() if weight.grad is not None}
    return {name: term.detach() for name, term in terms.items()}, gradients


@pytest.fixture
def run(tmp_path: Path) -> Begun:
    """Stage 3: everything trains, and every loss counts."""
    return begin(3, tmp_path / "run", {"losses.contrastive": 0.1})


def close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float, least: float = 0.0) -> None:
    """least: below it, everything is round-off, as what should be 0 is."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        floor = max(tolerance * float(value.abs().max()), least)
        torch.testing.assert_close(found[name], value, rtol=tolerance, atol=floor)


def kept_bytes(call: Callable[[], object]) -> int:
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        call()
    return sum(kept.values())


def test_computing_layers_again_gives_the_same_bits_and_keeps_less(run: Begun) -> None:
    batch = run.next_batch()
    whole = losses_and_gradients(run, batch)
    kept = kept_bytes(lambda: run.objective.run(run.trainee, batch))
    recompute(run.network)
    again = losses_and_gradients(run, batch)
    assert kept_bytes(lambda: run.objective.run(run.trainee, batch)) < kept / 2
    for one, other in zip(whole, again, strict=True):
        close(other, one, 0)


def test_f7_recomputing_is_a_setting(tmp_path: Path) -> None:
    run = begin(1, tmp_path / "run", {"training.checkpointing": True})
    assert "again" in str(run.network.decoder.decoder.get_submodule("up_blocks.0.0").forward)
    assert losses_and_gradients(run, run.next_batch())[1]


@pytest.mark.slow
def test_compiled_networks_have_the_same_losses_and_the_same_names(run: Begun) -> None:
    """To 1e-5. The compiler's own arithmetic is left out, which takes minutes: its graphs run as they were captured."""
    batch = run.next_batch()
    losses, gradients = losses_and_gradients(run, batch)
    names = list(run.network.state_dict())
    compile_parts(run.network, run.objective.judges, backend="eager")
    found = losses_and_gradients(run, batch)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 3  # a layer of each kind, and the decoder
    close(found[0], losses, 1e-5)
    close(found[1], gradients, 1e-3)
    assert list(run.network.state_dict()) == names


def test_frozen_parts_in_half_precision_change_losses_by_less_than_one_in_fifty(tmp_path: Path) -> None:
    run = begin(2, tmp_path / "run", {"losses.contrastive": 0.1})
    low = begin(2, tmp_path / "low", {"losses.contrastive": 0.1, "training.frozen_precision": "bf16"})
    assert low.objective.lowered == Lowered(torch.bfloat16)
    low.network.load_state_dict(run.network.state_dict())
    batch = run.next_batch()
    losses, _ = losses_and_gradients(run, batch)
    lowered, _ = losses_and_gradients(low, batch)
    close(lowered, losses, 0.02)
    assert any(not torch.equal(lowered[name], losses[name]) for name in losses)
    assert {weight.dtype for weight in low.network.parameters()} == {torch.float32}


def test_frozen_precision_follows_that_of_what_trains(tmp_path: Path) -> None:
    assert begin(1, tmp_path / "run").objective.lowered.dtype is None


@pytest.mark.parametrize("routing", ["strict", "figure", "released"])
def test_f3_attention_that_nobody_looks_at_is_never_a_map(run: Begun, routing: str) -> None:
    """Same latents and same gradients to 1e-4, with and without the map; a map is made for blocks that are named."""
    network, images = run.network, run.next_batch().images
    found = []
    for mapped in (None, ()):
        out = network.connect(images, ROUTINGS[routing], mapped)
        network.zero_grad(set_to_none=True)
        out.latents.square().sum().backward()
        gradients = {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}
        found.append((out, gradients))
    (maps, whole), (none, fused) = found
    assert (len(maps.attentions), none.attentions) == (2, ())
    torch.testing.assert_close(none.latents, maps.latents, rtol=1e-4, atol=1e-4)
    close(fused, whole, 1e-3, least=1e-6 * max(float(gradient.abs().max()) for gradient in whole.values()))
    (last,) = network.connect(images, ROUTINGS[routing], (1,)).attentions
    torch.testing.assert_close(last, maps.attentions[1], rtol=1e-4, atol=1e-6)


def test_f3_a_run_without_topology_loss_makes_no_map(tmp_path: Path) -> None:
    run = begin(1, tmp_path / "run", {"losses.topology": 0.0})
    assert run.objective.run(run.trainee, run.next_batch()).out.attentions == ()


def test_the_decoder_lies_in_memory_as_convolutions_want_it_and_paints_the_same(run: Begun) -> None:
    decoder = run.network.decoder
    kernels = [weight for weight in decoder.parameters() if weight.ndim == 4 and weight.shape[-1] > 1]
    assert kernels
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels)
    plain = deepcopy(decoder).to(memory_format=torch.contiguous_format)
    latents = torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(decoder(latents, (32, 32)), plain(latents, (32, 32)), rtol=1e-4, atol=1e-5)


@pytest.fixture
def convolution() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)


def test_one_kernel_for_all_weights_takes_the_step_of_many_also_after_a_resume(convolution: nn.Conv2d) -> None:
    """To 1e-6, with weights and moments that do not lie in memory row by row."""
    one, many, resumed = convolution, deepcopy(convolution), deepcopy(convolution)
    fused, plain = AdamW(one.parameters(), lr=0.1, fused=True), AdamW(many.parameters(), lr=0.1, foreach=False)
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for step in range(4):
        if step == 2:
            resumed.load_state_dict(one.state_dict())
            again = AdamW(resumed.parameters(), lr=0.1, fused=True)
            restore_optimizer(again, "x", *deepcopy(optimizer_state(fused, "x")))
        pairs = [(one, fused), (many, plain), *([(resumed, again)] if step > 1 else [])]
        for module, optimizer in pairs:
            optimizer.zero_grad()
            module(images).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(one.weight, many.weight, rtol=1e-6, atol=1e-6)
    assert torch.equal(one.weight, resumed.weight)


def test_f4_a_caption_is_embedded_once_to_the_same_bits_in_any_company() -> None:
    cache, words = CaptionCache(tiny.load_text()), tiny.load_words()
    captions = [f"{one} {other}" for one, other in zip(words, words[1:], strict=False)][: CHUNK + 5]
    together = cache([*captions, captions[0]])
    assert cache.computed == len(captions)
    torch.testing.assert_close(together, cache.tower([*captions, captions[0]]), rtol=1e-5, atol=1e-6)
    assert torch.equal(cache(captions[::-1]), together[:-1].flip(0))
    assert cache.computed == len(captions)
    alone = CaptionCache(cache.tower)
    assert torch.equal(torch.cat([alone([caption]) for caption in captions[::7]]), together[:-1][::7])


def test_f4_the_oldest_captions_are_forgotten() -> None:
    cache = CaptionCache(tiny.load_text(), most=3)
    cache(["a", "b", "c"])
    cache(["d", "e"])
    assert len(cache(["c", "d", "e"])) == 3
    assert cache.computed == 5
    cache(["a"])
    assert cache.computed == 6


class Clock:
    """A clock that tests wind."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(("read_s", "waited", "limit"), [(0.5, 0.0, "steps"), (4.0, 3.0, "data")])
def test_the_rate_of_data_stands_beside_that_of_steps(
    monkeypatch: pytest.MonkeyPatch, read_s: float, waited: float, limit: str
) -> None:
    """Two processes, four images each, a second of computing; readers take half a second for them, or four."""
    from muse_core.training import speed as module

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)

    def batches() -> Iterator[Batch]:
        clock.now += waited
        yield Batch(torch.zeros(4, 3, 8, 8), [""] * 4, torch.zeros(4), None, ["k"] * 4, read_s=read_s)

    speed = Speed()
    speed.wait_for(batches())
    clock.now += 1
    rates = speed.read(processes=2)
    assert rates.steps == pytest.approx(8)
    assert rates.data == pytest.approx(8 / read_s)
    assert rates.images == pytest.approx(8 / (1 + waited))
    assert rates.waited == pytest.approx(waited / (1 + waited))
    assert rates.said().endswith(f"limit {limit}")
    assert speed.read(2).images == 0


def test_readers_say_how_long_they_worked(run: Begun) -> None:
    assert run.next_batch().read_s > 0
