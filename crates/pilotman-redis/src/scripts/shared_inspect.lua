-- Answers {holds as {member, ms left, details}, waiters that live, server's time in ms}.
local now = math.floor(micros_now() / 1000)
local holds = {}
local holders = redis.call('ZRANGE', HOLDERS, 0, -1, 'WITHSCORES')
for i = 1, #holders, 2 do
  local left = holders[i + 1] - now
  if left > 0 then
    holds[#holds + 1] = {holders[i], left, redis.call('HGET', DETAILS, holders[i]) or '0:'}
  end
end
local count = 0
for _, lapses in ipairs(redis.call('HVALS', WAITERS)) do
  if lapses + 0 > now then count = count + 1 end
end
return {holds, count, string.format('%.0f', now)}
