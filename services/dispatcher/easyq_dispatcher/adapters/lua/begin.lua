-- Begins a filling: marks its key space as being loaded on this server. An older filling holds no longer, so that nothing
-- that the store says meanwhile goes into counts that are about to vanish.
--
-- answer  {1}

local current = call('HGET', KEYS[1], 'generation')
if current and tonumber(current) <= tonumber(GENERATION) then call('DEL', KEYS[1]) end
call('SET', SPACE .. 'loading', server_id())
return {1}
