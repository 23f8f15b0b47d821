-- Takes in what the store has as the first heads of tasks. Where that was all of them and no word on a further head came
-- since the reading began, the index has them all.
--
-- input   [{task, pool, limits, complete, version, heads: [[execution, score, epoch]]}]
--         version: the task's number of truncation when the reading began; '' where there was none
-- answer  {1}

if not holds() then return {0} end

for _, item in ipairs(INPUT) do
  for _, head in ipairs(item.heads) do
    push(head[1], item.task, item.pool, item.limits, head[2], head[3], true)
  end
  local truncated = SPACE .. 'truncated'
  if not item.complete then
    call('HSETNX', truncated, item.task, 1)
  elseif (call('HGET', truncated, item.task) or '') == item.version then
    call('HDEL', truncated, item.task)
  end
  -- Repairs what should not happen: heads of a task that no ring would ever come to.
  if call('EXISTS', SPACE .. 'heads:' .. item.task) == 1 and not in_line(item.task, item.pool, item.limits) then
    call('HSET', SPACE .. 'tasks', item.task, item.pool .. '\n' .. item.limits)
    line_up(item.task, item.pool, item.limits)
  end
end
tell_others()
return {1}
