"""The keys of a tenant's presence and the Lua scripts on them: each does its part in one step and one round trip.

The keys share a hash tag, so that they live on one node of a cluster, and every script is given all that it touches:

    mc:{<tenant>}:p:processes   sorted set: process → until when its word counts
    mc:{<tenant>}:p:reports     hash: process → its number of connections and the number of its last report
    mc:{<tenant>}:p:on:<process>  set: the users who are online or away there
    mc:{<tenant>}:p:users       hash: user → entry, see below
    mc:{<tenant>}:p:online      sorted set in the order of its members: the users who are shown as online or away
    mc:{<tenant>}:p:lost        sorted set: status and user of lost connections → until when they count
    mc:{<tenant>}:p:changed     sorted set: user → when what is shown of them began to differ from what watchers know
    mc:{<tenant>}:p:seen        sorted set: user → when they were last there (ms)
    mc:{<tenant>}:p:clock       the number of the last announcement: grows, like the time in µs where that does

An entry is what is shown (`O` online, `A` away, `-` neither), what watchers were told (`?`: nobody knows), and the
places: for each process that has the user its twelve letters and `O` or `A`.

All of them go by themselves when no process speaks of the tenant any more: `seen` after SEEN_S, the others after a
multiple of the lease; those from which the users of a dead process are found outlive those in which they are.

The clock is the store's own, so that processes need not agree about the time; tests pass theirs.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import redis
import redis.asyncio
from redis.exceptions import NoScriptError

SEEN_S = 90 * 86400
PROCESS_NAME_LENGTH = 12


def key(tenant_id: UUID, name: str) -> str:
    return f"mc:{{{tenant_id.hex}}}:p:{name}"


def keys(tenant_id: UUID, *names: str) -> list[str]:
    return [key(tenant_id, name) for name in names]


@dataclass(frozen=True, slots=True)
class Script:
    text: str
    keys: tuple[str, ...]
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Run:
    """One script on one tenant's keys; `last_key` names the one key that is not the same for every process."""

    script: Script
    tenant_id: UUID
    arguments: Sequence[Any]
    last_key: str | None = None

    def put_into(self, pipeline: Any, *, as_text: bool = False) -> None:
        names = self.script.keys if self.last_key is None else (*self.script.keys, self.last_key)
        where = keys(self.tenant_id, *names)
        if as_text:
            pipeline.eval(self.script.text, len(where), *where, *self.arguments)
        else:
            pipeline.evalsha(self.script.sha, len(where), *where, *self.arguments)


async def run(client: redis.asyncio.Redis, runs: Sequence[Run]) -> list[Any]:
    """Their answers, in one round trip; another for scripts that a server which was just started does not know."""
    if not runs:
        return []
    pipeline = client.pipeline(transaction=False)
    for one in runs:
        one.put_into(pipeline)
    answers = await pipeline.execute(raise_on_error=False)
    missing = _not_known(answers)
    if missing:
        for index in missing:
            runs[index].put_into(pipeline, as_text=True)
        for index, answer in zip(missing, await pipeline.execute(raise_on_error=False), strict=True):
            answers[index] = answer
    return _or_raise(answers)


def run_blocking(client: redis.Redis, runs: Sequence[Run], *, also_get: str | None = None) -> list[Any]:
    """As `run`, for threads; the value of `also_get` comes last."""
    pipeline = client.pipeline(transaction=False)
    for one in runs:
        one.put_into(pipeline)
    if also_get is not None:
        pipeline.get(also_get)
    answers = pipeline.execute(raise_on_error=False)
    missing = _not_known(answers)
    if missing:
        for index in missing:
            runs[index].put_into(pipeline, as_text=True)
        for index, answer in zip(missing, pipeline.execute(raise_on_error=False), strict=True):
            answers[index] = answer
    return _or_raise(answers)


def _not_known(answers: Sequence[Any]) -> list[int]:
    return [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]


def _or_raise(answers: list[Any]) -> list[Any]:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def _script(body: str, *names: str, last: str | None = None, parts: Sequence[str] = ()) -> Script:
    """Names the keys and puts the shared parts before the body."""
    named = (*names, last) if last is not None else names
    heads = [f"local {name.upper()} = KEYS[{index}]" for index, name in enumerate(named, 1)]
    return Script("\n".join((*heads, _NOW, *parts, body.strip())), names)


_NOW = """
-- ARGV[1] is the time in seconds, or empty for the store's own.
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
end
"""

_ENTRY = """
local function load(user)
  local entry = redis.call('HGET', USERS, user) or '--'
  return string.sub(entry, 1, 1), string.sub(entry, 2, 2), string.sub(entry, 3)
end
local function best(user, places)
  for _, status in ipairs({'O', 'A'}) do
    if string.find(places, status, 1, true) then return status end
    local counts_until = redis.call('ZSCORE', LOST, status .. user)
    if counts_until and tonumber(counts_until) > now then return status end
  end
  return '-'
end
"""

