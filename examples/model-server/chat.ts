// OpenAI's chat completions.
import type { Json, Turn } from "./main.ts";

export function offersTools(request: Json): boolean {
  return Array.isArray(request["tools"]) && request["tools"].length > 0;
}

export function toolResults(request: Json): number {
  const messages = request["messages"] as { role: string }[];
  return messages.filter(({ role }) => role === "tool").length;
}

export function answer(request: Json, turn: Turn): unknown {
  const choice = {
    index: 0,
    message: { role: "assistant", ...content(request, turn) },
    finish_reason: finish(turn),
  };
  return { ...head(request, "chat.completion"), choices: [choice], usage };
}

export function events(request: Json, turn: Turn): [string, unknown][] {
  const chunk = (delta: unknown, finish_reason: string | null): [string, unknown] => [
    "",
    { ...head(request, "chat.completion.chunk"), choices: [{ index: 0, delta, finish_reason }] },
  ];
  const { tool_calls, ...rest } = content(request, turn);
  const indexed = tool_calls?.map((call, index) => ({ index, ...call }));
  return [
    chunk({ role: "assistant", ...rest, ...(indexed && { tool_calls: indexed }) }, null),
    chunk({}, finish(turn)),
    ["", { ...head(request, "chat.completion.chunk"), choices: [], usage }],
    ["", "[DONE]"],
  ];
}

const usage = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 };

function head(request: Json, object: string): object {
  return {
    id: `chat_${toolResults(request)}`,
    object,
    created: 0,
    model: request["model"] as string,
  };
}

function finish(turn: Turn): string {
  return "say" in turn ? "stop" : "tool_calls";
}

function content(
  request: Json,
  turn: Turn,
): {
  content: string | null;
  tool_calls?: { id: string; type: string; function: { name: string; arguments: string } }[];
} {
  if ("say" in turn) return { content: turn.say };
  const call = { name: turn.tool, arguments: JSON.stringify(turn.arguments) };
  return {
    content: null,
    tool_calls: [{ id: `call_${toolResults(request)}`, type: "function", function: call }],
  };
}
