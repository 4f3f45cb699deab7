"""Engines: how a step runs on the hardware. One process in plain torch, or several through lightning-fabric.

Both do the same arithmetic: the Trainer calls :meth:`AbstractEngine.backward` on sums of losses and afterwards scales
the gradients once by the global weight, so micro-batches and processes never change what a step computes.
"""

from __future__ import annotations

import atexit
import gc
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from setwise.device import DeviceSetup, autocast, compile_module, grad_scaler
from setwise.errors import ConfigError

T = TypeVar("T")


class AbstractEngine(ABC):
    """Owns the device, mixed precision and communication of a run.

    Args:
        setup: resolved device and precision.

    Attributes:
        module: the model without wrappers: for state, evaluation and prediction.
        model: what a training step calls.
    """

    rank: int = 0
    world_size: int = 1

    def __init__(self, setup: DeviceSetup) -> None:
        self.setup = setup
        self.device = setup.device
        self.scaler = grad_scaler(setup.device, setup.precision)

    def prepare(
        self, model: nn.Module, make_optimizer: Callable[[nn.Module], torch.optim.Optimizer], *, compiled: bool
    ) -> None:
        """Move and wrap the model, then build the optimizer over its parameters."""
        self.place(model)
        self.optimizer = make_optimizer(self.module)
        self.model = self._wrap(compile_module(self.module, compiled))

    def place(self, model: nn.Module) -> None:
        """Move the model to the device, without an optimizer: enough to evaluate and predict."""
        self.module = self._place(model)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which the forward pass and the loss run."""
        return autocast(self.device, self.setup.precision)

    def apply_gradients(
        self, factor: Tensor | float | None, *, clip_norm: float | None, clip_value: float | None
    ) -> Tensor | None:
        """Scale and clip the gradients, step the optimizer and clear the gradients.

        Args:
            factor: what the gradients are multiplied with first; None when they are final.
            clip_norm: largest global L2 norm.
            clip_value: largest absolute value of a gradient element.

        Returns:
            The norm before clipping when ``clip_norm`` is set, else None.
        """
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        if factor is not None:
            for parameter in parameters:
                parameter.grad.mul_(factor)
        norm = None if clip_norm is None else self._clip_norm(parameters, clip_norm)
        if clip_value is not None:
            nn.utils.clip_grad_value_(parameters, clip_value)
        if self.scaler is not None:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _clip_norm(self, parameters: list[nn.Parameter], largest: float) -> Tensor:
        return nn.utils.clip_grad_norm_(parameters, largest)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``."""
        (self.scaler.scale(loss) if self.scaler is not None else loss).backward()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return complete state dicts of model and optimizer, on every process."""
        return self.module.state_dict(), self.optimizer.state_dict()

    def load_model(self, state: Mapping[str, Tensor]) -> None:
        """Load a complete model state dict."""
        self.module.load_state_dict(state)

    def load_optimizer(self, state: Mapping[str, Any]) -> None:
        """Load a complete optimizer state dict."""
        self.optimizer.load_state_dict(dict(state))

    @abstractmethod
    def _place(self, model: nn.Module) -> nn.Module: ...

    @abstractmethod
    def _wrap(self, model: nn.Module) -> nn.Module: ...

    @abstractmethod
    def accumulate(self, *, last: bool) -> AbstractContextManager[Any]:
        """Return the context of one micro-batch; gradients are exchanged after the ``last`` only."""

    @abstractmethod
    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of ``value`` over all processes."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait for all processes."""

    def agree(self, flag: int) -> int:
        """Return the largest flag any process holds, so that all act alike. Synchronises."""
        return flag

    def broadcast(self, value: T) -> T:
        """Return the main process's ``value``."""
        return value


class SingleDeviceEngine(AbstractEngine):
    """One process on one device, in plain torch."""

    def _place(self, model: nn.Module) -> nn.Module:
        return model.to(self.device)

    def _wrap(self, model: nn.Module) -> nn.Module:
        return model

    def accumulate(self, *, last: bool) -> AbstractContextManager[Any]:
        return nullcontext()

    def sum(self, value: Tensor) -> Tensor:
        return value

    def barrier(self) -> None:
        return None


