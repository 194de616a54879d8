"""llama.cpp through the low-level API of ``llama-cpp-python`` (extra ``quantize``).

The functions and fields are those of its documentation (``llama_cpp.llama_cpp``), which mirrors
``llama.h``. Runs only in the child process: llama.cpp parses the file itself.
"""

from __future__ import annotations

import ctypes
import importlib
from pathlib import Path

from origin.quantize.errors import NoEngineError, QuantizeError
from origin.quantize.kinds import Quantization


def quantize_file(source: Path, target: Path, quant: Quantization, threads: int) -> None:
    """Write ``source`` quantized to ``target``.

    Raises:
        NoEngineError: the package is not here, or is another one.
        QuantizeError: llama.cpp refused; it has said why on stderr.
    """
    try:
        api = importlib.import_module("llama_cpp")
        params = api.llama_model_quantize_default_params()
        quantize = api.llama_model_quantize
    except (ImportError, OSError, AttributeError) as error:
        raise NoEngineError(f"llama-cpp-python cannot quantize here: {error}") from error
    params.ftype = quant.file_type
    params.nthread = threads
    status = quantize(bytes(source), bytes(target), ctypes.byref(params))
    if status != 0:
        raise QuantizeError(f"llama.cpp could not quantize {source.name} (status {status})")
