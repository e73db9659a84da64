-- Gives a hold back, lets in those who can come in, and leaves the queue.
-- ARGV: member, publish command, and if it may have waited: entry
-- Answers 1 if it was there, 0 if not.
local now = math.floor(micros_now() / 1000)
prune(now)
local left = ARGV[3] and leave(ARGV[3])
local held = redis.call('ZREM', HOLDERS, ARGV[1])
redis.call('HDEL', DETAILS, ARGV[1])
if (held == 1 or left) and redis.call('EXISTS', QUEUE) == 1 then advance(ARGV[2], now) end
return held
