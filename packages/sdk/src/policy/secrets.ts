// Where a policy's credentials come from must be no place that commands have themselves.
import { CapabilitiesError, type Sandbox as CoreSandbox } from "@nono/core";
import type { PolicySource } from "./policy.ts";

/**
 * Refuses a sandbox whose commands could read a credential where it comes from.
 *
 * @param sources By the credentials' names.
 * @throws {@link CapabilitiesError} `ERR_NONO_INVALID_CAPABILITIES`
 */
export function keepSecrets(
  core: Pick<CoreSandbox, "explain">,
  sources: ReadonlyMap<string, PolicySource>,
): void {
  for (const [name, source] of sources) {
    const place = placeOf(source, sources);
    if (place === undefined || !core.explain(place.question).allowed) continue;
    throw new CapabilitiesError(
      "ERR_NONO_INVALID_CAPABILITIES",
      `${place.text} has the credential ${name}, and commands may read it`,
      { value: place.text, remedy: place.remedy },
    );
  }
}

interface Place {
  readonly text: string;
  readonly question: Parameters<CoreSandbox["explain"]>[0];
  readonly remedy: string;
}

function placeOf(
  source: PolicySource,
  sources: ReadonlyMap<string, PolicySource>,
): Place | undefined {
  if ("file" in source) {
    const remedy = "Deny it, or keep it where nothing is granted.";
    return { text: source.file, question: { path: source.file, access: "read" }, remedy };
  }
  // In a variable with a credential's own name commands find its stand-in.
  if (!("env" in source) || sources.has(source.env)) return undefined;
  const remedy = "Take it out of env.allow.";
  return { text: `The variable ${source.env}`, question: { env: source.env }, remedy };
}
