import process from "node:process";

/** Asks on the terminal for a line that is not shown while it is typed. */
export async function askHidden(question: string): Promise<string> {
  const { stdin, stderr } = process;
  stderr.write(question);
  stdin.setRawMode(true);
  try {
    let line = "";
    for await (const chunk of stdin) {
      for (const character of String(chunk)) {
        if (character === "\r" || character === "\n") return line;
        if (character === "\u0003") throw new Error("Interrupted"); // Ctrl-C
        line = character === "\u007f" ? line.slice(0, -1) : line + character;
      }
    }
    return line;
  } finally {
    stdin.setRawMode(false);
    stderr.write("\n");
  }
}
