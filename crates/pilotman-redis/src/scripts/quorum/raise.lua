-- Makes a token the least that this node will have given, while the lock is ours.
-- ARGV: P, member, token
-- Answers 1, or 0 if the lock is not ours here.
prune()
if not token_of(ARGV[2]) then return 0 end
set_token(ARGV[2], ARGV[3])
raise(ARGV[3])
return 1
