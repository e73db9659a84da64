-- A new token for a lock that goes on in the same process.
-- ARGV: P, member
-- Answers the token, or 0 if the lock is not ours here.
prune()
if not token_of(ARGV[2]) then return 0 end
-- A write that a full server allows; it lets the others pass.
redis.call('PEXPIRE', LOCK, math.max(redis.call('PTTL', LOCK), 1))
local token = mint()
set_token(ARGV[2], token)
return token
