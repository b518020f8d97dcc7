"""The simulated GPUs themselves: what they call a wait or a mix, and how they name what a torch lacks."""

import pytest

from tests.gpu.conftest import Ask, CaseError, require
from tests.lacking import EVERYTHING_HERE, skip

DEVICES = ["fake", "slow"]
REPLACED = [
    "torch.cuda.get_device_capability",
    "torch.nn.Module._apply",
    "torch._subclasses.fake_tensor.init_gpu_context",
]
WAITS = {
    "there.sum()": [],
    "there.sum().item()": ["_local_scalar_dense of ()"],
    "bool(there.any())": ["_local_scalar_dense of ()"],
    "there.cpu()": ["copy cuda to cpu"],
    "here.to('cuda')": ["copy cpu to cuda"],
    "here.to('cuda', non_blocking=True)": [],
    "here.copy_(there)": ["copy cuda to cpu"],
    "torch.tensor([1.0], device='cuda')": ["copy cpu to cuda"],
    "there.masked_fill_(there > 0, 1)": [],
    "there[there > 0] = 1": ["index_put_ by a mask"],
    "there + here.sum()": [],
}
"""A line of torch, with three numbers there and three here, and what a GPU would be waited for in it."""


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("line", WAITS)
def test_a_wait_is_seen_and_nothing_else(ask: Ask, device: str, line: str) -> None:
    require(ask, device)
    assert ask("snippet", device=device, name=line)["waits"] == WAITS[line]


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_a_mix_of_devices_raises(ask: Ask, device: str) -> None:
    require(ask, device)
    with pytest.raises(CaseError, match="Expected all tensors to be on the same device"):
        ask("snippet", device=device, name="there + here")


@pytest.mark.slow
def test_a_tensor_of_the_device_is_no_array(slow: Ask) -> None:
    with pytest.raises(CaseError, match="can't convert cuda:0 device type tensor to numpy"):
        slow("snippet", device="slow", name="there.numpy()")


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "name",
    ["torch.cuda.get_device_capability", "torch._subclasses.fake_tensor.init_gpu_context", "torch.nn.Module._apply"],
)
def test_what_torch_lacks_is_named(ask: Ask, device: str, name: str) -> None:
    require(ask, device)
    assert ask("lacking", device=device, without=name)["missing"] == [name]


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_a_table_of_another_order_is_noticed(ask: Ask, device: str) -> None:
    require(ask, device)
    missing = ask("lacking", device=device, slot=3)["missing"]
    assert missing[0].startswith("hasPrimaryContext in the table of at::detail::getCUDAHooks()")


def test_what_is_lacking_skips_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(EVERYTHING_HERE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="no torch here"):
        skip("no torch here")


def test_nothing_may_be_lacking_where_everything_has_to_be_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EVERYTHING_HERE, "1")
    with pytest.raises(pytest.fail.Exception, match="no torch here"):
        skip("no torch here")
