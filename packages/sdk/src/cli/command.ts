// What a command of `nono` is: its flags are data, so that parsing, help and shell completions are made
// from one description.

/** What a shell may offer for a value. */
export type Completion = "path" | "program" | "preset" | readonly string[];

/** One flag of a command. */
export interface Flag {
  /** Without the dashes. */
  readonly name: string;
  /** One letter. */
  readonly short?: string;
  /** What stands for its value in the help; absent: it takes none. */
  readonly value?: string;
  /** Whether it may be given again. */
  readonly many?: true;
  readonly help: string;
  readonly complete?: Completion;
}

/** One command of `nono`. */
export interface Command {
  readonly name: string;
  /** One line. */
  readonly summary: string;
  /** What follows the flags, as the help shows it. */
  readonly operands?: string;
  /** What a shell may offer for the first operand. */
  readonly complete?: Completion;
  /** What there is to know besides; paragraphs of at most 80 columns. */
  readonly about?: string;
  readonly flags: readonly Flag[];
  /** Whether flags end at the first operand, as they do for programs that run programs. */
  readonly runsProgram?: true;
  /** Does it; returns the exit status. */
  run(values: Values, operands: readonly string[]): Promise<number>;
}

/** A command whose package parses its own arguments. */
export interface ForeignCommand {
  readonly name: string;
  readonly summary: string;
  readonly complete?: Completion;
  runRaw(args: readonly string[]): Promise<number>;
}

/** The flags that were given. */
export class Values {
  readonly #given: ReadonlyMap<string, readonly string[]>;

  constructor(given: ReadonlyMap<string, readonly string[]>) {
    this.#given = given;
  }

  has(name: string): boolean {
    return this.#given.has(name);
  }

  /** Its value; the last one, when there are several. */
  one(name: string): string | undefined {
    return this.#given.get(name)?.at(-1);
  }

  all(name: string): readonly string[] {
    return this.#given.get(name) ?? [];
  }
}
