-- What the scripts share. It stands before each of them, after the names of their keys.

-- A token larger than all before, also when the counter lost its last steps to a failover: the clock is its floor. Both
-- are texts of digits, which are compared as such: making numbers of them takes longer than all else.
local function mint()
  local time = redis.call('TIME')
  local token = time[1] .. string.sub('00000' .. time[2], -6)
  local last = redis.call('GETSET', COUNTER, token)
  if last and (#last > #token or (#last == #token and last >= token)) then
    token = string.format('%.0f', last + 1)
    redis.call('SET', COUNTER, token)
  end
  return token
end

local function micros_now()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Keys of waiters end by themselves when all of them are dead.
local function keep(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, ms) end
end

-- Takes or refreshes a place in the queue, and returns its ticket: a number that never comes twice, whatever the clock
-- does, since a waiter tells by it which of its places a grant was for.
local function stand(entry, ms)
  local ticket = redis.call('ZSCORE', QUEUE, entry)
  if not ticket then
    ticket = mint()
    redis.call('ZADD', QUEUE, ticket, entry)
  else
    -- A write that a full server allows; it lets the next one pass.
    redis.call('PEXPIRE', QUEUE, math.max(redis.call('PTTL', QUEUE), 2 * ms))
  end
  redis.call('HSET', WAITERS, entry, string.format('%.0f', math.floor(micros_now() / 1000) + ms))
  keep(QUEUE, 2 * ms)
  keep(WAITERS, 2 * ms)
  return ticket
end

local function leave(entry)
  redis.call('HDEL', WAITERS, entry)
  return redis.call('ZREM', QUEUE, entry) == 1
end

-- Whether a process listens here. What is published without that may still reach it over a replica, uncounted: it would
-- take a lock for its own that it was not given.
local function listens(publish, channel)
  return redis.call('PUBSUB', publish == 'SPUBLISH' and 'SHARDNUMSUB' or 'NUMSUB', channel)[2] > 0
end

-- The first waiter from place `at` on that lives, and its place. The dead are taken out.
local function living(at, now)
  while true do
    local first = redis.call('ZRANGE', QUEUE, at, at, 'WITHSCORES')
    if not first[1] then return nil end
    local lapses = redis.call('HGET', WAITERS, first[1])
    if lapses and lapses + 0 > now then return first[1], string.format('%.0f', first[2]) end
    leave(first[1])
  end
end
