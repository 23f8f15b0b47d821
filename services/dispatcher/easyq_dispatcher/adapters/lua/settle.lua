-- Tells the index what the store said. Each part may be repeated: a place is left only by the token of its take or by an
-- epoch above its head's, so that an old word can't free the place of a newer take.
--
-- input   {drop: [[execution, token]], released: [[execution, epoch]], confirm: [[execution, token]],
--          ready: [[execution, task, pool, limits, score, epoch]], low, repair}
--         repair: also lets tasks back into the rings whose limits have free places
-- answer  {1, [truncated task that refused a head and has fewer than `low`, number of truncation, …]}

if not holds() then return {0} end

local freed = {}

local function leave(id, record)
  local pool, limits, agent = record[5], record[6], record[8]
  if pool_full(pool) then woken = true end
  call('SREM', SPACE .. 'pool:' .. pool, id)
  call('SREM', SPACE .. 'agent:' .. agent, id)
  for limit in each_limit(limits) do
    call('SREM', SPACE .. 'limit:' .. limit, id)
    freed[limit] = (freed[limit] or 0) + 1
  end
  call('HDEL', SPACE .. 'held', id)
  call('ZREM', SPACE .. 'taken', id)
end

local function record_of(id)
  local text = call('HGET', SPACE .. 'held', id)
  return text and split(text)
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
for _, item in ipairs(INPUT.ready) do
  push(item[1], item[2], item[3], item[4], item[5], item[6], false)
end
if INPUT.repair then
  for number = 1, #RULES.limits do
    local limit = tostring(number - 1)
    local free = free_places(limit)
    if free > 0 then unpark(limit, free) end
  end
end

local low = {}
for task in pairs(refused) do
  if call('ZCARD', SPACE .. 'heads:' .. task) < INPUT.low then
    low[#low + 1] = task
    low[#low + 1] = call('HGET', SPACE .. 'truncated', task)
  end
end
tell_others()
return {1, low}
