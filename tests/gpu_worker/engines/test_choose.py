"""gpu_worker.engines.choose: every rule, and what a refusal tells to do."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.engines.choose import (
    GPU_QUANTIZATIONS,
    EngineKind,
    Machine,
    ModelForm,
    NoEngineError,
    WantedKind,
    choose,
)

GGUF = ModelForm(format="gguf")
TENSORS = ModelForm(format="safetensors")
AWQ = ModelForm(format="safetensors", quantization="awq")
ALL = Machine(llamacpp=True, llama_server=True, vllm=True, gpu=True)


@pytest.mark.parametrize(
    ("wanted", "form", "machine", "kind"),
    [
        ("auto", GGUF, Machine(llamacpp=True), "llamacpp"),
        ("auto", GGUF, Machine(llamacpp=True, gpu=True), "llamacpp"),
        ("auto", GGUF, Machine(llamacpp=True, llama_server=True), "llamacpp"),
        ("auto", GGUF, Machine(llama_server=True), "llama-server"),
        ("auto", GGUF, ALL, "llama-server"),
        ("auto", TENSORS, ALL, "vllm"),
        ("auto", TENSORS, Machine(vllm=True), "vllm"),
        ("auto", AWQ, ALL, "vllm"),
        ("vllm", AWQ, Machine(vllm=True), "vllm"),
        ("llamacpp", GGUF, ALL, "llamacpp"),
        ("llama-server", GGUF, Machine(llama_server=True, llamacpp=True), "llama-server"),
        ("openai", GGUF, Machine(), "openai"),
        ("openai", AWQ, Machine(), "openai"),
    ],
)
def test_the_engine_for_these_files_here(
    wanted: WantedKind, form: ModelForm, machine: Machine, kind: EngineKind
) -> None:
    assert choose(wanted, form, machine) == kind


@pytest.mark.parametrize(
    ("wanted", "form", "machine", "hint"),
    [
        ("auto", GGUF, Machine(), r"headwater\[worker\]', or put llama.cpp's llama-server on the"),
        ("llama-server", GGUF, Machine(llamacpp=True), "engine.server.program"),
        ("llamacpp", GGUF, Machine(llama_server=True), r"pip install 'headwater\[worker\]'$"),
        ("auto", TENSORS, Machine(llamacpp=True), "pip install vllm"),
        ("vllm", GGUF, ALL, "vllm does not load gguf; it loads safetensors"),
        ("llamacpp", TENSORS, ALL, "llamacpp does not load safetensors"),
        ("auto", AWQ, Machine(vllm=True), "awq needs a GPU.*publish a GGUF"),
    ],
)
def test_a_refusal_says_what_to_do(
    wanted: WantedKind, form: ModelForm, machine: Machine, hint: str
) -> None:
    with pytest.raises(NoEngineError, match=hint):
        choose(wanted, form, machine)


@given(
    st.sampled_from(get_args(WantedKind)),
    st.builds(
        ModelForm,
        format=st.sampled_from(["gguf", "safetensors"]),
        quantization=st.sampled_from(["", *sorted(GPU_QUANTIZATIONS)]),
    ),
    st.builds(Machine),
)
def test_what_is_chosen_is_there_and_is_what_was_asked_for(
    wanted: WantedKind, form: ModelForm, machine: Machine
) -> None:
    try:
        kind = choose(wanted, form, machine)
    except NoEngineError:
        return
    assert machine.has(kind)
    assert wanted in {"auto", kind}
