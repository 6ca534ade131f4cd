"""The scripts: one call compares and writes a whole batch, and nothing comes in between.

They keep to what Redis 5 and everything after it knows. Versions are texts of digits that order as their numbers do.
"""

from __future__ import annotations

# For each item two keys (the value, and where its version is) and version, event id, a count and so many texts: fields and
# values of a hash, or the one text of a string; none for a delete.
# The answer has for each item 1 (written), 0 (a newer or the same version is there), or the error of a key of another type.
# A command that takes memory comes first: short of it, the server refuses the first write of a script, and only that.
VIEW = """
local kind, tombstone_ttl, shard = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local answers, at = {}, 4
for i = 1, #KEYS / 2 do
  local value, version = KEYS[2 * i - 1], KEYS[2 * i]
  local number, event, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local first, last = at + 3, at + 2 + count
  local held = redis.pcall('HGET', version, '_sf_seq')
  if type(held) == 'table' and held.err then
    answers[i] = held.err
  elseif held and held >= number then
    answers[i] = 0
  else
    answers[i] = 1
    if count == 0 then
      redis.call('DEL', value)
      redis.call('HSET', version, '_sf_seq', number, '_sf_shard', shard, '_sf_event_id', event, '_sf_deleted', '1')
      if tombstone_ttl > 0 then redis.call('EXPIRE', version, tombstone_ttl) end
    elseif kind == 'json' then
      redis.call('HSET', version, '_sf_seq', number, '_sf_shard', shard, '_sf_event_id', event, '_sf_deleted', '0')
      redis.call('SET', value, ARGV[first])
      if tombstone_ttl > 0 then redis.call('PERSIST', version) end
    else
      if redis.call('EXISTS', value) == 1 then
        redis.call('HSET', value, '_sf_seq', number)
        redis.call('DEL', value)
      end
      redis.call('HSET', value, '_sf_seq', number, '_sf_shard', shard, '_sf_event_id', event, '_sf_deleted', '0',
        unpack(ARGV, first, math.min(first + 999, last)))
      for more = first + 1000, last, 1000 do
        redis.call('HSET', value, unpack(ARGV, more, math.min(more + 999, last)))
      end
    end
  end
  at = last + 1
end
return answers
"""

# The stream, and the set of event ids that were added to it, by time. The time now, how long ids are kept, how many entries
# the stream keeps (0 for all), a number of changes; their event ids; and for each a count and so many fields and values.
# The answer has for each change 1 (added) or 0 (it was added before).
STREAM = """
local stream, added = KEYS[1], KEYS[2]
local now, window, maxlen, changes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local answers, at = {}, 5 + changes
for i = 1, changes do
  local event, count = ARGV[4 + i], tonumber(ARGV[at])
  if redis.call('ZSCORE', added, event) then
    answers[i] = 0
  else
    if maxlen > 0 then
      redis.call('XADD', stream, 'MAXLEN', '~', maxlen, '*', unpack(ARGV, at + 1, at + count))
    else
      redis.call('XADD', stream, '*', unpack(ARGV, at + 1, at + count))
    end
    redis.call('ZADD', added, now, event)
    answers[i] = 1
  end
  at = at + 1 + count
end
redis.call('ZREMRANGEBYSCORE', added, '-inf', '(' .. (now - window))
return answers
"""

PUBLISH = """
for i = 2, #ARGV do redis.call('PUBLISH', ARGV[1], ARGV[i]) end
return {}
"""
