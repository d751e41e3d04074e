// Shell completions, made from the descriptions of the commands.
import { presets } from "../policy/presets/index.ts";
import type { Command, Completion, Flag, ForeignCommand } from "./command.ts";
import { helpFlag } from "./parse.ts";

type Commands = readonly (Command | ForeignCommand)[];

/** For `source <(nono completions bash)`. */
export function bash(commands: Commands): string {
  const cases = commands.map((command) => {
    const values = flagsOf(command)
      .filter(({ value }) => value !== undefined)
      .map((flag) => `${bashNames(flag)}) ${bashReply(flag.complete)} return ;;`);
    return `    ${command.name})
      case $previous in
        ${values.join("\n        ")}
      esac
      if [[ $current == -* ]]; then
        ${bashWords(flagsOf(command).map(dashed))}
      else
        ${bashReply(command.complete)}
      fi ;;`;
  });
  return `_nono() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]}
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    ${bashWords([...commands.map(({ name }) => name), "--help", "--version"])}
    return
  fi
  local at
  for ((at = 2; at < COMP_CWORD; at++)); do
    if [[ \${COMP_WORDS[at]} == -- ]]; then
      # The program, then what it is given.
      local kind=-f
      ((at + 1 == COMP_CWORD)) && kind=-c
      ${bashFill("$kind")}
      return
    fi
  done
  case \${COMP_WORDS[1]} in
${cases.join("\n")}
  esac
}
complete -o filenames -F _nono nono
`;
}

/** For `source <(nono completions zsh)`. */
export function zsh(commands: Commands): string {
  const described = commands.map(({ name, summary }) => quote(`${name}:${summary}`));
  const cases = commands.map((command) => {
    const flags = flagsOf(command).map((flag) => quote(zshFlag(flag)));
    const operands = quote(`*:operand:${zshAction(command.complete)}`);
    return `    ${command.name}) _arguments -s ${[...flags, operands].join(" ")} ;;`;
  });
  return `#compdef nono
_nono_policies() {
  _alternative 'presets:preset:(${wordsOf("preset").join(" ")})' 'files:policy file:_files'
}
_nono() {
  if ((CURRENT == 2)); then
    local -a commands=(${described.join(" ")})
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  ((CURRENT--))
  case $command in
${cases.join("\n")}
  esac
}
compdef _nono nono
`;
}

/** For `nono completions fish | source`. */
export function fish(commands: Commands): string {
  const lines = commands.flatMap((command) => {
    const inside = `-n '__fish_seen_subcommand_from ${command.name}'`;
    const flags = flagsOf(command).map((flag) => {
      const names = `${flag.short ? `-s ${flag.short} ` : ""}-l ${flag.name}`;
      const value = flag.value === undefined ? "" : ` ${fishValue(flag.complete)}`;
      return `complete -c nono ${inside} ${names}${value} -d ${quote(flag.help)}`;
    });
    const words = wordsOf(command.complete);
    const operands =
      words.length > 0 ? [`complete -c nono ${inside} -f -a ${quote(words.join(" "))}`] : [];
    return [
      `complete -c nono -n __fish_use_subcommand -f -a ${command.name} -d ${quote(command.summary)}`,
      ...operands,
      ...flags,
    ];
  });
  return `${lines.join("\n")}\n`;
}

function flagsOf(command: Command | ForeignCommand): readonly Flag[] {
  return "flags" in command ? [...command.flags, helpFlag] : [helpFlag];
}

function wordsOf(completion: Completion | undefined): readonly string[] {
  if (completion === "preset") return Object.keys(presets);
  return typeof completion === "object" ? completion : [];
}

function dashed({ name }: Flag): string {
  return `--${name}`;
}

function bashNames({ name, short }: Flag): string {
  return short === undefined ? `--${name}` : `--${name} | -${short}`;
}

function bashReply(completion: Completion | undefined): string {
  if (completion === "program") return `${bashFill("-c")};`;
  if (completion === "path") return `${bashFill("-f")};`;
  const words = wordsOf(completion);
  if (words.length === 0) return ":;";
  if (completion !== "preset") return `${bashWords(words)};`;
  // What has no slash is no file.
  return `if [[ $current == */* ]]; then ${bashFill("-f")}; else ${bashWords(words)}; fi;`;
}

function bashWords(words: readonly string[]): string {
  return bashFill(`-W '${words.join(" ")}'`);
}

/** By lines: a name may have spaces, and be a pattern. */
function bashFill(options: string): string {
  return `mapfile -t COMPREPLY < <(compgen ${options} -- "$current")`;
}

function zshFlag({ name, short, value, many, help, complete }: Flag): string {
  const text = help.replaceAll(/[[\]:]/g, String.raw`\$&`);
  const tail = value === undefined ? "" : `:${value}:${zshAction(complete)}`;
  const long = `${many ? "*" : ""}--${name}[${text}]${tail}`;
  return short === undefined ? long : `(-${short})${long}`;
}

function zshAction(completion: Completion | undefined): string {
  if (completion === "path") return "_files";
  if (completion === "program") return "_command_names -e";
  const words = wordsOf(completion);
  if (completion === "preset") return "_nono_policies";
  return words.length > 0 ? `(${words.join(" ")})` : " ";
}

function fishValue(completion: Completion | undefined): string {
  if (completion === "path") return "-r -F";
  if (completion === "program") return "-r -f -a '(__fish_complete_command)'";
  const words = wordsOf(completion);
  return words.length > 0 ? `-r -a ${quote(words.join(" "))}` : "-r -f";
}

function quote(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}
