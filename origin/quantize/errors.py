"""What can go wrong while a model is quantized."""

from __future__ import annotations

from wire.errors import HeadwaterError


class QuantizeError(HeadwaterError):
    """The model cannot be quantized so, or the engine failed; nothing was published."""

    status = 422
    code = "quantize_failed"


class NoEngineError(QuantizeError):
    """No engine here makes this type; the message says what to install."""

    code = "no_quantize_engine"
