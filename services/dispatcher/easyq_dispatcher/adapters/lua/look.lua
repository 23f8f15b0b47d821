-- What fills Redis now, whatever this dispatcher takes for valid.
--
-- answer  {1, generation or '', config or '', same server (1 or 0), id of who fills now or '', eviction policy}

local state = call('HMGET', KEYS[1], 'generation', 'run_id', 'config')
local policy = string.match(call('INFO', 'memory'), 'maxmemory_policy:([%w-]+)') or ''
local same = state[2] == server_id() and 1 or 0
return {1, state[1] or '', state[3] or '', same, call('GET', PREFIX .. 'rebuilder') or '', policy}
