-- Takes the lock from whoever has it, and gives it to the first waiter.
-- ARGV: publish command, prefix of the holders' channels
-- Answers {value, ms left}, or 0 if nobody had it.
local value = redis.call('GET', LOCK)
if not value then return 0 end
local left = redis.call('PTTL', LOCK)
redis.call('DEL', LOCK)
local id, owner = string.match(value, '^(pm:%x+):%d+:%d+:(.*)$')
if id then redis.call(ARGV[1], ARGV[2] .. owner, 'lost ' .. id) end
mint()
advance(ARGV[1], 0)
return {value, left}
