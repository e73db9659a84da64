-- Takes all holds from whoever has them, and lets in those who wait.
-- ARGV: publish command, prefix of the holders' channels
-- Answers {member, ms left, details} of each.
local now = math.floor(micros_now() / 1000)
prune(now)
local broken = {}
local holders = redis.call('ZRANGE', HOLDERS, 0, -1, 'WITHSCORES')
for i = 1, #holders, 2 do
  broken[#broken + 1] = {holders[i], holders[i + 1] - now, redis.call('HGET', DETAILS, holders[i]) or '0:'}
end
redis.call('DEL', HOLDERS, DETAILS)
for _, hold in ipairs(broken) do
  redis.call(ARGV[1], ARGV[2] .. string.match(hold[3], '^%d+:(.*)$'), 'lost ' .. string.sub(hold[1], 3))
end
if #broken > 0 then mint() end
advance(ARGV[1], now)
return broken
