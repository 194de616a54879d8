"""Which variant of a model a machine takes, and why. Pure; all rules are here.

1. Of those that lie wholly where they should (on the GPUs; in main memory where there are none):
   the best of Q8_0, Q6_K and Q5_K_M; then others of 5 to 8 bits; then unquantized ones, which take
   twice the memory for hardly more; then Q4_K_M and others of 4 bits; then those whose name says
   nothing; then 3 bits.
2. Else the smallest of Q8_0, Q6_K, Q5_K_M and Q4_K_M (else the largest of the others down to
   3 bits that does it), with as many layers on the GPUs as go there and the others in main memory.
3. Else one of 2 bits or fewer, whole or in part: such answers are a last resort.
4. Else none, and the reason says what is missing and what to do.

A variant that the configuration names is the only one looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gpu_worker.fit import Row
from gpu_worker.fit_needs import Ask
from gpu_worker.hardware import Hardware

PREFERRED = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M")
"""The variants of the rule, the best first."""
_BITS = re.compile(r"(?:^|[^A-Z0-9])(?:UD-)?(?:IQ|TQ|Q|BF|F|FP|MXFP|NVFP|INT|AWQ-)(\d{1,2})(?!\d)")
_FULL, _UNQUANTIZED, _TIGHT, _UNNAMED, _LOW, _LAST = range(6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What boot takes of a revision: one variant, and how much of it goes to GPUs."""

    variant: str
    gpu_layers: int = -1
    """As llama.cpp counts them; -1: nobody judged, the engine's configuration stands."""
    context_tokens: int = 0
    """For each slot; 0: as the engine's configuration says."""
    reason: str = ""
    refused: bool = False
    """Nothing fits: this one is nearest to it, and ``reason`` says what is missing."""
    row: Row | None = None
    """The figures of the variant; None where nobody judged."""


def rank(variant: str, size: int) -> tuple[int, int, int]:
    """Sorts variants, the best first, by what their names say; larger ones before smaller ones."""
    tier = _tier(variant)
    named = PREFERRED.index(variant) if variant in PREFERRED else len(PREFERRED)
    return tier, named, -size


def is_last_resort(variant: str) -> bool:
    """Whether it has so few bits that everything else comes first."""
    return _tier(variant) == _LAST


def choose(rows: Iterable[Row], hardware: Hardware, ask: Ask, *, wanted: str = "") -> Choice:
    """The variant to take, see the head of this file.

    Args:
        rows: one a variant, in any order, at least one.
        wanted: the variant that the configuration names; ignored where there is none of it.
    """
    ranked = sorted(rows, key=lambda row: rank(row.variant, row.weights_bytes))
    ranked = [row for row in ranked if row.variant == wanted] or ranked
    usual = [row for row in ranked if not is_last_resort(row.variant)]
    last = [row for row in ranked if is_last_resort(row.variant)]
    taken = _whole(usual) or _partial(usual) or _whole(last) or _partial(last)
    if taken is None:
        nearest = min(ranked, key=lambda row: row.missing_bytes)
        reason = _refusal(nearest, ranked, hardware, ask)
        return Choice(variant=nearest.variant, reason=reason, refused=True, row=nearest)
    return Choice(
        variant=taken.variant,
        gpu_layers=taken.gpu_layers,
        context_tokens=ask.context_tokens,
        reason=_reason(taken, ranked, hardware, wanted=wanted),
        row=taken,
    )


def _tier(variant: str) -> int:
    match = _BITS.search(variant.upper())
    bits = int(match[1]) if match else 0
    if not bits:
        return _UNNAMED
    if bits > 8:
        return _UNQUANTIZED
    return {4: _TIGHT, 3: _LOW, 2: _LAST, 1: _LAST}.get(bits, _FULL)


def _whole(rows: Sequence[Row]) -> Row | None:
    return next((row for row in rows if row.whole), None)


def _partial(rows: Sequence[Row]) -> Row | None:
    """The smallest of the rule's variants; where that is too large, the largest that is not."""
    by_size = sorted(rows, key=lambda row: row.weights_bytes)
    smallest = next((row for row in by_size if row.variant in PREFERRED), None)
    below = [r for r in by_size if smallest is None or r.weights_bytes <= smallest.weights_bytes]
    return next((row for row in reversed(below) if row.where != "none"), None)


def _reason(taken: Row, ranked: Sequence[Row], hardware: Hardware, *, wanted: str) -> str:
    name = taken.variant or "the model"
    why = _where(taken, hardware)
    if wanted:
        return f"{name} was asked for; {why}"
    better = [row.variant for row in ranked[: ranked.index(taken)] if not row.whole]
    if not taken.whole:
        better = [variant for variant in better if variant != taken.variant]
    if not better:
        return f"{name} is the first choice: {why}" if len(ranked) > 1 else f"{name}: {why}"
    verb = "does" if len(better) == 1 else "do"
    where = "" if taken.where == "memory" else " wholly on the GPU"
    return f"{_list(better)} {verb} not fit{where}; {name}: {why}"


def _where(row: Row, hardware: Hardware) -> str:
    if row.where == "gpu":
        usable = gb(row.gpu_usable_bytes)
        return f"all {row.layers} layers go to the GPU, {gb(row.gpu_bytes)} of {usable} usable"
    if row.where == "memory":
        what = "main memory" if hardware.gpus else "main memory; there is no GPU to be used"
        return f"{gb(row.ram_bytes)} of {gb(row.ram_usable_bytes)} usable in {what}"
    beside = row.layers - row.layers_on_gpu
    short = f", {gb(row.short_bytes)} too few for all" if row.short_bytes else ""
    return (
        f"{row.layers_on_gpu} of {row.layers} layers go to the GPU ({gb(row.gpu_usable_bytes)} "
        f"usable{short}), {beside} to the CPU and {gb(row.ram_bytes)} of main memory"
    )


def _refusal(row: Row, ranked: Sequence[Row], hardware: Hardware, ask: Ask) -> str:
    """What is missing, and what to do."""
    name = row.variant or "the model"
    gpu = f"{gb(row.gpu_usable_bytes)} on the GPU and " if hardware.gpus else ""
    what = f"{name}, the smallest," if len(ranked) > 1 else name
    shorter = max(ranked, key=lambda row: (row.context_fits, -row.weights_bytes))
    advice = []
    if shorter.context_fits:
        advice.append(f"ask for a context of {shorter.context_fits} tokens")
    if ask.slots > 1:
        advice.append("ask for fewer slots")
    if ask.prompt_cache_bytes >= row.missing_bytes:
        advice.append("set engine.prompt_cache_mib to 0")
    if all(rank(row.variant, 0)[0] < _LAST for row in ranked):
        advice.append("publish a smaller variant")
    advice.append("take a machine with more memory")
    return (
        f"nothing fits: {what} needs {gb(row.total_bytes)} with {ask.slots} x "
        f"{ask.context_tokens} tokens, and {gpu}{gb(row.ram_usable_bytes)} of main memory are "
        f"usable; {gb(row.missing_bytes)} are missing: {', or '.join(advice)}"
    )


def gb(count: int) -> str:
    """Bytes as people say them, in units of 1000."""
    if count >= 10**8:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.1f} MB"


def _list(names: Sequence[str]) -> str:
    *head, last = names
    return f"{', '.join(head)} and {last}" if head else last
