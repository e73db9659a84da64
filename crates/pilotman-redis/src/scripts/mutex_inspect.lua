-- Answers {value or '', ms left, waiters that live, server's time in ms}.
local now = math.floor(micros_now() / 1000)
local count = 0
for _, lapses in ipairs(redis.call('HVALS', WAITERS)) do
  if lapses + 0 > now then count = count + 1 end
end
return {redis.call('GET', LOCK) or '', redis.call('PTTL', LOCK), count, string.format('%.0f', now)}
