-- Takes the lock on one more node for a holder that has a quorum. If others have it here, stands before all who wait: a
-- waiter that has it without a quorum will yield it.
-- ARGV: SET, P, member, owner, lease in ms, publish command, permits, entry, token, number of this question
-- Answers {-1} if this is not the node that we take it for, {1} if it is ours, {0} if not yet.
local member, lease, entry = ARGV[3], tonumber(ARGV[5]), ARGV[8]
prune()
if not token_of(member) then
  local blocked
  if redis.call('EXISTS', QUEUE) == 1 then blocked = advance(ARGV[6]) end
  if not token_of(member) then
    if blocked or not admits(member, ARGV[7]) then
      stand(entry, 0, ARGV[10], math.floor(lease / 2))
      return {0}
    end
    leave(entry)
    raise(ARGV[9])
    grant(member, ARGV[4], lease, ARGV[9])
  end
end
return {1}
