-- A new token for a lock that goes on in the same process.
-- ARGV: id, lease in ms
-- Answers the token, or 0 if the lock is no longer ours.
local value = redis.call('GET', LOCK)
if not value or string.sub(value, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
local left = redis.call('PTTL', LOCK)
if left == 0 then return 0 end
-- A write that a full server allows; it lets the others pass.
if left > 0 then redis.call('PEXPIRE', LOCK, left) end
local token = mint()
local count, owner = string.match(value, '^pm:%x+:%d+:(%d+):(.*)$')
redis.call('SET', LOCK, ARGV[1] .. ':' .. token .. ':' .. count .. ':' .. owner, 'KEEPTTL')
return token
