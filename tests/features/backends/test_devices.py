"""Names of devices become devices of this machine, with batches and precisions that suit them."""

import pytest
import torch

from features.backends.devices import choose_devices, default_batch_tokens, half_dtypes
from features.errors import InputError


def test_auto_is_the_best_device_that_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_devices("auto") == [torch.device("cpu")]
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_devices("auto") == [torch.device("mps")]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_devices("auto") == [torch.device("cuda")]


def test_devices_are_counted(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_devices("cuda:1") == [torch.device("cuda", 1)]
    with pytest.raises(InputError, match=r"'cuda:2' is not there: this machine has 2"):
        choose_devices("cuda:2")


@pytest.mark.parametrize("name", ["", "gpu", "CPU", "cuda:-1", "cuda:x", "cpu:0", "meta"])
def test_names_of_no_device_are_refused(name):
    with pytest.raises(InputError, match=f"{name!r}"):
        choose_devices(name)


def test_half_precision_by_device(monkeypatch):
    assert half_dtypes(torch.device("cuda")) == ("float16", "bfloat16")
    assert half_dtypes(torch.device("mps")) == ("float16",)
    # Whatever the processor says of itself: which of them is fast is measured.
    for flags in ({"avx2": True, "amx_bf16": False}, {"avx512_bf16": True}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda flags=flags: flags)
        assert half_dtypes(torch.device("cpu")) == ("bfloat16", "float16")


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_every_device_has_a_batch_size_and_half_precisions(device):
    assert default_batch_tokens(torch.device(device), 768) >= 512
    halves = half_dtypes(torch.device(device))
    assert halves
    assert set(halves) <= {"bfloat16", "float16"}


@pytest.mark.parametrize(
    ("device", "width", "tokens"),
    [
        ("cpu", 32, 2048),
        ("cpu", 384, 2048),
        ("cpu", 768, 512),
        ("cpu", 4096, 512),
        ("cuda", 32, 65_536),
        ("cuda", 4096, 65_536),
    ],
)
def test_wider_models_get_smaller_batches_on_the_cpu(device, width, tokens):
    assert default_batch_tokens(torch.device(device), width) == tokens


def test_several_devices_of_one_kind(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    both = [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert choose_devices("cuda:0,cuda:1") == choose_devices("cuda:0, cuda:1") == both


@pytest.mark.parametrize("names", ["cuda:0,cuda:0", "cpu,cuda:0", "cpu,cpu"])
def test_devices_that_can_not_work_together_are_refused(names, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match=r"only of one kind, and each once"):
        choose_devices(names)
