"""The *agree* protocol of draft and verify: works with any cloud model. Sans-IO.

The cloud is asked the same question, and its answer goes to the client as it comes while it is
compared with the draft. When enough agrees, the rest of the draft is sent at once and the cloud is
stopped, which is what is saved. Where the answers part, the cloud's goes on. Of answers that agree
in their beginning the rest is taken on trust, so this suits answers that begin with what matters.
"""

from __future__ import annotations

import math

from edge_tier.gateway.verify_base import BaseVerifier, ClientAnswer, VerifyConfig, common_prefix
from edge_tier.gateway.verify_draft import Draft


class AgreeVerifier(BaseVerifier):
    """Compares the cloud's answer with the draft while it goes to the client.

    White space before an answer is nobody's. A cloud answer that ends before the draft corrects it.
    """

    def __init__(self, draft: Draft, client: ClientAnswer, config: VerifyConfig) -> None:
        super().__init__(draft, client, config)
        self._draft_text = draft.text.strip() if draft.whole else ""
        wanted = max(config.accept_chars, math.ceil(config.accept_share * len(self._draft_text)))
        self._needed = min(wanted, len(self._draft_text))
        self._agreed = 0
        if not self._draft_text:
            self.outcome = "replaced"

    def _text(self, text: str) -> bytes:
        if self._agreed == 0 and not self._begun_to_differ:
            text = text.lstrip()
        if self._begun_to_differ or not text:
            return self._client.text(text) if text else b""
        if not self._draft_text.startswith(text, self._agreed):
            rest = self._draft_text[self._agreed :]
            if text.startswith(rest):
                return self._take_draft("accepted", self._agreed)
            self._agreed += common_prefix(text, rest)
            enough = self._agreed >= self._config.corrected_chars
            self.outcome = "corrected" if enough else "replaced"
            return self._client.text(text)
        self._agreed += len(text)
        if self._agreed >= self._needed:
            return self._client.text(text) + self._take_draft("accepted", self._agreed)
        return self._client.text(text)

    @property
    def _begun_to_differ(self) -> bool:
        return bool(self.outcome)

    def _cloud_finished(self) -> bytes:
        if self._begun_to_differ:
            return self._finish()
        if self._agreed == 0:
            return self._stand_by_draft(0)
        self.outcome = "corrected"
        return self._finish()

    def _cloud_failed(self) -> bytes:
        return self._broken() if self._begun_to_differ else self._stand_by_draft(self._agreed)
