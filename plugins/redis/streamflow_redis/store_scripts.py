r"""The scripts of the store. Each names all its keys, looks at all of them before it writes, and then cannot fail half-way.

They keep to what Redis 5 and everything after it knows. A server that is a replica, out of memory or unable to save refuses
the first write of a script, and only that. A key of another type would fail in the middle: therefore the looks.

A letter's name is its pipeline, stream, shard, sequence number and item key, each as a JSON string, with `\0` between
them; JSON has none inside. Its place is the name without the item key. Members of the index are `d`, or `p` and the
pipeline, or `i` and the item (pipeline, stream, item key), always with the id, of 16 digits, at the end: within what they
begin with they are in the order of ids.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Script:
    text: str
    digest: str


def _script(text: str) -> Script:
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


# Rows and windows; shard id, the version that is expected ('' for no row), the row from now on ('' for none), its window
# ('' for none). A row begins with its version and a space. The answer is 1 (written) or 0 (conflict).
COMPARE_AND_SET = _script("""
local rows, windows = KEYS[1], KEYS[2]
local shard, expected, row, window = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local held, version = redis.call('HGET', rows, shard), ''
if held then version = string.match(held, '^[^ ]+') or 'none' end
if version ~= expected then return 0 end
redis.call('HLEN', windows)
if row == '' then redis.call('HDEL', rows, shard) else redis.call('HSET', rows, shard, row) end
if window == '' then redis.call('HDEL', windows, shard) else redis.call('HSET', windows, shard, window) end
return 1
""")

# Rows and windows; shard id. The answer has row and window as they are at one moment, nil for what is not there.
GET = _script("""
return {redis.call('HGET', KEYS[1], ARGV[1]), redis.call('HGET', KEYS[2], ARGV[1])}
""")

# About, facts, names, places and index; 'all', or 'followers' for only those whose keys have letters now; and for each letter
# pipeline, stream, shard, sequence number, item key and facts. The answer has for each letter 1 (taken) or 0.
PUT = _script(r"""
local about, facts, names, places, index = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
redis.call('HLEN', about) redis.call('HLEN', facts) redis.call('HLEN', names) redis.call('HLEN', places)
redis.call('ZCARD', index)

local function item(at) return 'i' .. ARGV[at] .. '\0' .. ARGV[at + 1] .. '\0' .. ARGV[at + 4] .. '\0' end

