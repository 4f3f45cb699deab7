import dataclasses
import os
import subprocess
import sys
from typing import NamedTuple

import pytest
import torch
from torch import nn

from setwise import device as device_module
from setwise.device import (
    autocast,
    autocast_dtype,
    compile_module,
    configure,
    describe,
    explain_out_of_memory,
    generator_state,
    grad_scaler,
    move,
    peak_memory,
    preserve_rng,
    resolve_device,
    resolve_setup,
    seed_everything_of,
    without_autocast,
)
from setwise.errors import ConfigError, DeviceError

CPU = torch.device("cpu")


@pytest.fixture
def machine(monkeypatch):
    """Pretends that a machine has certain devices, and that no launcher started this process."""
    for variable in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(variable, raising=False)

    def pretend(*, num_cuda: int = 0, mps: bool = False, capability: tuple[int, int] = (8, 0), amx: bool = False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: num_cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: num_cuda)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)

    pretend()
    return pretend


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ({}, "cpu"),
        ({"mps": True}, "mps"),
        ({"num_cuda": 2, "mps": True}, "cuda:0"),
    ],
)
def test_auto_prefers_cuda_then_mps_then_cpu(machine, devices, expected):
    machine(**devices)
    assert str(resolve_device("auto")) == expected


@pytest.mark.parametrize("name", ["cpu", "mps", "cuda:0", "cuda:2"])
def test_a_device_that_is_there_is_taken(machine, name):
    machine(num_cuda=3, mps=True)
    assert str(resolve_device(name)) == name


@pytest.mark.parametrize("variable", ["LOCAL_RANK", "SLURM_LOCALID"])
@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_launched_processes_take_one_cuda_device_each(machine, monkeypatch, variable, name):
    monkeypatch.setenv(variable, "1")
    machine(num_cuda=3)
    assert str(resolve_device(name)) == "cuda:1"
    assert str(resolve_device("cuda:2")) == "cuda:2"
    machine(num_cuda=1)  # the launcher shows each process its own device only
    assert str(resolve_device(name)) == "cuda:0"


@pytest.mark.parametrize(
    ("name", "devices", "message"),
    [
        ("cuda", {}, 'device="cuda" is not there; this machine has cpu. .*device=auto and, for CUDA, check'),
        ("mps", {"num_cuda": 1}, 'device="mps" is not there; this machine has cpu, cuda:0'),
        ("cuda:2", {"num_cuda": 2}, 'device="cuda:2" is not there; this machine has cpu, cuda:0, cuda:1'),
    ],
)
def test_a_missing_device_is_refused_with_those_that_are_there(machine, name, devices, message):
    machine(**devices)
    with pytest.raises(DeviceError, match=message):
        resolve_device(name)


def test_more_processes_than_devices_are_refused(machine, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "2")
    machine(num_cuda=2)
    with pytest.raises(DeviceError, match='"cuda:2" is not there'):
        resolve_device("auto")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CPU", "cpu:0", ""])
def test_an_unknown_device_name_is_refused(name):
    with pytest.raises(ConfigError, match=f'device="{name}" is not known; use auto, cpu, cuda'):
        resolve_device(name)


@pytest.mark.parametrize(
    ("devices", "precision", "reason"),
    [
        ({}, "32", "auto: this CPU has no matrix units for bfloat16"),
        ({"amx": True}, "bf16-mixed", r"auto: this CPU \(AMX\) has matrix units for bfloat16"),
        ({"num_cuda": 1, "capability": (7, 5)}, "32", r"auto: Some GPU \(capability 7.5\) has no matrix units"),
        ({"num_cuda": 1, "capability": (8, 0)}, "bf16-mixed", r"auto: Some GPU \(capability 8.0\) has matrix units"),
        ({"num_cuda": 1, "capability": (12, 0)}, "bf16-mixed", r"capability 12.0"),
        ({"mps": True}, "32", "auto: mps has no matrix units"),
    ],
)
def test_auto_precision_follows_the_hardware_and_says_so(machine, devices, precision, reason):
    machine(**devices)
    setup = resolve_setup()
    assert setup.precision == precision
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(setup.reason)


