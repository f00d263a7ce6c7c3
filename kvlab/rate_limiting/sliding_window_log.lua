-- A sliding log: at most `limit` units in any interval of the window's length.
-- KEYS[1] the log, a sorted set: score the time (µs), member "<running total, 16 digits>:<cost>"
-- KEYS[2] optional: the answer to this op_id, a string: "<remaining> <reset, µs> <at, µs>"
-- ARGV[1] cost (units)
-- ARGV[2] 1 to use the units, 0 to look only
-- ARGV[3] life of the answer to an op_id (ms)
-- ARGV[4] limit (units)
-- ARGV[5] window (µs)
-- Returns {allowed 1 or 0, remaining (units), retry after (µs, -1 never), reset after (µs), at (µs)}

if KEYS[2] then
  local answer = redis.call('GET', KEYS[2])
  if answer then
    local remaining, reset, at = string.match(answer, '^(%d+) (%d+) (%d+)$')
    return {1, tonumber(remaining), 0, tonumber(reset), tonumber(at)}
  end
end

local cost, counting, horizon = tonumber(ARGV[1]), ARGV[2] == '1', ARGV[3]
local limit, window = tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local ttl = math.ceil(window / 1000) + 100  -- never expire early
local log = KEYS[1]

local function entry(found)  -- found: {member, score} or {}
  if not found[1] then return nil end
  local total, units = string.match(found[1], '^(%d+):(%d+)$')
  return {
    member = found[1], time = tonumber(found[2]), total = tonumber(total), cost = tonumber(units),
  }
end
local function by_rank(rank)
  return entry(redis.call('ZRANGE', log, rank, rank, 'WITHSCORES'))
end
local function add(total, units)
  redis.call('ZADD', log, string.format('%.0f', now), string.format('%016.0f:%.0f', total, units))
  redis.call('PEXPIRE', log, ttl)
end

-- Running totals give the sum between two entries without reading the entries between.
local last = by_rank(-1)
if last and last.time > now and last.time - now <= 1000000 then
  now = last.time  -- up to 1 s back: time stands still
elseif last and last.time > now then  -- the clock went back: later entries become one entry of now
  local after = string.format('(%.0f', now)
  local later = entry(redis.call('ZRANGEBYSCORE', log, after, '+inf', 'WITHSCORES', 'LIMIT', 0, 1))
  add(last.total, last.total - later.total + later.cost)
  redis.call('ZREMRANGEBYSCORE', log, after, '+inf')
  last = by_rank(-1)
end
local since = string.format('(%.0f', now - window)
local first = entry(redis.call('ZRANGEBYSCORE', log, since, '+inf', 'WITHSCORES', 'LIMIT', 0, 1))
local used = first and last.total - first.total + first.cost or 0

local room = math.max(0, limit - used)
local allowed, retry = cost <= room, 0
if cost > limit then
  retry = -1
elseif not allowed then
  -- The first entry after whose end at most limit - cost units are in use.
  local low, high = redis.call('ZRANK', log, first.member), redis.call('ZCARD', log) - 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if last.total - by_rank(middle).total <= limit - cost then high = middle else low = middle + 1 end
  end
  retry = by_rank(low).time + window - now
end

local reset = first and last.time + window - now or 0
if counting and allowed then
  local stale = last and (first and redis.call('ZRANK', log, first.member) or redis.call('ZCARD', log))
  add((last and last.total or 0) + cost, cost)
  if last and stale > 0 then  -- at most 1000: no hit has to remove a million
    redis.call('ZREMRANGEBYRANK', log, 0, math.min(stale, 1000) - 1)
  end
  room = room - cost
  reset = window
elseif counting and last and redis.call('PTTL', log) < 0 then
  redis.call('PEXPIRE', log, ttl)
end
if KEYS[2] and allowed then
  redis.call('SET', KEYS[2], string.format('%.0f %.0f %.0f', room, reset, now), 'PX', horizon)
end
return {allowed and 1 or 0, room, retry, reset, now}
