"""The Lua scripts by which Redis keeps limits, and how their arguments are laid out.

``RESERVE`` and ``SETTLE`` are ``gcra`` and ``budgets`` once more, over as many subjects as a
request has (n): a script runs alone, so all of them are charged or none. Redis's own clock counts.

| reserve, settle | |
|---|---|
| KEYS 1..n | a hash for each subject: ``d1``..``d4`` its debts at ``at`` (µs), and what is spent |
| KEYS n+1..2n | a sorted set for each: running reservations by when they no longer count (ms) |
| KEYS 2n+1 | the reservation: MessagePack of its time, day and month, and each subject's debts |
| ARGV 1, 2 | n, the reservation's id |
| ARGV 3, 4 | how long it is remembered, and counts as running without a sign of life (ms) |
| ARGV 5..8 | what it costs in each bucket |
| ARGV 9..12 | settle: what it used in each bucket; reserve: nothing |
| then 9 for each | limits of the four buckets, requests at once, tokens a day, tokens a month; \
``born`` as the caller last heard it, and what else it heard then (``limits_recall``) |

A hash that is written anew gets another ``born``. One that is not the caller's was lost in between
(a Redis that was killed and came back empty): then what the caller heard of the old one counts too.
A hash outlives its debts, so only a loss looks like one.
"""

from __future__ import annotations

from edge_tier.gateway.gcra import TICKS
from edge_tier.gateway.limits import Subject

_KEEP_MS = 120_000
"""How long a hash is kept at least: no debt is deeper than two full buckets, so by then it is gone,
and what anybody may have heard of it is worth nothing."""
_BUDGET_MS = 32 * 86_400_000
"""How long one with a budget is kept: past the longest month."""

MONTH_OF = """
local function month_of(number)
  local shifted = number + 719468
  local era = math.floor(shifted / 146097)
  local e = shifted - era * 146097
  local y = math.floor((e - math.floor(e / 1460) + math.floor(e / 36524)
    - math.floor(e / 146096)) / 365)
  local d = e - (365 * y + math.floor(y / 4) - math.floor(y / 100))
  local m = math.floor((5 * d + 2) / 153)
  local year, month = y + era * 400, m + 3
  if m >= 10 then year, month = year + 1, m - 9 end
  return year * 12 + month - 1
end
"""
"""``budgets.month_of`` in Lua."""

_COMMON = f"""
local TICKS = {TICKS}
local n, id, hold_ms, lease_ms = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local cost, used = {{}}, {{}}
for i = 1, 4 do
  cost[i], used[i] = tonumber(ARGV[4 + i]), tonumber(ARGV[8 + i])
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local day = math.floor(time[1] / 86400)
local text = string.format

{MONTH_OF}local month = month_of(day)

-- What the caller heard of a hash that Redis has lost since.
local function recall(state, heard)
  local h = {{}}
  for number in string.gmatch(heard, '%d+') do h[#h + 1] = tonumber(number) end
  for i = 1, 4 do
    if state.limit[i] > 0 then
      state.owed[i] = math.max(state.owed[i], h[1 + i] - h[1] * state.limit[i])
    end
  end
  if h[6] == day then state.in_day = math.max(state.in_day, h[7]) end
  if h[8] == month then state.in_month = math.max(state.in_month, h[9]) end
end

local function read(s)
  local at = 12 + (s - 1) * 9
  local h = redis.call('HMGET', KEYS[s], 'd1', 'd2', 'd3', 'd4', 'at', 'day', 'in_day', 'month',
    'in_month', 'born')
  local state = {{owed = {{}}, limit = {{}}, in_day = 0, in_month = 0,
    born = h[10] or text('%.0f', now), streams = tonumber(ARGV[at + 5]),
    per_day = tonumber(ARGV[at + 6]), per_month = tonumber(ARGV[at + 7])}}
  local elapsed = math.max(0, now - (tonumber(h[5]) or now))
  for i = 1, 4 do
    state.limit[i], state.owed[i] = tonumber(ARGV[at + i]), 0
    if state.limit[i] > 0 then
      state.owed[i] = math.max(0, (tonumber(h[i]) or 0) - elapsed * state.limit[i])
    end
  end
  if tonumber(h[6]) == day then state.in_day = tonumber(h[7]) end
  if tonumber(h[8]) == month then state.in_month = tonumber(h[9]) end
  if ARGV[at + 8] ~= '' and ARGV[at + 8] ~= h[10] then recall(state, ARGV[at + 9]) end
  return state
end

local function write(s, state)
  local keep_ms = {_KEEP_MS}
  local fields = {{'at', text('%.0f', now), 'born', state.born}}
  for i = 1, 4 do
    fields[#fields + 1], fields[#fields + 2] = 'd' .. i, text('%.0f', state.owed[i])
    if state.limit[i] > 0 then
      keep_ms = math.max(keep_ms, math.ceil(state.owed[i] / state.limit[i] / 1000))
    end
  end
  if state.per_day > 0 or state.per_month > 0 then
    for _, pair in ipairs({{{{'day', day}}, {{'in_day', state.in_day}}, {{'month', month}},
        {{'in_month', state.in_month}}}}) do
      fields[#fields + 1], fields[#fields + 2] = pair[1], text('%.0f', pair[2])
    end
    keep_ms = math.max(keep_ms, {_BUDGET_MS})
  end
  redis.call('HSET', KEYS[s], unpack(fields))
  redis.call('PEXPIRE', KEYS[s], keep_ms)
end

local function tell(answer, state)
  local said = {{tonumber(state.born), state.owed[1], state.owed[2], state.owed[3], state.owed[4],
    state.in_day, state.in_month}}
  for i = 1, 7 do answer[#answer + 1] = said[i] end
  return answer
end
"""

