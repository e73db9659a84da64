-- A new token for a hold that goes on in the same process.
-- ARGV: member
-- Answers the token, or 0 if the hold is gone.
local now = math.floor(micros_now() / 1000)
local ends = redis.call('ZSCORE', HOLDERS, ARGV[1])
if not ends or ends + 0 <= now then return 0 end
-- A write that a full server allows; it lets the others pass.
redis.call('PEXPIRE', HOLDERS, math.max(redis.call('PTTL', HOLDERS), 1))
local token = mint()
local details = redis.call('HGET', DETAILS, ARGV[1]) or '0:'
redis.call('HSET', DETAILS, ARGV[1], token .. ':' .. string.match(details, '^%d+:(.*)$'))
return token
