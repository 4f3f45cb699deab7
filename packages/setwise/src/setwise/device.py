"""Devices, precision, determinism and memory: the only module that touches torch.cuda, torch.mps and autocast."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import platform
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from setwise.errors import ConfigError, DeviceError, suggest

PRECISIONS = ("auto", "32", "bf16-mixed", "16-mixed")
_DTYPES = {"32": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
_BATCH = TypeVar("_BATCH")
_MODULE = TypeVar("_MODULE", bound=nn.Module)


@dataclasses.dataclass(frozen=True)
class DeviceSetup:
    """Where a program computes, in what precision, and why. Parameters are float32 in every precision.

    Attributes:
        device: the device, with its index where there can be several.
        precision: `"32"`, `"bf16-mixed"` or `"16-mixed"`.
        reason: says why this precision was chosen.
        dtype: dtype of the matrix products.
    """

    device: torch.device
    precision: str
    reason: str
    dtype: torch.dtype


def resolve_setup(device: str = "auto", precision: str = "auto") -> DeviceSetup:
    """Choose where to compute and in what precision.

    Args:
        device: see :func:`resolve_device`.
        precision: `"32"`, `"bf16-mixed"`, `"16-mixed"`, or `"auto"`: bf16-mixed exactly where the device has matrix
            units for bfloat16 (CUDA of capability 8.0 or more, CPUs with AMX), otherwise 32.

    Raises:
        ConfigError: a name is not known.
        DeviceError: the device is not there, or 16-mixed was asked for on a CPU.

    Example:
        >>> resolve_setup("cpu", "32").reason
        'precision=32 was asked for'
    """
    resolved = resolve_device(device)
    if precision not in PRECISIONS:
        raise ConfigError(
            f'precision="{precision}" is not known; use one of {", ".join(PRECISIONS)}' + suggest(precision, PRECISIONS)
        )
    if precision == "16-mixed" and resolved.type == "cpu":
        raise DeviceError("precision=16-mixed needs a GPU; on a CPU use precision=bf16-mixed or 32")
    has_units, hardware = _bf16_matrix_units(resolved)
    if precision == "auto":
        precision, reason = ("bf16-mixed" if has_units else "32"), f"auto: {hardware}"
    else:
        reason = f"precision={precision} was asked for"
        if precision == "bf16-mixed" and not has_units:
            reason += f", although {hardware}"
    return DeviceSetup(resolved, precision, reason, _DTYPES[precision])


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device that a name stands for.

    Args:
        name: `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"`, or `"auto"` for the first of CUDA, MPS and CPU that is there.
            Without an index, CUDA takes this process's local rank under torchrun or SLURM, otherwise 0.

    Raises:
        ConfigError: the name is none of these.
        DeviceError: the device is not there.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise ConfigError(
            f'device="{name}" is not known; use auto, cpu, cuda, cuda:INDEX or mps'
            + suggest(name, ("auto", "cpu", "cuda", "mps"))
        )
    num_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if num_cuda else "mps" if has_mps else "cpu"
    kind, _, index = name.partition(":")
    if kind == "cpu" or (kind == "mps" and has_mps):
        return torch.device(kind)
    if kind == "cuda" and num_cuda:
        number = int(index) if index else _local_rank(num_cuda)
        if number < num_cuda:
            return torch.device("cuda", number)
        name = f"cuda:{number}"
    there = ["cpu", *(f"cuda:{i}" for i in range(num_cuda)), *(["mps"] if has_mps else [])]
    driver = " and, for CUDA, check that nvidia-smi works and that torch was installed with CUDA"
    raise DeviceError(
        f'device="{name}" is not there; this machine has {", ".join(there)}. Use one of these or device=auto'
        + (driver if kind == "cuda" and not num_cuda else "")
    )


def _local_rank(num_devices: int) -> int:
    rank = int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)
    # A launcher may show each process one device only; it is then number 0 for every rank.
    return 0 if num_devices == 1 else rank


def _bf16_matrix_units(device: torch.device) -> tuple[bool, str]:
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        has, which = major >= 8, f"{torch.cuda.get_device_name(device)} (capability {major}.{minor})"
    elif device.type == "cpu":
        # torch has no public question for this; builds for other processors lack the private one.
        has_amx = getattr(torch.cpu, "_is_amx_tile_supported", None)
        has, which = (has_amx is not None and has_amx()), "this CPU"
        which += " (AMX)" if has else ""
    else:
        has, which = False, device.type
    return has, f"{which} has {'' if has else 'no '}matrix units for bfloat16"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return a context in which matrix products run in a precision.

    Args:
        device: where to compute.
        precision: `"32"`, `"bf16-mixed"` or `"16-mixed"`.

    Example:
        >>> with autocast(torch.device("cpu"), "bf16-mixed"):
        ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        torch.bfloat16
    """
    dtype = _DTYPES[precision]
    if dtype == torch.float32:
        return without_autocast(device)
    return torch.autocast(device.type, dtype=dtype)


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which operations keep the dtype of their inputs, whatever surrounds it."""
    return torch.autocast(device.type, enabled=False)


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Return the dtype of matrix products in the surrounding autocast context; None outside of one."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None


def grad_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler | None:
    """Return the loss scaler that float16 gradients need; None in the other precisions."""
    return torch.amp.GradScaler(device.type) if precision == "16-mixed" else None


@contextmanager
def configure(*, tf32: bool, deterministic: bool) -> Iterator[None]:
    """Set process-wide numerics, and put them back at the end.

    Args:
        tf32: whether float32 matrix products and convolutions may round their inputs to TF32 (10 bits of mantissa)
            on GPUs that have it. On CPUs they keep float32's precision.
        deterministic: whether operations give the same bits every time; those that cannot raise.

    Raises:
        DeviceError: determinism was asked for after cuBLAS had started without the setting that it needs, or of an
            operation that has no deterministic version.

    Example:
        >>> with configure(tf32=False, deterministic=True):
        ...     torch.are_deterministic_algorithms_enabled()
        True
    """
    with ExitStack() as stack:
        stack.callback(_set_tf32, torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
        _set_tf32(_reduced_matmul_precision() if tf32 else "highest", tf32)
        stack.callback(_set_determinism, torch.get_deterministic_debug_mode())
        _set_determinism(2 if deterministic else 0)
        if deterministic:
            # Benchmarking picks algorithms by their time. Filling new memory only reveals reads of it, at a price.
            for owner, setting in (
                (torch.backends.cudnn, "benchmark"),
                (torch.utils.deterministic, "fill_uninitialized_memory"),
            ):
                stack.callback(setattr, owner, setting, getattr(owner, setting))
                setattr(owner, setting, False)
            stack.enter_context(_deterministic_cublas())
        try:
            yield
        except RuntimeError as error:
            if "does not have a deterministic implementation" not in str(error):
                raise
            operation = str(error).split(" does not have")[0]
            raise DeviceError(
                f"{operation} has no version that gives the same bits every time; use deterministic=false "
                "(trainer.deterministic=false) or another device"
            ) from error


def _reduced_matmul_precision() -> str:
    """Return the torch setting that allows TF32, and where it costs no precision also lets oneDNN multiply on the CPU.

    By itself torch leaves float32 products to MKL, which has half of the vector width for CPUs that are not Intel's:
    oneDNN is 2.2 times faster there, and as precise. "medium" is what hands products to it. That would be bfloat16
    on CPUs with matrix units for it (AMX, or on ARM), hence only on others.
    """
    has_units, _ = _bf16_matrix_units(torch.device("cpu"))
    return "medium" if platform.machine() in ("x86_64", "AMD64") and not has_units else "high"


def _set_tf32(matmul_precision: str, cudnn: bool) -> None:
    with warnings.catch_warnings():
        # Some releases advise per-backend settings, which older ones lack and torch.compile cannot read back.
        warnings.filterwarnings("ignore", message="Please use the new API settings")
        torch.set_float32_matmul_precision(matmul_precision)
        torch.backends.cudnn.allow_tf32 = cudnn


def _set_determinism(mode: int) -> None:
    """Set what operations without a deterministic algorithm do: 0 nothing, 1 warn, 2 raise."""
    if "torch._inductor" in sys.modules:
        torch.use_deterministic_algorithms(mode > 0, warn_only=mode == 1)
    else:  # the same, but it does not load the compiler to tell it, which takes seconds
        torch.set_deterministic_debug_mode(mode)


@contextmanager
def _deterministic_cublas() -> Iterator[None]:
    variable = "CUBLAS_WORKSPACE_CONFIG"
    if not torch.cuda.is_available() or os.environ.get(variable):
        yield
        return
    os.environ[variable] = ":4096:8"
    try:
        # torch and cuBLAS read the variable at the first product only: one product tells whether it is too late.
        probe = torch.ones(2, 2, device="cuda")
        try:
            torch.mm(probe, probe)
        except RuntimeError as error:
            raise DeviceError(
                f"deterministic=true needs {variable} to be set before the first matrix product on the GPU; "
                f"set {variable}=:4096:8 in the environment before starting, or use deterministic=false"
            ) from error
        yield
    finally:
        del os.environ[variable]


@contextmanager
def explain_out_of_memory(advice: str) -> Iterator[None]:
    """Turn running out of memory into an error that says what was asked for and what to lower.

    Args:
        advice: what to do, for example `"lower trainer.micro_batch_size (now 32)"`.

    Raises:
        DeviceError: memory ran out inside.

    Example:
        >>> with explain_out_of_memory("use fewer rows"):
        ...     raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …")
        Traceback (most recent call last):
        setwise.errors.DeviceError: out of memory: 2.00 GiB more were asked for; use fewer rows
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error)
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if isinstance(error, DeviceError) or not (known or re.search("DefaultCPUAllocator|out of memory", text)):
            raise
        asked = re.search(r"allocate (\d+(?:\.\d+)? ?(?:[KMGTP]i?B|bytes))", text, re.IGNORECASE)
        how_much = f": {_readable(asked[1])} more were asked for" if asked else ""
        raise DeviceError(f"out of memory{how_much}; {advice}") from error