# Writes a user's entry with these places; 1 if what is shown of them changed.
_SETTLE = """
local function settle(user, places)
  local shown, told = load(user)
  local status = best(user, places)
  if status == '-' and told == '-' then
    redis.call('HDEL', USERS, user)
  else
    redis.call('HSET', USERS, user, status .. told .. places)
  end
  if status == shown then return 0 end
  redis.call('ZADD', CHANGED, 'NX', now, user)
  if status == '-' then redis.call('ZREM', ONLINE, user) else redis.call('ZADD', ONLINE, 0, user) end
  return 1
end
"""

_KEEP = f"""
local function keep(seconds)
  for _, name in ipairs({{USERS, ONLINE, LOST, CHANGED}}) do redis.call('EXPIRE', name, seconds) end
  redis.call('EXPIRE', SEEN, {SEEN_S})
end
"""

_KEEP_PROCESS = """
local function keep_process(seconds)
  for _, name in ipairs({PROCESSES, REPORTS, HERE}) do redis.call('EXPIRE', name, 2 * seconds) end
end
"""

_COMMON = ("processes", "reports", "users", "online", "lost", "changed", "seen")

REPORT = _script(
    """
-- What a process says of its users. ARGV: now, process, lease, grace, seconds to keep, the report before this one, this
-- report (empty: the process serves it no longer), then three for each user: id; O, A or - for what they are here; the
-- statuses of connections that were lost here since (=: the one that the store knows of; !: if the store has no entry,
-- it may have forgotten it, so watchers are told whatever is true). Returns how many users changed, and whether the
-- store knew the report before.
local process, grace, this = ARGV[2], tonumber(ARGV[4]), ARGV[7]
local is_known = (redis.call('HGET', REPORTS, process) or '') == ARGV[6]
local changes = 0
for i = 8, #ARGV, 3 do
  local user, here, lost = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local _, _, places = load(user)
  local before = string.match(places, process .. '([OA])')
  places = string.gsub(places, process .. '[OA]', '')
  if here == '-' then
    redis.call('SREM', HERE, user)
  else
    redis.call('SADD', HERE, user)
    places = places .. process .. here
  end
  local is_doubtful = string.find(lost, '!', 1, true) and redis.call('HEXISTS', USERS, user) == 0
  if lost == '=' then lost = before or '' end
  lost = string.gsub(lost, '[^OA]', '')
  for status in string.gmatch(lost, '[OA]') do redis.call('ZADD', LOST, now + grace, status .. user) end
  if lost ~= '' or (before and here == '-') then redis.call('ZADD', SEEN, 'GT', math.floor(now * 1000), user) end
  changes = changes + settle(user, places)
  if is_doubtful then
    local shown, _, now_at = load(user)
    redis.call('HSET', USERS, user, shown .. '?' .. now_at)
    redis.call('ZADD', CHANGED, 'NX', now, user)
    changes = changes + 1
  end
end
if this == '' then
  redis.call('ZREM', PROCESSES, process)
  redis.call('HDEL', REPORTS, process)
else
  redis.call('ZADD', PROCESSES, now + tonumber(ARGV[3]), process)
  redis.call('HSET', REPORTS, process, this)
end
keep(tonumber(ARGV[5]))
keep_process(tonumber(ARGV[5]))
return {changes, is_known and 1 or 0}
""",
    *_COMMON,
    last="here",
    parts=(_ENTRY, _SETTLE, _KEEP, _KEEP_PROCESS),
)

HEARTBEAT = _script(
    """
-- ARGV: now, process, lease, seconds to keep. Renews the lease; returns the last report that the store knows.
redis.call('ZADD', PROCESSES, now + tonumber(ARGV[3]), ARGV[2])
keep(tonumber(ARGV[4]))
keep_process(tonumber(ARGV[4]))
return redis.call('HGET', REPORTS, ARGV[2]) or ''
""",
    *_COMMON,
    last="here",
    parts=(_KEEP, _KEEP_PROCESS),
)

REAP = _script(
    """
-- ARGV: now, process, most, lease, seconds to keep. Takes up to `most` users off a process whose lease is over. Returns
-- how many changed, and whether there are more. The process, should it live, learns from its missing report that it has
-- to say all again.
local ended_at = tonumber(redis.call('ZSCORE', PROCESSES, ARGV[2]) or now + 1)
if ended_at > now then return {0, 0} end
redis.call('HDEL', REPORTS, ARGV[2])
local changes = 0
for _, user in ipairs(redis.call('SPOP', HERE, ARGV[3])) do
  local _, _, places = load(user)
  redis.call('ZADD', SEEN, 'GT', math.floor((ended_at - tonumber(ARGV[4])) * 1000), user)
  changes = changes + settle(user, (string.gsub(places, ARGV[2] .. '[OA]', '')))
end
keep(tonumber(ARGV[5]))
if redis.call('SCARD', HERE) > 0 then return {changes, 1} end
redis.call('ZREM', PROCESSES, ARGV[2])
return {changes, 0}
""",
    *_COMMON,
    last="here",
    parts=(_ENTRY, _SETTLE, _KEEP),
)

