// The texts of --help, made from the descriptions of the commands.
import { readFileSync } from "node:fs";
import type { Command, Flag, ForeignCommand } from "./command.ts";
import { helpFlag } from "./parse.ts";

const width = 80;

/** `nono --help`. */
export function overview(commands: readonly (Command | ForeignCommand)[]): string {
  const rows = commands.map(({ name, summary }) => [name, summary] as const);
  return `Usage: nono COMMAND [flags]

Runs any agent with exactly the capabilities that you declare. What is not
declared is refused by the kernel.

${columns(rows)}
nono COMMAND --help says more; nono --version.

Exit status: the command's own; 128+N when signal N ended it; 124 when --timeout
did; 125 for an error of nono itself.

Example:
  nono run --allow-read . --allow-write ./out --allow-exec git -- python3 agent.py
`;
}

/** `nono COMMAND --help`. */
export function helpOf({ name, summary, operands, about, flags }: Command): string {
  const usage = ["nono", name, "[flags]", operands].filter(Boolean).join(" ");
  const rows = [...flags, helpFlag].map((flag) => [written(flag), flag.help] as const);
  const paragraphs = [`Usage: ${usage}`, sentence(summary), about, columns(rows)];
  return paragraphs.filter(Boolean).join("\n\n");
}

/** The version of this package. */
export function version(): string {
  const manifest = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(manifest) as { version: string }).version;
}

function written({ name, short, value, many }: Flag): string {
  const names = [...(short ? [`-${short}`] : []), `--${name}`].join(", ");
  return [names, value].filter(Boolean).join(" ") + (many ? "..." : "");
}

function sentence(summary: string): string {
  return `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`;
}

/** Two columns, the second one wrapped. */
function columns(rows: readonly (readonly [left: string, right: string])[]): string {
  const left = Math.min(28, Math.max(...rows.map(([text]) => text.length)));
  const lines = rows.flatMap(([name, text]) => {
    const wrapped = wrap(text, width - left - 4);
    const first = name.length > left ? [`  ${name}`] : [];
    return [
      ...first,
      ...wrapped.map((line, at) => {
        const label = at === 0 && first.length === 0 ? name : "";
        return `  ${label.padEnd(left)}  ${line}`;
      }),
    ];
  });
  return `${lines.join("\n")}\n`;
}

function wrap(text: string, length: number): string[] {
  const lines: string[] = [""];
  for (const word of text.split(" ")) {
    const last = lines.at(-1) ?? "";
    if (last !== "" && last.length + 1 + word.length > length) lines.push(word);
    else lines[lines.length - 1] = last === "" ? word : `${last} ${word}`;
  }
  return lines;
}