def _readable(amount: str) -> str:
    """Turn a number of bytes into GiB or MiB; torch's other allocators say it so already."""
    match = re.fullmatch(r"(\d+) ?bytes", amount, re.IGNORECASE)
    if match is None:
        return amount
    size = int(match[1])
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.2f} MiB"


def move(batch: _BATCH, device: torch.device) -> _BATCH:
    """Return a batch with all its tensors on a device.

    Tensors are found in dicts, lists, tuples, named tuples and dataclasses, however nested; everything else is
    returned as it is. Copies from page-locked memory to a CUDA device do not wait.

    Example:
        >>> move({"x": torch.zeros(2), "name": "a"}, torch.device("cpu"))
        {'x': tensor([0., 0.]), 'name': 'a'}
    """
    return _move(batch, device)


def _move(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=device.type == "cuda" and batch.is_pinned())
    if isinstance(batch, dict):
        return {key: _move(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_move(value, device) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(_move(value, device) for value in batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        fields = [field.name for field in dataclasses.fields(batch) if field.init]
        return dataclasses.replace(batch, **{name: _move(getattr(batch, name), device) for name in fields})
    return batch


def generator_state(device: torch.device) -> Tensor:
    """Return the state of a device's own random number generator, the one that dropout draws from."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else torch.get_rng_state()


def _set_generator_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state)
    else:
        torch.set_rng_state(state)


def seed_everything_of(device: torch.device, seed: int) -> None:
    """Seed torch's generators of the CPU and of one device; those of Python, NumPy and other devices are left alone."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@contextmanager
def preserve_rng(device: torch.device) -> Iterator[None]:
    """Put the generators of the CPU and of a device back at the end, as if nothing had been drawn inside."""
    saved = [(each, generator_state(each)) for each in dict.fromkeys((torch.device("cpu"), device))]
    try:
        yield
    finally:
        for each, state in saved:
            _set_generator_state(each, state)


def describe(device: torch.device) -> dict[str, str | int | None]:
    """Return what a device is, as plain values: its name, memory in bytes, capability, and the version of torch."""
    facts: dict[str, str | int | None] = {"device": str(device), "torch": torch.__version__}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        capability = f"{properties.major}.{properties.minor}"
        facts |= {"name": properties.name, "memory": properties.total_memory, "capability": capability}
        facts["cuda"] = torch.version.cuda
    else:
        facts |= {
            "name": _processor_name(),
            "memory": _physical_memory(),
            "capability": torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else None,
            "threads": torch.get_num_threads(),
        }
    return facts


def _processor_name() -> str:
    listing = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.+)", listing.read_text()) if listing.exists() else None
    return model[1] if model else platform.processor() or platform.machine()


def _physical_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):  # not every system can tell
        return None


def peak_memory(device: torch.device) -> int | None:
    """Return the most bytes held at once so far: by tensors on CUDA, by this process on a CPU; None where unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type != "cpu" or sys.platform == "win32":
        return None
    import resource  # not on Windows

    kibibytes = sys.platform != "darwin"
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if kibibytes else 1)


def compile_module(module: _MODULE, enabled: bool) -> _MODULE:
    """Compile a module's forward with torch.compile, in place: parameter names stay what they are.

    Args:
        module: on the device where it will run; it is compiled at its first call.
        enabled: nothing happens when false.

    Raises:
        DeviceError: the compiler that torch.compile needs for this device is missing.
    """
    if not enabled:
        return module
    on_gpu = any(parameter.is_cuda for parameter in module.parameters())
    compilers = [os.environ.get("CXX") or "g++", "c++", "clang++", "cl"]
    if on_gpu and importlib.util.find_spec("triton") is None:
        raise DeviceError("compile=true needs triton, which is not installed; install it or use compile=false")
    if not on_gpu and not any(shutil.which(compiler) for compiler in compilers):
        raise DeviceError(
            f"compile=true needs a C++ compiler; none of {', '.join(compilers)} was found. "
            "Install one, name it in the variable CXX, or use compile=false"
        )
    module.compile()
    return module
