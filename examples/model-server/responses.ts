// OpenAI's responses.
import type { Json, Turn } from "./main.ts";

type Step = Readonly<Record<string, unknown>> & { readonly type: string };

export function offersTools({ tools, input }: Json): boolean {
  if (Array.isArray(tools) && tools.length > 0) return true;
  // Codex sends them along with the conversation.
  const items = Array.isArray(input) ? (input as { type?: string }[]) : [];
  return items.some(({ type }) => type === "additional_tools");
}

export function toolResults(request: Json): number {
  const input = request["input"] as { type?: string }[] | string;
  if (typeof input === "string") return 0;
  return input.filter(({ type }) => type?.endsWith("call_output") === true).length;
}

export function answer(request: Json, turn: Turn): unknown {
  return response(request, "completed", [item(request, turn)]);
}

export function events(request: Json, turn: Turn): [string, unknown][] {
  const done = item(request, turn);
  const steps: Step[] = [
    { type: "response.created", response: response(request, "in_progress", []) },
    { type: "response.output_item.added", output_index: 0, item: { ...done, ...started(turn) } },
    ...deltas(turn),
    { type: "response.output_item.done", output_index: 0, item: done },
    { type: "response.completed", response: response(request, "completed", [done]) },
  ];
  return steps.map((step, at) => [step.type, { ...step, sequence_number: at }]);
}

function deltas(turn: Turn): Step[] {
  if (!("say" in turn)) {
    const text = JSON.stringify(turn.arguments);
    const place = { item_id: "item_1", output_index: 0 };
    return [
      { type: "response.function_call_arguments.delta", ...place, delta: text },
      { type: "response.function_call_arguments.done", ...place, arguments: text },
    ];
  }
  const place = { item_id: "item_1", output_index: 0, content_index: 0 };
  return [
    {
      type: "response.content_part.added",
      ...place,
      part: { type: "output_text", text: "", annotations: [] },
    },
    { type: "response.output_text.delta", ...place, delta: turn.say },
    { type: "response.output_text.done", ...place, text: turn.say },
  ];
}

function started(turn: Turn): object {
  return "say" in turn
    ? { status: "in_progress", content: [] }
    : { status: "in_progress", arguments: "" };
}

function item(request: Json, turn: Turn): object {
  if ("say" in turn) {
    const part = { type: "output_text", text: turn.say, annotations: [] };
    return {
      id: "item_1",
      type: "message",
      status: "completed",
      role: "assistant",
      content: [part],
    };
  }
  const call = { name: turn.tool, arguments: JSON.stringify(turn.arguments) };
  return {
    id: "item_1",
    type: "function_call",
    status: "completed",
    call_id: `call_${toolResults(request)}`,
    ...call,
  };
}

function response(request: Json, status: string, output: object[]): object {
  const usage = {
    input_tokens: 1,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens: 1,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: 2,
  };
  const model = request["model"] as string;
  return {
    id: `resp_${toolResults(request)}`,
    object: "response",
    created_at: 0,
    status,
    model,
    output,
    usage,
    tools: [],
  };
}
