"""The dispatcher: matches ready executions with agents, and relays between agents and store."""
