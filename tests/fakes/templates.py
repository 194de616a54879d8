"""Chat templates of the kinds that models come with, written for the tests."""

from __future__ import annotations

from tests.fakes.tiny_gguf import CHATML

CONTROL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "[INST]", "[/INST]",
    "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|turn|>", "<|eot|>", "<think>",
    "</think>",
)  # fmt: skip
"""Control tokens for all of them."""

ASSIGNED = """\
{% set all = messages %}{% for m in all %}
{% set said = '<|turn|>' + m['role'] + '\n\n' + m['content'] | trim + '<|eot|>' %}
{% if loop.index0 == 0 %}{% set said = bos_token + said %}{% endif %}
{{ said }}{% endfor %}{{ '<|turn|>assistant\n\n' if add_generation_prompt else '' }}"""
"""Assembles a turn in a variable, the first with BOS."""

ROLE_LITERALS = """\
{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}
<|{{ 'assistant' }}|>"""
"""Puts its control literals together from the role."""

PLAIN_TEXT = """\
{% for m in messages %}
<|{{ m.role }}|>
{{ m.content }}<|end|>
{% endfor %}
<|assistant|>
"""
"""Text between tags instead of expressions."""

THINKING = """\
{%- for m in messages %}
{%- if m.role == 'assistant' and '</think>' in m.content %}
{%- set said = m.content.split('</think>')[-1].lstrip('\n') %}
{%- else %}{%- set said = m.content %}{%- endif %}
{{- '<|im_start|>' ~ m.role ~ '\n' ~ said ~ '<|im_end|>' ~ '\n' }}
{%- endfor %}
{{- '<|im_start|>assistant\n<think>\n' }}"""
"""Looks for a control literal in what the assistant said."""

MACRO = """\
{%- macro turn(role, said, close='<|im_end|>') %}
<|im_start|>{{ role }}
{{ said }}{{ close }}
{% endmacro %}
{%- for m in messages %}{{ turn(m.role, m.content) }}{% endfor %}
{{- turn('assistant', '', close='') | trim }}"""

NO_SYSTEM = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}
{{ raise_exception('System role not supported') }}{% endif %}
{% for m in messages %}
{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Roles must alternate') }}{% endif %}
{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}
{{ '<|turn|>' + role + '\n' + m['content'] | trim + '<|eot|>\n' }}{% endfor %}
{% if add_generation_prompt %}{{ '<|turn|>model\n' }}{% endif %}"""

BRACKETS = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- '[INST] ' ~ message.content ~ ' [/INST]' }}
    {%- elif message.role == 'system' %}
        {{- '[INST]' + message.content + '\n' }}
    {%- else %}
        {{- ' ' ~ message.content | trim ~ eos_token }}
    {%- endif %}
{%- endfor %}
"""

NAMESPACE = """\
{%- set ns = namespace(system='') %}
{%- for m in messages %}{% if m.role == 'system' %}
{%- set ns.system = '<|system|>' + m.content + '<|end|>' %}{% endif %}{% endfor %}
{{- bos_token + ns.system }}
{%- for m in messages if m.role != 'system' %}
{%- generation %}{{ ('<|user|>' if m.role == 'user' else '<|assistant|>') + m.content }}
{%- endgeneration %}{{ '<|end|>' }}{% endfor %}
{{- '<|assistant|>' if add_generation_prompt else eos_token }}"""

PROVEN = {
    "chatml": CHATML, "assigned": ASSIGNED, "role literals": ROLE_LITERALS,
    "plain text": PLAIN_TEXT, "thinking": THINKING, "macro": MACRO, "no system": NO_SYSTEM,
    "brackets": BRACKETS, "namespace": NAMESPACE,
}  # fmt: skip
"""Templates whose control tokens are told from content."""

UNPROVEN = {
    "looked up": "{% set t = {'user': '<|user|>'} %}{{ t[messages[0].role] }}",
    "joined": "{{ ['<|user|>', messages[0].content] | join }}",
    "replaced": "{{ ('<|user|>' + messages[0].content).replace('a', 'b') }}",
    "replacement": "{{ messages[0].content.replace('x', '<|user|>') }}",
    "compared": "{% set a = '<|user|>' %}{% if a == messages[0].content %}x{% endif %}",
    "repeated": "{{ '<|user|>' * 2 }}",
    "iterated": "{% for t in ['<|user|>'] %}{{ t }}{% endfor %}",
    "formatted": "{{ '<|user|>%s' % messages[0].content }}",
    "unpacked": "{% set a, b = '<|user|>', 'x' %}{{ a }}",
    "filtered": "{% filter trim %}<|user|>{% endfilter %}",
    "looked into": "{% set a = '<|user|>' + 'x' %}{{ a[0] }}",
    "measured": "{% set a = '<|user|>' %}{{ a | length }}",
    "from a macro": "{% macro f() %}<|user|>{% endmacro %}{{ f()[1:] }}",
    "trimmed of characters": "{{ ('<|user|>' + messages[0].content) | trim('<') }}",
    "block": "{% block b %}<|user|>{% endblock %}",
}
"""Templates that do more with their control literals than write them."""
