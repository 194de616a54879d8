"""A chat template that shows tools and calls, as those of models that were taught tools do."""

TOOL_TEMPLATE = (
    "{%- if tools %}<|user|>Tools:{%- for tool in tools %}{{ '\\n' + (tool | tojson) }}"
    "{%- endfor %}{%- endif %}"
    "{%- for m in messages %}"
    "{%- if m.role == 'tool' %}{{ '<|user|>answer: ' + m.content }}"
    "{%- else %}{{ '<|' + m.role + '|>' + (m.content or '') }}"
    "{%- for call in m.tool_calls or [] %}"
    '{{ \'[CAL]{"name": "\' + call.function.name + \'", "arguments": \' }}'
    "{{ call.function.arguments | tojson }}{{ '}[/CAL]' }}"
    "{%- endfor %}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}<|assistant|>{%- endif %}"
)
CALL_MARK = "[CAL]"
