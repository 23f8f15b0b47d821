-- Takes in what the store has as the first heads of tasks. Where that was all of them and no word on a further head came
-- since the reading began, the index has them all.
--
-- input   [{task, route, complete, version, heads: [[execution, score, epoch, detail]]}]
--         version: the task's number of truncation when the reading began; '' where there was none
-- answer  {1}

if not holds() then return {0} end

for _, item in ipairs(INPUT) do
  local lanes = {[item.task] = true}
  for _, head in ipairs(item.heads) do
    push(head[1], item.task, item.route, head[2], head[3], head[4], true)
    local _, needs = cut(head[4])
    lanes[lane_of(item.task, needs)] = true
  end
  local truncated = SPACE .. 'truncated'
  if not item.complete then
    call('HSETNX', truncated, item.task, 1)
  elseif (call('HGET', truncated, item.task) or '') == item.version then
    call('HDEL', truncated, item.task)
  end
  -- Repairs what should not happen: heads of a lane that no ring would ever come to.
  for lane in pairs(lanes) do
    local pool, limits = item.route[1], item.route[2]
    if call('EXISTS', SPACE .. 'heads:' .. lane) == 1 and not in_line(lane, pool, limits) then
      begin_lane(lane, item.route)
    end
  end
end
tell_others()
return {1}
