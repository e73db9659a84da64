-- Makes a token the least that this node will have given, while the lock is ours.
-- ARGV: P, member, token
-- Answers 1, or 0 if the lock is not ours here.
prune()
local token = token_of(ARGV[2])
if not token then return 0 end
-- This may come late, when a larger one has been given.
if #token < #ARGV[3] or (#token == #ARGV[3] and token < ARGV[3]) then set_token(ARGV[2], ARGV[3]) end
raise(ARGV[3])
return 1