class FabricEngine(AbstractEngine):
    """Several processes through lightning-fabric: DDP, or FSDP2 which shards parameters, gradients and optimizer state.

    Processes are started by ``torchrun`` or SLURM. State dicts are complete and do not depend on the number of
    processes, so a run saved on two resumes on one.

    Args:
        setup: resolved device and precision of this process.
        strategy: ``"ddp"`` or ``"fsdp"``.

    Raises:
        ConfigError: lightning-fabric is not installed.
    """

    def __init__(self, setup: DeviceSetup, *, strategy: Literal["ddp", "fsdp"] = "ddp") -> None:
        super().__init__(setup)
        try:
            from lightning_fabric import Fabric
            from lightning_fabric.strategies.ddp import DDPStrategy
            from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
        except ImportError as error:
            raise ConfigError(
                f"{process_count()} processes were started, which needs lightning-fabric; "
                "run: pip install 'setwise[distributed]', or start one process"
            ) from error
        backend = "nccl" if self.device.type == "cuda" else "gloo"
        self.strategy = strategy
        local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("SLURM_NTASKS_PER_NODE", "1")))
        self._fabric = Fabric(
            accelerator="cuda" if self.device.type == "cuda" else "cpu",
            strategy=DDPStrategy(process_group_backend=backend)
            if strategy == "ddp"
            else ModelParallelStrategy(
                _shard, data_parallel_size=process_count(), tensor_parallel_size=1, process_group_backend=backend
            ),
            devices=local_processes,
            num_nodes=max(1, process_count() // local_processes),
            precision="32-true",  # autocast is this engine's, the same for one process and for many
        )
        self._fabric.launch()
        atexit.register(_end_communication)
        self.rank, self.world_size = self._fabric.global_rank, self._fabric.world_size

    def _place(self, model: nn.Module) -> nn.Module:
        if self.strategy == "ddp":
            return model.to(self.device)
        self._wrapped = self._fabric.setup_module(model)
        return self._wrapped.module

    def _wrap(self, model: nn.Module) -> nn.Module:
        if self.strategy == "ddp":
            self._wrapped = self._fabric.setup_module(model)
        return self._wrapped

    @contextmanager
    def accumulate(self, *, last: bool) -> Iterator[None]:
        with self._fabric.no_backward_sync(self._wrapped, enabled=not last):
            yield

    def backward(self, loss: Tensor) -> None:
        self._fabric.backward(self.scaler.scale(loss) if self.scaler is not None else loss)

    def sum(self, value: Tensor) -> Tensor:
        total = value.clone()
        torch.distributed.all_reduce(total)
        return total

    def barrier(self) -> None:
        self._fabric.barrier()

    def agree(self, flag: int) -> int:
        largest = torch.tensor(flag, device=self.device)
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
        return int(largest)

    def broadcast(self, value: T) -> T:
        return self._fabric.broadcast(value)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        model, optimizer = super().state()
        return _map_tensors(model, _whole), _map_tensors(optimizer, _whole)

    def load_model(self, state: Mapping[str, Tensor]) -> None:
        own = self.module.state_dict()
        super().load_model({name: _like(value, own.get(name)) for name, value in state.items()})

    def load_optimizer(self, state: Mapping[str, Any]) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        sharded = {
            index: {
                key: _like(value, parameters[index]) if _shaped_like(value, parameters[index]) else value
                for key, value in slots.items()
            }
            for index, slots in state["state"].items()
        }
        super().load_optimizer({**state, "state": sharded})

    def _clip_norm(self, parameters: list[nn.Parameter], largest: float) -> Tensor:
        return _whole(super()._clip_norm(parameters, largest))


def process_count() -> int:
    """Return how many processes ``torchrun`` or SLURM started for this run (1 without them)."""
    if "WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    return int(os.environ.get("SLURM_NTASKS", "1")) if "SLURM_PROCID" in os.environ else 1


def build_engine(setup: DeviceSetup, strategy: Literal["ddp", "fsdp"]) -> AbstractEngine:
    """Return the engine for as many processes as were started."""
    return FabricEngine(setup, strategy=strategy) if process_count() > 1 else SingleDeviceEngine(setup)


def _end_communication() -> None:
    """End the threads of the process group while there is an interpreter; left to its exit, they abort the process."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    gc.collect()


def _shard(model: nn.Module, mesh: Any) -> nn.Module:
    """Shard each element of the model's module lists, then the rest, over the data-parallel axis."""
    from torch.distributed.fsdp import fully_shard

    for module in model.modules():
        if isinstance(module, nn.ModuleList):
            for child in module:
                fully_shard(child, mesh=mesh["data_parallel"])
    fully_shard(model, mesh=mesh["data_parallel"])
    return model


def _whole(value: Tensor) -> Tensor:
    full_tensor = getattr(value, "full_tensor", None)  # that of FSDP2's DTensor
    return value if full_tensor is None else full_tensor()


def _shaped_like(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape and value.dim() > 0


def _like(value: Tensor, sharded: Any) -> Tensor:
    if not hasattr(sharded, "full_tensor"):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(sharded.device), sharded.device_mesh, sharded.placements)


def _map_tensors(tree: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, Mapping):
        return {key: _map_tensors(value, function) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_map_tensors(value, function) for value in tree]
    return tree
