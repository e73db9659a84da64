-- A reader-writer lock or a semaphore is a sorted set: <mode>:pm:<id> by the server's time in ms at which the hold ends.
-- Modes: r(ead), w(rite), p(ermit). DETAILS has <token>:<owner> of each. An entry of the queue is
-- <member>|<first lease in ms>|<channel>|<owner>|<permits>.

-- Takes out the holds that have ended.
local function prune(now)
  local ended = redis.call('ZRANGEBYSCORE', HOLDERS, '-inf', now)
  for _, member in ipairs(ended) do
    redis.call('ZREM', HOLDERS, member)
    redis.call('HDEL', DETAILS, member)
  end
end

local function admits(mode, permits)
  local count = redis.call('ZCARD', HOLDERS)
  if count == 0 then return true end
  if mode == 'p' then return count < permits end
  if mode == 'r' then return string.sub(redis.call('ZRANGE', HOLDERS, 0, 0)[1], 1, 1) ~= 'w' end
  return false
end

local function hold(member, owner, ms, now, token)
  redis.call('ZADD', HOLDERS, string.format('%.0f', now + ms), member)
  redis.call('HSET', DETAILS, member, token .. ':' .. owner)
  keep(HOLDERS, ms)
  keep(DETAILS, ms)
end

-- Lets in the waiters that can come in, in their order. Whether one is left who can be told and has to wait.
local function advance(publish, now)
  local at = 0
  while true do
    local entry, ticket = living(at, now)
    if not entry then return false end
    local member, ms, channel, owner, permits = string.match(entry, '^([^|]*)|(%d+)|(.*)|([^|]*)|(%d+)$')
    local hears = listens(publish, channel)
    local admitted = admits(string.sub(member, 1, 1), tonumber(permits))
    -- Who can't be told, because its process has died, keeps nobody out.
    if hears and not admitted then return true end
    local token = hears and admitted and mint()
    if token and redis.call(publish, channel, 'granted ' .. string.sub(member, 3) .. ' ' .. ticket .. ' ' .. token) > 0 then
      leave(entry)
      hold(member, owner, tonumber(ms), now, token)
    else
      -- It may only be reconnecting: it keeps its place until it lapses.
      at = at + 1
    end
  end
end
