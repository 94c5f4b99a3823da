"""The part of tritonclient that scoring uses, with types: tritonclient itself has none."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

from aigid.scorers.triton_config import TlsConfig

_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", 2**31 - 1),
    ("grpc.max_receive_message_length", 2**31 - 1),
    # gRPC's default is two minutes: a server that is back would go unnoticed for that long.
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 2000),
)


class InferResult(Protocol):
    """The answer to a request."""

    def as_numpy(self, name: str) -> npt.NDArray[np.float32]:
        """Return the output of that name."""
        ...


class DeclaredTensor(Protocol):
    """An input or output in a server's configuration; `data_type` is the number of an enum."""

    name: str
    data_type: int
    dims: Sequence[int]


class _Parameter(Protocol):
    string_value: str


class DeclaredModel(Protocol):
    """A model's configuration as a server gives it."""

    input: Iterable[DeclaredTensor]
    output: Iterable[DeclaredTensor]
    max_batch_size: int
    parameters: Mapping[str, _Parameter]


class _ModelConfig(Protocol):
    config: DeclaredModel


class TritonClient(Protocol):
    """The methods of tritonclient.grpc.aio.InferenceServerClient that scoring uses.

    All of them raise InferenceServerException if the server cannot be reached or refuses.
    """

    async def is_server_live(self) -> bool:
        """Return whether the server is live."""
        ...

    async def is_model_ready(self, model_name: str) -> bool:
        """Return whether a model takes requests."""
        ...

    async def get_model_config(self, model_name: str) -> _ModelConfig:
        """Return a model's configuration."""
        ...

    async def infer(
        self, model_name: str, inputs: Sequence[triton.InferInput], *, client_timeout: float
    ) -> InferResult:
        """Send a request and return its answer."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


def connect(address: str, tls: TlsConfig | None) -> TritonClient:
    """Return a client of the server at `address`; it connects on its first request."""

    def text(path: Path | None) -> str | None:
        return None if path is None else str(path)

    client: TritonClient
    if tls is None:
        client = triton_aio.InferenceServerClient(address, channel_args=_CHANNEL_OPTIONS)
    else:
        client = triton_aio.InferenceServerClient(
            address,
            ssl=True,
            root_certificates=text(tls.root_certificates),
            private_key=text(tls.private_key),
            certificate_chain=text(tls.certificate_chain),
            channel_args=_CHANNEL_OPTIONS,
        )
    return client
