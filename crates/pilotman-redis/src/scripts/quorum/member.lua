-- Whether this node is the one that the caller takes it for: SET is <set>|<run id>|, and empty if that is not to be looked
-- at. META goes on with <end of the quarantine in ms>|<longest lease in ms>| and more: see meta.lua.
local meta = SET ~= '' and redis.call('GET', META)
if SET ~= '' and (not meta or string.sub(meta, 1, #SET) ~= SET) then return {-1} end
local ends = meta and string.match(meta, '^%d+', #SET + 1) or '0'
local aside = ends ~= '0' and ends + 0 > NOW and 1 or 0