RESERVE = (
    _COMMON
    + """
local tokens, states = cost[2], {}
for s = 1, n do
  local state = read(s)
  local after, why = {}, nil
  for i = 1, 4 do
    after[i] = 0
    if state.limit[i] > 0 then
      after[i] = state.owed[i] + cost[i] * TICKS
      if after[i] > state.limit[i] * TICKS then why = 'rate' end
    end
  end
  if not why and state.streams > 0 then
    redis.call('ZREMRANGEBYSCORE', KEYS[n + s], '-inf', text('%.0f', now / 1000))
    if redis.call('ZCARD', KEYS[n + s]) >= state.streams then why = 'crowd' end
  end
  if not why and state.per_day > 0 and state.in_day + tokens > state.per_day then why = 'day' end
  if not why and state.per_month > 0 and state.in_month + tokens > state.per_month then
    why = 'month'
  end
  if why then return tell({s, why, time[1] + 0, day, month}, state) end
  state.owed = after
  state.in_day, state.in_month = state.in_day + tokens, state.in_month + tokens
  states[s] = state
end
local placed, answer = {now, day, month}, {0, 'admitted', time[1] + 0, day, month}
for s = 1, n do
  write(s, states[s])
  if states[s].streams > 0 then
    redis.call('ZADD', KEYS[n + s], text('%.0f', now / 1000 + lease_ms), id)
    redis.call('PEXPIRE', KEYS[n + s], hold_ms)
  end
  for i = 1, 4 do placed[#placed + 1] = states[s].owed[i] end
  tell(answer, states[s])
end
redis.call('SET', KEYS[2 * n + 1], cmsgpack.pack(placed), 'PX', hold_ms)
return answer
"""
)
"""Answers ``{0, 'admitted', Unix time, day, month, …}`` after the charge, with seven numbers for
each subject (``tell``); or ``{s, why, …}`` with those of the subject that refuses, uncharged."""

SETTLE = (
    _COMMON
    + """
for s = 1, n do
  if tonumber(ARGV[12 + (s - 1) * 9 + 5]) > 0 then redis.call('ZREM', KEYS[n + s], id) end
end
local open = redis.call('GET', KEYS[2 * n + 1])
if not open then return {0} end
redis.call('DEL', KEYS[2 * n + 1])
local placed, answer = cmsgpack.unpack(open), {1, 'settled', time[1] + 0, day, month}
local elapsed = math.max(0, now - placed[1])
for s = 1, n do
  local state = read(s)
  for i = 2, 4 do
    local limit = state.limit[i]
    if limit > 0 then
      local owed, difference = state.owed[i], (used[i] - cost[i]) * TICKS
      if difference > 0 then
        owed = math.max(owed, math.min(owed + difference, 2 * limit * TICKS))
      else
        local undrained = math.max(0, placed[3 + (s - 1) * 4 + i] - elapsed * limit)
        owed = math.max(0, owed + math.max(difference, -undrained))
      end
      state.owed[i] = owed
    end
  end
  local more = used[2] - cost[2]
  if more > 0 or placed[2] == day then state.in_day = math.max(0, state.in_day + more) end
  if more > 0 or placed[3] == month then state.in_month = math.max(0, state.in_month + more) end
  write(s, state)
  tell(answer, state)
end
return answer
"""
)
"""Answers ``{1, 'settled', …}`` as ``RESERVE`` does; ``{0}`` where the reservation was not open:
then only its places are given up, which may have been put back after a loss."""

RENEW = """
local time = redis.call('TIME')
local ends = string.format('%.0f', time[1] * 1000 + time[2] / 1000 + ARGV[2])
for i = 4, #ARGV do
  if ARGV[3] == '1' or redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    redis.call('ZADD', KEYS[1], ends, ARGV[i])
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
"""
"""A sign of life of running reservations. KEYS 1: a subject's sorted set. ARGV: how long it is kept
and they count from now (ms); 1 where those that are not there are put back, as after a loss; then
their ids."""


def keys(
    prefix: str, subjects: list[Subject], tag: str, reservation: str, *, cluster: bool
) -> list[str]:
    """The scripts' keys. In a cluster all of a request's must lie on one node, so there a model's
    limits are counted for each tenant apart."""
    own = [
        f"{prefix}{{{tag}}}:{subject.id}"
        if cluster or subject.kind != "model"
        else f"{prefix}{subject.id}"
        for subject in subjects
    ]
    running = [f"{key}:running" for key in own]
    return [*own, *running, f"{prefix}{{{tag}}}:open:{reservation}"]


def limits_of(subject: Subject) -> tuple[int, ...]:
    """The first seven arguments of a subject."""
    limits = subject.limits
    return (
        limits.requests_per_minute,
        limits.tokens_per_minute,
        limits.input_tokens_per_minute,
        limits.output_tokens_per_minute,
        limits.concurrent_streams,
        limits.tokens_per_day,
        limits.tokens_per_month,
    )
