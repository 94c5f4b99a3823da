"""aigid's own HTTP service: image-prompt pairs in, verdicts out, over any scorer."""

from aigid.service.api_keys import read_api_keys
from aigid.service.config import ServiceConfig, ServiceLimits
from aigid.service.engine import Engine
from aigid.service.metrics import ServiceMetrics
from aigid.service.server import listening, serve

__all__ = [
    "Engine",
    "ServiceConfig",
    "ServiceLimits",
    "ServiceMetrics",
    "listening",
    "read_api_keys",
    "serve",
]