def test_a_cpu_of_which_torch_cannot_tell_has_no_matrix_units(machine, monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert resolve_setup("cpu").precision == "32"


def test_a_precision_that_was_asked_for_is_taken(machine):
    assert resolve_setup("cpu", "32").dtype == torch.float32
    slow = resolve_setup("cpu", "bf16-mixed")
    assert slow.dtype == torch.bfloat16
    assert slow.reason == "precision=bf16-mixed was asked for, although this CPU has no matrix units for bfloat16"
    machine(num_cuda=1)
    assert resolve_setup("cuda", "16-mixed").dtype == torch.float16
    assert resolve_setup("cuda", "bf16-mixed").reason == "precision=bf16-mixed was asked for"


def test_float16_on_a_cpu_is_refused():
    with pytest.raises(DeviceError, match="precision=16-mixed needs a GPU; on a CPU use precision=bf16-mixed or 32"):
        resolve_setup("cpu", "16-mixed")


def test_an_unknown_precision_is_refused_with_the_nearest_one():
    with pytest.raises(ConfigError, match=r'precision="bf16".*use one of auto, 32.*did you mean "bf16-mixed"'):
        resolve_setup("cpu", "bf16")


@pytest.mark.parametrize(("precision", "dtype"), [("32", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_autocast_sets_the_dtype_of_products(precision, dtype):
    x = torch.ones(2, 2)
    with autocast(CPU, precision):
        assert (x @ x).dtype == dtype
        assert autocast_dtype(CPU) == (None if precision == "32" else dtype)
        with without_autocast(CPU):
            assert (x @ x).dtype == torch.float32
            assert autocast_dtype(CPU) is None
    assert autocast_dtype(CPU) is None


def test_only_float16_needs_a_scaler():
    assert grad_scaler(CPU, "32") is None
    assert grad_scaler(CPU, "bf16-mixed") is None
    assert isinstance(grad_scaler(CPU, "16-mixed"), torch.amp.GradScaler)


def numerics() -> tuple[object, ...]:
    return (
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        torch.utils.deterministic.fill_uninitialized_memory,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("tf32", [True, False])
def test_numerics_are_set_and_put_back(tf32, deterministic):
    before = numerics()
    with configure(tf32=tf32, deterministic=deterministic):
        matmul, cudnn, is_deterministic, warn_only, benchmark, fill, _ = numerics()
        assert (matmul != "highest", cudnn) == (tf32, tf32)
        assert (is_deterministic, warn_only) == (deterministic, False)
        assert not (deterministic and (benchmark or fill))
    assert numerics() == before


def test_numerics_are_put_back_after_an_error():
    before = numerics()
    with pytest.raises(RuntimeError, match="broken"), configure(tf32=True, deterministic=True):
        raise RuntimeError("broken")
    assert numerics() == before


def test_float32_products_keep_their_precision_on_a_cpu():
    x, y = torch.randn(67, 71), torch.randn(71, 73)
    with configure(tf32=True, deterministic=False):
        product = x @ y
    torch.testing.assert_close(product.double(), x.double() @ y.double(), rtol=1e-5, atol=1e-5)


def test_operations_that_are_not_deterministic_raise_when_determinism_is_asked_for():
    def write_twice() -> torch.Tensor:
        return torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([5.0, 7.0]))

    write_twice()
    with configure(tf32=False, deterministic=True), pytest.raises(RuntimeError, match="deterministic"):
        write_twice()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has …"), "2.50 GiB more"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 3221225472 bytes"),
            "3.00 GiB",
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1048576 bytes."), "1.00 MiB"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GiB). Tried to allocate 512 MB"), "512 MB"),
        (MemoryError("Unable to allocate 7.28 TiB for an array"), "7.28 TiB"),
        (MemoryError(), "out of memory; "),
        (RuntimeError("CUDA error: out of memory"), "out of memory; "),
    ],
)
def test_running_out_of_memory_says_what_was_asked_for_and_what_to_lower(error, message):
    with pytest.raises(DeviceError, match="lower it") as raised, explain_out_of_memory("lower it"):
        raise error
    assert message in str(raised.value)
    assert raised.value.__cause__ is error


