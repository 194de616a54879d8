"""Rules for what an injection says outright, in the languages that it is said in most.

They are searched for in the words of a text with single spaces between (see ``words_of``): case,
punctuation and line ends between the words hide nothing. A rule adds to the score of the model and
does not decide alone; "what does 'ignore previous instructions' mean?" is a question.
"""

from __future__ import annotations

import re2

_DROP = r"(?:ignore|disregard|forget|override|bypass|(?:do not|don t|stop) follow(?:ing)?)"
_WHAT = (
    r"(?:instructions?|prompts?|rules|directions|guidelines|directives|commands|context"
    r"|polic(?:y|ies)|restrictions|programming|training|safeguards|filters)"
)
_WHICH = r"(?:previous|prior|above|earlier|preceding|existing|original|former|your|the)"
_PROMPT = (
    r"(?:system prompt|system message|(?:initial|hidden|secret|original|first|internal) "
    r"(?:prompt|instructions|rules)|developer message"
    r"|(?:prompt|instructions|text|everything|words) above)"
)
_SHOW = r"(?:print|reveal|repeat|output|show|tell|display|leak|write|give|expose|what (?:is|s|are))"
_FREE = r"(?:no|without|free (?:of|from)|not bound by|ignores?|freed from)"
_LAWLESS = r"(?:unfiltered|uncensored|amoral|immoral|unethical)"

RULES = {
    "ignore_instructions": rf"{_DROP} (?:\w+ ){{0,3}}?{_WHICH} (?:\w+ ){{0,3}}?{_WHAT}",
    "forget_everything": rf"{_DROP} (?:about )?(?:everything|anything|all)(?: that)? "
    r"(?:you|i|from|before|above|said|was|were)",
    "new_instructions": r"(?:new|updated) (?:system )?(?:instructions?|message|prompt|rules) "
    r"(?:from|the|are|is|ignore|you)"
    r"|end of (?:document|text|prompt|input) (?:\w+ ){0,2}(?:system|instructions?|new)",
    "persona": r"(?:you are|you re|act as|pretend to be|become|simulate|behave as|answer as) "
    r"(?:now )?(?:an? )?(?:dan|stan|aim|dude|evilgpt|evilbot|jailbroken|do anything now|"
    r"(?:unrestricted|unfiltered|uncensored|amoral) (?:ai|bot|chatbot|model|assistant))",
    "do_anything_now": r"do anything now|jailbr(?:eak|oken) (?:mode|enabled|activated)"
    r"|jailbreak (?:keyword|you|from|chatgpt)",
    "developer_mode": r"(?:enable|enter|activate|simulate|with|in) (?:\w+ )?"
    r"(?:developer|god|jailbreak|dan|sudo|evil|unrestricted) mode "
    r"(?:enabled|activated|you|on your|where|now|is now|output|without|in which)",
    "without_rules": rf"{_FREE}(?: any| all| your| the| its)* "
    r"(?:ethical |moral |content |openai s? ?|safety |usual )*"
    r"(?:restrictions|filters?|censorship|guidelines|morals|morality|ethics)(?:$|\W)",
    "unfiltered": rf"{_LAWLESS} (?:\w+ ){{0,2}}?{_LAWLESS}",
    "never_refuse": r"(?:never|not|cannot|can t|won t|don t) (?:ever )?"
    r"(?:refuse|decline|say (?:that )?(?:you|it) (?:can t|cannot|can not))"
    r"|regardless of (?:its |the |any )?(?:\w+ )?"
    r"(?:legality|ethics|morality|ethicality|consequences)",
    "show_prompt": rf"{_SHOW} (?:out |me |us )*"
    r"(?:(?:all|the|of|text|full|exact|entire|contents?) )*"
    rf"(?:your|this) (?:\w+ )?{_PROMPT}"
    r"|(?:print|reveal|repeat|output|show) (?:me )?"
    r"(?:everything|all|the (?:text|words|prompt|instructions)) above",
    "encoded_payload": r"(?:decode|decipher|decrypt|base64|rot13|hex) (?:\w+ ){0,5}?(?:and|then) "
    r"(?:\w+ )?(?:follow|execute|obey|answer|do what|carry out|act on|respond to)",
    "hidden_text": r"(?:prompt|instructions?|message|rules?|text) (?:\w+ ){0,4}?"
    r"(?:encoded|encrypted|translated|written) (?:in|as|to|into) (?:base64|rot13|hex|morse)",
    "german": r"(?:ignoriere?|vergiss|missachte|vergesse?) (?:\S+ ){0,3}?"
    r"(?:vorherigen|bisherigen|obigen|vorigen|früheren) "
    r"(?:anweisungen|instruktionen|befehle|regeln)",
    "french": r"(?:ignorez?|oubliez?) (?:\S+ ){0,3}?(?:instructions|consignes|règles) "
    r"(?:précédentes|ci dessus|antérieures)",
    "spanish": r"(?:ignora|olvida|omite|ignore) (?:\S+ ){0,4}?(?:instrucciones|reglas|órdenes) "
    r"(?:anteriores|previas|de arriba)",
    "italian": r"(?:ignora|dimentica) (?:\S+ ){0,3}?(?:istruzioni|regole) (?:precedenti|sopra)",
    "portuguese": r"(?:ignore|esqueça|desconsidere) (?:\S+ ){0,4}?(?:instruções|regras) "
    r"(?:anteriores|prévias|acima)",
    "russian": r"(?i:игнорируй|забудь)\S* (?:\S+ ){0,3}?(?i:инструкци|указани|правил)",
    "chinese": r"(?:忽略|无视|忘记)(?:你|之前|以前|前面|上面|上述|先前|所有|的|全部){1,6}"
    r"(?:指令|指示|说明|规则|提示)",
    "japanese": r"(?:以前|これまで|上記|前)の(?:すべての)?(?:指示|命令|ルール)(?:を|は)?"
    r"(?:すべて|全て)?(?:無視|忘れ)",
}
"""Patterns by name, for words with single spaces between."""


class RuleSet:
    """All rules as one automaton. Takes time proportional to the text."""

    def __init__(self) -> None:
        self._names = tuple(RULES)
        self._set = re2.Set.SearchSet(re2.Options())
        for pattern in RULES.values():
            self._set.Add(rf"(?:^|\W)(?:{pattern})")
        self._set.Compile()

    def matches(self, joined: bytes) -> tuple[str, ...]:
        """Names of the rules that apply, in the order of ``RULES``."""
        found = self._set.Match(joined)
        return tuple(map(self._names.__getitem__, sorted(found))) if found else ()
