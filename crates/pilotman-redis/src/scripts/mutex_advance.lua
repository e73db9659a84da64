-- A mutex is a string: pm:<id>:<token>:<hand-offs in a row>:<owner>. Another program's plain string excludes as well.
-- An entry of the queue is pm:<id>|<first lease in ms>|<channel>|<owner>; of these only the channel can have a |.

-- Gives the free lock to the first waiter who lives and can hear of it. `count` hand-offs came before.
local function advance(publish, count)
  local now = math.floor(micros_now() / 1000)
  local at = 0
  while true do
    local entry, ticket = living(at, now)
    if not entry then return end
    local id, ms, channel, owner = string.match(entry, '^([^|]*)|(%d+)|(.*)|([^|]*)$')
    local token = listens(publish, channel) and mint()
    if token and redis.call(publish, channel, 'granted ' .. id .. ' ' .. ticket .. ' ' .. token) > 0 then
      leave(entry)
      redis.call('SET', LOCK, id .. ':' .. token .. ':' .. count .. ':' .. owner, 'PX', ms)
      return
    end
    -- It may only be reconnecting: it keeps its place until it lapses.
    at = at + 1
  end
end

-- Tells the first waiter that the lock is free, which leaves it to whoever comes first.
local function wake(publish)
  local now = math.floor(micros_now() / 1000)
  local at = 0
  while true do
    local entry, ticket = living(at, now)
    if not entry then return end
    local id, channel = string.match(entry, '^([^|]*)|%d+|(.*)|[^|]*$')
    if redis.call(publish, channel, 'free ' .. id .. ' ' .. ticket) > 0 then return end
    at = at + 1
  end
end
