"""From what somebody asks ``headwater cost`` to an answer: prices and meters are read, the
arithmetic is ``infra/cost.py``'s."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from infra.cost import Terms, Volume
from infra.cost_deployment import Bill, bill, read_variables
from infra.cost_prices import Prices, doubts, load_prices
from infra.cost_view import BillView, Comparison
from infra.cost_volume import Metered, ask_prometheus, count, per_month, read_page
from wire.errors import ConfigError

_METERED_DAYS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The tokens: said, or where they were metered."""

    prompt: str = ""
    output: str = ""
    requests: str = ""
    """Where given, the two above are those of one request."""
    per: str = "month"
    page: str = ""
    """URL of an edge, whose own counts are read."""
    prometheus: str = ""
    days: float = 0.0
    egress_gb: float = 0.0

    @property
    def anything(self) -> bool:
        """Whether there is something to compare."""
        return any((self.prompt, self.output, self.requests, self.page, self.prometheus))

    def metered(self, now_s: float) -> Metered | None:
        """What was metered; None where tokens are said. Raises ConfigError for both."""
        if self.page and self.prometheus:
            raise ConfigError("--from-metrics and --prometheus: one of them")
        if (self.page or self.prometheus) and any((self.prompt, self.output, self.requests)):
            raise ConfigError("tokens are metered or said, not both")
        if self.page:
            return read_page(self.page, now_s, self.days)
        if self.prometheus:
            return ask_prometheus(self.prometheus, self.days or _METERED_DAYS)
        return None

    def volume(self, metered: Metered | None) -> Volume:
        """A month of it."""
        if metered is not None:
            return metered.monthly(self.egress_gb)
        times = count(self.requests) if self.requests else 1.0
        return Volume(
            prompt_tokens=per_month(count(self.prompt or "0") * times, self.per),
            output_tokens=per_month(count(self.output or "0") * times, self.per),
            egress_gb=self.egress_gb,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Everything that the command line said."""

    asked: Asked = field(default_factory=Asked)
    share: float | None = None
    """Of the tokens, what is answered locally in the hybrid way."""
    gpu: str = ""
    cloud: str = ""
    prompt_speed: float | None = None
    output_speed: float | None = None
    utilisation: float = 0.5
    spare: int = 1
    investment: float = 0.0
    commitment_days: float = 0.0
    deployment: Path | None = None
    storage_gb: float = 100.0
    prices: Path | None = None


def answer(question: Question, today: date, now_s: float) -> Comparison | BillView:
    """A comparison; or the deployment's bill, where no tokens are asked.

    Raises:
        ConfigError: something is missing or cannot be.
        SourceUnavailableError: a meter does not answer.
    """
    prices = load_prices(question.prices)
    deployed = _bill(question, prices)
    used = {item.price for item in deployed.items} if deployed is not None else set()
    if question.asked.anything:
        return _comparison(question, prices, deployed, used, today, now_s)
    if deployed is None:
        raise ConfigError(
            "say what is asked: --prompt-tokens and --output-tokens, --from-metrics or "
            "--prometheus; or --deployment for its bill alone"
        )
    return BillView(bill=deployed, notes=tuple(doubts(prices, used, today)))


def _comparison(
    question: Question,
    prices: Prices,
    deployed: Bill | None,
    used: set[str],
    today: date,
    now_s: float,
) -> Comparison:
    gpu, cloud = question.gpu or prices.defaults.gpu, question.cloud or prices.defaults.cloud
    used = used | {f"machines.{gpu}", f"cloud.{cloud}"}
    if question.asked.egress_gb:
        used.add("egress")
    if question.prompt_speed is None or question.output_speed is None:
        used.add(f"speeds.{gpu}")
    metered = question.asked.metered(now_s)
    share = question.share
    if share is None and metered is not None:
        share = metered.share_local
    return Comparison(
        volume=question.asked.volume(metered),
        terms=_terms(question, prices, gpu, cloud, deployed),
        share=1.0 if share is None else share,
        cloud_name=cloud,
        gpu_name=gpu,
        bill=deployed,
        notes=tuple(doubts(prices, used, today)),
    )


def _terms(
    question: Question, prices: Prices, gpu: str, cloud: str, deployed: Bill | None
) -> Terms:
    machine, model = prices.machine(gpu), prices.cloud_model(cloud)
    prompt_per_s, output_per_s = _speeds(question, prices, gpu)
    return Terms(
        gpu_per_month=machine.usd_per_month,
        prompt_per_s=prompt_per_s,
        output_per_s=output_per_s,
        cloud_prompt=model.prompt,
        cloud_output=model.output,
        utilisation=question.utilisation,
        spare=question.spare,
        base_per_month=deployed.base if deployed is not None else 0.0,
        egress_per_gb=prices.egress.usd_per_gb,
        egress_gb_included=deployed.egress_gb_included if deployed is not None else 0.0,
        investment=question.investment,
        commitment_days=question.commitment_days,
    )


def _speeds(question: Question, prices: Prices, gpu: str) -> tuple[float, float]:
    prompt, output = question.prompt_speed, question.output_speed
    if prompt is None or output is None:
        if gpu not in prices.speeds:
            raise ConfigError(f"no speeds of {gpu}: give --prompt-speed and --output-speed")
        figure = prices.speeds[gpu]
        prompt = figure.prompt_per_s if prompt is None else prompt
        output = figure.output_per_s if output is None else output
    return prompt, output


def _bill(question: Question, prices: Prices) -> Bill | None:
    if question.deployment is None:
        return None
    return bill(read_variables(question.deployment), prices, question.storage_gb)
