-- Makes a loaded filling the one that holds, unless the server was emptied or started again since it began. A slow
-- dispatcher may put an older filling over a newer one: its takes are refused by the store, and a new one is made.
--
-- input   {version: the age of the rules, used: ms for which they count as in use}
-- answer  {1}

local loading = call('GET', SPACE .. 'loading')
if loading ~= server_id() then return {0} end
call('HSET', KEYS[1], 'generation', GENERATION, 'run_id', loading, 'config', CONFIG, 'version', INPUT.version)
call('SET', PREFIX .. 'used', CONFIG, 'PX', INPUT.used)
call('DEL', SPACE .. 'loading')
if call('GET', PREFIX .. 'rebuilder') == DISPATCHER then call('DEL', PREFIX .. 'rebuilder') end
woken = true
tell_others()
return {1}
