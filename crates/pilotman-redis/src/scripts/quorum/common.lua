-- What the scripts of a quorum's node share. Before it stand the names of its keys, P (the token that the caller proposes,
-- the same on all nodes) and what a lock is made of: mutex.lua or shared.lua.

-- A counter is kept for so long after its last use; after that the proposals are larger than it in any case.
local KEPT = 86400000

-- Whether what this node grants doesn't count at the moment, or it isn't known: META was looked at by whoever asks, and may
-- have changed since they did.
local function is_aside(in_cluster)
  local notes = redis.call('GET', META)
  -- In a cluster there are none in each slot.
  if not notes then return not in_cluster end
  local ends = string.match(notes, '^[^|]*|[^|]*|(%d+)|')
  return not ends or ends + 0 > NOW
end

-- A token larger than all before on this node, and the proposed one where that is. A proposal far ahead of this node's
-- clock is somebody's mistake, which must not last for ever.
local function mint()
  local token = P
  local clock = time[1] .. string.sub('00000' .. time[2], -6)
  local last = redis.call('GET', COUNTER)
  if #token ~= 16 or string.sub(token, 1, 10) + 0 > time[1] + 60 then
    token = clock
  elseif not last and token < clock and is_aside(true) then
    -- The counter may have been lost a moment ago, and the proposal be older.
    token = clock
  end
  if last and (#last > 16 or last + 0 > 9e15) then
    error('the token counter ' .. COUNTER .. ' is beyond all time; delete it')
  end
  if last and (#last > #token or (#last == #token and last >= token)) then
    token = string.format('%.0f', last + 1)
  end
  redis.call('SET', COUNTER, token, 'PX', KEPT)
  return token
end

-- No later token of this node will be smaller.
local function raise(token)
  local last = redis.call('GET', COUNTER)
  if not last or #last < #token or (#last == #token and last < token) then
    redis.call('SET', COUNTER, token, 'PX', KEPT)
  end
end

-- Keys of waiters end by themselves when all of them are dead.
local function keep(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, ms) end
end

-- Takes or refreshes a place in the queue. Places are ordered by ticket, which is the same on all nodes. The number of a
-- place is that of the question by which it was taken: a waiter tells by it which of its places a grant was for.
local function stand(entry, ticket, place, ms)
  local standing = redis.call('HGET', WAITERS, entry)
  if standing and redis.call('ZSCORE', QUEUE, entry) then
    place = string.match(standing, '^%d+|(%d+)|')
    -- A write that a full server allows; it lets the next ones pass.
    redis.call('PEXPIRE', QUEUE, math.max(redis.call('PTTL', QUEUE), 2 * ms))
  end
  redis.call('ZADD', QUEUE, ticket, entry)
  redis.call('HSET', WAITERS, entry, string.format('%.0f|%s|%.0f', NOW + ms, place, ms))
  keep(QUEUE, 2 * ms)
  keep(WAITERS, 2 * ms)
  return place
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

-- The first waiter from position `at` on that lives: its entry, ticket, place and first lease. The dead are taken out.
local function living(at)
  while true do
    local first = redis.call('ZRANGE', QUEUE, at, at, 'WITHSCORES')
    if not first[1] then return nil end
    local lapses, place, ms = string.match(redis.call('HGET', WAITERS, first[1]) or '', '^(%d+)|(%d+)|(%d+)$')
    if lapses and lapses + 0 > NOW then return first[1], first[2] + 0, place, ms end
    leave(first[1])
  end
end

-- An entry of the queue is <member>|<channel>|<owner>|<permits>; of these only the channel can have a |.
local function parts(entry)
  return string.match(entry, '^([^|]*)|(.*)|([^|]*)|(%d*)$')
end

-- Lets in the waiters that can come in, in their order. Returns the first who can hear of it and has to wait, and its
-- ticket.
local function advance(publish)
  local at = 0
  while true do
    local entry, ticket, place, ms = living(at)
    if not entry then return nil end
    local member, channel, owner, permits = parts(entry)
    local hears = listens(publish, channel)
    local admitted = admits(member, permits)
    -- Who can't be told, because its process has died, keeps nobody out.
    if hears and not admitted then return entry, ticket end
    local token = hears and mint()
    local word = token and (is_aside(publish == 'SPUBLISH') and 'aside ' or 'granted ')
      .. string.match(member, 'pq:%x+') .. ' ' .. place .. ' ' .. token
    if word and redis.call(publish, channel, word) > 0 then
      leave(entry)
      grant(member, owner, tonumber(ms), token)
    else
      -- It may only be reconnecting: it keeps its place until it lapses.
      at = at + 1
    end
  end
end

-- Tells the first waiter that the lock is free, which leaves it to whoever comes first.
local function wake(publish)
  local at = 0
  while true do
    local entry = living(at)
    if not entry then return end
    local member, channel = parts(entry)
    if redis.call(publish, channel, 'free ' .. string.match(member, 'pq:%x+')) > 0 then return end
    at = at + 1
  end
end
