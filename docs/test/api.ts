// The API as TypeDoc sees it, read from its JSON.

/** A comment's block, such as `@example`. */
interface BlockTag {
  readonly tag: string;
  readonly content: readonly { readonly text: string }[];
}

/** What TypeDoc calls a reflection: a package, a module, an export, or a member of one. */
export interface Reflection {
  readonly name: string;
  readonly kind: number;
  readonly comment?: { readonly blockTags?: readonly BlockTag[] };
  readonly signatures?: readonly Reflection[];
  readonly children?: readonly Reflection[];
  readonly extendedTypes?: readonly { readonly name?: string; readonly package?: string }[];
}

/** The numbers of TypeDoc's `ReflectionKind` that matter here. */
const kinds = { project: 1, module: 2, function: 64, class: 128, interface: 256, method: 2048 };

/** Something that can be imported. */
export interface Export {
  /** What it is imported from: `@nono/audit/sigstore`. */
  readonly from: string;
  readonly reflection: Reflection;
}

/** Every export of every package. */
export function exportsOf(project: Reflection, from = ""): Export[] {
  return (project.children ?? []).flatMap((reflection) => {
    const { name, kind } = reflection;
    if (kind !== kinds.project && kind !== kinds.module) return [{ from, reflection }];
    return exportsOf(reflection, name === "index" ? from : path(from, name));
  });
}

function path(from: string, name: string): string {
  return from === "" ? name : `${from}/${name}`;
}

/** The code of the examples in the comments of an export and of its members. */
export function examplesOf({ comment, signatures = [], children = [] }: Reflection): string[] {
  const own = (comment?.blockTags ?? [])
    .filter(({ tag }) => tag === "@example")
    .map(({ content }) => content.map(({ text }) => text).join(""))
    .map((text) => /```ts\n(.*)\n```/s.exec(text)?.[1] ?? text);
  return [...own, ...[...signatures, ...children].flatMap(examplesOf)];
}

/**
 * Whether there is something to call: functions, classes, interfaces with methods. Plain shapes are shown by the
 * examples of what takes or returns them, kinds of errors by that of the error they extend.
 */
export function needsExample({ kind, children = [], extendedTypes = [] }: Reflection): boolean {
  if (kind === kinds.function) return true;
  if (kind === kinds.class) return !extendedTypes.some(({ name }) => name === "NonoError");
  return kind === kinds.interface && children.some((member) => member.kind === kinds.method);
}