local taken, parked = {}, {}
for i = 1, (#ARGV - 1) / 6 do
  local at = 6 * i - 4
  taken[i] = 1
  if ARGV[1] == 'followers' then
    local of = item(at)
    if parked[of] == nil then
      parked[of] = ARGV[at + 4] ~= '""' and
        #redis.call('ZRANGEBYLEX', index, '(' .. of, '(' .. of .. ':', 'LIMIT', 0, 1) or 0
    end
    taken[i] = parked[of] or 0
  end
end

for i = 1, #taken do
  if taken[i] == 1 then
    local at = 6 * i - 4
    local place = table.concat({ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]}, '\0')
    local id, held = redis.call('HGET', places, place), false
    if id then
      held = redis.call('HGET', names, id)
    else
      id = string.format('%016.0f', redis.call('HINCRBY', about, 'last_id', 1))
      redis.call('HSET', places, place, id)
    end
    local name = place .. '\0' .. ARGV[at + 4]
    if held and held ~= name then
      redis.call('ZREM', index, 'i' .. ARGV[at] .. '\0' .. ARGV[at + 1] .. '\0' .. string.sub(held, #place + 2) .. '\0' .. id)
    end
    redis.call('HSET', names, id, name)
    redis.call('HSET', facts, id, ARGV[at + 5])
    redis.call('ZADD', index, 0, 'd' .. id, 0, 'p' .. ARGV[at] .. '\0' .. id, 0, item(at) .. id)
  end
end
return taken
""")

_PARTS = r"""
local function parts(name)
  local found, from = {}, 1
  for i = 1, 4 do
    local zero = string.find(name, '\0', from, true)
    found[i] = string.sub(name, from, zero - 1)
    from = zero + 1
  end
  found[5] = string.sub(name, from)
  return found
end
"""

# Facts, names, places and index; ids. The answer is how many there were.
REMOVE = _script(
    _PARTS
    + r"""
local facts, names, places, index = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
redis.call('HLEN', facts) redis.call('HLEN', names) redis.call('HLEN', places) redis.call('ZCARD', index)
local removed = 0
for _, id in ipairs(ARGV) do
  local name = redis.call('HGET', names, id)
  if name then
    local of = parts(name)
    redis.call('HDEL', facts, id)
    redis.call('HDEL', names, id)
    redis.call('HDEL', places, table.concat({of[1], of[2], of[3], of[4]}, '\0'))
    redis.call('ZREM', index, 'd' .. id, 'p' .. of[1] .. '\0' .. id,
      'i' .. of[1] .. '\0' .. of[2] .. '\0' .. of[5] .. '\0' .. id)
    removed = removed + 1
  end
end
return removed
"""
)

# Facts, names and index; what members begin with ('' to look at the ids at the end instead), the id to begin after, how many
# members to look at, how many letters to return (0 to count), bytes of facts after which to stop; pipeline, stream, shard
# and item key that a letter must have ('' for any); ids.
# The answer has the count, the id of the last letter looked at, 1 where there may be more, and id, name and facts of each.
FIND = _script(
    _PARTS
    + r"""
local facts, names, index = KEYS[1], KEYS[2], KEYS[3]
local looks_max, letters_max, bytes_max = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local members = {}
if ARGV[1] == '' then
  for i = 10, #ARGV do members[i - 9] = ARGV[i] end
else
  members = redis.call('ZRANGEBYLEX', index, '(' .. ARGV[1] .. ARGV[2], '(' .. ARGV[1] .. ':', 'LIMIT', 0, looks_max)
end

local wanted = {[1] = ARGV[6], [2] = ARGV[7], [3] = ARGV[8], [5] = ARGV[9]}
local function fits(name)
  local of = parts(name)
  for i, part in pairs(wanted) do
    if part ~= '' and part ~= of[i] then return false end
  end
  return true
end

local found, count, bytes, last = {}, 0, 0, ARGV[2]
for i, member in ipairs(members) do
  last = string.sub(member, -16)
  local name = redis.call('HGET', names, last)
  if name and fits(name) then
    count = count + 1
    if letters_max > 0 then
      local held = redis.call('HGET', facts, last) or ''
      found[#found + 1], found[#found + 2], found[#found + 3] = last, name, held
      bytes = bytes + #held
      if count == letters_max or bytes >= bytes_max then
        return {count, last, (i < #members or #members == looks_max) and 1 or 0, found}
      end
    end
  end
end
return {count, last, #members == looks_max and 1 or 0, found}
"""
)

# Index; what members begin with, the bound to go on from, how many to look for. The answer has the different item keys, one
# look for each however many letters it has, and the bound to go on from, '' at the end.
ITEM_KEYS = _script(r"""
local prefix, from, found = ARGV[1], ARGV[2], {}
for _ = 1, tonumber(ARGV[3]) do
  local member = redis.call('ZRANGEBYLEX', KEYS[1], from, '(' .. prefix .. '#', 'LIMIT', 0, 1)[1]
  if not member then return {found, ''} end
  local key = string.sub(member, #prefix + 1, -18)
  found[#found + 1] = key
  from = '(' .. prefix .. key .. '\0:'
end
return {found, from}
""")

# About and the probe; the version of the layout. Every command that changes something, with nothing left of it but the
# version: a user that may not use one hears of it now, and not in the middle of a script.
PREPARE = _script("""
redis.call('HSET', KEYS[1], 'format', ARGV[1])
redis.call('HINCRBY', KEYS[1], 'last_id', 0)
redis.call('HDEL', KEYS[1], 'probe')
redis.call('ZADD', KEYS[2], 0, 'probe')
redis.call('ZREM', KEYS[2], 'probe')
redis.call('ZLEXCOUNT', KEYS[2], '-', '+')
redis.call('ZRANGEBYLEX', KEYS[2], '-', '+')
redis.call('ZCARD', KEYS[2])
return redis.call('HLEN', KEYS[1])
""")

COMMANDS = ("EVAL", "EVALSHA", "HDEL", "HGET", "HGETALL", "HINCRBY", "HLEN", "HSET", "PING", "ZADD", "ZCARD", "ZLEXCOUNT",
            "ZRANGEBYLEX", "ZREM")  # fmt: skip
"""What the store's user must be allowed to do."""
