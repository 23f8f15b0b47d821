-- What fills Redis now, whatever this dispatcher takes for valid. Also says that it works with the rules that hold.
--
-- input   {used: ms for which that counts}
-- answer  {1, generation or '', config or '', same server (1 or 0), id of who fills now or '', eviction policy, version of
--          the rules, whether anybody works with them (1 or 0)}

local state = call('HMGET', KEYS[1], 'generation', 'run_id', 'config', 'version')
local policy = string.match(call('INFO', 'memory'), 'maxmemory_policy:([%w-]+)') or ''
local same = state[2] == server_id() and 1 or 0
if state[3] == CONFIG then call('SET', PREFIX .. 'used', CONFIG, 'PX', INPUT.used) end
local used = call('GET', PREFIX .. 'used') == state[3] and 1 or 0
local rebuilder = call('GET', PREFIX .. 'rebuilder') or ''
return {1, state[1] or '', state[3] or '', same, rebuilder, policy, state[4] or '0', used}
