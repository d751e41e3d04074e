// Anthropic's messages.
import type { Json, Turn } from "./main.ts";

export function offersTools(request: Json): boolean {
  return Array.isArray(request["tools"]) && request["tools"].length > 0;
}

export function toolResults(request: Json): number {
  const messages = request["messages"] as { content: string | { type: string }[] }[];
  const parts = messages.flatMap(({ content }) => (typeof content === "string" ? [] : content));
  return parts.filter(({ type }) => type === "tool_result").length;
}

export function answer(request: Json, turn: Turn): unknown {
  return {
    ...message(request),
    content: [block(request, turn)],
    stop_reason: stopReason(turn),
    usage,
  };
}

export function events(request: Json, turn: Turn): [string, unknown][] {
  const [start, delta] =
    "say" in turn
      ? [
          { type: "text", text: "" },
          { type: "text_delta", text: turn.say },
        ]
      : [
          { ...block(request, turn), input: {} },
          { type: "input_json_delta", partial_json: JSON.stringify(turn.arguments) },
        ];
  const stop = { stop_reason: stopReason(turn), stop_sequence: null };
  const steps = [
    { type: "message_start", message: message(request) },
    { type: "content_block_start", index: 0, content_block: start },
    { type: "content_block_delta", index: 0, delta },
    { type: "content_block_stop", index: 0 },
    { type: "message_delta", delta: stop, usage },
    { type: "message_stop" },
  ];
  return steps.map((step) => [step.type, step]);
}

const usage = { input_tokens: 1, output_tokens: 1 };

function stopReason(turn: Turn): string {
  return "say" in turn ? "end_turn" : "tool_use";
}

function block(request: Json, turn: Turn): object {
  if ("say" in turn) return { type: "text", text: turn.say };
  return {
    type: "tool_use",
    id: `toolu_${toolResults(request)}`,
    name: turn.tool,
    input: turn.arguments,
  };
}

function message(request: Json): object {
  const model = request["model"] as string;
  return {
    id: `msg_${toolResults(request)}`,
    type: "message",
    role: "assistant",
    model,
    content: [],
    stop_reason: null,
    stop_sequence: null,
    usage,
  };
}