def test_a_real_allocation_that_fails_is_explained():
    message = r"out of memory: \d+\.\d\d GiB more were asked for; lower it"
    with pytest.raises(DeviceError, match=message), explain_out_of_memory("lower it"):
        torch.empty(2**55)


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes do not match"), DeviceError("out of memory: before"), KeyError()]
)
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as raised, explain_out_of_memory("lower it"):
        raise error
    assert raised.value is error


class Pair(NamedTuple):
    left: torch.Tensor
    right: object


@dataclasses.dataclass(frozen=True)
class Item:
    values: torch.Tensor
    name: str
    count: int = dataclasses.field(default=0, init=False)


def test_move_reaches_tensors_however_nested():
    x = torch.ones(3)
    batch = {"pair": Pair(x, [x, (x, "text")]), "item": Item(x, "a"), "none": None, 5: 7}
    moved = move(batch, torch.device("meta"))
    assert type(moved["pair"]) is Pair
    assert type(moved["pair"].right) is list
    assert type(moved["pair"].right[1]) is tuple
    tensors = [moved["pair"].left, moved["pair"].right[0], moved["pair"].right[1][0], moved["item"].values]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert (moved["pair"].right[1][1], moved["item"].name, moved["none"], moved[5]) == ("text", "a", None, 7)
    assert batch["pair"].left.device.type == "cpu"


def test_move_to_where_tensors_are_copies_nothing():
    x = torch.ones(3)
    assert move([x], CPU)[0] is x


def test_seeding_reaches_torch_and_nothing_else():
    import random

    import numpy as np

    seed_everything_of(CPU, 7)
    first, others = torch.rand(3), (random.getstate(), np.random.get_state()[1].tolist())
    seed_everything_of(CPU, 7)
    assert torch.equal(torch.rand(3), first)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == others


def test_generators_are_put_back_also_after_an_error():
    before = generator_state(CPU)
    with pytest.raises(RuntimeError, match="Scalar"), preserve_rng(CPU):
        torch.rand(3).item()
    assert torch.equal(generator_state(CPU), before)


def test_a_cpu_is_described_by_plain_values():
    facts = describe(CPU)
    assert facts["device"] == "cpu"
    assert facts["torch"] == torch.__version__
    assert isinstance(facts["name"], str)
    assert facts["name"]
    assert facts["memory"] is None or facts["memory"] > 2**28


def test_peak_memory_counts_bytes_and_only_grows():
    held = torch.ones(2**23)
    peak = peak_memory(CPU)
    if peak is None:
        pytest.skip("this system does not tell")
    assert peak >= held.nbytes
    del held
    assert peak_memory(CPU) >= peak


def test_a_module_stays_as_it_is_when_not_compiled():
    module = nn.Linear(3, 5)
    assert compile_module(module, enabled=False) is module
    assert module._compiled_call_impl is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_compiling_keeps_what_a_module_computes_and_its_parameter_names():
    module, x = nn.Linear(3, 5), torch.randn(7, 3)
    expected = module(x)
    assert compile_module(module, enabled=True) is module
    torch.testing.assert_close(module(x), expected)
    assert set(module.state_dict()) == {"weight", "bias"}


def test_compiling_without_a_compiler_says_what_to_do(monkeypatch):
    monkeypatch.setattr(device_module.shutil, "which", lambda name: None)
    monkeypatch.setenv("CXX", "my-compiler")
    with pytest.raises(DeviceError, match=r"none of my-compiler, c\+\+, .* use compile=false"):
        compile_module(nn.Linear(3, 5), enabled=True)


@pytest.mark.gpu
def test_determinism_on_a_gpu_is_set_up_or_refused():
    code = (
        "import torch; from setwise.device import configure;"
        "x = torch.ones(64, 64, device='cuda'); late = {late};"
        "y = x @ x if late else None\n"
        "with configure(tf32=False, deterministic=True): torch.equal(x @ x, x @ x)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "CUBLAS_WORKSPACE_CONFIG"}
    for late in (False, True):
        run = subprocess.run(
            [sys.executable, "-c", code.format(late=late)], env=environment, capture_output=True, text=True, check=False
        )
        assert (run.returncode != 0) == late, run.stderr
        assert ("CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment" in run.stderr) == late
