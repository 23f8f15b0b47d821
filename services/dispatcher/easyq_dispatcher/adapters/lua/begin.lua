-- Begins a filling: marks its key space as being loaded on this server.
--
-- answer  {1}

call('SET', SPACE .. 'loading', server_id())
return {1}
