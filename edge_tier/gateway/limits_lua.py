"""The two Lua scripts by which Redis keeps limits, and how their arguments are laid out.

They are ``gcra`` and ``budgets`` once more, over as many subjects as a request has (n): a script
runs alone, so all of them are charged or none. Redis's own clock counts.

| reserve, settle | |
|---|---|
| KEYS 1..n | a hash for each subject: ``d1``..``d4`` its debts at ``at`` (µs), and what is spent |
| KEYS n+1..2n | a sorted set for each: running reservations by when they no longer count (ms) |
| KEYS 2n+1 | the reservation: MessagePack of its time, day and month, and each subject's debts |
| ARGV 1..3 | n, the reservation's id, how long it is remembered (ms) |
| ARGV 4..7 | what it costs in each bucket |
| ARGV 8..11 | settle: what it used in each bucket; reserve: nothing |
| then 7 for each | limits of the four buckets, requests at once, tokens a day, tokens a month |
"""

from __future__ import annotations

from edge_tier.gateway.gcra import TICKS
from edge_tier.gateway.limits import Subject

_COMMON = f"""
local TICKS = {TICKS}
local n, id, hold_ms = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local cost, used = {{}}, {{}}
for i = 1, 4 do
  cost[i], used[i] = tonumber(ARGV[3 + i]), tonumber(ARGV[7 + i])
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local day = math.floor(time[1] / 86400)
local text = string.format

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
local month = month_of(day)

local function read(s)
  local at = 11 + (s - 1) * 7
  local h = redis.call('HMGET', KEYS[s], 'd1', 'd2', 'd3', 'd4', 'at', 'day', 'in_day', 'month',
    'in_month')
  local state = {{owed = {{}}, limit = {{}}, in_day = 0, in_month = 0,
    streams = tonumber(ARGV[at + 5]), per_day = tonumber(ARGV[at + 6]),
    per_month = tonumber(ARGV[at + 7])}}
  local elapsed = math.max(0, now - (tonumber(h[5]) or now))
  for i = 1, 4 do
    state.limit[i], state.owed[i] = tonumber(ARGV[at + i]), 0
    if state.limit[i] > 0 then
      state.owed[i] = math.max(0, (tonumber(h[i]) or 0) - elapsed * state.limit[i])
    end
  end
  if tonumber(h[6]) == day then state.in_day = tonumber(h[7]) end
  if tonumber(h[8]) == month then state.in_month = tonumber(h[9]) end
  return state
end

local function write(s, state)
  local idle = 1
  local fields = {{'at', text('%.0f', now)}}
  for i = 1, 4 do
    fields[#fields + 1], fields[#fields + 2] = 'd' .. i, text('%.0f', state.owed[i])
    if state.limit[i] > 0 then idle = math.max(idle, state.owed[i] / state.limit[i]) end
  end
  local keep_ms = math.ceil(idle / 1000)
  if state.per_day > 0 or state.per_month > 0 then
    for _, pair in ipairs({{{{'day', day}}, {{'in_day', state.in_day}}, {{'month', month}},
        {{'in_month', state.in_month}}}}) do
      fields[#fields + 1], fields[#fields + 2] = pair[1], text('%.0f', pair[2])
    end
    keep_ms = math.max(keep_ms, 32 * 86400000)
  end
  redis.call('HSET', KEYS[s], unpack(fields))
  redis.call('PEXPIRE', KEYS[s], keep_ms)
end
"""

RESERVE = (
    _COMMON
    + """
local tokens, states = cost[2], {}
for s = 1, n do
  local state = read(s)
  local after = {}
  for i = 1, 4 do
    after[i] = 0
    if state.limit[i] > 0 then
      after[i] = state.owed[i] + cost[i] * TICKS
      if after[i] > state.limit[i] * TICKS then
        return {s, 'rate', state.owed[1], state.owed[2], state.owed[3], state.owed[4]}
      end
    end
  end
  if state.streams > 0 then
    redis.call('ZREMRANGEBYSCORE', KEYS[n + s], '-inf', text('%.0f', now / 1000))
    if redis.call('ZCARD', KEYS[n + s]) >= state.streams then return {s, 'crowd'} end
  end
  if state.per_day > 0 and state.in_day + tokens > state.per_day then
    return {s, 'day', state.in_day, time[1] + 0}
  end
  if state.per_month > 0 and state.in_month + tokens > state.per_month then
    return {s, 'month', state.in_month, time[1] + 0}
  end
  state.owed = after
  state.in_day, state.in_month = state.in_day + tokens, state.in_month + tokens
  states[s] = state
end
local placed, answer = {now, day, month}, {0, 'admitted'}
for s = 1, n do
  write(s, states[s])
  if states[s].streams > 0 then
    redis.call('ZADD', KEYS[n + s], text('%.0f', now / 1000 + hold_ms), id)
    redis.call('PEXPIRE', KEYS[n + s], hold_ms)
  end
  for i = 1, 4 do
    placed[#placed + 1], answer[#answer + 1] = states[s].owed[i], states[s].owed[i]
  end
  answer[#answer + 1], answer[#answer + 2] = states[s].in_day, states[s].in_month
end
redis.call('SET', KEYS[2 * n + 1], cmsgpack.pack(placed), 'PX', hold_ms)
return answer
"""
)
"""Answers ``{0, 'admitted', …}`` and for each subject its four debts and what it has spent in the
day and the month, after the charge; or ``{s, why, …}``, the subject that
refuses and its debts before the charge (``rate``), or what it has spent and Redis's Unix time."""

SETTLE = (
    _COMMON
    + """
local open = redis.call('GET', KEYS[2 * n + 1])
if not open then return 0 end
redis.call('DEL', KEYS[2 * n + 1])
local placed = cmsgpack.unpack(open)
local elapsed = math.max(0, now - placed[1])
for s = 1, n do
  local state = read(s)
  if state.streams > 0 then redis.call('ZREM', KEYS[n + s], id) end
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
end
return 1
"""
)
"""Answers 1 if the reservation was open."""


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


def limits_of(subjects: list[Subject]) -> list[int]:
    """Seven arguments for each subject."""
    arguments: list[int] = []
    for subject in subjects:
        limits = subject.limits
        arguments += (
            limits.requests_per_minute,
            limits.tokens_per_minute,
            limits.input_tokens_per_minute,
            limits.output_tokens_per_minute,
            limits.concurrent_streams,
            limits.tokens_per_day,
            limits.tokens_per_month,
        )
    return arguments
