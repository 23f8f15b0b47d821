-- Tells the index what the store said. Each part may be repeated: a place is left only by the token of its take or by an
-- epoch above its head's, so that an old word can't free the place of a newer take.
--
-- input   {drop: [[execution, token]], released: [[execution, epoch]], confirm: [[execution, token]],
--          gone: [[execution, task, pool, epoch]],
--          ready: [[execution, task, score, epoch, detail]], routes: {task: route}, low, repair,
--          omens: [[execution, epoch, what, cause, ms]], breakers: {failures, wait, longest, quiet}}
--         gone: heads that the store has no more, under the epoch that they had then
--         repair: also lets lanes back into the rings whose limits have free places, and closes breakers that may be tried
--         for `quiet` ms (and as long as they were open last), and are not
--         omens: what executions that count told of their host and image: WORKED, HOST or IMAGE (it failed), or BUSY (the
--         registry asked to wait for so many ms; 0: it did not say how long)
-- answer  {1, [truncated task that refused a head and has fewer than `low`, number of truncation, heads set aside, …]}

if not holds() then return {0} end

local freed = {}
-- Counts of failures older than this mean nothing any more, and breakers that nobody tried for so long neither.
local FORGOTTEN_MS, MOST_BREAKERS = 3600000, 200

local function leave(id, record)
  local pool, limits, agent, needs = record[5], record[6], record[8], record[10]
  if pool_full(pool) then woken = true end
  call('SREM', SPACE .. 'pool:' .. pool, id)
  call('SREM', SPACE .. 'agent:' .. agent, id)
  for limit in each_limit(limits) do
    call('SREM', SPACE .. 'limit:' .. limit, id)
    freed[limit] = (freed[limit] or 0) + 1
  end
  if needs then use(agent, needs, -1) end
  call('HDEL', SPACE .. 'held', id)
  call('ZREM', SPACE .. 'taken', id)
end

local function record_of(id)
  local text = call('HGET', SPACE .. 'held', id)
  return text and split(text)
end

local function forget_old(time)
  if call('HLEN', BREAKERS) < MOST_BREAKERS then return end
  local all = call('HGETALL', BREAKERS)
  for i = 1, #all, 2 do
    local breaker = cjson.decode(all[i + 1])
    if time - math.max(breaker.last, breaker['until']) > FORGOTTEN_MS then call('HDEL', BREAKERS, all[i]) end
  end
end

-- An execution got as far as to show that host and image work. An open breaker believes its own probe only.
local function worked(name, id)
  local text = call('HGET', BREAKERS, name)
  if not text then return end
  local breaker = cjson.decode(text)
  if breaker['until'] == 0 or breaker.probe == id then
    call('HDEL', BREAKERS, name)
    woken = true
  end
end

local function failed(name, id, what, cause, ms, time)
  local times = INPUT.breakers
  local text = call('HGET', BREAKERS, name)
  local breaker = text and cjson.decode(text)
    or {failures = 0, since = 0, last = 0, wait = 0, ['until'] = 0, probe = '', offered = 0}
  if not text then forget_old(time) end
  breaker.failures, breaker.cause, breaker.last = breaker.failures + 1, cause, time
  local opens = what == 'BUSY' or breaker.failures >= times.failures
  if breaker['until'] == 0 and opens then
    breaker.since, breaker.wait = time, times.wait
    breaker['until'] = time + math.max(breaker.wait, ms)
  elseif breaker['until'] > 0 and breaker.probe == id then
    breaker.wait, breaker.probe = math.min(2 * breaker.wait, times.longest), ''
    breaker['until'] = time + math.max(breaker.wait, ms)
  elseif breaker['until'] > 0 and ms > 0 then
    breaker['until'] = math.max(breaker['until'], time + ms)
  end
  call('HSET', BREAKERS, name, cjson.encode(breaker))
end

-- What opened it is gone, and nobody waits for it: no probe will come.
local function close_quiet()
  local all, time = call('HGETALL', BREAKERS), now_ms()
  for i = 1, #all, 2 do
    local breaker, host = cjson.decode(all[i + 1]), string.match(all[i], '^HOST (.*)$')
    local quiet = breaker['until'] > 0 and time - breaker['until'] > math.max(INPUT.breakers.quiet, breaker.wait)
    local probe = quiet and breaker.probe ~= '' and record_of(breaker.probe)
    if quiet and not (probe and (not host or probe[8] == host)) then
      call('HDEL', BREAKERS, all[i])
      woken = true
    end
  end
end

if #INPUT.omens > 0 then
  local time = now_ms()
  for _, item in ipairs(INPUT.omens) do
    local id, what = item[1], item[3]
    local record = record_of(id)
    -- Told once: what is told again, or late, is of an execution that counts no longer, or under another epoch.
    if record and tonumber(record[2]) < tonumber(item[2]) then
      local host, image = 'HOST ' .. record[8], record[9] and record[9] ~= '' and 'IMAGE ' .. record[9]
      if what == 'WORKED' then
        worked(host, id)
        if image then worked(image, id) end
      elseif what == 'HOST' then
        failed(host, id, what, item[4], 0, time)
      elseif image then
        failed(image, id, what, item[4], item[5], time)
      end
    end
  end
end

for _, item in ipairs(INPUT.drop) do
  local record = record_of(item[1])
  if record and record[1] == item[2] then leave(item[1], record) end
end
for _, item in ipairs(INPUT.released) do
  local record = record_of(item[1])
  if record and tonumber(record[2]) < tonumber(item[2]) then leave(item[1], record) end
end
for limit, count in pairs(freed) do
  local free = math.min(count, free_places(limit))
  if free > 0 then unpark(limit, free) end
end
for _, item in ipairs(INPUT.confirm) do
  local record = record_of(item[1])
  if record and record[1] == item[2] then call('ZREM', SPACE .. 'taken', item[1]) end
end
for _, item in ipairs(INPUT.gone) do
  local known = call('HGET', SPACE .. 'epochs:' .. item[2], item[1])
  local epoch, detail = cut(known or '')
  if known and epoch == item[4] then withdraw(item[1], item[2], item[3], detail) end
end
for _, item in ipairs(INPUT.ready) do
  push(item[1], item[2], INPUT.routes[item[2]], item[3], item[4], item[5], false)
end
if INPUT.repair then
  close_quiet()
  for number = 1, #RULES.limits do
    local limit = tostring(number - 1)
    local free = free_places(limit)
    if free > 0 then unpark(limit, free) end
  end
end

local low = {}
for task in pairs(refused) do
  if count_heads(task) < INPUT.low then
    low[#low + 1] = task
    low[#low + 1] = call('HGET', SPACE .. 'truncated', task)
    low[#low + 1] = count_aside(task)
  end
end
tell_others()
return {1, low}
