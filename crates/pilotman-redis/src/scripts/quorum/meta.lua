-- Looks which set of nodes this one belongs to, and enters it if it belongs to none.
-- META is <set>|<run id>|<end of the quarantine in ms>|<longest lease in ms>|<last use in ms>|<nonce>|<deviation>. The nonce counts while
-- the quarantine runs in which the node was entered; it is 0 once that was lifted. The deviation is by how many ms this
-- node's clock was off from the middle of all nodes' clocks; another one means that the clock was set.
-- ARGV: set, run id, longest lease in ms, how, nonce, expected nonce, deviation in ms and its error, if known. How:
--   look: change nothing but the last use, and what a restart brings
--   open: enter it without a quarantine, unless it has been entered
--   enter: enter it with a quarantine, as locks may be forgotten here, unless it has been entered
--   reset: begin a quarantine, unless it has never been used
--   claim: put our nonce in the place of the expected one
--   lift: end the quarantine if our nonce is there
-- Answers {what, ms the quarantine lasts, longest lease in ms, time, its micros, nonce, deviation}; what: ok, absent, changed (another
-- nonce is there), other (it belongs to another set, for so many ms still), longer (the nodes have agreed on a shorter
-- lease), reset (a quarantine was begun).
local set, run, longest, how = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local meta = redis.call('GET', KEYS[1])
-- What can't be read has been forgotten.
if meta and not string.match(meta, '^[^|]*|[^|]*|%d+|%d+|%d+|%x+|[^|]*$') then meta = nil end
local ends, was, nonce, noted = 0, 'ok', '', ''
local deviation, uncertain = tonumber(ARGV[7]), tonumber(ARGV[8])
-- Clocks are slewed and measured with errors; less than this is no step.
local STEP = 250

local function answer(what, ms, lease)
  return {what, ms, lease, time[1], time[2], nonce, noted}
end

if meta then
  local its_set, its_run, its_end, its_longest, seen, its_nonce, its_deviation =
    string.match(meta, '^([^|]*)|([^|]*)|(%d+)|(%d+)|(%d+)|(%x+)|(.*)$')
  its_end, its_longest, seen = tonumber(its_end), tonumber(its_longest), tonumber(seen)
  -- While the other set is in use, or its locks can be.
  local used = math.abs(now - seen) <= its_longest + 1000
  if its_set ~= set and used then return answer('other', seen + its_longest + 1000 - now, its_longest) end
  if longest > its_longest and used then return answer('longer', 0, its_longest) end
  if used then longest = its_longest end
  -- The clock may have been set back.
  if its_end > now then ends = math.min(its_end, now + longest) end
  -- What has had a say has been used.
  nonce = its_set == set and its_end > now and its_nonce or '0'
  its_deviation = its_set == set and tonumber(its_deviation)
  local stepped = used and deviation and its_deviation and math.abs(deviation - its_deviation) > STEP + uncertain
  -- A poor measurement does not replace a good one.
  if not stepped and (not deviation or its_deviation and uncertain > STEP / 4) then deviation = its_deviation end
  if nonce == '0' and (how == 'reset' or stepped) or its_set == set and its_run ~= run then
    ends = now + longest
    was = 'reset'
    nonce = '0'
  elseif how == 'claim' or how == 'lift' then
    if nonce == '0' or nonce ~= (how == 'claim' and ARGV[6] or ARGV[5]) then return answer('changed', 0, longest) end
    nonce = how == 'claim' and ARGV[5] or '0'
    if how == 'lift' then ends = 0 end
  end
elseif how == 'enter' or how == 'reset' then
  ends = now + longest
  was = 'reset'
  nonce = ARGV[5]
elseif how == 'open' then
  nonce = '0'
else
  return answer('absent', 0, longest)
end
noted = deviation and string.format('%.0f', deviation) or ''
redis.call('SET', KEYS[1], string.format('%s|%s|%.0f|%.0f|%.0f|%s|%s', set, run, ends, longest, now, nonce, noted))
return answer(was, ends > now and ends - now or 0, longest)