ROUND = _script(
    f"""
-- ARGV: now, seconds for which changes are collected, most, seconds to keep. Ends what was lost for long enough, and
-- takes the changes that are due to be told, each for one caller. Returns whether there are more, how many users
-- changed, a process whose lease is over, the number of this announcement, then three for each: user, status, when
-- they were last seen.
local most = tonumber(ARGV[3])
local ended = redis.call('ZRANGEBYSCORE', LOST, '-inf', now, 'LIMIT', 0, most)
local changes = 0
for _, member in ipairs(ended) do
  local user = string.sub(member, 2)
  local _, _, places = load(user)
  redis.call('ZREM', LOST, member)
  changes = changes + settle(user, places)
end
local due = redis.call('ZRANGEBYSCORE', CHANGED, '-inf', now - tonumber(ARGV[2]), 'LIMIT', 0, most)
local answer = {{(#ended == most or #due == most) and 1 or 0, changes, '', ''}}
for _, user in ipairs(due) do
  local shown, told, places = load(user)
  redis.call('ZREM', CHANGED, user)
  if shown ~= told then
    local seen = redis.call('ZSCORE', SEEN, user) or ''
    if shown == '-' then
      redis.call('HDEL', USERS, user)
    else
      redis.call('HSET', USERS, user, shown .. shown .. places)
      if places ~= '' then seen = string.format('%.0f', now * 1000) end
    end
    for _, value in ipairs({{user, shown, seen}}) do answer[#answer + 1] = value end
  end
end
if #answer > 4 then
  local number = math.max(now * 1000000, tonumber(redis.call('GET', CLOCK) or 0) + 1)
  answer[4] = string.format('%.0f', number)
  redis.call('SET', CLOCK, answer[4], 'EX', {SEEN_S})
end
answer[3] = redis.call('ZRANGEBYSCORE', PROCESSES, '-inf', now, 'LIMIT', 0, 1)[1] or ''
keep(tonumber(ARGV[4]))
redis.call('ZREMRANGEBYSCORE', SEEN, '-inf', (now - {SEEN_S}) * 1000)
return answer
""",
    "processes",
    "users",
    "online",
    "lost",
    "changed",
    "seen",
    "clock",
    parts=(_ENTRY, _SETTLE, _KEEP),
)

# Who is shown is kept up by the processes that live; while there is none, only what was just lost still counts.
_SHOWN = """
local is_kept = redis.call('ZCOUNT', PROCESSES, string.format('(%.6f', now), '+inf') > 0
local function show(user)
  local status, _, places = load(user)
  if not is_kept then
    places = ''
    status = best(user, '')
  end
  if status ~= '-' and places ~= '' then return status, string.format('%.0f', now * 1000) end
  return status, redis.call('ZSCORE', SEEN, user) or ''
end
"""

READ = _script(
    """
-- ARGV: now, users. Returns now, the number of the last announcement, then three for each user: status, last seen, and
-- the status that watchers were told by that announcement or one before.
local answer = {string.format('%.6f', now), redis.call('GET', CLOCK) or '0'}
for i = 2, #ARGV do
  local status, seen = show(ARGV[i])
  local _, told = load(ARGV[i])
  for _, value in ipairs({status, seen, told == '?' and '-' or told}) do answer[#answer + 1] = value end
end
return answer
""",
    "processes",
    "users",
    "lost",
    "seen",
    "clock",
    parts=(_ENTRY, _SHOWN),
)

PAGE = _script(
    """
-- ARGV: now, the user before the page or nothing, limit. Returns the last user looked at if there are more, then three
-- for each user who is online or away: user, status, last seen.
local limit = tonumber(ARGV[3])
local first = ARGV[2] == '' and '-' or '(' .. ARGV[2]
local found = redis.call('ZRANGEBYLEX', ONLINE, first, '+', 'LIMIT', 0, limit + 1)
local answer = {#found > limit and found[limit] or ''}
for i = 1, math.min(limit, #found) do
  local status, seen = show(found[i])
  if status ~= '-' then
    for _, value in ipairs({found[i], status, seen}) do answer[#answer + 1] = value end
  end
end
return answer
""",
    "processes",
    "users",
    "online",
    "lost",
    "seen",
    parts=(_ENTRY, _SHOWN),
)

COUNT = _script(
    """
-- ARGV: now. Returns the number of connections on processes that live.
local count = 0
for _, process in ipairs(redis.call('ZRANGEBYSCORE', PROCESSES, string.format('(%.6f', now), '+inf')) do
  local report = redis.call('HGET', REPORTS, process) or '0'
  count = count + tonumber(string.match(report, '^%d+'))
end
return count
""",
    "processes",
    "reports",
)

SINCE = _script(
    """
-- ARGV: now, seconds to live. Remembers since when somebody says so.
redis.call('SET', KEYS[1], string.format('%.6f', now), 'NX')
return redis.call('EXPIRE', KEYS[1], ARGV[2])
"""
)
