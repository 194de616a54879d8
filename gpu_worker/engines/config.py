"""Table ``[worker.engine]``: which engine, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass, field

from gpu_worker.engines.choose import WantedKind
from gpu_worker.engines.llama_server import LlamaServerConfig
from gpu_worker.engines.native import LlamaCppConfig
from gpu_worker.engines.openai_server import OpenAIConfig
from gpu_worker.engines.vllm import VllmConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig(LlamaCppConfig):
    """What all engines share stands in this table itself; what only one knows, in its own."""

    kind: WantedKind = "auto"
    """``auto`` chooses by files, machine and what is installed (``gpu_worker.engines.choose``)."""
    server: LlamaServerConfig = field(default_factory=LlamaServerConfig)
    vllm: VllmConfig = field(default_factory=VllmConfig)
    openai: OpenAIConfig = field(default_factory=OpenAIConfig)
